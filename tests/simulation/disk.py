"""A disk under simulation: an engine with the interface of `kvstore.storage.engine.Engine` whose log is a list.

Cells, results and the states of a replica are the real ones (`kvstore.storage.replica`, `tablet`, `results`); only segments,
checkpoints and bytes are left out. A crash keeps what was synced and any prefix of the rest, and what opens afterwards is
made by replaying the list through the same methods, as `kvstore.storage.recovery` does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from kvstore import settings
from kvstore.mutation import Entry, Version, decode_entry
from kvstore.storage.cell import BulkRef, Place, StoredCell, pack_bulk, pack_inline
from kvstore.storage.cellkey import cell_key
from kvstore.storage.crc import crc32c
from kvstore.storage.failures import CorruptValue
from kvstore.storage.replica import DiskReplica, Learning
from kvstore.storage.results import ResultTable
from kvstore.storage.segment import Position


class SimulatedDisk:
    """What outlives a process: the log, and how much of it is on disk."""

    def __init__(self, store_id: str) -> None:
        self.store_id = store_id
        self.records: list[tuple[str, int, tuple[Any, ...]]] = []
        self.durable = 0

    def open(self, clock: Callable[[], float]) -> SimulatedEngine:
        """The engine of a new process."""
        return SimulatedEngine(self)

    @property
    def waiting(self) -> bool:
        """Whether something was appended that is not on disk."""
        return self.durable < len(self.records)

    def begin_sync(self) -> int:
        """A sync begins: it will cover what is there now."""
        return len(self.records)

    def end_sync(self, begun: int) -> int:
        """It is done: the lsn up to which all is on disk."""
        self.durable = begun
        return begun

    def maintain(self) -> int:
        """There is nothing to keep in order, and so nothing is synced by it."""
        return 0

    def crash(self, chance: random.Random) -> None:
        """The power goes: what was not synced is lost, but for any part of its beginning."""
        kept = chance.randint(self.durable, len(self.records))
        del self.records[kept:]
        self.durable = kept


class SimulatedEngine:
    """The engine of one process on a simulated disk. An lsn is a number of records."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        self.store_id = disk.store_id
        self.tablets: dict[int, DiskReplica] = {}
        self.on_corrupt: Callable[[int, str], None] = lambda tablet, why: None
        self.on_moved: Callable[[int, DiskReplica], None] = lambda tablet, replica: None
        self.corrupt: set[BulkRef] = set()
        self._replaying = True
        for number, (kind, tablet, what) in enumerate(disk.records):
            self._number = number
            getattr(self, "_do_" + kind)(tablet, *what)
        self._replaying = False

    def _log(self, kind: str, tablet: int, *what: Any) -> int:
        self._number = len(self.disk.records)
        self.disk.records.append((kind, tablet, what))
        getattr(self, "_do_" + kind)(tablet, *what)
        return len(self.disk.records)

    # -- the interface

    def create_tablet(self, tablet: int, start: str, end: str | None, range_version: int) -> int:
        assert tablet not in self.tablets
        return self._log("create", tablet, start, end, range_version)

    def drop_tablet(self, tablet: int) -> int:
        return self._log("drop", tablet)

    def split_tablet(
        self, tablet: int, child: int, at_row: str, commit_epoch: int, commit: int, range_version: int
    ) -> int:
        replica = self.tablets[tablet]
        assert child not in self.tablets, f"tablet {child} exists"
        self.apply(tablet, commit)
        assert (replica.commit_epoch, replica.commit) == (commit_epoch, commit), "a split falls on a commit point"
        lsn = self._log("split", tablet, child, at_row, commit, range_version)
        self.on_moved(tablet, replica)
        self.on_moved(child, self.tablets[child])
        return lsn

    def narrow_tablet(self, tablet: int, end: str, range_version: int) -> int:
        return self._log("narrow", tablet, end, range_version)

    def append_entry(self, tablet: int, entry: Entry, commit: int) -> int:
        replica = self.tablets[tablet]
        assert replica.learning is not Learning.DAMAGED, "a damaged replica takes no entries"
        assert replica.follows(entry), (entry.epoch, entry.first, replica.last_epoch, replica.last)
        payload = b"".join(bytes(part) for part in entry.payload_parts)
        return self._log("entry", tablet, entry.epoch, entry.first, payload, commit)

    def append_commit(self, tablet: int, commit: int) -> int:
        return self._log("commit", tablet, commit)

    def append_epoch(self, tablet: int, epoch: int) -> int:
        return self._log("epoch", tablet, epoch)

    def append_cut(self, tablet: int, after: int) -> int:
        return self._log("cut", tablet, after)

    def begin_learning(self, tablet: int, known: tuple[str, str | None, int]) -> int:
        assert self.tablets[tablet].range == known, (
            "nothing is learned for another range than that of the configuration"
        )
        return self._log("learn", tablet)

    def install(self, tablet: int, cells: Sequence[tuple[str, str, Version | None, bytes | None]]) -> int:
        assert self.tablets[tablet].learning is Learning.HOLDING, "only a learner installs cells"
        return self._log("install", tablet, list(cells))

    def finish_learning(self, tablet: int, results: bytes, commit_epoch: int, commit: int) -> int:
        replica = self.tablets[tablet]
        assert replica.may_finish(commit), (replica.learning, replica.held_from, commit, replica.last)
        begin = commit if replica.held_from is None else replica.held_from
        lsn = self._log("finish", tablet, results, begin, commit_epoch, commit)
        self.on_moved(tablet, replica)
        return lsn

    def mark_damaged(self, tablet: int, why: str) -> None:
        if self.tablets[tablet].learning is not Learning.DAMAGED:
            self._log("damaged", tablet, why)
            self.on_corrupt(tablet, why)

    def apply(self, tablet: int, upto: int, most: int | None = None) -> list[Entry]:
        replica = self.tablets[tablet]
        done: list[Entry] = []
        while replica.logged and replica.logged[0].entry.last <= upto and (most is None or len(done) < most):
            applied = replica.apply(replica.logged[0].entry.last)
            if not applied:
                break
            done += applied
            self.on_moved(tablet, replica)
        return done

    def read(self, cell: StoredCell) -> bytes:
        ref = cell.value
        if not isinstance(ref, BulkRef):
            return ref
        value = self._bytes_at(ref.segment, ref.offset, ref.length)
        if ref in self.corrupt or crc32c(value) != ref.crc32c:
            for tablet, replica in self.tablets.items():
                if any(found.value == ref for _, _, found in replica.tablet.scan()):
                    self.mark_damaged(tablet, "a value does not have its checksum")
            raise CorruptValue("log", ref.offset, "a value does not have its checksum")
        return value

    def metrics(self) -> dict[str, float]:
        return {}

    # -- what a record does, now and in replay

    def _bytes_at(self, number: int, offset: int, length: int) -> bytes:
        kind, _, what = self.disk.records[number]
        payload = what[2] if kind == "entry" else what[0][offset][3]
        return payload[offset : offset + length] if kind == "entry" else payload

    def _do_create(self, tablet: int, start: str, end: str | None, range_version: int) -> None:
        read_back = lambda position, length: self._bytes_at(position.segment, position.offset, length)  # noqa: E731
        replica = DiskReplica(tablet, read_back, ResultTable())
        replica.start, replica.end, replica.range_version = start, end, range_version
        self.tablets[tablet] = replica

    def _do_split(self, tablet: int, child: int, at_row: str, commit: int, range_version: int) -> None:
        parent = self.tablets[tablet]
        if parent.learning is Learning.DAMAGED:
            parent.narrow(at_row, range_version)  # in replay, by a value that was found damaged since
            return
        parent.apply(commit)
        self._do_create(child, at_row, parent.end, range_version)
        parent.split(self.tablets[child], at_row, range_version)

    def _do_narrow(self, tablet: int, end: str, range_version: int) -> None:
        self.tablets[tablet].narrow(end, range_version)

    def _do_drop(self, tablet: int) -> None:
        del self.tablets[tablet]

    def _do_entry(self, tablet: int, epoch: int, first: int, payload: bytes, commit: int) -> None:
        replica = self.tablets[tablet]
        entry = decode_entry(epoch, first, payload)
        if self._replaying and replica.learning is Learning.DAMAGED:
            return
        assert replica.follows(entry), "a gap in the log"
        here = Position(self._number, 0)
        replica.add(entry, Place(self._number, entry.bulk_start), here, here)
        if self._replaying:
            replica.apply(commit)

    def _do_commit(self, tablet: int, commit: int) -> None:
        if self._replaying:
            self.tablets[tablet].apply(commit)

    def _do_epoch(self, tablet: int, epoch: int) -> None:
        self.tablets[tablet].epoch = max(self.tablets[tablet].epoch, epoch)

    def _do_cut(self, tablet: int, after: int) -> None:
        self.tablets[tablet].cut(after)

    def _do_learn(self, tablet: int) -> None:
        self.tablets[tablet].begin_learning()

    def _do_install(self, tablet: int, cells: list[tuple[str, str, Version | None, bytes | None]]) -> None:
        replica = self.tablets[tablet]
        if replica.learning is Learning.DAMAGED:
            return
        for index, (row, column, version, value) in enumerate(cells):
            packed = None
            if value is not None and version is not None and len(value) >= settings.BULK_VALUE:
                packed = pack_bulk(*version, BulkRef(self._number, index, len(value), crc32c(value)))
            elif value is not None and version is not None:
                packed = pack_inline(*version, bytes(value))
            replica.tablet.set_packed(cell_key(row, column), packed)

    def _do_finish(self, tablet: int, results: bytes, begin: int, commit_epoch: int, commit: int) -> None:
        replica = self.tablets[tablet]
        if replica.learning is Learning.DAMAGED:
            return
        table = ResultTable()
        table.add_encoded(results)
        replica.finish_learning(begin, commit, commit_epoch, table)
        if self._replaying:
            replica.apply(commit)

    def _do_damaged(self, tablet: int, why: str) -> None:
        self.tablets[tablet].mark_damaged(why)
