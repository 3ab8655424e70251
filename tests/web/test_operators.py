"""Operators: made by a command, and by nothing a visitor can do."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.http import Http404, HttpResponse
from django.test import RequestFactory

from penncloud_site import access
from penncloud_site.accounts.models import User
from tests.web.visitors import PASSWORD, Visitor, fresh_name, member

pytestmark = pytest.mark.usefixtures("real_store")


def createoperator(*arguments: str) -> dict[str, object]:
    out = io.StringIO()
    call_command("createoperator", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_command_makes_an_operator_with_a_random_password() -> None:
    name = fresh_name("op")
    made = createoperator(name, "--random")
    assert made["created"] is True
    visitor = Visitor()
    assert visitor.log_in(name, str(made["password"])).status_code == 302
    assert 'href="/console/"' in visitor.get("/accounts/").content.decode()


def test_run_again_it_says_so_and_the_password_stays() -> None:
    name = fresh_name("op")
    password = createoperator(name, "--random")["password"]
    again = createoperator(name, "--random")
    assert (again["created"], again["password"]) == (False, None)
    assert User.objects.get(username=name).check_password(str(password))


def test_a_member_can_be_made_an_operator() -> None:
    _visitor, name = member()
    assert createoperator(name, "--random")["created"] is False
    user = User.objects.get(username=name)
    assert user.is_operator
    assert user.check_password(PASSWORD)


def test_the_password_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    name = fresh_name("op")
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    assert createoperator(name) == {"username": name, "created": True, "password": None}
    assert User.objects.get(username=name).check_password(PASSWORD)


@pytest.mark.parametrize(("name", "password"), [("user", PASSWORD), ("a:b", PASSWORD), ("", PASSWORD), ("op", "short")])
def test_a_bad_name_or_password_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
    with pytest.raises(CommandError):
        createoperator(name or " ")


def test_nobody_signs_up_as_an_operator() -> None:
    visitor, name = Visitor(), fresh_name()
    visitor.sign_up(name, is_operator="1", operator="1")
    assert not User.objects.get(username=name).is_operator
    visitor.post("/accounts/", {"display_name": "Ada", "is_operator": "1"})
    assert not User.objects.get(username=name).is_operator
    assert 'href="/console/"' not in visitor.get("/accounts/").content.decode()


def test_a_view_for_operators_does_not_exist_for_anybody_else() -> None:
    from django.contrib.auth.models import AnonymousUser

    view = access.operator(lambda request: HttpResponse("secret"))
    request = RequestFactory().get("/console/")
    member_user, operator_user = User(username="m"), User(username="o", is_operator=True)
    for user in (AnonymousUser(), member_user):
        request.user = user
        with pytest.raises(Http404):
            view(request)
    request.user = operator_user
    assert view(request).content == b"secret"
