"""One tablet's replica as the disk knows it: cells at the commit point, and the logged tail behind it.

States (`Learning`): a replica is intact, or it learns (its tail was cut, what is logged from then on is held back), or it
settles (everything needed is logged; the held-back entries are being applied), and is intact again when that is done. A damaged
replica takes nothing but the beginning of learning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from kvstore.mutation import Bundle, Entry, decode_entry
from kvstore.storage.cell import BULK, CELL_HEAD, VALUE_PLACE, Place
from kvstore.storage.cellkey import cell_key
from kvstore.storage.checkpoint import Head
from kvstore.storage.debts import Debts
from kvstore.storage.failures import Damage
from kvstore.storage.results import ResultTable
from kvstore.storage.segment import Position
from kvstore.storage.tablet import Tablet

_new = tuple.__new__


class Learning(Enum):
    """Where a replica stands between damaged and whole."""

    INTACT = "intact"  # the cells are those of the commit point
    HOLDING = "holding"  # a learner: cells are being installed, logged entries are held back
    SETTLING = "settling"  # everything is installed; held-back entries up to `settle_at` are not all applied
    DAMAGED = "damaged"  # cells or log cannot be trusted


class Logged(NamedTuple):
    """An entry in the log that is not applied. `payload`, `length`: where its bytes lie, to read bulk parts back.

    `stripped`: its bulk parts are not in memory. `held`: it came while the replica was learning.
    """

    entry: Entry
    place: Place
    position: Position
    payload: Position
    length: int
    stripped: bool
    held: bool


class DiskReplica:
    """What the engine keeps of one tablet."""

    def __init__(
        self,
        tablet_id: int,
        read_back: Callable[[Position, int], bytes],
        results: ResultTable,
        debts: Debts | None = None,
    ) -> None:
        """An empty replica. `read_back` fetches bytes of the log; `debts` are those of the node's tablets."""
        self.id = tablet_id
        self.start = ""
        self.end: str | None = None
        self.range_version = 0
        """0: its range was lost with its checkpoint. It is damaged then, and is told by who lets it learn."""
        self.tablet = Tablet(debts)
        self.results = results
        """Results of mutations as of `commit`."""
        self.epoch = 0
        """The highest epoch that was logged."""
        self.commit = 0
        """The cells are those after this sequence; everything above is in `tail`."""
        self.commit_epoch = 0
        self.learning = Learning.INTACT
        self.damage = ""
        """Why the replica is damaged, if it is."""
        self.logged: deque[Logged] = deque()
        self.held_from: int | None = None
        self.must_begin = False
        """A learner that lost rows to a split: what it held back is gone, so it can only begin anew."""
        self.settle_at = 0
        self.log_start = Position(0, 0)
        """Records before this place are not this replica's, or are covered by its checkpoint."""
        self.dirty_from: Position | None = None
        """The first record in the log that its checkpoint does not cover: replay needs the log from here. None: nothing."""
        self.dirty_since_snapshot: Position | None = None
        self.sources: frozenset[int] = frozenset()
        """While it has no checkpoint of its own: the tablets from whose checkpoints and log replay makes it, having been split
        off the one, that perhaps off another. None of those may have a checkpoint of what was left of it before this has."""
        self.checkpoint: Head | None = None
        self.checkpoint_file: int | None = None
        """The number of its newest checkpoint in the folder, which may be one that cannot be read."""
        self.checkpoint_damaged = False
        """Its checkpoint, or that of one that it was split off and still depends on, is damaged on disk: it needs another, for
        replay would find the damage; until then it is whole in memory only."""
        self.checkpoint_segments: frozenset[int] = frozenset()
        """Segments that the durable checkpoint's bulk cells point into."""
        self.checkpoint_bytes = 0
        self.bytes_since_checkpoint = 0
        self._read_back = read_back

    @property
    def intact(self) -> bool:
        """Whether the cells are, without doubt, those of the commit point."""
        return self.learning is Learning.INTACT

    @property
    def range(self) -> tuple[str, str | None, int]:
        """(start, end, range version)."""
        return self.start, self.end, self.range_version

    @property
    def may_checkpoint(self) -> bool:
        """Whether it is intact, and nothing that it held back while learning is left in the tail.

        Replay after a checkpoint begins at the tail; it must not begin inside a learning that the checkpoint has behind it.
        """
        return self.intact and (not self.logged or not self.logged[0].held)

    @property
    def tail(self) -> list[Entry]:
        """The entries after the commit point, whole (bulk values of held-back ones are read back from the log)."""
        return [self._whole(logged) for logged in self.logged]

    @property
    def last(self) -> int:
        """The last sequence in the log."""
        return self.logged[-1].entry.last if self.logged else self.commit

    @property
    def last_epoch(self) -> int:
        """The epoch of the last entry in the log."""
        return self.logged[-1].entry.epoch if self.logged else self.commit_epoch

    def _whole(self, logged: Logged) -> Entry:
        if not logged.stripped:
            return logged.entry
        payload = self._read_back(logged.payload, logged.length)
        return decode_entry(logged.entry.epoch, logged.entry.first, payload)

    def touched(self, position: Position) -> None:
        """A record of this tablet was logged there."""
        if self.dirty_from is None:
            self.dirty_from = position
        if self.dirty_since_snapshot is None:
            self.dirty_since_snapshot = position

    def snapshot_taken(self) -> None:
        """A checkpoint will cover everything logged so far but the tail."""
        self.dirty_since_snapshot = self.logged[0].position if self.logged else None

    def checkpoint_done(self, head: Head, size: int, segments: frozenset[int], logged_bytes: int) -> None:
        """The checkpoint of the last snapshot is durable; `logged_bytes` is what had been counted at the snapshot."""
        self.checkpoint, self.checkpoint_bytes, self.checkpoint_segments = head, size, segments
        self.checkpoint_file = head.number
        self.checkpoint_damaged = False
        self.dirty_from = self.dirty_since_snapshot
        self.bytes_since_checkpoint -= logged_bytes
        self.sources = frozenset()

    # ------------------------------------------------------------------ log events, the same when they happen and in replay

    def follows(self, entry: Entry) -> bool:
        """Whether `entry` may come next in the log: no gap, no overlap, no older epoch."""
        if self.learning is Learning.HOLDING and self.held_from is None and not self.logged:
            return not self.must_begin
        return entry.first == self.last + 1 and entry.epoch >= self.last_epoch

    def add(self, entry: Entry, place: Place, position: Position, payload: Position) -> None:
        """An entry was logged. While learning its bulk parts are not kept in memory: the stream may be long."""
        if self.learning is Learning.HOLDING and self.held_from is None:
            self.held_from = entry.first - 1
        heads, *bulk = map(len, entry.payload_parts)
        held = self.learning is Learning.HOLDING
        stripped = held and bool(bulk)
        kept = _without_bulk(entry) if stripped else entry
        self.logged.append(_new(Logged, (kept, place, position, payload, heads + sum(bulk), stripped, held)))
        if entry.epoch > self.epoch:
            self.epoch = entry.epoch
        self.bytes_since_checkpoint += heads

    def cut(self, after: int) -> None:
        """Logged entries above sequence `after` never were."""
        assert after >= self.commit or self.learning is Learning.HOLDING, "what is committed is never cut"
        while self.logged and self.logged[-1].entry.last > after:
            assert self.logged[-1].entry.first > after, "a cut falls between two entries"
            self.logged.pop()

    def split(self, child: DiskReplica, at_row: str, range_version: int) -> None:
        """The rows from `at_row` on are `child`'s from here on, as they are at the commit point; what is logged stays here."""
        assert self.intact, self.learning
        child.start, child.end, child.range_version = at_row, self.end, range_version
        child.tablet = self.tablet.cut_off(cell_key(at_row, ""))
        child.results = self.results.twin()
        child.epoch, child.commit, child.commit_epoch = self.epoch, self.commit, self.commit_epoch
        self.end, self.range_version = at_row, range_version

    def inherit(self, parent: DiskReplica) -> None:
        """It was just split off `parent`: until it has a checkpoint, it is what that one's checkpoint and log make it."""
        self.sources = parent.sources | {parent.id}
        self.dirty_from = self.dirty_since_snapshot = parent.dirty_from
        self.checkpoint_damaged = parent.checkpoint_damaged
        self.checkpoint_segments = parent.checkpoint_segments
        self.bytes_since_checkpoint = parent.bytes_since_checkpoint

    def narrow(self, end: str, range_version: int) -> None:
        """The rows from `end` on are nobody's here any more.

        What is logged and not applied is dropped as well, for it may bring such rows: an intact replica's tail is cut, a
        learner has to begin anew. Neither is a member of the set that had everything when the tablet was split.
        """
        self.tablet.delete_range(cell_key(end, ""), None)
        self.logged.clear()
        self.end, self.range_version = end, range_version
        if self.learning in (Learning.HOLDING, Learning.SETTLING):
            self.learning = Learning.HOLDING
            self.held_from = None
            self.must_begin = True

    def begin_learning(self, empty: bool | None = None) -> None:
        """Not intact from here on. A damaged replica starts empty: its cells may be wrong where their versions are right.

        Replay says by `empty` what was decided then.
        """
        if empty or (empty is None and self.learning is Learning.DAMAGED):
            self.tablet.clear()
        self.learning = Learning.HOLDING
        self.damage = ""
        self.logged.clear()
        self.held_from = None
        self.must_begin = False

    def may_finish(self, commit: int) -> bool:
        """Whether everything up to `commit` is held, so that learning may finish there."""
        if self.must_begin or self.learning is not Learning.HOLDING:
            return False
        begin = commit if self.held_from is None else self.held_from
        return begin <= commit <= max(begin, self.last if self.logged else begin)

    def finish_learning(self, begin: int, commit: int, commit_epoch: int, results: ResultTable) -> None:
        """Held-back entries follow `begin`; those up to `commit` count only where newer, and their results are in `results`."""
        self.results = results
        self.learning = Learning.SETTLING
        self.settle_at = commit
        self.commit = begin
        self.commit_epoch = commit_epoch
        self.epoch = max(self.epoch, commit_epoch)
        self._settled()

    def refers_into(self, segment: int, begin: int, end: int) -> bool:
        """Whether a cell's value lies in these bytes of a segment. Looks at every cell, if any has its value there."""
        if segment not in self.tablet.bulk_bytes:
            return False
        bulk = (packed for _, packed in self.tablet.walk(b"", None) if packed[16] == BULK)
        places = (VALUE_PLACE.unpack_from(packed, CELL_HEAD.size) for packed in bulk)
        return any(there == segment and begin <= offset < end for _, _, there, offset in places)

    def may_have_values_in(self, segment: int, damage: Damage) -> bool:
        """Whether damage in a segment may be to values of this replica. A record is that tablet's whose id it has, and its
        values may be those of others that were split off since."""
        if damage.tablet in (None, self.id):
            return segment in self.tablet.bulk_bytes
        return self.refers_into(segment, damage.offset, damage.end)

    def mark_damaged(self, why: str) -> None:
        """Cells or log cannot be trusted."""
        self.learning = Learning.DAMAGED
        self.damage = why
        self.logged.clear()

    def apply(self, upto: int, most: int | None = None) -> list[Entry]:
        """Apply logged entries that end at or below sequence `upto`, at most about `most` mutations of them."""
        done: list[Entry] = []
        if self.learning in (Learning.HOLDING, Learning.DAMAGED):
            return done
        count = 0
        while self.logged and self.logged[0].entry.last <= upto and (most is None or count < most):
            logged = self.logged.popleft()
            entry = logged.entry
            settling = self.learning is Learning.SETTLING
            # the results of what settles are in the table already, as of `settle_at`
            self.tablet.apply(entry, logged.place, None if settling else self.results, newer_only=settling)
            self.commit, self.commit_epoch = entry.last, entry.epoch
            self._settled()
            count += entry.count
            done.append(entry)
        return done

    def _settled(self) -> None:
        if self.learning is Learning.SETTLING and self.commit >= self.settle_at:
            assert self.commit == self.settle_at, "the results belong to a commit point, which is the end of an entry"
            self.learning = Learning.INTACT


def _without_bulk(entry: Entry) -> Entry:
    # the heads are copied, not views: those would keep the whole payload
    bundles = [Bundle(bytes(bundle.head), b"", bundle.count, bundle.decoded) for bundle in entry.bundles]
    return Entry(entry.epoch, entry.first, bundles, entry.outcomes, entry.failed)
