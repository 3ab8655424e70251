"""The drive in a browser without scripts, as htmx asks for it, and as a stranger finds it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
from typing import Any

import pytest
from django.conf import settings
from django.test import Client as Browser

from drive import schema
from drive.collect import Collector
from drive.errors import UploadLost
from drive.node import Node
from drive.trash import Trash
from drive.tree import Tree
from drive.upload import Upload
from kvstore.client import Batch
from penncloud_site.accounts.models import User
from penncloud_site.storage import store
from tests.web.visitors import PASSWORD, fresh_name

MIB = 2**20


@pytest.fixture
def ada(real_store: object) -> User:
    return User.objects.create_user(fresh_name("ada"), PASSWORD, display_name="Ada")


@pytest.fixture
def tree(ada: User) -> Tree:
    return Tree(store(), ada.username)


@pytest.fixture
def browser(ada: User) -> Browser:
    browser = Browser()
    browser.force_login(ada)
    return browser


def put_file(tree: Tree, name: str, content: bytes = b"hello", folder: str = schema.ROOT, kind: str = "") -> Node:
    with Upload(tree.store, tree.user, folder, name, kind, 10**9) as upload:
        upload.write(content)
        upload.finish()
        return upload.commit()


def names_in(tree: Tree, folder: str = schema.ROOT) -> list[str]:
    return sorted(line.name for line in tree.lines(folder))


def body_of(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def text_of(response: Any) -> str:
    return response.content.decode()


def events_of(response: Any) -> dict[str, Any]:
    return json.loads(response.headers["HX-Trigger"])


HTMX = {"HTTP_HX_REQUEST": "true"}


# --- Pages ----------------------------------------------------------------------------------------------------------


def test_a_visitor_is_sent_to_log_in(real_store: object) -> None:
    for address in ("/drive/", "/drive/trash/", f"/drive/folder/{schema.new_uid()}/", "/drive/upload/root"):
        response = Browser().get(address)
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/accounts/login/")
    assert Browser().put("/drive/upload/root?name=a", b"x").status_code == 302


def test_an_empty_drive_says_what_will_be_there(browser: Browser) -> None:
    page = text_of(browser.get("/drive/"))
    assert "Your files will be here" in page
    assert 'data-upload-to="root"' in page


def test_a_folder_lists_folders_first_with_sizes_and_dates(browser: Browser, tree: Tree) -> None:
    put_file(tree, "a.txt", b"x" * 1400)
    folder = tree.create_folder(schema.ROOT, "zoo")
    page = text_of(browser.get("/drive/"))
    assert page.index('title="zoo"') < page.index('title="a.txt"')
    assert "1.4 kB" in page
    assert "<time" in page
    inner = text_of(browser.get(f"/drive/folder/{folder.uid}/"))
    assert "This folder is empty" in inner
    assert ">My Drive</bdi>" in inner


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a 2", "a 10", "b"]),
        ("?sort=name&dir=desc", ["b", "a 10", "a 2"]),
        ("?sort=size", ["b", "a 2", "a 10"]),
        ("?sort=size&dir=asc", ["a 10", "a 2", "b"]),
        ("?sort=nonsense&dir=none&page=-4&pages=x", ["a 2", "a 10", "b"]),
    ],
)
def test_lists_are_sorted(browser: Browser, tree: Tree, query: str, expected: list[str]) -> None:
    for size, name in enumerate(["a 10", "a 2", "b"]):
        put_file(tree, name, b"x" * size)
    page = text_of(browser.get("/drive/" + query))
    assert re.findall(r'class="drive-link"[^>]*title="([^"]*)"', page) == expected


def test_three_thousand_are_shown_fifty_at_a_time(browser: Browser, tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "many")
    batch = Batch()
    for number in range(3_000):
        line = {"t": "file", "n": f"photo {number}", "m": "2026-11-22T12:00:00+00:00", "s": number, "c": "image/jpeg"}
        column = schema.child_column(schema.new_uid())
        batch.put(schema.node_row(tree.user, folder.uid), column, json.dumps(line).encode())
    store().apply(batch)
    here = f"/drive/folder/{folder.uid}/"
    first = text_of(browser.get(here))
    assert first.count("data-item=") == 50
    assert "Show more (50 of 3000)" in first
    more = browser.get(here + "?sort=name&dir=asc&page=2", HTTP_HX_TARGET="more", **HTMX)
    assert re.findall(r'title="photo (\d+)" hx-get', text_of(more)) == [str(number) for number in range(50, 100)]
    assert "<html" not in text_of(more)
    assert text_of(browser.get(here + "?pages=3")).count("data-item=") == 150
    last = text_of(browser.get(here + "?page=60"))
    assert "photo 2999" in last
    assert "Previous page" in last
    assert "Show more" not in last


def test_the_grid_is_remembered(browser: Browser, tree: Tree) -> None:
    put_file(tree, "a")
    assert "is-grid" in text_of(browser.get("/drive/?view=grid"))
    assert "is-grid" in text_of(browser.get("/drive/"))
    assert "is-grid" not in text_of(browser.get("/drive/?view=list"))


def test_hostile_names_are_shown_as_text(browser: Browser, tree: Tree) -> None:
    name = "\"><img src=x onerror='alert(1)'>&amp;"
    file, folder = put_file(tree, name), tree.create_folder(schema.ROOT, "f" + name)
    for address in (
        "/drive/",
        f"/drive/item/{file.uid}/",
        f"/drive/folder/{folder.uid}/",
        f"/drive/item/{file.uid}/rename",
    ):
        page = text_of(browser.get(address))
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page
    response = browser.post(f"/drive/delete?item={file.uid}", **HTMX)
    assert events_of(response)["toast"]["message"] == f"“{name}” moved to the trash."
    assert "<img src=x" not in text_of(browser.get("/drive/trash/"))


def test_htmx_gets_the_content_alone(browser: Browser, tree: Tree) -> None:
    put_file(tree, "a")
    page = text_of(browser.get("/drive/", HTTP_HX_TARGET="content", **HTMX))
    assert "<html" not in page
    assert "data-item" in page


# --- Changes --------------------------------------------------------------------------------------------------------


def test_plain_forms_do_everything(browser: Browser, tree: Tree) -> None:
    """A browser without scripts: make a folder, upload into it, rename, move, delete, restore, delete for good."""
    assert browser.post("/drive/folder/root/new", {"name": "Plans"}).status_code == 302
    (folder,) = tree.lines(schema.ROOT)
    files = [io.BytesIO(b"one" * 10), io.BytesIO(b"")]
    files[0].name, files[1].name = "one.txt", "empty.txt"
    response = browser.post(f"/drive/upload/{folder.uid}", {"files": files}, follow=True)
    assert "2 files uploaded." in text_of(response)
    assert names_in(tree, folder.uid) == ["empty.txt", "one.txt"]
    one, empty = sorted(tree.lines(folder.uid), key=lambda line: -line.size)
    assert body_of(browser.get(f"/drive/file/{one.uid}/download")) == b"one" * 10
    assert browser.get(f"/drive/item/{one.uid}/rename").status_code == 200
    browser.post(f"/drive/item/{one.uid}/rename", {"name": "eins.txt"})
    assert "Move 2 items" in text_of(browser.post("/drive/move", {"item": [one.uid, empty.uid]}))
    browser.post("/drive/move", {"item": [one.uid, empty.uid], "to": "root"})
    assert names_in(tree) == ["Plans", "eins.txt", "empty.txt"]
    response = browser.post("/drive/delete", {"item": [one.uid, empty.uid, folder.uid], "back": "/drive/"}, follow=True)
    assert "3 items moved to the trash." in text_of(response)
    assert names_in(tree) == []
    browser.post("/drive/restore", {"item": [one.uid, folder.uid]})
    assert names_in(tree) == ["Plans", "eins.txt"]
    assert "cannot be undone" in text_of(browser.post("/drive/trash/delete", {"item": [empty.uid]}))
    assert [line.name for line in Trash(store(), tree.user).lines()] == ["empty.txt"]
    browser.post("/drive/trash/delete", {"item": [empty.uid], "confirmed": "1"})
    assert Trash(store(), tree.user).lines() == []


def test_every_form_is_protected_from_other_sites(ada: User, tree: Tree) -> None:
    file = put_file(tree, "a")
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(ada)
    for address in ("/drive/folder/root/new", f"/drive/item/{file.uid}/rename", "/drive/trash/empty"):
        assert browser.post(address, {"name": "evil", "confirmed": "1"}).status_code == 403
    for address in ("move", "move/back", "delete", "restore", "trash/delete"):
        assert browser.post(f"/drive/{address}?item={file.uid}", {"to": "root", "confirmed": "1"}).status_code == 403
    assert browser.put("/drive/upload/root?name=evil", b"x").status_code == 403
    assert browser.post("/drive/upload/root", {"files": io.BytesIO(b"evil" * MIB)}).status_code == 403
    assert names_in(tree) == ["a"]
    chunks = {row for row, _, _ in store().scan(prefix=f"{tree.user}:drive:file:", keys_only=True)}
    assert {row.split(":")[3] for row in chunks} <= {file.uid}


def test_a_name_that_is_taken_is_said_in_the_form_and_kept(browser: Browser, tree: Tree) -> None:
    tree.create_folder(schema.ROOT, "Plans")
    response = browser.post("/drive/folder/root/new", {"name": "plans"}, HTTP_HX_TARGET="drive-dialog", **HTMX)
    assert response.status_code == 422
    assert "already has something named" in text_of(response)
    assert 'value="plans"' in text_of(response)
    assert "<html" not in text_of(response)


def test_deleting_offers_an_undo_that_works(browser: Browser, tree: Tree) -> None:
    file = put_file(tree, "a")
    response = browser.post(f"/drive/delete?item={file.uid}", **HTMX)
    assert response.status_code == 204
    assert "driveChanged" in events_of(response)
    assert names_in(tree) == []
    assert browser.post(events_of(response)["toast"]["undo"], **HTMX).status_code == 204
    assert names_in(tree) == ["a"]


def test_moving_offers_an_undo_that_works(browser: Browser, tree: Tree) -> None:
    file, folder = put_file(tree, "a"), tree.create_folder(schema.ROOT, "f")
    response = browser.post("/drive/move", {"item": file.uid, "to": folder.uid}, **HTMX)
    assert names_in(tree, folder.uid) == ["a"]
    browser.post(events_of(response)["toast"]["undo"], **HTMX)
    assert names_in(tree) == ["a", "f"]


def test_many_items_go_through_the_folders_to_where_they_are_moved(browser: Browser, tree: Tree) -> None:
    outer = tree.create_folder(schema.ROOT, "outer")
    inner = tree.create_folder(outer.uid, "inner")
    items = [tree.create_folder(schema.ROOT, "a").uid, *(schema.new_uid() for _ in range(400))]
    for at, leads_to in ((None, outer.uid), (outer.uid, inner.uid), (inner.uid, outer.uid)):
        asked = {"item": items} | ({"at": at} if at else {})
        response = browser.post("/drive/move", asked, **HTMX | {"HTTP_HX_TARGET": "drive-dialog"})
        page = text_of(response)
        assert f'name="at" value="{leads_to}"' in page
        assert f'name="to" value="{at or schema.ROOT}"' in page
        assert all(len(address) < 1000 for address in re.findall(r'(?:href|action|hx-get|hx-post)="([^"]*)"', page))
    browser.post("/drive/move", {"item": items, "to": inner.uid}, **HTMX)
    assert names_in(tree, inner.uid) == ["a"]


def test_without_scripts_a_long_selection_is_answered_for_too(browser: Browser, tree: Tree) -> None:
    items = [tree.create_folder(schema.ROOT, f"f{number}").uid for number in range(60)]
    response = browser.post("/drive/delete", {"item": items}, follow=True)
    assert "60 items moved to the trash." in text_of(response)
    assert names_in(tree) == []
    uids = [schema.new_uid() for _ in range(1001)]
    assert "Choose at most 1000 at a time." in text_of(browser.post("/drive/delete", {"item": uids}, follow=True))


def test_what_cannot_be_done_is_said_in_a_toast(browser: Browser, tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "f")
    response = browser.post("/drive/move", {"item": folder.uid, "to": folder.uid}, **HTMX)
    assert response.status_code == 422
    assert "cannot be moved into itself" in events_of(response)["toast"]["message"]


def test_of_many_items_those_already_gone_are_left_out(browser: Browser, tree: Tree) -> None:
    here, gone = put_file(tree, "here"), put_file(tree, "gone")
    Trash(store(), tree.user).put(gone.uid)
    response = browser.post("/drive/delete", {"item": [gone.uid, here.uid]}, **HTMX)
    assert events_of(response)["toast"]["message"] == "“here” moved to the trash."
    assert browser.post("/drive/delete", {"item": [gone.uid]}, **HTMX).status_code == 404
    assert browser.post("/drive/delete", {"item": ["nonsense"]}, **HTMX).status_code == 404


def test_a_link_into_the_trash_says_so_and_offers_to_restore(browser: Browser, tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "f")
    file = put_file(tree, "a", folder=folder.uid)
    Trash(store(), tree.user).put(folder.uid)
    for address in (f"/drive/folder/{folder.uid}/", f"/drive/item/{file.uid}/", f"/drive/file/{file.uid}/download"):
        response = browser.get(address)
        assert response.status_code == 404
        assert f"/drive/restore?item={folder.uid}" in text_of(response)


def test_emptying_the_trash_asks_with_numbers_first(browser: Browser, tree: Tree) -> None:
    for number in range(3):
        Trash(store(), tree.user).put(put_file(tree, f"f{number}", b"x" * 1000).uid)
    page = text_of(browser.get("/drive/trash/empty"))
    assert "3 items (3.0 kB in files)" in " ".join(page.split())
    browser.post("/drive/trash/empty", {"confirmed": "1"})
    assert Trash(store(), tree.user).lines() == []
    assert "The trash is empty" in text_of(browser.get("/drive/trash/"))


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example/drive/", "/mail/", "javascript:alert(1)", "/drive/\\evil"]
)
def test_nobody_is_sent_to_another_site(browser: Browser, back: str) -> None:
    response = browser.post("/drive/folder/root/new", {"name": "f", "back": back})
    assert response.headers["Location"].startswith("/drive/")


def test_a_stranger_finds_nothing(tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "secret folder")
    file, gone = put_file(tree, "secret", folder=folder.uid), put_file(tree, "gone secret")
    Trash(store(), tree.user).put(gone.uid)
    stranger = Browser()
    stranger.force_login(User.objects.create_user(fresh_name("eve"), PASSWORD, display_name="Eve"))
    for uid in (folder.uid, file.uid, gone.uid):
        for address in (
            f"folder/{uid}/", f"folder/{uid}/new", f"item/{uid}/", f"item/{uid}/rename", f"upload/{uid}",
            f"file/{uid}/download", f"file/{uid}/show", f"move?item={uid}", f"trash/delete?item={uid}",
        ):  # fmt: skip
            response = stranger.get("/drive/" + address)
            assert response.status_code == 404
            assert b"secret" not in response.content
        for address in ("move", "move/back", "delete", "restore", "trash/delete"):
            response = stranger.post(f"/drive/{address}?item={uid}", {"to": "root", "confirmed": "1"}, **HTMX)
            assert response.status_code == 404
        assert stranger.post(f"/drive/item/{uid}/rename", {"name": "mine"}, **HTMX).status_code == 404
        assert stranger.post(f"/drive/folder/{uid}/new", {"name": "mine"}, **HTMX).status_code == 404
        assert stranger.put(f"/drive/upload/{uid}?name=mine", b"x").status_code == 404
    assert names_in(tree) == ["secret folder"]
    assert names_in(tree, folder.uid) == ["secret"]


# --- Bytes ----------------------------------------------------------------------------------------------------------


def test_an_upload_as_the_page_sends_it(browser: Browser, tree: Tree) -> None:
    content = random.Random(3).randbytes(9 * MIB + 17)
    response = browser.put(
        "/drive/upload/root?name=Z%C3%BCrich.jpg&type=image/jpeg", content, content_type="application/octet-stream"
    )
    assert response.status_code == 201
    node = tree.find(response.json()["uid"])
    assert (node.name, node.content_type, node.sha256) == (
        "Zürich.jpg",
        "image/jpeg",
        hashlib.sha256(content).hexdigest(),
    )
    sent = browser.get(f"/drive/file/{node.uid}/download")
    assert body_of(sent) == content
    assert sent.headers["Content-Length"] == str(len(content))
    assert sent.headers["Content-Type"] == "image/jpeg"
    assert (
        sent.headers["Content-Disposition"] == "attachment; filename=\"Z_rich.jpg\"; filename*=UTF-8''Z%C3%BCrich.jpg"
    )
    assert sent.headers["X-Content-Type-Options"] == "nosniff"
    details = text_of(browser.get(f"/drive/item/{node.uid}/", HTTP_HX_TARGET="drive-details", **HTMX))
    assert node.sha256 in details
    assert "<html" not in details


class Cut(io.BytesIO):
    """The body of a request whose sender is gone, as gevent's server gives it."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            raise OSError("unexpected end of file while reading request at position 5000000")
        return data


