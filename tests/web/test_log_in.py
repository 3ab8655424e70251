"""Logging in and out; who is let in, and who never."""

from __future__ import annotations

import uuid

import pytest
from django.test import override_settings

from penncloud_site.accounts.models import User
from tests.web.visitors import OTHER_PASSWORD, PASSWORD, Visitor, fresh_name, member

pytestmark = pytest.mark.usefixtures("real_store")


def test_a_member_logs_in_and_out() -> None:
    _visitor, name = member()
    visitor = Visitor()
    assert visitor.log_in(name)["Location"] == "/"
    assert visitor.is_logged_in
    response = visitor.post("/accounts/logout/")
    assert response["Location"] == "/accounts/login/"
    assert not visitor.is_logged_in


def test_case_and_blanks_of_the_name_do_not_matter() -> None:
    _visitor, name = member()
    visitor = Visitor()
    assert visitor.log_in(f" {name.upper()} ").status_code == 302
    assert visitor.is_logged_in


def test_the_page_asked_for_comes_after_the_log_in() -> None:
    _visitor, name = member()
    visitor = Visitor()
    login = visitor.get("/accounts/password/")["Location"]
    assert login == "/accounts/login/?next=/accounts/password/"
    response = visitor.post(login, {"username": name, "password": PASSWORD})
    assert response["Location"] == "/accounts/password/"


def test_a_wrong_password_an_unknown_name_and_a_hostile_one_are_told_the_same() -> None:
    _visitor, name = member()
    errors = set()
    for attempted in (name, fresh_name(), "user:x", "a\x01b", "session", "x" * 500):
        response = Visitor().log_in(attempted, OTHER_PASSWORD)
        assert response.status_code == 200
        errors.add(str(response.context["form"].non_field_errors()) or "field error")
    assert len(errors - {"field error"}) == 1


def test_logging_out_is_a_post() -> None:
    visitor, _name = member()
    assert visitor.get("/accounts/logout/").status_code == 405
    assert visitor.is_logged_in


def test_an_account_that_was_made_inactive_is_out_at_once() -> None:
    visitor, name = member()
    user = User.objects.get(username=name)
    user.is_active = False
    user.save(update_fields=["is_active"])
    assert not visitor.is_logged_in
    assert Visitor().log_in(name).status_code == 200


def test_a_log_in_that_is_noted_does_not_bring_an_old_password_back() -> None:
    """Django saves `last_login` at each log-in; the account it holds was read before somebody changed the password."""
    _visitor, name = member()
    stale = User.objects.get(username=name)
    fresh = User.objects.get(username=name)
    fresh.set_password(OTHER_PASSWORD)
    fresh.save(update_fields=["password"])
    stale.save(update_fields=["last_login"])
    assert User.objects.get(username=name).check_password(OTHER_PASSWORD)


@override_settings(AXES_FAILURE_LIMIT=3)
def test_after_too_many_wrong_passwords_the_right_one_does_not_help_either() -> None:
    _visitor, name = member()
    guesser = Visitor(REMOTE_ADDR="192.0.2.7")
    for spelling in (name, name.upper(), f" {name}"):
        response = guesser.log_in(spelling, OTHER_PASSWORD)
    assert response.status_code == 429
    assert "Too many wrong passwords" in response.content.decode()
    assert guesser.log_in(name).status_code == 429
    assert not guesser.is_logged_in
    elsewhere = Visitor(REMOTE_ADDR="192.0.2.8")
    assert elsewhere.log_in(name).status_code == 302, "the member herself, at another address, is not shut out"


@override_settings(AXES_FAILURE_LIMIT=3)
def test_the_right_password_forgives_the_wrong_ones() -> None:
    _visitor, name = member()
    visitor = Visitor()
    for _ in range(3):
        visitor.log_in(name, OTHER_PASSWORD)
        visitor.log_in(name, OTHER_PASSWORD)
        assert visitor.log_in(name).status_code == 302


@override_settings(AXES_FAILURE_LIMIT=2)
def test_a_forged_address_does_not_escape_the_lock_out() -> None:
    """Only the load balancer's word about the visitor's address is believed."""
    _visitor, name = member()
    for forged in ("198.51.100.1", "198.51.100.2"):
        headers = {"REMOTE_ADDR": "192.0.2.9", "HTTP_X_FORWARDED_FOR": forged}
        response = Visitor().log_in(name, OTHER_PASSWORD, **headers)
    assert response.status_code == 429


@pytest.mark.parametrize("path", ["/accounts/", "/accounts/password/"])
def test_a_stranger_is_sent_to_log_in(path: str) -> None:
    response = Visitor().get(path)
    assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={path}")


@pytest.mark.parametrize("path", ["/accounts/sessions/end/", f"/accounts/sessions/{uuid.uuid4().hex}/end/"])
def test_a_stranger_can_end_nothing(path: str) -> None:
    assert Visitor().post(path)["Location"].startswith("/accounts/login/")


def test_htmx_is_told_to_go_to_the_log_in_page_and_come_back_to_the_page_it_was_on() -> None:
    headers = {"HX-Request": "true", "HX-Target": "content", "HX-Current-URL": "http://testserver/accounts/?x=1"}
    response = Visitor().get("/accounts/password/", headers=headers)
    assert response["HX-Redirect"] == "/accounts/login/?next=%2Faccounts%2F%3Fx%3D1"
    assert not response.content


def test_a_made_up_session_cookie_is_nobody_and_is_not_adopted() -> None:
    _visitor, name = member()
    planted = uuid.uuid4().hex
    visitor = Visitor()
    visitor.cookies["session"] = planted
    assert not visitor.is_logged_in
    visitor.log_in(name)
    assert visitor.is_logged_in
    assert visitor.cookies["session"].value != planted, "session fixation: the planted key must not be logged in"
    thief = Visitor()
    thief.cookies["session"] = planted
    assert not thief.is_logged_in
