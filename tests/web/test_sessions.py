"""Sessions: they follow their user from front end to front end, and an ended one stays ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.management import call_command

from kvstore.client import Batch
from penncloud_site import sessions
from penncloud_site.accounts import schema
from penncloud_site.sessions import SessionStore
from penncloud_site.storage import store
from tests.web.visitors import Visitor, fresh_name, member

pytestmark = pytest.mark.usefixtures("real_store")


def saved(**data: object) -> SessionStore:
    """A stored session with these values."""
    session = SessionStore()
    session.update(data)
    session.save()
    return session


def row_of(session: SessionStore) -> str:
    assert session.session_key
    return schema.session_row(schema.session_uid(session.session_key))


def test_what_one_front_end_saves_another_reads() -> None:
    session = saved(color="green")
    assert SessionStore(session.session_key)["color"] == "green"


def test_the_key_in_the_cookie_is_not_in_the_store() -> None:
    visitor, name = member()
    key = visitor.cookies["session"].value
    rows = store().get_row(schema.user_row(name)), store().get_row(schema.session_row(schema.session_uid(key)))
    assert rows[1]
    assert store().get(f"session:{key}", "data") is None
    for cells in rows:
        assert not [column for column, cell in cells.items() if key in column or key.encode() in cell.value]


def test_a_second_session_under_one_key_is_refused() -> None:
    session = saved(color="green")
    with pytest.raises(CreateError):
        SessionStore(session.session_key).save(must_create=True)
    assert SessionStore(session.session_key)["color"] == "green"


def test_a_request_in_flight_does_not_bring_an_ended_session_back() -> None:
    session = saved(color="green")
    in_flight = SessionStore(session.session_key)
    in_flight["color"] = "red"
    SessionStore(session.session_key).flush()
    with pytest.raises(UpdateError):
        in_flight.save()
    assert not store().get_row(row_of(session))


def test_logging_out_between_the_reading_and_the_writing_of_a_save_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The narrowest gap: the save has seen the session alive, and the log-out comes before it writes."""
    session = saved(color="green")
    in_flight = SessionStore(session.session_key)
    in_flight["color"] = "red"
    write = SessionStore._write

    def end_first(self: SessionStore, batch: Batch, data: dict[str, object], user: str) -> Batch:
        monkeypatch.undo()
        SessionStore(session.session_key).flush()
        return write(self, batch, data, user)

    monkeypatch.setattr(SessionStore, "_write", end_first)
    with pytest.raises(UpdateError):
        in_flight.save()
    assert not store().get_row(row_of(session))


