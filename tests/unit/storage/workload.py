"""A random workload on an engine with a disk that crashes, and the model that says what must be there afterwards.

The model keeps the state after each thing logged since the last sync. After a crash, what opens must be the state at the last
sync that returned or a later one: everything acknowledged, and whole things only of what was not.
"""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import replace
from typing import Any

from kvstore import settings
from kvstore.mutation import Entry, Version
from kvstore.storage.engine import Engine, EngineOptions
from kvstore.storage.replica import Learning
from kvstore.storage.results import ResultTable
from kvstore.storage.segments import WalOptions
from kvstore.storage.upkeep import Job, checkpoint, maintain, may_checkpoint, next_job, run_to_end
from tests.faults.disk import Crash, Faults, FaultyDisk, FaultyFiles
from tests.unit.storage.entries import BULK, delete, delete_row, entry, put
from tests.unit.storage.model import (
    Cells,
    State,
    TabletModel,
    all_below,
    carry_out,
    carry_out_entry,
    differs,
    up_to,
)

FOLDER = "/data"
MOST_TABLETS = 10


class Workload:
    """One engine, its disk and the model."""

    def __init__(self, seed: int, operations: int = 60, big: bool = False) -> None:
        """`big`: values up to 8 MiB."""
        self.chance = random.Random(seed)
        self.disk = FaultyDisk()
        self.operations = operations
        self.big = big
        segment = 16 * settings.MIB if big else self.chance.choice((8192, 16384, 65536))
        self.options = EngineOptions(
            wal=WalOptions(segment_size=segment, most_spares=2, most_open=4),
            bulk_value=BULK,
            reserve=0,
            checkpoint_log=self.chance.choice((500, 5000, 50000)),
            replay_most=segment * self.chance.choice((1, 3, 10)),
            spares=1,
            scrub_period=7.0,
            clock=functools.partial(next, itertools.count(0.0, 0.4)),
            time_of_day=lambda: 0.0,
        )
        self.states: list[tuple[int, State]] = [(0, {})]
        self.born: list[int] = []
        """Tablets that were split off others."""
        self.crashes = 0

    def run(self, rounds: int = 3) -> None:
        """Work, crash, open, verify, as often as asked."""
        for _ in range(rounds):
            files = FaultyFiles(self.disk, Faults(crash_at=self._crash_point()), self.chance)
            engine: Engine | None = None
            try:
                engine = Engine.open(FOLDER, files, self.options)
                self._verify(engine)
                for _ in range(self.chance.randint(1, self.operations)):
                    self._step(engine)
                if self.chance.random() < 0.2:
                    engine.close()
            except Crash:
                self.crashes += 1
            if engine is not None:
                self._forget_durable(engine.wal.synced)
            self.disk = self.disk.after_crash(self.chance) if self.chance.random() < 0.7 else self.disk.after_kill()
        self.disk = self.disk.after_crash(self.chance)
        self._verify(Engine.open(FOLDER, FaultyFiles(self.disk), self.options))

    def _crash_point(self) -> int:
        return self.chance.choice(
            (self.chance.randint(1, 30), self.chance.randint(1, 400), self.chance.randint(1, 3000))
        )

    # ---------------------------------------------------------------- the model

    @property
    def now(self) -> State:
        """The state after everything logged."""
        return self.states[-1][1]

    def _logged(self, lsn: int, tablet: int, model: TabletModel | None) -> None:
        state = dict(self.now)
        if model is None:
            del state[tablet]
        else:
            state[tablet] = model
        self.states.append((lsn, state))

    def _forget_durable(self, synced: int) -> None:
        """States before the last durable one can no longer be what opens."""
        while len(self.states) > 1 and self.states[1][0] <= synced:
            del self.states[0]

    # ---------------------------------------------------------------- working

    def _step(self, engine: Engine) -> None:
        chance = self.chance
        steps: list[tuple[float, Any]] = [
            (30, self._append),
            (20, self._sync_and_apply),
            (2, self._create),
            (1, self._drop),
            (2, self._epoch),
            (2, self._cut),
            (3, self._checkpoint),
            (6, self._maintain),
            (1.5, self._learn),
            (0.3, self._damage),
            (3, self._split),
            (0.5, self._narrow),
        ]
        step = chance.choices([s for _, s in steps], [w for w, _ in steps])[0]
        step(engine)
        self._forget_durable(engine.wal.synced)

    def _tablet(self, *wanted: Learning) -> int | None:
        found = [t for t, model in self.now.items() if model.learning in wanted]
        return self.chance.choice(found) if found else None

    def _create(self, engine: Engine) -> None:
        tablet = self.chance.choice([*range(1, 7), *self.born])
        if tablet not in self.now and tablet not in engine.tablets:
            start = f"a{self.chance.randint(0, 99)}"
            self._logged(engine.create_tablet(tablet, start, None, 1), tablet, TabletModel(start))

    def _drop(self, engine: Engine) -> None:
        tablet = self._tablet(*Learning)
        if tablet is not None:
            self._logged(engine.drop_tablet(tablet), tablet, None)

    def _value(self) -> bytes:
        kinds = [0, 1, 20, BULK - 1, BULK, 500, 3000]
        size = self.chance.choice(kinds)
        if self.big and self.chance.random() < 0.1:
            size = self.chance.choice((100_000, 1 << 20, settings.MAX_VALUE))
        return self.chance.randbytes(size)

    def _batches(self, rows: list[str]) -> list[list[tuple[Any, ...]]]:
        batches = []
        for _ in range(self.chance.choice((1, 1, 2, 5))):
            batch: list[tuple[Any, ...]] = []
            for _ in range(self.chance.choice((1, 1, 3))):
                row, column = self.chance.choice(rows), f"column{self.chance.randint(0, 9)}"
                kind = self.chance.random()
                if kind < 0.75:
                    batch.append(put(row, column, self._value()))
                elif kind < 0.97:
                    batch.append(delete(row, column))
                else:
                    batch.append(delete_row(row))
            batches.append(batch)
        return batches

    def _append(self, engine: Engine) -> None:
        tablet = self._tablet(Learning.INTACT, Learning.HOLDING)
        if tablet is None:
            self._create(engine)
            return
        if self.now[tablet].learning is Learning.INTACT:
            self._append_to(engine, tablet)

    def _append_to(self, engine: Engine, tablet: int) -> None:
        model = self.now[tablet]
        replica = engine.tablets[tablet]
        epoch = max(model.epoch, model.last_epoch, 1) + (self.chance.random() < 0.1)
        batches = self._batches(model.rows)
        new = entry(epoch, model.last + 1, *batches, client=tablet, floor=max(0, model.last - 20))
        lsn = engine.append_entry(tablet, new, replica.commit)
        cells = dict(model.cells)
        carry_out(cells, new, batches)
        numbers = (*model.numbers, *((tablet, number) for number in range(new.first, new.last + 1)))[-5:]
        self._logged(
            lsn,
            tablet,
            replace(
                model,
                last=new.last,
                last_epoch=epoch,
                epoch=max(epoch, model.epoch),
                cells=cells,
                tail=(*model.tail, new),
                numbers=numbers,
            ),
        )

    def _sync_and_apply(self, engine: Engine) -> None:
        engine.sync()
        tablet = self._tablet(Learning.INTACT)
        if tablet is None:
            return
        model = self.now[tablet]
        applied = self.chance.choice([model.last, *(e.last for e in model.tail)])
        done = engine.apply(tablet, applied, self.chance.choice((None, 1)))
        left = tuple(e for e in model.tail if e.first > engine.tablets[tablet].commit)
        assert len(left) == len(model.tail) - len(done)
        if self.chance.random() < 0.3:
            engine.append_commit(tablet, engine.tablets[tablet].commit)
        self.states[-1] = (self.states[-1][0], {**self.now, tablet: replace(model, tail=left)})

    def _epoch(self, engine: Engine) -> None:
        tablet = self._tablet(Learning.INTACT)
        if tablet is not None:
            model = self.now[tablet]
            epoch = model.epoch + 1
            self._logged(engine.append_epoch(tablet, epoch), tablet, replace(model, epoch=epoch))

    def _cut(self, engine: Engine) -> None:
        """Cut what is logged and not applied, as a new primary may ask."""
        tablet = self._tablet(Learning.INTACT)
        if tablet is None or not engine.tablets[tablet].logged:
            return
        model, replica = self.now[tablet], engine.tablets[tablet]
        keep = self.chance.randint(0, len(replica.logged) - 1)
        kept = replica.tail[:keep]
        after = kept[-1].last if kept else replica.commit
        lsn = engine.append_cut(tablet, after)
        cells: Cells = {(r, c): (x.version, engine.read(x)) for r, c, x in replica.tablet.scan()}
        for e in kept:
            carry_out_entry(cells, e)
        cut = replace(
            model,
            last=after,
            last_epoch=kept[-1].epoch if kept else replica.commit_epoch,
            cells=cells,
            tail=tuple(kept),
            numbers=up_to(model.numbers, after),
        )
        self._logged(lsn, tablet, cut)

    def _split(self, engine: Engine) -> None:
        """Part a tablet where its log stands, or at an entry behind which nothing touches the rows that are parted off."""
        tablet = self._tablet(Learning.INTACT)
        if tablet is None or len(self.now[tablet].rows) < 2 or len(self.now) >= MOST_TABLETS:
            return
        model, replica = self.now[tablet], engine.tablets[tablet]
        at_row = self.chance.choice(model.rows[1:])
        left: list[Entry] = []
        for e in reversed(replica.tail):
            if self.chance.random() < 0.5 or not all_below(e, at_row):
                break
            left.insert(0, e)
        last = left[0].first - 1 if left else model.last
        kept = [e for e in replica.tail if e.last <= last]
        last_epoch = kept[-1].epoch if kept else replica.commit_epoch
        child, version = 100 + len(self.born), model.range_version + 1
        self.born.append(child)
        lsn = engine.split_tablet(tablet, child, at_row, last_epoch, last, version)
        below: Cells = {key: cell for key, cell in model.cells.items() if key[0] < at_row}
        above: Cells = {key: cell for key, cell in model.cells.items() if key[0] >= at_row}
        parent = replace(model, end=at_row, range_version=version, cells=below, tail=tuple(left))
        self._logged(lsn, tablet, parent)
        numbers = up_to(model.numbers, last)
        born = TabletModel(at_row, model.end, version, last, last_epoch, model.epoch, cells=above, numbers=numbers)
        self.states[-1] = (lsn, {**self.now, child: born})

    def _narrow(self, engine: Engine) -> None:
        tablet = self._tablet(*Learning)
        if tablet is None or len(self.now[tablet].rows) < 2:
            return
        model, replica = self.now[tablet], engine.tablets[tablet]
        end, version = self.chance.choice(model.rows[1:]), model.range_version + 1
        lsn = engine.narrow_tablet(tablet, end, version)
        narrowed = replace(
            model,
            end=end,
            range_version=version,
            last=replica.commit,
            last_epoch=replica.commit_epoch,
            cells={(r, c): (x.version, engine.read(x)) for r, c, x in replica.tablet.scan()} if replica.intact else {},
            tail=(),
            numbers=up_to(model.numbers, replica.commit),
        )
        assert all(row < end for row, _ in narrowed.cells)
        self._logged(lsn, tablet, narrowed)

    def _checkpoint(self, engine: Engine) -> None:
        tablet = self._tablet(Learning.INTACT)
        if tablet is not None and may_checkpoint(engine, engine.tablets[tablet]):
            self._carry_out(engine, checkpoint(engine, engine.tablets[tablet]))

    def _carry_out(self, engine: Engine, job: Job) -> None:
        if self.chance.random() < 0.3:
            self._meanwhile(engine, job)
        else:
            run_to_end(engine, job)

    def _meanwhile(self, engine: Engine, job: Job) -> None:
        """Write, split and drop tablets while a checkpoint is being made, or values are moved."""
        for blocking in job:
            if blocking is not None:
                blocking()
            if self.chance.random() < 0.5:
                self._append(engine)
            if self.chance.random() < 0.1:
                self.chance.choice((self._split, self._split, self._drop))(engine)
            self._sync_and_apply(engine)

    def _maintain(self, engine: Engine) -> None:
        if self.chance.random() < 0.5:
            maintain(engine)
        elif (found := next_job(engine)) is not None:
            self._carry_out(engine, found[1])

    def _damage(self, engine: Engine) -> None:
        tablet = self._tablet(Learning.INTACT)
        if tablet is not None:
            engine.mark_damaged(tablet, "for the test")
            self._logged(engine.wal.appended, tablet, replace(self.now[tablet], learning=Learning.DAMAGED))

    def _learn(self, engine: Engine) -> None:
        """A whole catch-up: cut, hold back, install what a primary would have, finish."""
        tablet = self._tablet(*Learning)
        if tablet is None:
            return
        self._begin_learning(engine, tablet)
        if self.chance.random() < 0.2 and len(self.now[tablet].rows) > 1:
            self._hold(engine, tablet, self.now[tablet].epoch + 1, self.now[tablet].last)
            self._narrow_learner(engine, tablet)
        model = self.now[tablet]
        start = model.last + self.chance.randint(1, 20)
        epoch = max(model.epoch, model.last_epoch) + 1
        target: Cells = {}
        for row in model.rows[:3]:
            for column in range(self.chance.randint(0, 5)):
                version = Version(epoch, self.chance.randint(1, start))
                target[row, f"column{column}"] = (version, self._value())
        for cell in [(r, c) for r, c, _ in engine.tablets[tablet].tablet.scan() if (r, c) not in target]:
            self._install(engine, tablet, [(*cell, Version(0, 0), None)])
        held, last = self._hold(engine, tablet, epoch, start)
        listed = [(r, c, version, value) for (r, c), (version, value) in target.items()]
        for at in range(0, len(listed), 2):
            self._install(engine, tablet, listed[at : at + 2])
        finish = self.chance.choice([start, *(e.last for e in held)]) if held else start
        lsn = engine.finish_learning(tablet, ResultTable().encode(), epoch, finish)
        for e in held:
            carry_out_entry(target, e)
        left = tuple(e for e in held if e.first > finish)
        finished = TabletModel(*model.range, last, epoch, epoch, Learning.INTACT, target, left)
        self._logged(lsn, tablet, finished)
        engine.sync()
        while engine.tablets[tablet].commit < finish:
            engine.apply(tablet, finish, 1)
        assert engine.tablets[tablet].intact

    def _begin_learning(self, engine: Engine, tablet: int) -> None:
        lsn = engine.begin_learning(tablet)
        self._logged(lsn, tablet, replace(self.now[tablet], learning=Learning.HOLDING))

    def _narrow_learner(self, engine: Engine, tablet: int) -> None:
        """The tablet is split while it learns."""
        model = self.now[tablet]
        end, version = self.chance.choice(model.rows[1:]), model.range_version + 1
        lsn = engine.narrow_tablet(tablet, end, version)
        self._logged(lsn, tablet, replace(model, end=end, range_version=version))
        self._begin_learning(engine, tablet)

    def _install(self, engine: Engine, tablet: int, cells: list[Any]) -> None:
        lsn = engine.install(tablet, cells)
        self._logged(lsn, tablet, self.now[tablet])
        if self.chance.random() < 0.3:
            engine.sync()

    def _hold(self, engine: Engine, tablet: int, epoch: int, start: int) -> tuple[list[Entry], int]:
        held, last = [], start
        for _ in range(self.chance.randint(0, 3)):
            new = entry(epoch, last + 1, *self._batches(self.now[tablet].rows), client=tablet)
            self._logged(engine.append_entry(tablet, new, last), tablet, self.now[tablet])
            held.append(new)
            last = new.last
        return held, last

    # ---------------------------------------------------------------- verifying

    def _verify(self, engine: Engine) -> None:
        """What opened is one of the states that may be; go on from it."""
        assert not engine.damage, [str(d) for d in engine.damage]
        differences = []
        for at, (_, state) in enumerate(self.states):
            difference = differs(engine, state)
            if difference is None:
                # what opened is on disk: a later crash cannot take it back
                self.states = [(0, self._as_opened(engine, self.states[at][1]))]
                return
            differences.append(difference)
        raise AssertionError(f"what opened is none of {len(self.states)} states: {differences}")

    @staticmethod
    def _as_opened(engine: Engine, state: State) -> State:
        tails = {t: tuple(logged.entry for logged in engine.tablets[t].logged) for t in state}
        return {t: replace(model, tail=tails[t]) for t, model in state.items()}
