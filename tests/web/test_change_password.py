"""Changing the password: the other sessions end, this one stays, and no old copy of the account undoes it."""

from __future__ import annotations

import pytest

from penncloud_site import sessions
from penncloud_site.accounts.models import PasswordChanged, User
from tests.web.visitors import OTHER_PASSWORD, PASSWORD, Visitor, member

pytestmark = pytest.mark.usefixtures("real_store")


def test_the_other_sessions_end_and_this_one_stays() -> None:
    here, name = member()
    elsewhere = Visitor()
    elsewhere.log_in(name)
    assert len(sessions.sessions_of(name)) == 2
    key_before = here.cookies["session"].value
    response = here.change_password(PASSWORD, OTHER_PASSWORD)
    assert response["Location"] == "/accounts/"
    assert here.is_logged_in
    assert here.cookies["session"].value != key_before
    assert not elsewhere.is_logged_in
    assert len(sessions.sessions_of(name)) == 1
    assert Visitor().log_in(name, PASSWORD).status_code == 200
    assert Visitor().log_in(name, OTHER_PASSWORD).status_code == 302


def test_a_session_that_is_on_no_list_is_worthless_too() -> None:
    """The list is for looking; the hash of the password that each session carries is what decides."""
    here, name = member()
    elsewhere = Visitor()
    elsewhere.log_in(name)
    for session in sessions.sessions_of(name):
        sessions._unlist(name, session.uid)
    here.change_password(PASSWORD, OTHER_PASSWORD)
    assert here.is_logged_in
    assert not elsewhere.is_logged_in


@pytest.mark.parametrize(
    ("old", "new", "again", "field"),
    [
        ("wrong", OTHER_PASSWORD, OTHER_PASSWORD, "old_password"),
        (PASSWORD, OTHER_PASSWORD, "another thing 9", "new_password2"),
        (PASSWORD, "short", "short", "new_password2"),
        (PASSWORD, "", "", "new_password1"),
    ],
)
def test_a_bad_form_changes_nothing(old: str, new: str, again: str, field: str) -> None:
    here, name = member()
    form = {"old_password": old, "new_password1": new, "new_password2": again}
    response = here.post("/accounts/password/", form)
    assert response.status_code == 200
    assert response.context["form"].errors[field]
    assert User.objects.get(username=name).check_password(PASSWORD)


def test_two_changes_at_once_one_wins_and_the_other_is_told() -> None:
    _here, name = member()
    first, second = User.objects.get(username=name), User.objects.get(username=name)
    first.set_password(OTHER_PASSWORD)
    first.save(update_fields=["password"])
    second.set_password("third password 3")
    with pytest.raises(PasswordChanged):
        second.save(update_fields=["password"])
    assert User.objects.get(username=name).check_password(OTHER_PASSWORD)


def test_a_stranger_cannot_change_anybodys_password() -> None:
    _here, name = member()
    assert Visitor().change_password(PASSWORD, OTHER_PASSWORD)["Location"].startswith("/accounts/login/")
    assert User.objects.get(username=name).check_password(PASSWORD)
