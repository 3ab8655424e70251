"""The pages a user sees when no front end can answer."""

from __future__ import annotations

import html.parser

import pytest

from penncloud_site.loadbalancer import pages
from penncloud_site.loadbalancer.http1 import ResponseHead, ResponseParser

ALL = [
    pages.RECONNECTING,
    pages.RECONNECTING_FORM,
    pages.INTERRUPTED,
    pages.INTERRUPTED_FORM,
    pages.TOO_SLOW,
    pages.refusal(400, "The <script> is malformed."),
]


class Tags(html.parser.HTMLParser):
    """Collects open tags; fails on one that is not closed in order."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("page", ALL)
def test_a_page_is_well_formed_and_asks_nobody_for_anything(page: pages.Page) -> None:
    head, body, _ = ResponseParser().feed(pages.response(page, method="GET", keep_alive=True))
    assert isinstance(head, ResponseHead)
    assert head.status == page.status
    text = body.data.decode()  # type: ignore[union-attr]
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.seen.count("h1") == 1
    assert not {"script", "link", "img", "style"} & set(tags.seen)
    assert "src=" not in text
    assert "href=" not in text


def test_only_pages_that_were_read_are_asked_for_again_by_themselves() -> None:
    assert b"http-equiv" in pages.response(pages.RECONNECTING, method="GET", keep_alive=True)
    for form in (pages.RECONNECTING_FORM, pages.INTERRUPTED_FORM):
        data = pages.response(form, method="POST", keep_alive=True)
        assert b"http-equiv" not in data
        assert b"Your text is kept" in data or b"your text is kept" in data
        assert b"Retry-After: " in data


def test_the_answer_to_head_is_a_head() -> None:
    assert pages.response(pages.TOO_SLOW, method="HEAD", keep_alive=False).endswith(b"Connection: close\r\n\r\n")
