"""Small engines that are scrubbed, and harm to what lies on their disks."""

from __future__ import annotations

import random
from typing import Any

from kvstore.storage.cell import BulkRef
from kvstore.storage.engine import Engine
from kvstore.storage.scrub import scrub
from kvstore.storage.segment import segment_name
from kvstore.storage.upkeep import checkpoint, maintain, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles
from tests.unit.storage.engines import opened, write
from tests.unit.storage.entries import put

PERIOD = 700.0
DAY = 86_400.0


class Clock:
    """Stands still until it is put forward."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def large(number: int) -> bytes:
    """A value that lies in the log, unlike any other."""
    return random.Random(number).randbytes(200)


def an_engine(disk: FaultyDisk | None = None, clock: Clock | None = None, **others: Any) -> Engine:
    """An engine that scrubs by `clock`, with tablet 1 if it is new."""
    clock = clock or Clock()
    chosen: dict[str, Any] = {"segment_size": 8192, "scrub_period": PERIOD, "clock": clock, "time_of_day": clock}
    engine = opened(disk or FaultyDisk(), **(chosen | others))
    if not engine.tablets:
        engine.create_tablet(1, "", None, 1)
        engine.sync()
    return engine


def with_values(count: int = 6, clock: Clock | None = None, **others: Any) -> Engine:
    """An engine with values, in several segments, and a checkpoint."""
    engine = an_engine(clock=clock, **others)
    for i in range(count):
        write(engine, [put(f"row{i}", "c", large(i)), put(f"row{i}", "fill", bytes([i]) * 2500)])
    checkpointed(engine)
    maintain(engine)
    return engine


def checkpointed(engine: Engine, tablet: int = 1) -> None:
    before = engine.figures.checkpoints
    run_to_end(engine, checkpoint(engine, engine.tablets[tablet]))
    assert engine.figures.checkpoints == before + 1


def a_round(engine: Engine) -> None:
    """Scrub until a round ends."""
    rounds = engine.figures.scrub_rounds
    while engine.figures.scrub_rounds == rounds:
        run_to_end(engine, scrub(engine))


def disk_of(engine: Engine) -> FaultyDisk:
    assert isinstance(engine.files, FaultyFiles)
    return engine.files.disk


def place_of(engine: Engine, row: str, tablet: int = 1) -> BulkRef:
    cell = engine.tablets[tablet].tablet.get(row, "c")
    assert cell is not None
    assert isinstance(cell.value, BulkRef)
    return cell.value


def flip(engine: Engine, path: str, at: int) -> None:
    """Flip a bit on disk."""
    inode = disk_of(engine).names[path]
    inode.data[at] ^= 4
    inode.durable[at] ^= 4


def flip_value(engine: Engine, row: str, tablet: int = 1) -> None:
    ref = place_of(engine, row, tablet)
    flip(engine, f"/data/log/{segment_name(ref.segment)}", ref.offset + 7)


def checkpoint_of(engine: Engine, tablet: int = 1) -> str:
    number = engine.tablets[tablet].checkpoint_file
    assert number is not None
    return engine.checkpoint_path(tablet, number)


def after_crash(engine: Engine, seed: int = 1) -> Engine:
    return an_engine(disk_of(engine).after_crash(random.Random(seed)))
