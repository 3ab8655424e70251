"""Django's session engine on the store.

It promises: a session that was ended stays ended, whatever requests are still in flight with it on other front ends;
two requests that change different keys of one session both keep their change; a session is written only when it
changed. Its row is described in :mod:`penncloud_site.accounts.schema`.

A user's sessions are also listed in the user's own row. The list is written *before* the session and removed *after*
it, so a crash in between leaves a list entry without a session (dropped when the list is next looked at), never a
session that nobody can find to end. The list is for looking and ending; what makes an old session worthless after a
change of password is Django's check of the password's hash at every request.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError

from kvstore.client import Batch, Cell
from kvstore.errors import RequirementFailed
from penncloud_site.accounts import schema
from penncloud_site.storage import store

STALE_ENTRY_AGE = 600.0  # seconds; a session is written within the same request as its list entry, so far sooner


@dataclass(frozen=True, slots=True)
class OpenSession:
    """What the account page shows of a session."""

    uid: str
    since: datetime
    expires: datetime
    agent: str
    address: str


class SessionStore(SessionBase):
    """One visitor's session. Its key is only in the visitor's cookie; the store knows its hash."""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self.expires: float | None = None  # seconds since 1970, as loaded
        self._loaded: dict[str, Any] = {}

    def load(self) -> dict[str, Any]:
        """The stored session; empty, and without a key, if there is none (any more)."""
        cells = store().get_row(_row(self.session_key)) if self.session_key else {}
        if not _is_live(cells):
            # Never adopt a key that somebody else chose: a new one is made when there is something to save.
            self._session_key = None
            return {}
        self.expires = float(cells[schema.SESSION_EXPIRES].value)
        data = self.decode(cells[schema.SESSION_DATA].value.decode())
        self._loaded = dict(data)
        return data

    def exists(self, session_key: str) -> bool:
        return store().get(_row(session_key), schema.SESSION_DATA) is not None

    def create(self) -> None:
        """Save under a new key of 32 random characters."""
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        """Write the session. `CreateError`: the key exists already. `UpdateError`: the session was ended."""
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)
        user = data.get(SESSION_KEY, "")
        if user:
            _list(user, schema.session_uid(self.session_key))
        if must_create:
            self._insert(data, user)
        else:
            data = self._update(data, user)
        self._loaded = dict(data)

    def delete(self, session_key: str | None = None) -> None:
        """End the session with this key, or this one."""
        key = session_key or self.session_key
        if key:
            end(schema.session_uid(key))

    @classmethod
    def clear_expired(cls) -> None:
        clear_expired()

    def _insert(self, data: dict[str, Any], user: str) -> None:
        row = _row(self.session_key)
        try:
            store().apply(self._write(Batch().require(row, schema.SESSION_DATA, None), data, user))
        except RequirementFailed as error:
            raise CreateError from error

    def _update(self, data: dict[str, Any], user: str) -> dict[str, Any]:
        """Write over the stored session, and return what was written.

        Read, then write on the condition that nothing changed in between. Without the condition, a request that
        began before a log-out and ends after it would write the session's row again: logged in once more.
        """
        row = _row(self.session_key)
        while True:
            cells = store().get_row(row)
            if not _is_live(cells):
                raise UpdateError
            merged = self._merged(self.decode(cells[schema.SESSION_DATA].value.decode()), data)
            batch = Batch().require_version(row, schema.SESSION_DATA, cells[schema.SESSION_DATA].version)
            try:
                store().apply(self._write(batch, merged, user))
            except RequirementFailed:
                continue
            return merged

    def _merged(self, stored: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """What is stored now, with the changes that this request made since it loaded the session."""
        merged = {key: value for key, value in stored.items() if key in data or key not in self._loaded}
        changed = {key: value for key, value in data.items() if self._loaded.get(key, _MISSING) != value}
        return merged | changed

    def _write(self, batch: Batch, data: dict[str, Any], user: str) -> Batch:
        row = _row(self.session_key)
        expires = time.time() + self.get_expiry_age()
        return (
            batch.put(row, schema.SESSION_USER, user.encode())
            .put(row, schema.SESSION_DATA, self.encode(data).encode())
            .put(row, schema.SESSION_EXPIRES, f"{expires:.0f}".encode())
        )


_MISSING = object()


def _row(session_key: str | None) -> str:
    assert session_key, "a session without a key has no row"
    return schema.session_row(schema.session_uid(session_key))


def _is_live(cells: dict[str, Cell]) -> bool:
    return schema.SESSION_DATA in cells and float(cells[schema.SESSION_EXPIRES].value) > time.time()


def needs_renewal(session: SessionBase) -> bool:
    """Whether half of a logged-in session's time is over: then it is worth a write to keep it from ending."""
    expires = getattr(session, "expires", None)
    return expires is not None and SESSION_KEY in session and expires - time.time() < settings.SESSION_COOKIE_AGE / 2


