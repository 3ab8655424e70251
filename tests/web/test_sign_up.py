"""Signing up: one account for one name, whatever is typed and however many try at once."""

from __future__ import annotations

import threading

import pytest
from django.contrib.messages import get_messages

from penncloud_site.accounts import schema
from penncloud_site.accounts.models import User
from penncloud_site.storage import store
from tests.web.visitors import OTHER_PASSWORD, PASSWORD, Visitor, fresh_name, member

pytestmark = pytest.mark.usefixtures("real_store")


def test_a_new_member_is_logged_in_and_greeted() -> None:
    visitor, name = Visitor(), fresh_name()
    response = visitor.sign_up(name)
    assert (response.status_code, response["Location"]) == (302, "/")
    assert [str(message) for message in get_messages(response.wsgi_request)] == ["Welcome to PennCloud, Ada."]
    page = visitor.get("/accounts/").content.decode()
    assert "Ada Lovelace" in page
    assert f"{name}@" in page


def test_only_the_hash_of_the_password_is_stored() -> None:
    _visitor, name = member()
    cells = store().get_row(schema.user_row(name))
    assert cells[schema.PASSWORD].value.startswith(b"argon2$argon2id$")
    assert not [column for column, cell in cells.items() if PASSWORD.encode() in cell.value]


def test_a_name_is_stored_in_lower_case() -> None:
    visitor, name = Visitor(), fresh_name()
    assert visitor.sign_up(f" {name.upper()} ").status_code == 302
    assert User.objects.get(username=name).username == name


def test_a_taken_name_is_refused_and_the_account_stays_as_it_is() -> None:
    _visitor, name = member()
    response = Visitor().sign_up(name.upper(), OTHER_PASSWORD, display_name="Mallory")
    assert response.status_code == 200
    assert "This user name is taken" in response.content.decode()
    assert 'value="Mallory"' in response.content.decode(), "what was typed is still there"
    user = User.objects.get(username=name)
    assert user.display_name == "Ada Lovelace"
    assert user.check_password(PASSWORD)


@pytest.mark.parametrize(
    "display_name", ["\u200b", "\u2066\u2069", "Ada\u202egpj.exe", "Ada\u2028Lovelace", "\u200d\ufe0f"]
)
def test_a_name_that_shows_nothing_or_turns_others_text_is_refused(display_name: str) -> None:
    visitor, name = Visitor(), fresh_name()
    assert visitor.sign_up(name, display_name=display_name).status_code == 200
    assert not User.objects.exists(name)
    member_of, name = member()
    member_of.post("/accounts/", {"display_name": display_name})
    assert User.objects.get(username=name).display_name == "Ada Lovelace"


@pytest.mark.parametrize("display_name", ["Zoë", "عليّ", "علی\u200cرضا", "李", "👩\u200d🚀"])
def test_a_name_may_be_of_any_script(display_name: str) -> None:
    visitor, name = Visitor(), fresh_name()
    assert visitor.sign_up(name, display_name=display_name).status_code == 302
    assert User.objects.get(username=name).display_name == display_name


def test_of_two_sign_ups_at_once_one_wins_and_the_other_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    name = fresh_name()
    # Both find the name free before either makes the account: without this they would mostly run one after the other.
    both_looked = threading.Barrier(2)
    exists = type(User.objects).exists

    def exists_then_wait(manager: object, username: str) -> bool:
        answer = exists(User.objects, username)
        both_looked.wait(timeout=30)
        return answer

    monkeypatch.setattr(type(User.objects), "exists", exists_then_wait)
    visitors = [Visitor(), Visitor()]
    passwords = [PASSWORD, OTHER_PASSWORD]
    responses: dict[int, object] = {}

    def sign_up(number: int) -> None:
        responses[number] = visitors[number].sign_up(name, passwords[number])

    threads = [threading.Thread(target=sign_up, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    statuses = [responses[number].status_code for number in (0, 1)]  # type: ignore[attr-defined]
    assert sorted(statuses) == [200, 302]
    winner, loser = statuses.index(302), statuses.index(200)
    assert "This user name is taken" in responses[loser].content.decode()  # type: ignore[attr-defined]
    assert User.objects.get(username=name).check_password(passwords[winner])
    assert visitors[winner].is_logged_in
    assert not visitors[loser].is_logged_in


@pytest.mark.parametrize(
    "name",
    ["", "user", "session", "cache", "system", "USER", "admin", "postmaster", "a:b", "user:ada", "a\x00b", "a\nb",
     "../etc", "ada lovelace", "ädä", "ａｄａ", ".ada", "-ada", "ada.", "a..b", "a" * 33, "<script>", "a/b", "a@b"],
)  # fmt: skip
def test_a_name_that_could_be_mistaken_for_something_else_is_refused(name: str) -> None:
    response = Visitor().sign_up(name)
    assert response.status_code == 200
    assert response.context["form"].errors["username"]


@pytest.mark.parametrize("name", ["x", "a.b", "a-b_c", "1", "a" * 32])
def test_these_names_are_fine(name: str) -> None:
    from penncloud_site.accounts.names import checked

    assert checked(name) == name


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"password2": "something else 1"}, "password2", "match"),
        ({"password1": "short", "password2": "short"}, "password1", "too short"),
        ({"password1": "1234567890", "password2": "1234567890"}, "password1", "too common"),
        ({"password1": "Ada Lovelace", "password2": "Ada Lovelace"}, "password1", "similar"),
        ({"display_name": ""}, "display_name", "required"),
        ({"display_name": "x" * 81}, "display_name", "at most 80"),
        ({"display_name": "a\x00b"}, "display_name", "Null"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, str], field: str, words: str) -> None:
    visitor, name = Visitor(), fresh_name()
    response = visitor.sign_up(name, **changes)
    assert words in str(response.context["form"].errors[field])
    assert not User.objects.exists(name)
    assert not visitor.is_logged_in


def test_a_hostile_display_name_is_shown_as_text() -> None:
    visitor, name = Visitor(), fresh_name()
    visitor.sign_up(name, display_name='<img src=x onerror="alert(1)">')
    page = visitor.get("/accounts/").content.decode()
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_signing_up_needs_the_forms_token() -> None:
    name = fresh_name()
    response = Visitor(enforce_csrf_checks=True).sign_up(name)
    assert response.status_code == 403
    assert not User.objects.exists(name)


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_nobody_is_sent_to_another_site_afterwards(wanted: str) -> None:
    assert Visitor().sign_up(fresh_name(), next=wanted)["Location"] == "/"


def test_afterwards_one_is_where_one_wanted_to_go() -> None:
    assert Visitor().sign_up(fresh_name(), next="/drive/")["Location"] == "/drive/"
