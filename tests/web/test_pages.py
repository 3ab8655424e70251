"""The shell: whole pages and swapped parts, and the headers every page carries."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from penncloud_site.middleware import PageCompressionMiddleware
from penncloud_site.pages import toast
from tests.web.visitors import Visitor, fresh_name, member

pytestmark = pytest.mark.usefixtures("real_store")

SWAP = {"HX-Request": "true", "HX-Target": "content"}


def test_a_page_comes_whole_and_htmx_gets_its_part() -> None:
    visitor, _name = member()
    whole = visitor.get("/accounts/password/")
    part = visitor.get("/accounts/password/", headers=SWAP)
    assert "<!doctype html>" in whole.content.decode()
    text = part.content.decode()
    assert "<html" not in text
    assert "<title>Change password · PennCloud</title>" in text
    assert 'id="rail-product" hx-swap-oob' in text
    assert 'name="new_password1"' in text
    for response in (whole, part):
        assert "HX-Request" in response["Vary"]
        assert "HX-Target" in response["Vary"]


def test_back_and_reload_get_the_whole_page() -> None:
    visitor, _name = member()
    response = visitor.get("/accounts/", headers=SWAP | {"HX-History-Restore-Request": "true"})
    assert "<!doctype html>" in response.content.decode()


def test_what_was_done_is_said_once_on_the_page_that_comes_next() -> None:
    visitor, _name = member()
    visitor.get("/accounts/")
    response = visitor.post("/accounts/", {"display_name": "Countess Ada"}, headers=SWAP, follow=True)
    assert response.content.decode().count("Your name is saved.") == 1
    assert "Your name is saved." not in visitor.get("/accounts/").content.decode()


def test_a_toast_is_an_event_with_its_undo_and_keeps_other_events() -> None:
    response = HttpResponse(headers={"HX-Trigger": json.dumps({"counts": 3})})
    toast(response, "Moved “Grüße” to trash.", undo_url="/mail/undo/1/")
    triggers = json.loads(response["HX-Trigger"])
    assert triggers["counts"] == 3
    assert triggers["toast"] == {"message": "Moved “Grüße” to trash.", "undo": "/mail/undo/1/", "level": "success"}
    assert response["HX-Trigger"].isascii()


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/signup/", "/accounts/", "/accounts/password/", "/no"])
def test_no_page_needs_what_its_security_policy_forbids(path: str) -> None:
    visitor, _name = member()
    browser = Visitor() if path in ("/accounts/login/", "/accounts/signup/") else visitor
    response = browser.get(path)
    policy = response["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    page = response.content.decode()
    assert not re.search(r"\sstyle=|\son[a-z]+=|hx-on|javascript:|<style", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page), "a request to another host"


def test_pages_of_a_member_are_kept_by_no_cache() -> None:
    visitor, _name = member()
    assert "no-store" in visitor.get("/accounts/")["Cache-Control"]


def test_scripts_find_the_forms_token_on_the_page() -> None:
    visitor = Visitor(enforce_csrf_checks=True)
    page = visitor.get("/accounts/signup/").content.decode()
    found = re.search(r"hx-headers='(\{.*?\})'", page)
    assert found
    token = json.loads(found[1])["x-csrftoken"]
    form = {
        "username": fresh_name(),
        "display_name": "A",
        "password1": "quiet harbor 42",
        "password2": "quiet harbor 42",
    }
    assert visitor.post("/accounts/signup/", form, headers={"x-csrftoken": token}).status_code == 302


def test_a_page_is_sent_compressed_and_a_download_as_it_is() -> None:
    visitor, _name = member()
    response = visitor.get("/accounts/", headers={"accept-encoding": "gzip"})
    assert response["Content-Encoding"] == "gzip"
    assert b"Your account" in gzip.decompress(response.content)
    request = RequestFactory().get("/", headers={"accept-encoding": "gzip"})
    for download in (
        StreamingHttpResponse([b"x" * 1000], content_type="text/html", headers={"Content-Length": "1000"}),
        HttpResponse(b"x" * 1000, content_type="application/pdf"),
    ):
        sent = PageCompressionMiddleware(lambda request, download=download: download)(request)
        assert not sent.has_header("Content-Encoding")
        assert sent.get("Content-Length", "1000") == "1000"
