"""The engine as replication uses it: entries, commit points, cuts, learning, results, restarts, faults of the disk."""

from __future__ import annotations

import pytest

from kvstore.mutation import Entry, Version, decode_entry
from kvstore.storage.engine import Engine
from kvstore.storage.failures import DiskFailed
from kvstore.storage.replica import Learning
from kvstore.storage.results import Result, ResultTable
from kvstore.storage.upkeep import START_BEHIND, checkpoint, maintain, next_job, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles
from tests.unit.storage.engines import (
    contents,
    log,
    opened,
    reopened,
    with_tablet,
    write,
)
from tests.unit.storage.entries import delete, delete_row, entry, mutation, put

LARGE = bytes(range(200))


# ---------------------------------------------------------------- entries, commit points, cuts


def test_an_entry_is_applied_only_up_to_the_commit_point() -> None:
    engine = with_tablet(FaultyDisk())
    log(engine, [put("row", "a", b"1")])
    log(engine, [put("row", "b", LARGE)], [put("row", "c", b"3")])
    engine.sync()
    replica = engine.tablets[1]
    assert contents(engine) == {}
    [applied] = engine.apply(1, 1)
    assert applied.first == 1
    assert replica.results.lookup(1, 1) == Result(0, 1, 1)
    assert (replica.commit, replica.last, [e.first for e in replica.tail]) == (1, 3, [2])
    assert engine.apply(1, 2) == [], "half an entry is never applied"
    engine.apply(1, 3)
    assert contents(engine) == {("row", "a"): b"1", ("row", "b"): LARGE, ("row", "c"): b"3"}


def test_a_failed_mutation_changes_nothing_and_its_result_is_remembered() -> None:
    engine = with_tablet(FaultyDisk())
    failed = mutation([put("row", "a", LARGE)], number=1)
    done = mutation([put("row", "b", LARGE)], number=2)
    engine.append_entry(1, Entry(4, 1, [failed, done], [1, 0], [3, 0]), 0)
    engine.sync()
    engine.apply(1, 2)
    assert contents(engine) == {("row", "b"): LARGE}
    assert engine.tablets[1].results.lookup(1, 1) == Result(1, 4, 1, 3)
    engine.append_commit(1, 2)
    engine.sync()
    again = reopened(engine)
    assert contents(again) == {("row", "b"): LARGE}
    assert again.tablets[1].results.lookup(1, 1) == Result(1, 4, 1, 3)


def test_after_a_restart_what_was_known_to_be_committed_is_applied_and_the_rest_is_the_tail() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    log(engine, [put("row", "b", LARGE)])
    engine.sync()
    replica = reopened(engine).tablets[1]
    assert (replica.commit, replica.last, replica.last_epoch, replica.intact) == (1, 2, 1, True)
    assert bytes(replica.tail[0].bundles[0].bulk) == LARGE


def test_a_gap_an_overlap_and_an_older_epoch_are_refused() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")], epoch=3)
    for wrong in (
        entry(3, 3, [put("r", "c", b"")]),
        entry(3, 1, [put("r", "c", b"")]),
        entry(2, 2, [put("r", "c", b"")]),
    ):
        with pytest.raises(AssertionError):
            engine.append_entry(1, wrong, 1)


def test_a_cut_tail_never_was_and_what_replaces_it_is_there() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    log(engine, [put("row", "b", b"old")])
    log(engine, [put("row", "c", LARGE)])
    engine.append_cut(1, 1)
    log(engine, [put("row", "b", b"new")], epoch=2)
    engine.sync()
    again = reopened(engine)
    again.apply(1, 2)
    assert contents(again) == {("row", "a"): b"1", ("row", "b"): b"new"}
    assert again.tablets[1].last_epoch == 2


def test_what_is_committed_is_never_cut() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    write(engine, [put("row", "b", b"1")])
    with pytest.raises(AssertionError, match="never cut"):
        engine.append_cut(1, 1)


def test_an_epoch_survives_a_restart() -> None:
    engine = with_tablet(FaultyDisk())
    engine.append_epoch(1, 9)
    engine.sync()
    assert reopened(engine).tablets[1].epoch == 9


def test_a_dropped_tablet_stays_dropped_and_may_come_back_empty() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk)
    write(engine, [put("row", "a", LARGE)])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    engine.drop_tablet(1)
    engine.sync()
    engine = reopened(engine)
    assert engine.tablets == {}
    maintain(engine)
    assert not [name for name in disk.names if name.endswith(".ckpt")]
    engine.create_tablet(1, "m", None, 2)
    engine.sync()
    again = reopened(engine)
    assert (again.tablets[1].start, again.tablets[1].range_version, contents(again)) == ("m", 2, {})


def test_deleted_rows_take_their_bulk_values_with_them() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", LARGE), put("row", "b", LARGE), put("s", "a", b"1")])
    assert sum(engine.tablets[1].tablet.bulk_bytes.values()) == 400
    write(engine, [delete_row("row")])
    assert contents(engine) == {("s", "a"): b"1"}
    assert engine.tablets[1].tablet.bulk_bytes == {}


