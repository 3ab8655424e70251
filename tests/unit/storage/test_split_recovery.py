"""What recovery needs to make two replicas of one again: nothing of it goes before it may."""

from __future__ import annotations

import errno
import random

import pytest

from kvstore.errors import NoSpace
from kvstore.storage.compaction import compact
from kvstore.storage.engine import Engine
from kvstore.storage.replica import Learning
from kvstore.storage.results import ResultTable
from kvstore.storage.upkeep import checkpoint, maintain, may_checkpoint, next_job, release, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles
from tests.unit.storage.engines import contents, faults, log, opened, reopened, with_tablet, write
from tests.unit.storage.entries import put
from tests.unit.storage.test_background import stepped
from tests.unit.storage.test_killed import killed_before
from tests.unit.storage.test_splitting import ABOVE, BELOW, split, whole


def checkpointed(engine: Engine, tablet: int) -> None:
    before = engine.figures.checkpoints
    run_to_end(engine, checkpoint(engine, engine.tablets[tablet]))
    assert engine.figures.checkpoints == before + 1


def files_of(engine: Engine, tablet: int) -> list[str]:
    """The checkpoints of a tablet in the folder."""
    assert isinstance(engine.files, FaultyFiles)
    return [name for name in engine.files.disk.names if name.startswith(f"/data/checkpoints/{tablet:08x}-")]


def after_a_power_cut(engine: Engine, seed: int = 1) -> Engine:
    assert isinstance(engine.files, FaultyFiles)
    return opened(engine.files.disk.after_crash(random.Random(seed)), segment_size=8192)


# ---------------------------------------------------------------- whose checkpoint comes first


def test_the_parent_has_no_checkpoint_of_later_before_the_child_has_one() -> None:
    engine = whole()
    checkpointed(engine, 1)
    split(engine)
    assert not may_checkpoint(engine, engine.tablets[1])
    checkpointed(engine, 2)
    checkpointed(engine, 1)
    again = reopened(engine)
    assert (contents(again, 1), contents(again, 2)) == (BELOW, ABOVE)


def test_when_the_parents_is_due_the_childs_is_written_first_and_first_of_all_the_grandchilds() -> None:
    engine = whole(checkpoint_log=300)
    split(engine)
    split(engine, "z", parent=2, child=3)
    for i in range(10):
        write(engine, [put("a", f"{i}", b"x" * 60)])
    maintain(engine)
    assert isinstance(engine.files, FaultyFiles)
    named = [path for operation, path in engine.files.log if operation == "rename" and path.endswith(".ckpt")]
    assert [int(path.split("/")[-1][:8]) for path in named] == [3, 2, 1]


def test_a_checkpoint_that_was_begun_before_the_split_and_ends_behind_it_has_all_the_rows() -> None:
    engine = with_tablet(FaultyDisk())
    for row in ("a", "z"):
        write(engine, [put(row, f"{i:04d}", b"before") for i in range(2000)])
    digest = engine.tablets[1].tablet.digest
    job = checkpoint(engine, engine.tablets[1])
    next(job)
    split(engine)
    write(engine, [put("a", f"{i:04d}", b"after") for i in range(0, 2000, 100)])
    write(engine, [put("z", f"{i:04d}", b"after") for i in range(0, 2000, 100)], tablet=2)
    run_to_end(engine, job)
    head = engine.tablets[1].checkpoint
    assert head is not None
    assert (head.cells, head.digest, head.end, engine.tablets[2].checkpoint) == (4000, digest, None, None)
    for tablet in (1, 2):
        engine.append_commit(tablet, 3)
    engine.sync()
    expected = contents(engine, 1), contents(engine, 2)
    again = reopened(engine)
    assert (contents(again, 1), contents(again, 2), again.damage) == (*expected, [])


def test_a_split_is_passed_over_by_a_parent_whose_checkpoint_is_of_later_and_waits_for_a_tail() -> None:
    """The tail lies before the split in the log, so replay meets the split again."""
    engine = whole()
    log(engine, [put("a", "tail", b"5")])
    log(engine, [put("a", "tail", b"6")])
    split(engine)
    write(engine, [put("z", "later", b"5")], tablet=2)
    checkpointed(engine, 2)
    engine.apply(1, 5)
    checkpointed(engine, 1)
    again = reopened(engine)
    assert again.damage == []
    assert contents(again, 1) == BELOW | {("a", "tail"): b"5"}
    assert contents(again, 2) == ABOVE | {("z", "later"): b"5"}
    assert (again.tablets[1].range, again.tablets[1].last) == (("", "m", 2), 6)


def test_of_a_child_that_learned_anew_replay_makes_no_second_one() -> None:
    engine = whole()
    log(engine, [put("a", "tail", b"5")])
    split(engine)
    engine.drop_tablet(2)
    checkpointed(engine, 1)
    engine.create_tablet(2, "m", None, 7)
    engine.sync()
    again = reopened(engine)
    assert (again.tablets[2].range, contents(again, 2), again.damage) == (("m", None, 7), {}, [])


