"""Compaction: values that live move out of segments that are mostly dead, while everything goes on."""

from __future__ import annotations

import random

import pytest

from kvstore.storage.cell import BulkRef
from kvstore.storage.compaction import compact
from kvstore.storage.failures import ValueMoved
from kvstore.storage.replica import Learning
from kvstore.storage.segment import segment_name
from kvstore.storage.segments import WalOptions
from kvstore.storage.upkeep import checkpoint, maintain, next_job, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles
from tests.unit.storage.engines import contents, opened, reopened, with_tablet, write
from tests.unit.storage.entries import put

LARGE = bytes(range(200))


def test_compaction_keeps_dead_bytes_few_and_values_whole() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=16384, checkpoint_log=3000, replay_most=40_000)
    chance = random.Random(5)
    for i in range(400):
        write(
            engine,
            [put("row", f"{chance.randrange(60)}", chance.randbytes(1000))],
            [put("row", f"small{i % 50}", b"x" * 60)],
        )
        maintain(engine)
    live = sum(engine.tablets[1].tablet.bulk_bytes.values())
    old = [s for g, s in engine.wal.folder.segments.items() if g < engine.log_start.segment]
    dead = sum(s.capacity for s in old) - sum(engine.tablets[1].tablet.bulk_bytes.get(s.generation, 0) for s in old)
    assert engine.figures.compacted_bytes > 0
    assert dead <= 0.5 * live + 4 * 16384
    expected = contents(engine)
    engine.append_commit(1, engine.tablets[1].commit)
    engine.close()
    assert contents(opened(disk, segment_size=16384)) == expected


def test_what_cannot_lie_closer_together_is_not_moved_about_for_ever() -> None:
    """One value of 3,000 bytes fills a segment that has room for 4,096: the rest is empty, and moving makes it no fuller."""
    engine = with_tablet(FaultyDisk(), segment_size=8192)
    for i in range(40):
        write(engine, [put("row", f"{i}", bytes([i]) * 3000)])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    maintain(engine)
    assert engine.figures.compacted_bytes == 0


def test_a_segment_with_a_value_that_cannot_be_read_is_not_compacted_over_and_over() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192)
    write(engine, [put("row", "lost", LARGE)])
    cell = engine.tablets[1].tablet.get("row", "lost")
    assert cell is not None
    assert isinstance(cell.value, BulkRef)
    for i in range(40):
        write(engine, [put("row", "kept" if i == 20 else "again", bytes([i]) * 1000)])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    assert isinstance(engine.files, FaultyFiles)
    engine.files.disk.names[f"/data/log/{segment_name(cell.value.segment)}"].data[cell.value.offset] ^= 1
    jobs = 0
    while (found := next_job(engine)) is not None:
        run_to_end(engine, found[1])
        jobs += 1
        assert jobs < 100, f"{found[0]} for ever"
    assert engine.tablets[1].learning is Learning.DAMAGED
    assert engine.stuck == {cell.value.segment}


def test_a_cell_looked_up_before_its_segment_was_freed_is_to_be_looked_up_again() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192, checkpoint_log=100)
    write(engine, [put("row", "a", LARGE)])
    old = engine.tablets[1].tablet.get("row", "a")
    assert old is not None
    for i in range(30):
        write(engine, [put("row", "a", bytes([i]) * 1000)])
        maintain(engine)
    with pytest.raises(ValueMoved):
        engine.read(old)
    assert engine.tablets[1].intact


def test_a_value_that_was_overwritten_while_its_segment_was_compacted_is_not_moved() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192)
    write(engine, [put("row", "a", LARGE), put("row", "b", LARGE)])
    for i in range(4):
        write(engine, [put("other", f"{i}", bytes(3000))])
    job = compact(engine, 1)
    while engine.figures.compacted_bytes == 0:
        blocking = next(job)
        if blocking is not None:
            blocking()
    write(engine, [put("row", "a", b"new"), put("row", "b", b"new")])
    run_to_end(engine, job)
    assert [engine.tablets[1].tablet.get("row", c).value for c in "ab"] == [b"new", b"new"]  # type: ignore[union-attr]
    engine.append_commit(1, engine.tablets[1].commit)
    engine.sync()
    assert contents(reopened(engine, segment_size=8192))["row", "b"] == b"new"


# ---------------------------------------------------------------- what once went wrong after a crash


def test_a_segment_is_compacted_while_reads_open_more_files_than_may_be_open() -> None:
    """The reader's descriptor is its own: the one for reads is closed, and its number given to another file."""
    size = 400_000  # several of the reader's windows to a segment
    engine = with_tablet(FaultyDisk(), wal=WalOptions(segment_size=3 << 20, most_spares=2, most_open=2))
    for i in range(24):
        write(engine, [put("row", f"{i}", bytes([i]) * size)])
    write(engine, [put("row", "0", bytes([100]) * size)])
    expected = contents(engine)
    for blocking in compact(engine, 1):
        if blocking is not None:
            blocking()
        assert contents(engine) == expected
    assert engine.damage == []
    assert engine.figures.compacted_bytes > 0


def test_a_tablet_that_is_dropped_while_its_values_are_being_moved_is_left_alone() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", LARGE), put("row", "b", LARGE)])
    write(engine, [put("row", "c", bytes(16000))])  # the first segment is full
    job = compact(engine, 1)
    while not engine.figures.compacted_bytes:
        blocking = next(job)
        if blocking is not None:
            blocking()
    engine.drop_tablet(1)
    run_to_end(engine, job)
    assert engine.damage == []
