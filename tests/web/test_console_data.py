"""The data browser: pages of rows and columns, bytes shown sensibly, credentials never, hostile keys harmlessly."""

from __future__ import annotations

import html
import json
import logging
import re
from urllib.parse import urlencode

import msgpack
import pytest

from adminconsole import browsing
from penncloud_site.accounts import schema
from penncloud_site.storage import store
from tests.web.operators import operator, page
from tests.web.visitors import Visitor, fresh_name, member

pytestmark = pytest.mark.usefixtures("real_store")


@pytest.fixture
def visitor() -> Visitor:
    return operator()[0]


def at(name: str, **query: str) -> str:
    return f"/console/data/{name}?{urlencode(query)}"


def rows_on(found: str) -> list[str]:
    """The rows listed on a page, as they are read."""
    return [html.unescape(text) for text in re.findall(r'<th scope="row" class="key"><a [^>]*>(.*?)</a>', found)]


def follow(found: str, rel: str) -> str:
    """The address behind the button to the earlier (`prev`) or later (`next`) page."""
    link = re.search(rf'href="([^"]*)" rel="{rel}"', found)
    assert link, f"no {rel} page"
    return html.unescape(link.group(1))


def test_rows_are_paged_forward_and_back_without_gap_or_repeat(visitor: Visitor) -> None:
    base = fresh_name("browse")
    rows = [f"{base}:mailmsg:{number:03d}" for number in range(2 * browsing.ROWS_A_PAGE + 7)]
    for row in rows:
        store().put(row, "body", b"x")
    pages = [page(visitor, at("", prefix=base))]
    while 'rel="next"' in pages[-1]:
        pages.append(page(visitor, follow(pages[-1], "next")))
    assert [row for found in pages for row in rows_on(found)] == rows
    back = page(visitor, follow(pages[-1], "prev"))
    assert rows_on(back) == rows_on(pages[1])
    assert rows_on(page(visitor, follow(back, "prev"))) == rows_on(pages[0])
    assert 'rel="prev"' not in pages[0]


def test_from_a_row_on(visitor: Visitor) -> None:
    base = fresh_name("browse")
    for number in range(4):
        store().put(f"{base}:mailmsg:{number}", "body", b"x")
    assert rows_on(page(visitor, at("", prefix=base, start=f"{base}:mailmsg:2"))) == [
        f"{base}:mailmsg:{n}" for n in (2, 3)
    ]


def test_a_long_row_does_not_hide_the_next_one(visitor: Visitor) -> None:
    base = fresh_name("browse")
    columns = [f"inbox:{number:04d}" for number in range(2 * browsing.COLUMNS_A_PAGE + 5)]
    for column in columns:
        store().put(f"{base}:mailbox", column, b"12345")
    store().put(f"{base}:mailmsg:1", "body", b"x")
    found = page(visitor, at("", prefix=base))
    assert rows_on(found) == [f"{base}:mailbox", f"{base}:mailmsg:1"]
    assert "100+" in found
    pages = [page(visitor, at("row/", row=f"{base}:mailbox"))]
    while 'rel="next"' in pages[-1]:
        pages.append(page(visitor, follow(pages[-1], "next")))
    assert [column for found in pages for column in rows_on(found)] == columns
    assert rows_on(page(visitor, follow(pages[2], "prev"))) == rows_on(pages[1])


def test_an_empty_answer_is_said_in_words(visitor: Visitor) -> None:
    assert "No row begins with" in page(visitor, at("", prefix=fresh_name("nobody")))
    assert "This row has no columns" in page(visitor, at("row/", row=fresh_name("nobody")))
    page(visitor, at("cell/", row=fresh_name("nobody"), column="x"), 404)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (json.dumps({"subject": "Grüße"}).encode(), '"subject": "Grüße"'),
        (msgpack.packb({"subject": "Grüße"}), '"subject": "Grüße"'),
        (b"\x00\xff" * 9, "00 ff 00 ff 00 ff 00 ff"),
        (b"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        (b"", "empty"),
    ],
)
def test_a_cell_is_shown_as_what_it_is(visitor: Visitor, value: bytes, shown: str) -> None:
    row = f"{fresh_name('browse')}:mail"
    store().put(row, "c", value)
    found = page(visitor, at("cell/", row=row, column="c"))
    assert shown in found.replace("&quot;", '"')
    assert "<script>alert" not in found