# ---------------------------------------------------------------- log, segments, checkpoints of others


def test_the_child_keeps_the_log_that_makes_it() -> None:
    engine = whole(segment_size=8192)
    for i in range(6):
        write(engine, [put("z", f"{i}", b"x" * 3000)])
    split(engine)
    engine.mark_damaged(1, "for the test")  # of its own log it needs nothing any more
    engine.sync()
    maintain(engine)
    again = after_a_power_cut(engine)
    assert (again.tablets[1].learning, again.damage) == (Learning.DAMAGED, [])
    assert contents(again, 2) == ABOVE | {("z", f"{i}"): b"x" * 3000 for i in range(6)}


@pytest.mark.parametrize("restart", [False, True])
def test_a_dropped_parents_checkpoint_stays_until_the_child_has_one(restart: bool) -> None:
    engine = whole()
    checkpointed(engine, 1)
    split(engine)
    engine.drop_tablet(1)
    engine.sync()
    if restart:
        engine = reopened(engine)
        engine.sync()
    maintain(engine)
    assert len(files_of(engine, 1)) == 1
    again = after_a_power_cut(engine)
    assert (list(again.tablets), contents(again, 2), again.damage) == ([2], ABOVE, [])
    checkpointed(engine, 2)
    maintain(engine)
    assert files_of(engine, 1) == []
    again = after_a_power_cut(engine)
    assert (list(again.tablets), contents(again, 2), again.damage) == ([2], ABOVE, [])


def test_a_parent_that_was_dropped_and_came_back_does_not_replace_what_the_child_needs() -> None:
    engine = whole()
    checkpointed(engine, 1)
    split(engine)
    engine.drop_tablet(1)
    engine.create_tablet(1, "", "m", 2)
    write(engine, [put("a", "new", b"7")])
    assert not may_checkpoint(engine, engine.tablets[1])
    engine.append_commit(1, 1)
    engine.sync()
    maintain(engine)
    again = after_a_power_cut(engine)
    assert (contents(again, 1), contents(again, 2)) == ({("a", "new"): b"7"}, ABOVE)


def test_the_child_keeps_the_segments_that_the_checkpoint_of_before_points_into() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192)
    for i in range(6):
        write(engine, [put("z", f"{i}", bytes([i]) * 3000)])
    checkpointed(engine, 1)
    segments = engine.tablets[1].checkpoint_segments
    split(engine)
    engine.drop_tablet(1)
    for i in range(6):
        write(engine, [put("z", f"{i}", b"small")], tablet=2)
    run_to_end(engine, release(engine))
    assert len(segments) > 1
    assert segments <= engine.wal.folder.segments.keys()
    checkpointed(engine, 2)
    maintain(engine)
    assert segments & engine.wal.folder.segments.keys() <= {engine.wal.folder.last}


@pytest.mark.parametrize("end", ["dropped", "damaged"])
def test_that_the_child_needs_nothing_counts_when_it_is_on_disk(end: str) -> None:
    """The power goes between the record and its sync: then it is needed after all."""
    engine = whole()
    checkpointed(engine, 1)
    split(engine)
    engine.drop_tablet(1)
    engine.sync()
    if end == "dropped":
        engine.drop_tablet(2)
    else:
        engine.mark_damaged(2, "for the test")
    while (found := next_job(engine)) is not None and stepped(found[1], 20):
        pass
    assert found is not None, "something waits for the log"
    again = after_a_power_cut(engine)
    assert (list(again.tablets), contents(again, 2), again.damage) == ([2], ABOVE, [])
    run_to_end(engine, found[1])
    maintain(engine)
    assert files_of(engine, 1) == []


def test_a_grandchild_outlives_a_child_that_was_dropped() -> None:
    engine = whole()
    checkpointed(engine, 1)
    split(engine)
    split(engine, "z", parent=2, child=3)
    engine.drop_tablet(2)
    assert not may_checkpoint(engine, engine.tablets[1])
    engine.sync()
    maintain(engine)
    again = after_a_power_cut(engine)
    assert contents(again, 3) == {("z", "bulk"): ABOVE["z", "bulk"]}
    checkpointed(engine, 3)
    checkpointed(engine, 1)
    assert contents(after_a_power_cut(engine), 3) == {("z", "bulk"): ABOVE["z", "bulk"]}


def test_a_damaged_child_holds_nobody_up_and_is_known_when_the_log_is_gone() -> None:
    engine = whole(segment_size=8192, checkpoint_log=100)
    split(engine)
    for i in range(20):
        write(engine, [put("a", f"{column}", bytes([i]) * 60) for column in range(20)])
    engine.mark_damaged(2, "for the test")
    maintain(engine)
    assert len(engine.wal.folder.segments) < 4
    again = reopened(engine, segment_size=8192)
    assert (again.tablets[2].damage, again.tablets[2].range, again.damage) == ("for the test", ("m", None, 2), [])
    again.begin_learning(2)
    again.finish_learning(2, ResultTable().encode(), 1, 4)
    assert again.tablets[2].intact


