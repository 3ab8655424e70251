"""Small engines for tests: tiny segments, no reserve, values of 64 bytes count as bulk."""

from __future__ import annotations

from typing import Any

from kvstore import settings
from kvstore.mutation import Entry
from kvstore.storage.engine import Engine, EngineOptions
from kvstore.storage.segments import WalOptions
from tests.faults.disk import Faults, FaultyDisk, FaultyFiles
from tests.unit.storage.entries import BULK, entry, put

FOLDER = "/data"


def options(segment_size: int = 16384, **others: Any) -> EngineOptions:
    """Options of a small engine."""
    chosen: dict[str, Any] = {
        "wal": WalOptions(segment_size=segment_size, most_spares=2),
        "bulk_value": BULK,
        "reserve": 0,
        "spares": 0,
    }
    return EngineOptions(**(chosen | others))


def opened(disk: FaultyDisk, faults: Faults | None = None, **others: Any) -> Engine:
    """The engine on a disk in memory."""
    return Engine.open(FOLDER, FaultyFiles(disk, faults), options(**others))


def with_tablet(disk: FaultyDisk, **others: Any) -> Engine:
    """An engine with tablet 1, durably."""
    engine = opened(disk, **others)
    engine.create_tablet(1, "", None, 1)
    engine.sync()
    return engine


def log(engine: Engine, *batches: list[tuple[Any, ...]], epoch: int = 1, tablet: int = 1) -> Entry:
    """Log one entry behind the last."""
    new = entry(epoch, engine.tablets[tablet].last + 1, *batches)
    engine.append_entry(tablet, new, engine.tablets[tablet].commit)
    return new


def write(engine: Engine, *batches: list[tuple[Any, ...]], epoch: int = 1, tablet: int = 1) -> Entry:
    """Log one entry, sync and apply it."""
    new = log(engine, *batches, epoch=epoch, tablet=tablet)
    engine.sync()
    engine.apply(tablet, new.last)
    return new


def contents(engine: Engine, tablet: int = 1) -> dict[tuple[str, str], bytes]:
    """Every cell with its value."""
    return {(row, column): engine.read(cell) for row, column, cell in engine.tablets[tablet].tablet.scan()}


def reopened(engine: Engine, **others: Any) -> Engine:
    """What opens after the process ended without a word, and everything written has reached the disk."""
    files = engine.files
    assert isinstance(files, FaultyFiles)
    engine.abandon()
    return opened(files.disk, **others)


def several_segments(disk: FaultyDisk) -> Engine:
    """An engine with a few values, one or two to a segment."""
    engine = with_tablet(disk, segment_size=8192)
    for i in range(5):
        write(engine, [put("row", f"{i}", bytes([i]) * 3000)])
    return engine


def faults(engine: Engine, error: Any) -> None:
    """From here on `error(operation, path)` says with which errno an operation fails."""
    assert isinstance(engine.files, FaultyFiles)
    engine.files.faults.error = error


assert settings.BULK_VALUE > BULK