@pytest.mark.parametrize("body", [io.BytesIO, Cut])
def test_an_upload_shorter_than_announced_leaves_nothing(browser: Browser, tree: Tree, body: Any) -> None:
    announced = {"CONTENT_LENGTH": str(9 * MIB), "wsgi.input": body(b"x" * (5 * MIB))}
    response = browser.generic("PUT", "/drive/upload/root?name=a", **announced)
    assert response.status_code == 422
    assert "broke off" in response.json()["error"]
    assert names_in(tree) == []
    assert list(store().scan(prefix=f"{tree.user}:drive")) == []


def test_an_upload_over_the_limit_is_refused_before_it_is_read(browser: Browser, tree: Tree, monkeypatch: Any) -> None:
    monkeypatch.setitem(settings.PENNCLOUD, "MAX_FILE_SIZE", 1000)
    response = browser.put("/drive/upload/root?name=a", b"x" * 1001)
    assert response.status_code == 413
    assert response.json()["error"] == "This file is larger than the limit of 1.0 kB."
    assert browser.put("/drive/upload/root?name=a", b"x" * 1000).status_code == 201
    big = io.BytesIO(b"x" * 5000)
    response = browser.post("/drive/upload/root", {"files": big}, follow=True)
    assert "larger than the limit of 1.0 kB" in text_of(response)
    assert names_in(tree) == ["a"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a%00b", "%E2%80%AEgpj.exe", "x" * 300])
def test_an_upload_with_a_bad_name_is_refused(browser: Browser, tree: Tree, name: str) -> None:
    assert browser.put(f"/drive/upload/root?name={name}", b"x").status_code == 422
    assert names_in(tree) == []


def test_trying_again_after_a_lost_answer_gives_one_file(browser: Browser, tree: Tree) -> None:
    """The first try went through and its answer was lost; the second names it."""
    first, second = schema.new_uid(), schema.new_uid()
    assert browser.put(f"/drive/upload/root?name=a&uid={first}", b"abc").status_code == 201
    response = browser.put(f"/drive/upload/root?name=a&uid={second}&instead={first}", b"abc")
    assert response.json()["uid"] == first
    assert names_in(tree) == ["a"]


def test_trying_again_while_the_first_try_hangs_gives_one_file(browser: Browser, tree: Tree) -> None:
    first = Upload(store(), tree.user, schema.ROOT, "a", "", 10**9)
    first.write(b"abc")
    first.finish()
    response = browser.put(f"/drive/upload/root?name=a&uid={schema.new_uid()}&instead={first.uid}", b"abc")
    assert response.status_code == 201
    with pytest.raises(UploadLost):
        first.commit()
    first.close()
    Collector(store(), lease=10_000.0).run_once()
    assert names_in(tree) == ["a"]
    chunks = {row.split(":")[3] for row, _, _ in store().scan(prefix=f"{tree.user}:drive:file:", keys_only=True)}
    assert chunks == {response.json()["uid"]}


def test_a_try_that_was_given_up_before_it_arrived_is_refused(browser: Browser, tree: Tree) -> None:
    late = schema.new_uid()
    assert browser.put(f"/drive/upload/root?name=a&uid={schema.new_uid()}&instead={late}", b"abc").status_code == 201
    assert browser.put(f"/drive/upload/root?name=a&uid={late}", b"abc").status_code == 422
    assert names_in(tree) == ["a"]


def test_a_uid_is_never_used_twice(browser: Browser, tree: Tree) -> None:
    uid = schema.new_uid()
    assert browser.put(f"/drive/upload/root?name=a&uid={uid}", b"abc").status_code == 201
    assert browser.put(f"/drive/upload/root?name=b&uid={uid}", b"changed").status_code == 422
    assert body_of(browser.get(f"/drive/file/{uid}/download")) == b"abc"


def test_a_part_of_a_file(browser: Browser, tree: Tree) -> None:
    content = random.Random(4).randbytes(5 * MIB)
    file = put_file(tree, "a.bin", content)
    address = f"/drive/file/{file.uid}/download"
    part = browser.get(address, HTTP_RANGE=f"bytes={4 * MIB - 5}-{4 * MIB + 4}")
    assert part.status_code == 206
    assert body_of(part) == content[4 * MIB - 5 : 4 * MIB + 5]
    assert part.headers["Content-Range"] == f"bytes {4 * MIB - 5}-{4 * MIB + 4}/{5 * MIB}"
    assert part.headers["Content-Length"] == "10"
    outside = browser.get(address, HTTP_RANGE=f"bytes={5 * MIB}-")
    assert outside.status_code == 416
    assert outside.headers["Content-Range"] == f"bytes */{5 * MIB}"
    other_state = browser.get(address, HTTP_RANGE="bytes=0-9", HTTP_IF_RANGE='"another"')
    assert other_state.status_code == 200
    assert body_of(other_state) == content


def test_a_file_that_the_browser_has_is_not_sent_again(browser: Browser, tree: Tree) -> None:
    address = f"/drive/file/{put_file(tree, 'a').uid}/download"
    tag = browser.get(address).headers["ETag"]
    again = browser.get(address, HTTP_IF_NONE_MATCH=tag)
    assert (again.status_code, again.content) == (304, b"")


def test_head_says_the_length_and_sends_nothing(browser: Browser, tree: Tree) -> None:
    response = browser.head(f"/drive/file/{put_file(tree, 'a', b'x' * 77).uid}/download")
    assert (response.headers["Content-Length"], response.content) == ("77", b"")


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "application/pdf", "text/xml"])
def test_what_could_act_is_never_shown_in_place(browser: Browser, tree: Tree, kind: str) -> None:
    file = put_file(tree, "page", b"<script>alert(1)</script>", kind=kind)
    for way in ("show", "download"):
        response = browser.get(f"/drive/file/{file.uid}/{way}")
        assert response.headers["Content-Disposition"].startswith("attachment;")
        assert response.headers["Content-Security-Policy"].startswith("sandbox;")
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_picture_is_shown_in_place(browser: Browser, tree: Tree) -> None:
    file = put_file(tree, "a.png", kind="image/png")
    response = browser.get(f"/drive/file/{file.uid}/show")
    assert response.headers["Content-Disposition"].startswith("inline;")
    assert f"/drive/file/{file.uid}/show" in text_of(browser.get(f"/drive/item/{file.uid}/"))


def test_a_folder_is_not_downloaded(browser: Browser, tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "f")
    assert browser.get(f"/drive/file/{folder.uid}/download").status_code == 422