def test_a_damaged_parent_has_its_narrower_range_when_the_record_of_the_split_is_gone() -> None:
    engine = whole(segment_size=8192)
    checkpointed(engine, 1)
    split(engine)
    checkpointed(engine, 2)
    engine.mark_damaged(1, "for the test")
    write(engine, [put("z", "bulk", bytes(6000))], tablet=2)
    write(engine, [put("z", "bulk", bytes(6000))], tablet=2)
    checkpointed(engine, 2)
    run_to_end(engine, release(engine))
    again = reopened(engine, segment_size=8192)
    assert (again.tablets[1].range, again.tablets[1].learning) == (("", "m", 2), Learning.DAMAGED)
    assert again.damage == []


# ---------------------------------------------------------------- large values in the parent's records


def test_the_childs_values_are_moved_out_of_the_parents_records_as_its_own() -> None:
    engine = whole(segment_size=8192)
    write(engine, [put("a", "fills the segment", bytes(4000))])
    split(engine)
    write(engine, [put("a", "later", bytes(6000))])
    before = engine.tablets[2].tablet.digest
    run_to_end(engine, compact(engine, 1))
    assert 1 not in engine.tablets[2].tablet.bulk_bytes
    assert engine.tablets[2].tablet.digest == before
    for tablet in (1, 2):
        engine.append_commit(tablet, engine.tablets[tablet].commit)
        checkpointed(engine, 3 - tablet)
    maintain(engine)
    assert 1 not in engine.wal.folder.segments, "nothing holds the segment any more"
    again = after_a_power_cut(engine)
    assert (contents(again, 2), again.damage) == (ABOVE, [])


def test_values_that_were_moved_before_the_child_has_a_checkpoint_are_found() -> None:
    engine = whole(segment_size=8192)
    checkpointed(engine, 1)
    split(engine)
    write(engine, [put("a", "later", bytes(6000))])
    run_to_end(engine, compact(engine, 1))
    engine.sync()
    again = after_a_power_cut(engine)
    assert (contents(again, 2), again.damage) == (ABOVE, [])
    assert again.tablets[2].tablet.bulk_bytes == engine.tablets[2].tablet.bulk_bytes


# ---------------------------------------------------------------- no room, and a process that is killed


def test_a_split_that_finds_no_room_in_the_log_is_durable_when_there_is_some() -> None:
    engine = whole(segment_size=8192)
    engine.append_commit(1, 4)
    write(engine, [put("a", "fills the segment", bytes(3600))])
    faults(engine, lambda operation, path: errno.ENOSPC if operation == "reserve" else None)
    log(engine, [put("a", "late", bytes(3600))])
    engine.split_tablet(1, 2, "m", 1, 6, 2)
    with pytest.raises(NoSpace):
        engine.sync()
    assert contents(engine, 2) == ABOVE, "both can be read"
    again = after_a_power_cut(engine)
    assert (list(again.tablets), again.tablets[1].range, again.damage) == ([1], ("", None, 1), [])
    faults(engine, lambda operation, path: None)
    engine.sync()
    again = after_a_power_cut(engine)
    assert (list(again.tablets), contents(again, 2), again.damage) == ([1, 2], ABOVE, [])


def test_a_child_without_room_for_a_checkpoint_keeps_what_makes_it() -> None:
    engine = whole()
    checkpointed(engine, 1)
    split(engine)
    faults(engine, lambda operation, path: errno.ENOSPC if operation == "write" and path.endswith(".tmp") else None)
    run_to_end(engine, checkpoint(engine, engine.tablets[2]))
    assert (engine.figures.checkpoints_failed, may_checkpoint(engine, engine.tablets[1])) == (1, False)
    again = after_a_power_cut(engine)
    assert (contents(again, 2), again.damage) == (ABOVE, [])
    faults(engine, lambda operation, path: None)
    engine.look_at_space()
    checkpointed(engine, 2)
    checkpointed(engine, 1)
    again = after_a_power_cut(engine)
    assert (contents(again, 1), contents(again, 2), again.damage) == (BELOW, ABOVE, [])


@pytest.mark.parametrize("seed", range(30))
def test_the_childs_checkpoint_is_in_its_folder_before_the_dropped_parents_goes(seed: int) -> None:
    """The process is killed between the two, opens its folder again, and then the power goes."""
    engine = whole(segment_size=8192)
    checkpointed(engine, 1)
    split(engine)
    engine.drop_tablet(1)
    engine.sync()
    disk = killed_before(
        engine, "fsync_dir", "/data/checkpoints", lambda: run_to_end(engine, checkpoint(engine, engine.tablets[2]))
    )
    maintain(opened(disk, segment_size=8192))
    again = opened(disk.after_crash(random.Random(seed)), segment_size=8192)
    assert (list(again.tablets), contents(again, 2), again.damage) == ([2], ABOVE, [])