def test_a_page_that_was_on_its_way_says_that_one_was_logged_out(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor, name = member()

    def log_out_elsewhere(session: SessionStore) -> bool:
        sessions.end_others(name, None)
        return True  # and this request has a reason to save its session

    monkeypatch.setattr(sessions, "needs_renewal", log_out_elsewhere)
    response = visitor.get("/accounts/")
    assert response.status_code == 400
    assert "You were logged out" in response.content.decode()
    monkeypatch.undo()
    assert not visitor.is_logged_in


def test_two_requests_at_once_both_keep_their_change() -> None:
    session = saved(kept="yes", dropped="yes")
    first, second = SessionStore(session.session_key), SessionStore(session.session_key)
    first["one"] = 1
    second["two"] = 2
    del second["dropped"]
    first.save()
    second.save()
    assert dict(SessionStore(session.session_key).items()) == {"kept": "yes", "one": 1, "two": 2}


def test_many_requests_at_once_lose_no_change() -> None:
    session = saved()
    begin = threading.Barrier(8)

    def change(number: int) -> None:
        mine = SessionStore(session.session_key)
        mine[f"key{number}"] = number
        begin.wait(timeout=30)
        mine.save()

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert dict(SessionStore(session.session_key).items()) == {f"key{number}": number for number in range(8)}


def test_an_expired_session_is_nobody_and_is_cleared_away() -> None:
    visitor, name = member()
    uid = schema.session_uid(visitor.cookies["session"].value)
    store().put(schema.session_row(uid), schema.SESSION_EXPIRES, f"{time.time() - 1:.0f}".encode())
    assert not visitor.is_logged_in
    call_command("clearsessions")
    assert not store().get_row(schema.session_row(uid))
    assert schema.session_column(uid) not in store().get_row(schema.user_row(name))


def test_clearing_away_spares_a_session_that_is_being_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor, _name = member()
    row = schema.session_row(schema.session_uid(visitor.cookies["session"].value))
    store().put(row, schema.SESSION_EXPIRES, f"{time.time() - 1:.0f}".encode())
    scan = type(store()).scan

    def scan_then_renew(*args: Any, **options: Any) -> Iterator[Any]:
        found = list(scan(*args, **options))
        store().put(row, schema.SESSION_EXPIRES, f"{time.time() + 1000:.0f}".encode())
        return iter(found)

    monkeypatch.setattr(type(store()), "scan", scan_then_renew)
    sessions.clear_expired()
    monkeypatch.undo()
    assert visitor.is_logged_in


def test_looking_around_writes_nothing() -> None:
    visitor, _name = member()
    row = schema.session_row(schema.session_uid(visitor.cookies["session"].value))
    before = store().get_row(row)
    for _ in range(3):
        assert visitor.is_logged_in
    assert {c: cell.version for c, cell in store().get_row(row).items()} == {
        c: cell.version for c, cell in before.items()
    }


def test_an_active_session_is_renewed_when_half_its_time_is_over() -> None:
    visitor, _name = member()
    row = schema.session_row(schema.session_uid(visitor.cookies["session"].value))
    soon = time.time() + settings.SESSION_COOKIE_AGE / 2 - 60
    store().put(row, schema.SESSION_EXPIRES, f"{soon:.0f}".encode())
    response = visitor.get("/accounts/")
    cell = store().get(row, schema.SESSION_EXPIRES)
    assert cell is not None
    assert float(cell.value) > time.time() + settings.SESSION_COOKIE_AGE - 60
    assert response.cookies["session"]["max-age"] == settings.SESSION_COOKIE_AGE


def test_the_cookie_is_for_this_site_and_no_script() -> None:
    cookie = Visitor().sign_up(fresh_name()).cookies["session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_the_account_page_lists_the_sessions_and_ends_one() -> None:
    here, name = member()
    phone = Visitor(HTTP_USER_AGENT="Mozilla/5.0 (Linux; Android 16) Firefox/140.0", REMOTE_ADDR="192.0.2.44")
    phone.log_in(name)
    page = here.get("/accounts/").content.decode()
    assert "Firefox on Android" in page
    assert "192.0.2.44" in page
    here.post(f"/accounts/sessions/{schema.session_uid(phone.cookies['session'].value)}/end/")
    assert not phone.is_logged_in
    assert here.is_logged_in
    assert "Firefox on Android" not in here.get("/accounts/").content.decode()


def test_log_out_elsewhere_leaves_only_this_session() -> None:
    here, name = member()
    others = [Visitor(), Visitor()]
    for other in others:
        other.log_in(name)
    response = here.post("/accounts/sessions/end/", follow=True)
    assert "2 other sessions were logged out" in response.content.decode()
    assert here.is_logged_in
    assert not any(other.is_logged_in for other in others)


def test_nobody_ends_the_session_of_somebody_else() -> None:
    here, _name = member()
    stranger, _other_name = member()
    uid = schema.session_uid(here.cookies["session"].value)
    assert stranger.post(f"/accounts/sessions/{uid}/end/").status_code == 404
    assert here.is_logged_in


def test_a_list_entry_whose_session_was_never_written_is_dropped_in_time() -> None:
    here, name = member()
    stale, young = schema.session_column("0" * 40), schema.session_column("1" * 40)
    store().put(schema.user_row(name), stale, f"{time.time() - 2 * sessions.STALE_ENTRY_AGE:.0f}".encode())
    store().put(schema.user_row(name), young, f"{time.time():.0f}".encode())
    assert here.is_logged_in
    columns = store().get_row(schema.user_row(name), prefix=schema.SESSION_COLUMNS)
    assert stale not in columns
    assert young in columns, "its session may be written this very moment"


def test_another_user_in_the_same_browser_gets_a_new_session() -> None:
    visitor, _name = member()
    first_key = visitor.cookies["session"].value
    _other, other_name = member()
    visitor.post("/accounts/logout/")
    visitor.log_in(other_name)
    assert visitor.cookies["session"].value != first_key
    assert SessionStore(visitor.cookies["session"].value)[SESSION_KEY] == other_name
