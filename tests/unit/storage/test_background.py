"""Background work between a record and its sync: nothing goes on the word of what is not on disk, nothing comes back."""

from __future__ import annotations

import random

import pytest

from kvstore.storage.replica import Learning
from kvstore.storage.results import ResultTable
from kvstore.storage.segment import FIRST_RECORD, Position
from kvstore.storage.upkeep import Job, checkpoint, maintain, next_job, release, run_to_end
from tests.faults.disk import FaultyDisk
from tests.unit.storage.engines import contents, log, opened, reopened, several_segments, with_tablet, write
from tests.unit.storage.entries import delete, put
from tests.unit.storage.test_engine import learner, taught

LARGE = bytes(range(200))


def stepped(job: Job, steps: int) -> bool:
    """Drive a job without ever syncing the log; whether it came to its end."""
    for _ in range(steps):
        try:
            blocking = next(job)
        except StopIteration:
            return True
        if blocking is not None:
            blocking()
    return False


def test_no_log_goes_on_the_word_of_a_drop_that_is_not_on_disk() -> None:
    disk = FaultyDisk()
    engine = several_segments(disk)
    engine.append_commit(1, 5)
    engine.sync()
    engine.drop_tablet(1)
    found = next_job(engine)
    assert found is not None
    assert (found[0], list(found[1])) == ("free", []), "its memory, in one step here"
    found = next_job(engine)
    assert found is not None
    assert found[0] == "release"
    assert not stepped(found[1], 50)
    again = opened(disk.after_crash(random.Random(2)), segment_size=8192)
    assert again.damage == []
    assert len(contents(again)) == 5


def test_a_dropped_tablets_memory_is_freed_in_small_steps() -> None:
    engine = with_tablet(FaultyDisk())
    for i in range(20):
        write(engine, [put(f"row{i:02}{j:04}", "c", b"x") for j in range(500)])
    engine.drop_tablet(1)
    (dropped,) = engine.dropped
    assert dropped.tablet.has_dropped
    found = next_job(engine)
    assert found is not None
    assert found[0] == "free"
    assert len(list(found[1])) > 1, "not all at once"
    assert not dropped.tablet.has_dropped
    next_job(engine)
    assert engine.dropped == []


def test_a_drop_stays_in_the_log_until_the_checkpoint_is_gone_for_good() -> None:
    """Else the checkpoint brings the tablet back, and nothing in the log says that it was dropped."""
    disk = FaultyDisk()
    engine = several_segments(disk)
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    engine.create_tablet(2, "z", None, 1)
    engine.drop_tablet(1)
    run_to_end(engine, checkpoint(engine, engine.tablets[2]))
    write(engine, [put("z", "c", bytes(5000))], tablet=2)
    run_to_end(engine, checkpoint(engine, engine.tablets[2]))
    run_to_end(engine, release(engine))
    assert engine.log_start > Position(1, FIRST_RECORD)
    again = opened(disk.after_crash(random.Random(2)), segment_size=8192)
    assert list(again.tablets) == [2]


@pytest.mark.parametrize("seed", range(10))
def test_a_tablet_that_is_dropped_while_its_checkpoint_gets_its_name_stays_dropped(seed: int) -> None:
    """That its file was removed was not on disk when the log that told of the dropping went: after a power cut it was back."""
    disk = FaultyDisk()
    engine = several_segments(disk)
    path = engine.checkpoint_path(1, 1)
    for blocking in checkpoint(engine, engine.tablets[1]):
        if blocking is not None:
            blocking()
        if path in disk.names and 1 in engine.tablets:
            engine.drop_tablet(1)
            engine.create_tablet(3, "z", None, 1)
            write(engine, [put("z", "fills the segment", bytes(3600))], tablet=3)
            write(engine, [put("z", "fills the segment", bytes(3600))], tablet=3)
            engine.drop_tablet(3)
    engine.create_tablet(2, "z", None, 1)
    engine.sync()
    run_to_end(engine, release(engine))
    assert list(opened(disk.after_crash(random.Random(seed)), segment_size=8192).tablets) == [2]
    maintain(engine)
    assert path not in disk.names


def test_a_checkpoint_gets_its_name_only_when_the_log_that_it_points_into_is_on_disk() -> None:
    """A learner may apply what its own disk has not confirmed; compaction points cells to where it has just written."""
    disk = FaultyDisk()
    engine = with_tablet(disk)
    log(engine, [put("row", "a", LARGE)])
    engine.apply(1, 1)
    job = checkpoint(engine, engine.tablets[1])
    assert not stepped(job, 50)
    assert engine.checkpoint_path(1, 1) not in disk.names
    again = opened(disk.after_crash(random.Random(3)))
    assert again.damage == []
    assert contents(again) == {}


def test_a_checkpoint_with_no_tail_begins_behind_a_cut_that_is_logged_and_not_synced() -> None:
    """It named what was synced as its place: replay met entries that had been cut, and took them for a gap."""
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    log(engine, [put("row", "b", b"2")])
    engine.sync()
    log(engine, [put("row", "c", b"3")])
    engine.append_cut(1, 1)
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    again = reopened(engine)
    assert again.damage == []
    assert (again.tablets[1].last, contents(again)) == (1, {("row", "a"): b"1"})


def test_a_checkpoint_waits_until_nothing_that_was_held_back_is_left() -> None:
    """Replay began at the first held-back entry, inside the learning, and finished it a second time."""
    engine = learner(FaultyDisk())
    taught(engine)
    engine.sync()
    engine.apply(1, 12)
    assert engine.tablets[1].intact
    assert not engine.tablets[1].may_checkpoint
    engine.apply(1, 13)
    assert engine.tablets[1].may_checkpoint


def test_a_learner_that_restarts_does_not_cut_what_it_had_applied() -> None:
    """Replay may know an older commit point than the learner did: a row that it had seen deleted came back."""
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    write(engine, [delete("row", "a")])  # applied, and no record behind it says that it is committed
    engine.begin_learning(1)
    engine.finish_learning(1, ResultTable().encode(), 2, 2)
    engine.sync()
    again = reopened(engine)
    assert again.tablets[1].intact
    assert contents(again) == {}


def test_a_damaged_replica_without_a_checkpoint_is_still_known_after_its_log_is_gone() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=8192)
    for _ in range(6):
        write(engine, [put("row", f"{i}", bytes(60)) for i in range(40)])
    engine.mark_damaged(1, "for the test")
    engine.sync()
    maintain(engine)
    assert len(engine.wal.folder.segments) < 4
    again = reopened(engine, segment_size=8192)
    assert again.tablets[1].learning is Learning.DAMAGED
    assert again.tablets[1].damage == "for the test"
    assert again.damage == []