def test_the_bytes_come_down_whole_and_as_nothing_that_a_browser_would_run(visitor: Visitor) -> None:
    row, value = f"{fresh_name('browse')}:mail", bytes(range(256)) * 20_000
    store().put(row, 'x.html"\n', value)
    response = visitor.get(at("cell/raw/", row=row, column='x.html"\n'))
    assert response.content == value
    assert response["Content-Type"] == "application/octet-stream"
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9._-]+\.bin"', response["Content-Disposition"])
    assert response["X-Content-Type-Options"] == "nosniff"


HOSTILE = 'a/../b?&#"><script>alert(1)</script>\u202e\n\u0000'


def test_hostile_keys_are_spelled_out_and_their_links_still_work(visitor: Visitor) -> None:
    base = fresh_name("browse")
    row = f"{base}:{HOSTILE}"
    store().put(row, HOSTILE, b"found it")
    listed = page(visitor, at("", prefix=base))
    assert "<script>alert" not in listed
    assert "\u202e" not in listed
    assert r"\u{202e}\u{a}\u{0}" in listed
    link = re.search(r'<th scope="row" class="key"><a href="([^"]*)"', listed)
    assert link
    columns = page(visitor, html.unescape(link.group(1)))
    link = re.search(r'<th scope="row" class="key"><a href="([^"]*)"', columns)
    assert link
    assert "found it" in page(visitor, html.unescape(link.group(1)))


def test_what_was_searched_for_comes_back_as_text(visitor: Visitor) -> None:
    assert "<script>alert" not in page(visitor, at("", prefix=HOSTILE, start=HOSTILE))


@pytest.mark.parametrize("name", ["", "row/", "cell/"])
def test_a_key_that_is_too_long_is_a_clear_error(visitor: Visitor, name: str) -> None:
    query = {"": "prefix", "row/": "row", "cell/": "row"}[name]
    assert "1024" in page(visitor, at(name, **{query: "é" * 600}), 400)


def test_credentials_are_listed_and_never_opened(visitor: Visitor) -> None:
    inside, name = member()
    row = schema.user_row(name)
    password = store().get(row, schema.PASSWORD)
    assert password is not None
    assert "a credential, not shown" in page(visitor, at("row/", row=row))
    found = page(visitor, at("cell/", row=row, column=schema.PASSWORD), 403)
    assert password.value.decode() not in html.unescape(found)
    page(visitor, at("cell/raw/", row=row, column=schema.PASSWORD), 404)
    uid = schema.session_uid(inside.cookies["session"].value)
    page(visitor, at("cell/", row=schema.session_row(uid), column=schema.SESSION_DATA), 403)
    page(visitor, at("cell/raw/", row=schema.session_row(uid), column=schema.SESSION_DATA), 404)
    assert name in page(visitor, at("cell/", row=schema.session_row(uid), column=schema.SESSION_USER))


def test_a_column_of_an_account_that_nobody_called_harmless_is_not_opened(visitor: Visitor) -> None:
    _, name = member()
    store().put(schema.user_row(name), "recovery_codes", b"1234")
    page(visitor, at("cell/", row=schema.user_row(name), column="recovery_codes"), 403)
    page(visitor, at("cell/", row=schema.user_row(name), column=schema.PROFILE))


def test_who_looked_at_what_is_in_the_server_log(caplog: pytest.LogCaptureFixture) -> None:
    visitor, name = operator()
    row = f"{fresh_name('browse')}:mail"
    store().put(row, "secret\nplan", b"x")
    with caplog.at_level(logging.INFO, logger="adminconsole"):
        page(visitor, at("cell/", row=row, column="secret\nplan"))
        visitor.get(at("cell/raw/", row=row, column="secret\nplan"))
    lines = [record.getMessage() for record in caplog.records if record.name == "adminconsole.data_views"]
    assert lines == [
        f"operator {name} opened {row} | secret\\u{{a}}plan",
        f"operator {name} downloaded {row} | secret\\u{{a}}plan",
    ]