# ---------------------------------------------------------------- learning


def learner(disk: FaultyDisk) -> Engine:
    """An engine that was left behind at sequence 2."""
    engine = with_tablet(disk)
    write(engine, [put("row", "same", b"1"), put("row", "stale", b"old"), put("row", "gone", LARGE)])
    write(engine, [put("row", "same too", LARGE)])
    log(engine, [put("row", "never committed", b"x")])
    engine.sync()
    return engine


def taught(engine: Engine) -> None:
    """The primary is at sequence 12 and streams from 11 on; the snapshot was read at 12."""
    engine.begin_learning(1)
    held = entry(2, 11, [put("row", "stale", b"older than the snapshot")], [put("row", "streamed", LARGE)])
    engine.append_entry(1, held, 10)
    engine.install(1, [("row", "gone", Version(0, 0), None), ("row", "stale", Version(2, 12), b"new")])
    engine.install(1, [("row", "fetched", Version(2, 5), LARGE)])
    engine.append_entry(1, entry(2, 13, [put("row", "later", b"13")]), 12)
    results = ResultTable()
    results.record(8, 1, 0, Result(0, 2, 12))
    engine.finish_learning(1, results.encode(), 2, 12)


LEARNED = {
    ("row", "same"): b"1",
    ("row", "stale"): b"new",
    ("row", "same too"): LARGE,
    ("row", "fetched"): LARGE,
    ("row", "streamed"): LARGE,
}


def test_a_learner_holds_its_stream_back_until_everything_is_there() -> None:
    engine = learner(FaultyDisk())
    engine.begin_learning(1)
    engine.append_entry(1, entry(2, 11, [put("row", "streamed", b"x")]), 10)
    assert engine.apply(1, 11) == []
    assert ("row", "streamed") not in contents(engine)
    assert engine.tablets[1].learning is Learning.HOLDING


@pytest.mark.parametrize("restart", [False, True])
def test_a_learner_ends_as_its_primary_is(restart: bool) -> None:
    engine = learner(FaultyDisk())
    taught(engine)
    engine.sync()
    if restart:
        engine = reopened(engine)
    else:
        assert not engine.tablets[1].intact
        engine.apply(1, 12)
    replica = engine.tablets[1]
    assert replica.intact
    assert (replica.commit, replica.last) == (12, 13)
    assert contents(engine) == LEARNED
    assert replica.results.lookup(8, 1) == Result(0, 2, 12)
    assert replica.results.lookup(1, 11) is None, "results up to the commit point come with the table alone"
    engine.apply(1, 13)
    assert replica.results.lookup(1, 13) == Result(0, 2, 13)


def test_a_learner_that_dies_before_it_has_finished_is_not_intact() -> None:
    engine = learner(FaultyDisk())
    engine.begin_learning(1)
    engine.install(1, [("row", "gone", Version(0, 0), None)])
    engine.sync()
    again = reopened(engine)
    assert not again.tablets[1].intact
    assert again.tablets[1].learning is Learning.HOLDING


def test_the_bulk_values_of_a_held_back_stream_are_not_kept_in_memory() -> None:
    engine = learner(FaultyDisk())
    engine.begin_learning(1)
    sent = entry(2, 11, [put("row", "streamed", LARGE)])
    arrived = decode_entry(2, 11, b"".join(sent.payload_parts), sent.checksum)
    engine.append_entry(1, arrived, 10)
    held = engine.tablets[1].logged[0].entry
    assert len(held.bundles[0].bulk) == 0
    assert type(held.bundles[0].head) is bytes, "a view would keep all that it is a view of"
    assert bytes(engine.tablets[1].tail[0].bundles[0].bulk) == LARGE, "and are there when they are asked for"


def test_settling_goes_in_slices() -> None:
    engine = with_tablet(FaultyDisk())
    engine.begin_learning(1)
    for i in range(20):
        engine.append_entry(1, entry(2, 11 + i, [put("row", f"{i}", b"x")]), 10)
    engine.finish_learning(1, ResultTable().encode(), 2, 30)
    assert len(engine.apply(1, 30, most=5)) == 5
    assert not engine.tablets[1].intact
    engine.apply(1, 30)
    assert engine.tablets[1].intact


def test_no_checkpoint_is_made_of_a_learner() -> None:
    engine = learner(FaultyDisk())
    engine.begin_learning(1)
    with pytest.raises(AssertionError):
        run_to_end(engine, checkpoint(engine, engine.tablets[1]))


# ---------------------------------------------------------------- checkpoints and room


def test_a_checkpoint_and_the_log_behind_it_make_the_same_tablet() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", f"{i}", LARGE if i % 3 else b"small") for i in range(100)])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    write(engine, [delete("row", "5"), put("row", "6", b"changed")])
    engine.append_commit(1, 2)
    engine.sync()
    expected, digest = contents(engine), engine.tablets[1].tablet.digest
    again = reopened(engine)
    assert contents(again) == expected
    assert again.tablets[1].tablet.digest == digest
    assert again.tablets[1].results.lookup(1, 1) == Result(0, 1, 1)
    assert again.tablets[1].checkpoint is not None


