"""The storage engine of one node: all its replicas, one log, their checkpoints.

    data folder/
      LOCK            held by the process that works on it
      HOLD            held by whoever removes something, or wants nothing removed meanwhile
      store           who the folder is, and where replay begins (`kvstore.storage.manifest`)
      log/            segments of the write-ahead log (`kvstore.storage.segment`)
      checkpoints/    one per tablet (`kvstore.storage.checkpoint`)
      scrub           how far the scrub is (`kvstore.storage.scrubround`)

The engine is synchronous and knows no greenlets: everything logged is durable after `sync`; `kvstore.storage.commit`
and `kvstore.storage.maintenance` drive it in a server. It is not thread-safe; `Wal.write` alone may run in a thread.

What it promises:
- What was appended before a `sync` that returned is there after any crash; of the rest, only a prefix in the order appended.
- A value is returned only if it has the checksum that it was written with.
- A replica that may lack anything it acknowledged says so (`intact` is False) until it has learned everything anew.
What it leaves to its user: which entries are committed, when, and who may read.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from kvstore.errors import NoSpace
from kvstore.mutation import Buffer, Entry, Op, Version
from kvstore.storage.cell import BulkRef, Place, StoredCell, pack_bulk, pack_inline, packed_at
from kvstore.storage.crc import combined, crc32c, extended
from kvstore.storage.debts import Debts
from kvstore.storage.failures import CorruptValue, Damage, FolderLocked, TooManyFiles, ValueMoved
from kvstore.storage.files import TOO_MANY_FILES, FileDoor, Files
from kvstore.storage.manifest import Manifest, read_manifest, write_manifest
from kvstore.storage.options import EngineOptions, UpkeepFigures
from kvstore.storage.records import U64, Kind, encode_cells, encode_range
from kvstore.storage.replica import DiskReplica, Learning
from kvstore.storage.results import ResultTable
from kvstore.storage.scrubround import ScrubRound, read_place
from kvstore.storage.segment import RECORD_HEADER, Position, segment_name
from kvstore.storage.wal import Wal

_new = tuple.__new__
_ENTRY = int(Kind.ENTRY)

HOLD = "HOLD"
"""File in the data folder: while another process has locked it, nothing there is removed (`kvstore.storage.backup`)."""

NOT_ITS_CHECKSUM = "a value does not have its checksum"


class Doomed(NamedTuple):
    """The checkpoint of a dropped replica: to be removed when the log is durable up to `lsn`, and no other replica needs it.

    Until then `segment`, where the drop was logged, stays: without it the checkpoint would bring the tablet back.
    """

    lsn: int
    segment: int
    path: str
    tablet: int


class Engine:
    """One node's data. Made by `open`."""

    def __init__(self, folder: str, files: FileDoor, options: EngineOptions, lock: int, manifest: Manifest) -> None:
        """See `open`."""
        self.folder = folder
        self.files = files
        self.options = options
        self.store_id = manifest.store_id
        self.log_start = manifest.log_start
        self.tablets: dict[int, DiskReplica] = {}
        self.debts = Debts()
        self.damage: list[Damage] = []
        """What was found damaged, at opening or since."""
        self.on_corrupt: Callable[[int, str], None] = lambda tablet, why: None
        self.on_checkpoint_damaged: Callable[[Damage], None] = lambda damage: None
        self.wal = Wal.open(files, f"{folder}/log", options.wal)
        self.next_checkpoint = 1
        self.doomed: list[Doomed] = []
        self.dropped: list[DiskReplica] = []
        """Dropped replicas whose memory is not free yet: a million cells freed at once would hold up everything else."""
        self.stuck: set[int] = set()
        """Segments that compaction could not empty since this was opened: cells point to what cannot be read there any more."""
        self._lock = lock
        self._full = False
        self.figures = UpkeepFigures()
        self.scrub_round = ScrubRound(options.scrub_period, options.clock(), read_place(files, folder))

    @classmethod
    def open(cls, data_dir: str, files: FileDoor | None = None, options: EngineOptions | None = None) -> Engine:
        """The engine on `data_dir`, made if need be: locks the folder, loads checkpoints, replays the log.

        `FolderLocked`, `FutureFormat`, `FolderDamaged`; `OSError` when the folder cannot be used. Damage below that does not
        raise: it is in `damage`, and the replicas concerned are not `intact`.
        """
        from kvstore.storage.recovery import recover

        door: FileDoor = files or Files()
        door.makedirs(data_dir)
        lock = door.lock(f"{data_dir}/LOCK")
        if lock is None:
            raise FolderLocked(f"another process works on the data folder {data_dir}")
        try:
            manifest = read_manifest(door, data_dir)
            if manifest is None:
                manifest = Manifest(secrets.token_hex(8), Position(0, 0))
                door.makedirs(f"{data_dir}/checkpoints")
                door.makedirs(f"{data_dir}/log")
                write_manifest(door, data_dir, manifest)
            engine = cls(data_dir, door, options or EngineOptions(), lock, manifest)
            recover(engine)
        except BaseException:
            door.close(lock)
            raise
        return engine

    def close(self) -> None:
        """Sync (a mark, so that damage to the last record would be told), close the files, unlock the folder."""
        if self.wal.failure is None:
            self.sync()
            self.wal.mark()  # in a write of its own: it says that what was written before is on disk
            self.sync()
        self.abandon()

    def abandon(self) -> None:
        """Close the files without writing anything, as a crash would."""
        self.wal.close()
        self.files.close(self._lock)

    # ------------------------------------------------------------------ tablets

    def create_tablet(self, tablet_id: int, start: str, end: str | None, range_version: int) -> int:
        """Begin an empty, intact replica of rows [start, end); the lsn at which that is durable."""
        assert tablet_id not in self.tablets, f"tablet {tablet_id} exists"
        lsn = self._log(Kind.CREATE, tablet_id, parts=[encode_range(start, end, range_version)])
        replica = self.new_replica(tablet_id)
        replica.start, replica.end, replica.range_version = start, end, range_version
        replica.log_start = self._record_position()
        replica.touched(replica.log_start)
        self.tablets[tablet_id] = replica
        return lsn

    def drop_tablet(self, tablet_id: int) -> int:
        """End a replica; the lsn at which that is durable. Its files go when it is, its memory bit by bit."""
        replica = self.tablets.pop(tablet_id)
        replica.tablet.clear()
        self.dropped.append(replica)
        lsn = self._log(Kind.DROP, tablet_id)
        if replica.checkpoint_file is not None:
            path = self.checkpoint_path(tablet_id, replica.checkpoint_file)
            self.doomed.append(Doomed(lsn, lsn >> 32, path, tablet_id))
        return lsn

    def split_tablet(
        self, tablet_id: int, child_id: int, at_row: str, commit_epoch: int, commit: int, range_version: int
    ) -> int:
        """Part an intact replica in two at its commit point, having applied up to there: it keeps the rows below `at_row`, a
        new intact replica has the others; both have `range_version`. The lsn at which that is durable.

        `commit` is the end of an entry of `commit_epoch`, or what is applied already; entries logged behind it stay with the
        parent. Takes a few milliseconds, however many cells there are.
        """
        replica = self.tablets[tablet_id]
        assert child_id not in self.tablets, f"tablet {child_id} exists"
        _check_cut(replica, at_row, range_version)
        replica.apply(commit)
        assert (replica.commit_epoch, replica.commit) == (commit_epoch, commit), "a split falls on a commit point"
        payload = encode_range(at_row, replica.end, range_version, child_id)
        lsn = self._log(Kind.SPLIT, tablet_id, epoch=commit_epoch, first=commit, parts=[payload])
        child = self.new_replica(child_id)
        replica.split(child, at_row, range_version)
        child.log_start = self._record_position()
        child.inherit(replica)
        self.tablets[child_id] = child
        return lsn

    def narrow_tablet(self, tablet_id: int, end: str, range_version: int) -> int:
        """Drop the rows from `end` on, and what is logged and not applied; the lsn at which that is durable.

        For a replica that is not intact where its tablet was split, or has not all of its log up to there. One that was
        learning has to begin anew (`begin_learning`).
        """
        replica = self.tablets[tablet_id]
        _check_cut(replica, end, range_version)
        replica.narrow(end, range_version)
        return self._log(Kind.NARROW, tablet_id, first=replica.commit, parts=[encode_range(*replica.range)])

    def split_off(self, tablet_id: int) -> list[DiskReplica]:
        """The replicas without a checkpoint of their own that replay makes from this tablet's."""
        return [replica for replica in self.tablets.values() if tablet_id in replica.sources]

    def new_replica(self, tablet_id: int) -> DiskReplica:
        """An empty replica that is not in `tablets` yet."""
        return DiskReplica(tablet_id, self._read_back, self.new_results(), self.debts)

    def new_results(self) -> ResultTable:
        """An empty table of results with this engine's bounds."""
        return ResultTable(self.options.results_per_client, self.options.clients_remembered)

    def checkpoint_path(self, tablet_id: int, number: int) -> str:
        """Where a checkpoint lies."""
        return f"{self.folder}/checkpoints/{tablet_id:08x}-{number:08x}.ckpt"

    # ------------------------------------------------------------------ the log

    def append_entry(self, tablet_id: int, entry: Entry, commit: int) -> int:
        """Log an entry behind the replica's last; the lsn at which it is durable. `commit`: the commit point known now.

        Large values are not copied: the entry's buffers must stay as they are until then.
        """
        replica = self.tablets[tablet_id]
        assert replica.learning is not Learning.DAMAGED, "a damaged replica takes no entries"
        assert replica.follows(entry), (entry.epoch, entry.first, replica.last_epoch, replica.last)
        heads, *bulk = entry.payload_parts
        front = U64.pack(commit)
        crc = extended(crc32c(front), heads)
        if bulk:
            crc = _with_bulk(crc, entry)
        lsn = self.wal.append(_ENTRY, tablet_id, entry.epoch, entry.first, [front, heads, *bulk], crc)
        segment, offset = self.wal.payload_at
        payload = _new(Position, (segment, offset + U64.size))
        place = _new(Place, (segment, offset + U64.size + len(heads)))
        position = _new(Position, (segment, offset - RECORD_HEADER))
        replica.touched(position)
        replica.add(entry, place, position, payload)
        return lsn

    def append_commit(self, tablet_id: int, commit: int) -> int:
        """Log the commit point, so that replay knows it; correctness does not need it."""
        return self._log(Kind.COMMIT, tablet_id, first=commit)

    def append_epoch(self, tablet_id: int, epoch: int) -> int:
        """Log that the replica has seen `epoch`."""
        replica = self.tablets[tablet_id]
        replica.epoch = max(replica.epoch, epoch)
        return self._log(Kind.EPOCH, tablet_id, epoch=epoch)

    def append_cut(self, tablet_id: int, after_sequence: int) -> int:
        """Drop the logged entries above `after_sequence`, which is the end of one; never below the commit point."""
        self.tablets[tablet_id].cut(after_sequence)
        return self._log(Kind.CUT, tablet_id, first=after_sequence)

    def apply(self, tablet_id: int, upto_sequence: int, most: int | None = None) -> list[Entry]:
        """Apply logged entries that end at or below `upto_sequence`; the entries.

        `most` bounds the slice: about so many mutations, one entry at least; what is left is for the next call.
        """
        return self.tablets[tablet_id].apply(upto_sequence, most)

    def sync(self) -> int:
        """Make everything appended durable, in one write and one fdatasync; the lsn up to which it is.

        `NoSpace`: the log needs a segment and there is no room; try again later, nothing is lost. `DiskFailed`: for good.
        """
        try:
            return self.wal.sync()
        except NoSpace:
            self.no_room()
            raise

    # ------------------------------------------------------------------ learning

    def begin_learning(self, tablet_id: int, known: tuple[str, str | None, int] | None = None) -> int:
        """The replica is not intact from here on: its tail is cut, entries appended from now on are held back.

        `known`: the (start, end, range version) of the tablet, for a replica that has lost it (its own range version is 0).
        """
        replica = self.tablets[tablet_id]
        if replica.range_version == 0 and known is not None:
            replica.start, replica.end, replica.range_version = known
        empty = replica.learning is Learning.DAMAGED
        if empty:
            replica.dirty_from = None  # nothing logged before is needed
        replica.begin_learning(empty)
        # Replay may know an older commit point than this one: the entries between them are in the cells, the learner finds
        # their versions right and does not install them. So the record says how far the tail is applied before it is cut.
        return self._log(Kind.LEARN, tablet_id, first=replica.commit, parts=[encode_range(*replica.range, empty)])

    def install(self, tablet_id: int, cells: Sequence[tuple[str, str, Version, Buffer | None]]) -> int:
        """Make cells exactly what the primary has: (row, column, version, value; None when it is gone)."""
        from kvstore.storage.cellkey import cell_key

        replica = self.tablets[tablet_id]
        assert replica.learning is Learning.HOLDING, "only a learner installs cells"
        assert not replica.must_begin, "what is learned before the rows are cut off is of no use behind"
        listed: list[tuple[bytes, bytes | None]] = []
        values: list[Buffer] = []
        for row, column, version, value in cells:
            packed = None
            if value is not None and len(value) >= self.options.bulk_value:
                packed = pack_bulk(*version, BulkRef(0, 0, len(value), crc32c(value)))
                values.append(value)
            elif value is not None:
                packed = pack_inline(*version, bytes(value))
            listed.append((cell_key(row, column), packed))
        lsn, placed = self.log_cells(Kind.INSTALL, tablet_id, listed, values)
        for key, packed in placed:
            replica.tablet.set_packed(key, packed)
        return lsn

    def log_cells(
        self, kind: Kind, tablet_id: int, cells: list[tuple[bytes, bytes | None]], values: list[Buffer]
    ) -> tuple[int, list[tuple[bytes, bytes | None]]]:
        """Log a cell list; its lsn, and the cells with the places where their values now lie."""
        parts, crc = encode_cells(cells, values)
        lsn = self.wal.append(kind, tablet_id, 0, 0, parts, crc)
        self.tablets[tablet_id].touched(self._record_position())
        segment, offset = self.wal.payload_at
        offset += len(parts[0])
        placed = []
        for key, packed in cells:
            if packed is not None:
                packed = packed_at(packed, segment, offset)
                cell = StoredCell((packed,))
                offset += cell.size if isinstance(cell.value, BulkRef) else 0
            placed.append((key, packed))
        return lsn, placed

    def finish_learning(self, tablet_id: int, results_encoded: bytes, commit_epoch: int, commit: int) -> int:
        """Everything up to `commit` is installed or held back, and `results_encoded` belongs there.

        The held-back entries are then applied by `apply`; the replica is intact when that has reached `commit`.
        """
        replica = self.tablets[tablet_id]
        assert replica.may_finish(commit), (replica.learning, replica.held_from, commit, replica.last)
        begin = commit if replica.held_from is None else replica.held_from
        results = self.new_results()
        results.add_encoded(results_encoded)
        replica.finish_learning(begin, commit, commit_epoch, results)
        parts = [U64.pack(begin), results_encoded]
        return self._log(Kind.FINISH, tablet_id, epoch=commit_epoch, first=commit, parts=parts)

    # ------------------------------------------------------------------ reading

    def read(self, cell: StoredCell) -> bytes:
        """The value of a cell that was just looked up, checked.

        `CorruptValue` when its bytes are damaged: the replica it belongs to is then marked so. `ValueMoved` when the cell was
        looked up so long ago that its segment was freed since. `TooManyFiles` when the process may open no more.
        """
        ref = cell.value
        if not isinstance(ref, BulkRef):
            return ref
        if ref.segment not in self.wal.folder.segments and ref.segment <= self.wal.synced >> 32:
            raise ValueMoved("the value's segment was freed; look the cell up again")
        try:
            data = self.wal.read(ref.segment, ref.offset, ref.length)
        except OSError as error:
            if error.errno in TOO_MANY_FILES:  # says nothing of the value: no reason to throw the replica away
                raise TooManyFiles(f"{segment_name(ref.segment)} cannot be opened: {error.strerror}") from error
            raise self.value_damaged(ref, f"cannot be read: {error}") from error
        if not ref.fits(data):
            raise self.value_damaged(ref, NOT_ITS_CHECKSUM)
        return data

    def value_damaged(self, ref: BulkRef, what: str) -> CorruptValue:
        """What to raise when the bytes of a value are not those that were written. Whose cells point there is damaged."""
        name = f"log/{segment_name(ref.segment)}"
        for tablet_id, replica in self.tablets.items():
            known = replica.learning is Learning.DAMAGED  # and to look again costs a walk over all its cells
            if not known and replica.refers_into(ref.segment, ref.offset, ref.offset + 1):
                self.damage.append(Damage(name, ref.offset, tablet_id, what))
                self.mark_damaged(tablet_id, f"{name} at byte {ref.offset}: {what}")
        return CorruptValue(name, ref.offset, what)

    def checkpoint_damaged(self, damage: Damage) -> None:
        """The checkpoint of tablet `damage.tablet` turned out to be damaged on disk, while the cells are whole in memory.

        It, and what was split off it and has none, needs another checkpoint as soon as may be (`kvstore.storage.upkeep`).
        """
        assert damage.tablet is not None
        self.damage.append(damage)
        for replica in (self.tablets.get(damage.tablet), *self.split_off(damage.tablet)):
            if replica is not None:
                replica.checkpoint_damaged = True
        self.on_checkpoint_damaged(damage)

    def damage_in_segment(self, generation: int, damage: Damage) -> None:
        """Bytes of a segment turned out to be damaged: every replica that may have a value there is."""
        named = replace(damage, file=f"log/{damage.file}")
        hit = [tablet_id for tablet_id, r in self.tablets.items() if r.may_have_values_in(generation, damage)]
        self.damage += [named.of(tablet_id) for tablet_id in hit] or [named]
        for tablet_id in hit:
            self.mark_damaged(tablet_id, str(named.of(tablet_id)))

    def mark_damaged(self, tablet_id: int, why: str) -> None:
        """The replica is not to be trusted (a digest differs, a value is damaged): durable at the next sync."""
        replica = self.tablets[tablet_id]
        if replica.learning is Learning.DAMAGED:
            return
        replica.mark_damaged(why)
        if self.wal.failure is None:
            self.log_damage(replica)
        self.on_corrupt(tablet_id, why)

    def log_damage(self, replica: DiskReplica) -> int:
        """Log that a replica is damaged, so that it stays so when what showed it is gone."""
        replica.dirty_from = None  # of what was logged before, nothing is worth keeping
        replica.sources = frozenset()
        return self._log(Kind.DAMAGED, replica.id, parts=[encode_range(*replica.range, replica.damage)])

    def _read_back(self, position: Position, length: int) -> bytes:
        return self.wal.read(position.segment, position.offset, length)

    # ------------------------------------------------------------------ room

    def check_space(self) -> None:
        """Raise `NoSpace` if the disk is so full that writes must be refused. Cheap while it is not."""
        if self._full:
            self.look_at_space()
        if self._full:
            free = self.files.free_space(self.folder)
            raise NoSpace(f"{free} bytes are free on the disk of {self.folder}; writes need {self.options.reserve}")

    @property
    def is_full(self) -> bool:
        """Whether writes are refused for want of room, as far as was last seen."""
        return self._full

    def no_room(self) -> None:
        """The log found no room: `check_space` refuses until there is."""
        self._full = True

    def look_at_space(self) -> int:
        """Free bytes on disk; from here on `check_space` knows. To be called now and then."""
        free = self.files.free_space(self.folder)
        # when it was full, a quarter more: who goes in and out at the edge is of no use, and is never seen to stay out
        self._full = free < self.options.reserve * (1.25 if self._full else 1)
        return free

    # ------------------------------------------------------------------ inside

    def _log(self, kind: Kind, tablet_id: int, epoch: int = 0, first: int = 0, parts: Sequence[Buffer] = ()) -> int:
        lsn = self.wal.append(kind, tablet_id, epoch, first, parts)
        replica = self.tablets.get(tablet_id)
        if replica is not None:
            replica.touched(self._record_position())
        return lsn

    def _record_position(self) -> Position:
        segment, offset = self.wal.payload_at
        return Position(segment, offset - RECORD_HEADER)

    @property
    def stored_bytes(self) -> int:
        """Bytes that a round of the scrub reads: large values that cells point to, and checkpoints."""
        return sum(sum(r.tablet.bulk_bytes.values()) + r.checkpoint_bytes for r in self.tablets.values())

    def metrics(self) -> dict[str, float]:
        """Figures for heartbeats and charts: counts, bytes, ratios."""
        wal, folder = self.wal.figures, self.wal.folder
        live = sum(sum(r.tablet.bulk_bytes.values()) for r in self.tablets.values())
        on_disk = sum(segment.capacity for segment in folder.segments.values())
        return {
            "cells": sum(r.tablet.cells for r in self.tablets.values()),
            "bytes": sum(r.tablet.bytes for r in self.tablets.values()),
            "bulk_bytes": live,
            "log_bytes": on_disk,
            "disk_free": self.files.free_space(self.folder),
            "log_written": wal.bytes,
            "segments": len(folder.segments),
            "spares": folder.spares,
            "live_ratio": live / on_disk if on_disk else 1.0,
            "syncs": wal.syncs,
            "records": wal.records,
            "checkpoints": self.figures.checkpoints,
            "checkpoints_failed": self.figures.checkpoints_failed,
            "segments_freed": self.figures.segments_freed,
            "compacted_bytes": self.figures.compacted_bytes,
            "scrubbed_bytes": self.figures.scrubbed_bytes,
            "scrub_round": self.scrub_round.progress(self.stored_bytes),
            "scrub_ended_s": self.scrub_round.since_ended(self.options.time_of_day()),
            "scrub_damages": self.figures.scrub_damages,
            "longest_slice_ms": self.figures.longest_slice * 1000,
            "damaged": sum(not r.intact for r in self.tablets.values()),
        }


def _with_bulk(crc: int, entry: Entry) -> int:
    for bundle in entry.bundles:
        if bundle.bulk:
            for mutation in bundle.mutations:
                for operation in mutation.operations:
                    if operation[0] == Op.PUT_BULK:
                        crc = combined(crc, operation[4], operation[3])
    return crc


def _check_cut(replica: DiskReplica, at_row: str, range_version: int) -> None:
    assert replica.start < at_row, (replica.range, at_row)
    assert replica.end is None or at_row < replica.end, (replica.range, at_row)
    assert replica.range_version < range_version, (replica.range, range_version)
