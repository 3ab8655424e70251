"""When something fails: the visitor is told what happened and what is safe, and never sees a trace or an empty page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.test import override_settings

from kvstore.errors import BadRequest, NoSpace, OutcomeUnknown, StoreError, Unavailable
from penncloud_site.storage import store
from tests.web.visitors import PASSWORD, Visitor, fresh_name, member

pytestmark = pytest.mark.usefixtures("real_store")

READS = ("get", "get_row", "scan")
WRITES = ("put", "cput", "apply", "delete", "delete_row")


@contextmanager
def failing(error: StoreError, calls: tuple[str, ...] = READS + WRITES) -> Iterator[None]:
    """The client answers these calls with the error, as it does when a deadline came first."""

    def fail(*_args: object, **_options: object) -> None:
        raise error

    client_type = type(store())
    with pytest.MonkeyPatch.context() as patch:
        for call in calls:
            patch.setattr(client_type, call, fail)
        yield


def test_a_page_waits_while_the_store_fails_over() -> None:
    visitor, _name = member()
    with failing(Unavailable("tablet 7 has no primary")):
        response = visitor.get("/accounts/")
    page = response.content.decode()
    assert response.status_code == 503
    assert response["Retry-After"]
    assert response["Cache-Control"] == "no-store"
    assert "Reconnecting…" in page
    assert "site/waiting" in page
    assert "tablet 7" not in page
    assert "Traceback" not in page
    assert visitor.is_logged_in, "nobody is logged out by it"


def test_a_form_is_kept_in_the_page() -> None:
    visitor, _name = member()
    typed = 'Ada "the Countess" </textarea><script>'
    with failing(Unavailable("no primary"), WRITES):
        response = visitor.post("/accounts/", {"display_name": typed})
    page = response.content.decode()
    assert response.status_code == 503
    assert "What you typed is kept" in page
    assert 'name="display_name"' in page
    assert "Ada &quot;the Countess&quot; &lt;/textarea&gt;&lt;script&gt;" in page
    assert "site/waiting" not in page, "a form is never sent again by the page itself"


def test_an_unknown_outcome_is_called_so() -> None:
    visitor, _name = member()
    with failing(OutcomeUnknown("deadline passed"), WRITES):
        page = visitor.post("/accounts/", {"display_name": "Ada"}).content.decode()
    assert "may or may not have been saved" in page


def test_full_disks_are_called_so() -> None:
    visitor, _name = member()
    with failing(NoSpace("node n1"), WRITES):
        page = visitor.post("/accounts/", {"display_name": "Ada"}).content.decode()
    assert "The disks are full" in page


def test_a_password_is_never_sent_back() -> None:
    with failing(Unavailable("no primary")):
        for response in (
            Visitor().log_in(fresh_name()),
            Visitor().sign_up(fresh_name()),
        ):
            assert response.status_code == 503
            assert PASSWORD not in response.content.decode()


def test_a_session_that_cannot_be_saved_gives_the_same_page() -> None:
    _visitor, name = member()
    visitor = Visitor()
    with failing(Unavailable("no primary"), WRITES):
        response = visitor.log_in(name)
    assert response.status_code == 503
    assert not visitor.is_logged_in


def test_htmx_is_told_to_wait_or_that_nothing_was_saved() -> None:
    visitor, _name = member()
    with failing(Unavailable("no primary")):
        reading = visitor.get("/accounts/", headers={"HX-Request": "true", "HX-Target": "content"})
        writing = visitor.post("/accounts/", {"display_name": "x"}, headers={"HX-Request": "true"})
    assert reading.status_code == writing.status_code == 503
    assert "HX-Trigger" not in reading
    assert not reading.content
    toast = json.loads(writing["HX-Trigger"])["toast"]
    assert toast["level"] == "error"
    assert toast["message"].startswith("Not saved yet")


def test_a_refusal_that_will_not_pass_is_a_fault_of_ours_not_a_wait() -> None:
    visitor, _name = member()
    with failing(BadRequest("row is empty")):
        response = visitor.get("/accounts/")
    assert response.status_code == 500
    assert "Something went wrong on our side" in response.content.decode()
    assert "row is empty" not in response.content.decode()


def test_a_fault_in_a_view_shows_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor, _name = member()
    visitor.raise_request_exception = False
    monkeypatch.setattr("penncloud_site.sessions.sessions_of", lambda username: 1 / 0)
    response = visitor.get("/accounts/")
    assert response.status_code == 500
    assert "Something went wrong on our side" in response.content.decode()
    assert "ZeroDivisionError" not in response.content.decode()


def test_an_address_that_is_not_there() -> None:
    response = Visitor().get("/nothing/here/<script>")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()
    assert "<script>alert" not in response.content.decode()


def test_a_form_without_its_token_says_what_to_do() -> None:
    visitor = Visitor(enforce_csrf_checks=True)
    response = visitor.log_in(fresh_name())
    assert response.status_code == 403
    assert "This page was too old" in response.content.decode()


@override_settings(ALLOWED_HOSTS=["cloud.example"])
def test_a_name_that_is_not_ours_is_refused() -> None:
    assert Visitor().get("/accounts/login/", headers={"host": "evil.example"}).status_code == 400
    assert Visitor().get("/accounts/login/", headers={"host": "cloud.example"}).status_code == 200