def test_a_checkpoint_shows_the_moment_it_was_begun_though_writes_go_on() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", f"{i:04d}", b"before") for i in range(3000)])
    digest = engine.tablets[1].tablet.digest
    job = checkpoint(engine, engine.tablets[1])
    for sequence, blocking in enumerate(job, 1):
        if blocking is not None:
            blocking()
        write(engine, [put("row", f"{sequence:04d}", b"after"), delete("row", f"{2999 - sequence:04d}")])
    head = engine.tablets[1].checkpoint
    assert head is not None
    assert (head.commit, head.cells, head.digest) == (1, 3000, digest)
    engine.append_commit(1, engine.tablets[1].commit)
    engine.sync()
    expected = contents(engine)
    assert contents(reopened(engine)) == expected


def test_a_checkpoint_is_synced_read_back_and_named_before_the_old_one_goes() -> None:
    """Traps 24 and 25, as an order of operations at the door to the disk."""
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    old = engine.checkpoint_path(1, 1)
    write(engine, [put("row", "b", b"1")])
    assert isinstance(engine.files, FaultyFiles)
    engine.files.log.clear()
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    new = engine.checkpoint_path(1, 2)
    steps = engine.files.log
    order = [
        max(i for i, step in enumerate(steps) if step == ("write", f"{new}.tmp")),
        max(i for i, step in enumerate(steps) if step == ("fdatasync", f"{new}.tmp")),
        min(i for i, step in enumerate(steps) if step == ("read", f"{new}.tmp")),
        steps.index(("rename", new)),
        steps.index(("fsync_dir", "/data/checkpoints")),
        steps.index(("unlink", old)),
    ]
    assert order == sorted(order)


def test_a_checkpoint_that_does_not_read_back_is_not_used() -> None:
    """Trap 25: the disk took it and gives back something else. The log and the old checkpoint are still there."""
    disk = FaultyDisk()
    engine = with_tablet(disk)
    write(engine, [put("row", "a", LARGE)])
    job = checkpoint(engine, engine.tablets[1])
    next(job)
    disk.names[f"{engine.checkpoint_path(1, 1)}.tmp"].data[40] ^= 1
    with pytest.raises(DiskFailed, match=r"writing a checkpoint failed: .* does not have its checksum"):
        run_to_end(engine, job)
    assert engine.tablets[1].checkpoint is None
    engine.append_commit(1, 1)
    engine.sync()
    assert contents(reopened(engine)) == {("row", "a"): LARGE}


def test_log_that_no_checkpoint_needs_is_dropped_and_reused() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=8192, checkpoint_log=2000)
    for i in range(60):
        write(engine, [put("row", f"{i % 5}", bytes([i]) * 60) for _ in range(20)])
        maintain(engine)
    assert len(engine.wal.folder.segments) < 8
    assert engine.wal.folder.reused > 0
    expected = contents(engine)
    engine.close()
    assert contents(opened(disk, segment_size=8192)) == expected


def test_replay_does_not_begin_at_the_oldest_live_value() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192)
    for i in range(60):
        write(engine, [put("row", f"{i:02d}", bytes([i]) * 2000)])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    maintain(engine)
    assert len(engine.wal.folder.segments) > 12, "all values are live, no segment goes"
    begin = engine.log_start.segment
    assert begin > engine.wal.folder.last - START_BEHIND
    again = reopened(engine, segment_size=8192)
    assert again.log_start.segment == begin
    assert {column: value[0] for (_, column), value in contents(again).items()} == {f"{i:02d}": i for i in range(60)}


def test_an_idle_tablet_does_not_hold_the_log_of_a_busy_one() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=8192, checkpoint_log=2000, replay_most=40_000)
    engine.create_tablet(2, "z", None, 1)
    write(engine, [put("z", "idle", LARGE)], tablet=2)
    for i in range(60):
        write(engine, [put("row", f"{i % 5}", bytes([i]) * 60) for _ in range(20)])
        maintain(engine)
    assert len(engine.wal.folder.segments) < 12
    assert contents(engine, 2) == {("z", "idle"): LARGE}
    engine.close()
    assert contents(opened(disk, segment_size=8192), 2) == {("z", "idle"): LARGE}


def test_a_tail_that_is_not_committed_does_not_cause_checkpoint_after_checkpoint() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192, replay_most=8192)
    for i in range(20):
        log(engine, [put("row", f"{i}", bytes(1000))])
    engine.sync()
    maintain(engine)
    assert engine.figures.checkpoints < 3


def test_nothing_is_removed_while_somebody_holds_the_folder() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192, checkpoint_log=100)
    lock = engine.files.lock("/data/HOLD")
    assert lock is not None
    for i in range(30):
        write(engine, [put("row", "a", bytes([i]) * 1000)])
        maintain(engine)
    assert len(engine.wal.folder.segments) > 5
    engine.files.close(lock)
    assert next_job(engine) is not None
    maintain(engine)
    assert len(engine.wal.folder.segments) < 5
