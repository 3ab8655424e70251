"""The real storage engine under simulation, on a disk in memory that forgets what was not synced (`tests.faults.disk`)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvstore import settings
from kvstore.mutation import Entry
from kvstore.storage.cell import BulkRef
from kvstore.storage.engine import Engine, EngineOptions
from kvstore.storage.replica import DiskReplica
from kvstore.storage.segment import segment_name
from kvstore.storage.segments import WalOptions
from kvstore.storage.upkeep import next_job, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles

OPTIONS = EngineOptions(
    wal=WalOptions(segment_size=128 * settings.KIB, most_spares=2),
    reserve=0,
    checkpoint_log=4 * settings.KIB,
    replay_most=64 * settings.KIB,
    replay_fair=32 * settings.KIB,
    spares=0,
    scrub_period=7.0,
)
"""Small segments and frequent checkpoints: a few hundred writes turn everything over several times. All of it is read again
every few seconds."""


class WatchedEngine(Engine):
    """The engine, telling when a replica's cells moved on."""

    on_moved: Callable[[int, DiskReplica], None] = staticmethod(lambda tablet, replica: None)

    def apply(self, tablet_id: int, upto_sequence: int, most: int | None = None) -> list[Entry]:
        replica = self.tablets[tablet_id]
        done: list[Entry] = []
        while replica.logged and replica.logged[0].entry.last <= upto_sequence and (most is None or len(done) < most):
            applied = super().apply(tablet_id, replica.logged[0].entry.last)
            if not applied:
                break
            done += applied
            self.on_moved(tablet_id, replica)
        return done

    def split_tablet(
        self, tablet_id: int, child_id: int, at_row: str, commit_epoch: int, commit: int, range_version: int
    ) -> int:
        self.apply(tablet_id, commit)
        lsn = super().split_tablet(tablet_id, child_id, at_row, commit_epoch, commit, range_version)
        self.on_moved(tablet_id, self.tablets[tablet_id])
        self.on_moved(child_id, self.tablets[child_id])
        return lsn

    def finish_learning(self, *arguments: Any) -> int:
        lsn = super().finish_learning(*arguments)
        self.on_moved(arguments[0], self.tablets[arguments[0]])
        return lsn


class RealDisk:
    """What outlives a process: the files."""

    def __init__(self, store_id: str) -> None:
        self.store_id = store_id
        self._disk = FaultyDisk()
        self._engine: WatchedEngine | None = None
        self._damaged = False

    def open(self, clock: Callable[[], float]) -> WatchedEngine:
        """The engine of a new process. (Its own id is made of chance that no seed rules.)"""
        options = replace(OPTIONS, clock=clock, time_of_day=clock)
        engine = WatchedEngine.open("/data", FaultyFiles(self._disk), options)
        assert isinstance(engine, WatchedEngine)
        assert self._damaged or not engine.damage, engine.damage
        engine.store_id = self.store_id
        self._engine = engine
        return engine

    @property
    def waiting(self) -> bool:
        """Whether something was appended that is not on disk."""
        return self._engine is not None and bool(self._engine.wal.waiting)

    def begin_sync(self) -> int:
        """A sync begins."""
        return 0

    def end_sync(self, begun: int) -> int:
        """It is done: the lsn up to which all is on disk."""
        assert self._engine is not None
        return self._engine.sync()

    def maintain(self) -> int:
        """Checkpoints, compaction, segments that come free, a slice of the scrub; up to where the log is on disk after that."""
        assert self._engine is not None
        for _ in range(1000):
            found = next_job(self._engine)
            if found is None:
                return self._engine.wal.synced
            run_to_end(self._engine, found[1])
        raise AssertionError("the engine finds maintenance to do for ever")

    def crash(self, chance: random.Random) -> None:
        """The power goes: any part of what was not synced is lost."""
        self._engine = None
        self._disk = self._disk.after_crash(chance)

    def damage(self, chance: random.Random) -> list[str]:
        """Flip a bit, or a few, in checkpoints and the log; where. Not in the last segment: there damage and a torn tail cannot
        always be told apart (`docs/storage.md`)."""
        names = self._disk.names
        checkpoints = sorted(name for name in names if name.endswith(".ckpt"))
        segments = sorted(name for name in names if name.endswith(".seg"))[:-1]
        hit = []
        for files in chance.choices((checkpoints, segments), k=chance.randint(1, 4)):
            if files:
                name = chance.choice(files)
                at = chance.randrange(min(len(names[name].data), chance.choice((1, 8)) * 16 * settings.KIB))
                hit.append(self._flip(chance, name, at))
        for ref in chance.sample(still := self._still(), min(len(still), chance.randint(0, 2))):
            name = f"/data/log/{segment_name(ref.segment)}"
            hit.append(self._flip(chance, name, ref.offset + chance.randrange(ref.length)))
        self._damaged |= bool(hit)
        return hit

    def _flip(self, chance: random.Random, name: str, at: int) -> str:
        bit = 1 << chance.randrange(8)
        for copy in (self._disk.names[name].data, self._disk.names[name].durable):
            if at < len(copy):
                copy[at] ^= bit
        return f"{name} at {at}"

    def _still(self) -> list[BulkRef]:
        """Where large values lie that a running process does not touch."""
        if self._engine is None:
            return []
        cells = (cell for _, replica in sorted(self._engine.tablets.items()) for _, _, cell in replica.tablet.scan())
        values = (cell.value for cell in cells)
        return [ref for ref in values if isinstance(ref, BulkRef) and ref.segment < self._engine.wal.folder.last]
