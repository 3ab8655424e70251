"""Carrying out intents: what was deleted for good, or broke off on its way in, leaves no row behind.

Any number of collectors may run at once, on the same intent too, and one may die between any two writes: every step only
deletes what nobody can reach any more, uids are never used twice, and an intent is removed after everything else. Nothing is
decided by a clock that others set: an upload counts as abandoned, and an index entry as left over, when *this* collector has
seen the same version for long enough on its own monotonic clock.

The order that makes it safe:

- A folder is doomed (its type changed) before its members are listed: from then on nothing gets in or out (`tree`).
- A file's `open` cell goes before its chunks are listed: from then on no chunk can be written (`upload`).
- Chunks go before the row of the file, members before the row of the folder: what still has to be found is still linked.
- An abandoned upload's intent is turned into a `PURGE` first, in a batch that requires that its lease still stands still: from
  then on the upload cannot make its file visible.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from drive import outbox, schema
from drive.node import NodeType, decode_line
from drive.outbox import Kind
from kvstore.client import Batch, Cell, Client, Version
from kvstore.errors import RequirementFailed, StoreError

log = logging.getLogger(__name__)

LEASE = 120.0
"""Seconds for which an upload's lease must stand still before it is taken for abandoned. See `upload.BEAT`."""

GRACE = 300.0
"""Seconds for which an index entry may be without an intent before it is dropped."""

BUDGET = 20.0
"""Seconds spent on one intent before the others get their turn. It is taken up again in the next round."""

BATCH = 200
"""Members, or chunks, deleted in one batch."""


def carry_out(store: Client, user: str, uid: str, value: bytes) -> Iterator[None]:
    """Do all work of one `PURGE` or `EMPTY` intent and remove it. Yields after each bounded step; may be left anywhere."""
    kind, target = outbox.decode(value)
    assert kind in (Kind.PURGE, Kind.EMPTY)
    if kind is Kind.PURGE:
        yield from _remove_subtree(store, user, target)
    else:
        yield from _remove_members(store, user, schema.trash_row(user, target))
    outbox.finish(store, user, uid)


def _remove_members(store: Client, user: str, row: str) -> Iterator[None]:
    while members := store.get_row(row, prefix=schema.CHILD, limit=BATCH, keys_only=True):
        for column in members:
            yield from _remove_subtree(store, user, schema.child_uid(column))
            store.delete(row, column)
            yield


def _remove_subtree(store: Client, user: str, uid: str) -> Iterator[None]:
    """Remove a node, everything below it and all chunks. A stack of its own, not recursion: trees may be deep."""
    stack = [(uid, "")]
    while stack:
        current, parent = stack[-1]
        row = schema.node_row(user, current)
        if not _doom(store, row):
            continue
        members = store.get_row(row, prefix=schema.CHILD, limit=BATCH)
        lines = [decode_line(schema.child_uid(column), cell.value) for column, cell in members.items()]
        files = [line.uid for line in lines if not line.is_folder]
        for file in files:
            yield from _remove_chunks(store, user, file)
        _remove_files(store, user, row, files)
        stack += [(line.uid, current) for line in lines if line.is_folder]
        if not lines:
            yield from _remove_chunks(store, user, current)
            batch = Batch().delete_row(row)
            if parent:
                batch.delete(schema.node_row(user, parent), schema.child_column(current))
            store.apply(batch)
            stack.pop()
        yield


def _doom(store: Client, row: str) -> bool:
    """Close a folder. False if it changed in between and must be looked at again."""
    cell = store.get(row, "type")
    if cell is None or cell.value != NodeType.FOLDER.value.encode():
        return True
    try:
        # Required, not just put: a second collector may have removed the row, and a put would bring one cell of it back.
        store.apply(Batch().require(row, "type", cell.value).put(row, "type", NodeType.DOOMED.value.encode()))
    except RequirementFailed:
        return False
    return True


def _remove_files(store: Client, user: str, folder_row: str, uids: list[str]) -> None:
    if not uids:
        return
    batch = Batch()
    for uid in uids:
        batch.delete_row(schema.node_row(user, uid)).delete(folder_row, schema.child_column(uid))
    store.apply(batch)


def _remove_chunks(store: Client, user: str, uid: str) -> Iterator[None]:
    prefix = schema.file_prefix(user, uid)
    if not any(True for _ in store.scan(prefix=prefix, limit=1, keys_only=True)):
        return
    store.delete_row(schema.open_row(user, uid))
    while rows := {row for row, _, _ in store.scan(prefix=prefix, limit=BATCH, keys_only=True)}:
        batch = Batch()
        for row in rows:
            batch.delete_row(row)
        store.apply(batch)
        yield


@dataclass
class Collector:
    """Looks for intents of all users and carries them out."""

    store: Client
    clock: Callable[[], float] = time.monotonic
    lease: float = LEASE
    grace: float = GRACE
    _seen: dict[tuple[str, str], tuple[Version | None, float]] = field(default_factory=dict)

    def run_once(self) -> int:
        """Go through the index once. The number of intents that were done with. One that fails does not stop the others."""
        done = 0
        present = set()
        for row in schema.index_rows():
            for column, entry in self.store.get_row(row).items():
                user, uid = schema.parse_index_column(column)
                present.add((user, uid))
                try:
                    done += self._handle(user, uid, entry)
                except StoreError as error:
                    log.warning("drive work %s of %s is left for the next round: %r", uid, user, error)
        self._seen = {key: seen for key, seen in self._seen.items() if key in present}
        return done

    def _handle(self, user: str, uid: str, entry: Cell) -> bool:
        cells = self.store.get_row(schema.work_row(user), prefix=uid)
        intent, lease = cells.get(uid), cells.get(schema.lease_column(uid))
        if intent is None:
            return self._stood_still(user, uid, entry.version, self.grace) and self._drop_entry(user, uid)
        kind, _ = outbox.decode(intent.value)
        if kind is Kind.VOID:
            outbox.retract(self.store, user, uid)
            return True
        value = intent.value
        if kind is Kind.UPLOAD:
            version = lease.version if lease else None
            if not self._stood_still(user, uid, version, self.lease):
                return False
            taken = self._take_upload(user, uid, intent.value, version)
            if taken is None:
                return False
            value = taken
        return self._work(user, uid, value)

    def _work(self, user: str, uid: str, value: bytes) -> bool:
        until = self.clock() + BUDGET
        return all(self.clock() <= until for _ in carry_out(self.store, user, uid, value))

    def _stood_still(self, user: str, uid: str, version: Version | None, limit: float) -> bool:
        """Whether this collector has seen this same version for `limit` seconds."""
        known = self._seen.get((user, uid))
        if known is None or known[0] != version:
            self._seen[user, uid] = (version, self.clock())
            return limit <= 0
        return self.clock() - known[1] >= limit

    def _drop_entry(self, user: str, uid: str) -> bool:
        batch = Batch()
        outbox.record(batch, user, uid, outbox.encode(Kind.VOID))
        try:
            self.store.apply(batch)
        except RequirementFailed:
            return False  # the intent has come after all
        outbox.retract(self.store, user, uid)
        return True

    def _take_upload(self, user: str, uid: str, intent: bytes, lease: Version | None) -> bytes | None:
        """Turn an abandoned upload's intent into one to remove its chunks; None if the upload moved again or is over."""
        row, column = schema.work_row(user), schema.lease_column(uid)
        batch = Batch()
        if lease is None:
            batch.require(row, column, None)
        else:
            batch.require_version(row, column, lease)
        try:
            return outbox.turn_to_purge(self.store, batch, user, uid, intent)
        except RequirementFailed:
            return None