def _list(username: str, uid: str) -> None:
    """Put the session on its user's list, with the time: an old entry without a session is known to be stale."""
    store().put(schema.user_row(username), schema.session_column(uid), f"{time.time():.0f}".encode())


def _unlist(username: str, uid: str) -> None:
    store().delete(schema.user_row(username), schema.session_column(uid))


def end(uid: str) -> bool:
    """End a session, wherever it is used; False if there was none."""
    row = schema.session_row(uid)
    cells = store().get_row(row)
    store().delete_row(row)
    if schema.SESSION_USER in cells and cells[schema.SESSION_USER].value:
        _unlist(cells[schema.SESSION_USER].value.decode(), uid)
    return _is_live(cells)


def sessions_of(username: str) -> list[OpenSession]:
    """The user's sessions that have not expired, the newest first. Entries of the list that are stale are dropped."""
    listed = store().get_row(schema.user_row(username), prefix=schema.SESSION_COLUMNS)
    found = []
    for column, entry in listed.items():
        uid = column.removeprefix(schema.SESSION_COLUMNS)
        cells = store().get_row(schema.session_row(uid))
        if _is_live(cells) and cells[schema.SESSION_USER].value.decode() == username:
            found.append(_summary(uid, cells))
        elif not cells and time.time() - float(entry.value) > STALE_ENTRY_AGE:
            _unlist(username, uid)
    return sorted(found, key=lambda session: session.since, reverse=True)


def _summary(uid: str, cells: dict[str, Cell]) -> OpenSession:
    data = SessionStore().decode(cells[schema.SESSION_DATA].value.decode())
    return OpenSession(
        uid=uid,
        since=datetime.fromtimestamp(data.get("since", 0), UTC),
        expires=datetime.fromtimestamp(float(cells[schema.SESSION_EXPIRES].value), UTC),
        agent=data.get("agent", ""),
        address=data.get("address", ""),
    )


def end_one_of(username: str, uid: str) -> bool:
    """End the user's session `uid`; False if the user has no such session."""
    user = store().get(schema.session_row(uid), schema.SESSION_USER)
    if user is None or user.value.decode() != username:
        return False
    end(uid)
    return True


def end_others(username: str, session_key: str | None) -> int:
    """End all sessions of the user but the one with this key; returns how many there were."""
    kept = schema.session_uid(session_key) if session_key else ""
    listed = store().get_row(schema.user_row(username), prefix=schema.SESSION_COLUMNS, keys_only=True)
    ended = 0
    for column in listed:
        uid = column.removeprefix(schema.SESSION_COLUMNS)
        if uid != kept:
            ended += end(uid)
            _unlist(username, uid)
    return ended


def clear_expired() -> int:
    """Remove the sessions that have expired; returns how many.

    Each is removed only if its expiry is still what was read: a visitor may be renewing it this moment.
    """
    now, removed = time.time(), 0
    for row, column, cell in store().scan(prefix=schema.SESSION_ROWS):
        if column != schema.SESSION_EXPIRES or float(cell.value) > now:
            continue
        user = store().get(row, schema.SESSION_USER)
        try:
            store().apply(Batch().require_version(row, column, cell.version).delete_row(row))
        except RequirementFailed:
            continue
        removed += 1
        if user is not None and user.value:
            _unlist(user.value.decode(), row.removeprefix(schema.SESSION_ROWS))
    return removed
