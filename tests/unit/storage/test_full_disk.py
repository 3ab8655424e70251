"""No room on the disk, at each kind of write; and no file descriptor left."""

from __future__ import annotations

import contextlib
import errno
import random

import pytest

from kvstore.errors import NoSpace
from kvstore.storage.engine import Engine
from kvstore.storage.failures import DiskFailed, TooManyFiles
from kvstore.storage.upkeep import Job, checkpoint, maintain, next_job, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles
from tests.unit.storage.engines import contents, faults, log, opened, reopened, with_tablet, write
from tests.unit.storage.entries import delete, put

LARGE = bytes(range(200))


def filled(reserve: int = 30_000) -> tuple[FaultyDisk, Engine]:
    disk = FaultyDisk()
    engine = with_tablet(disk, reserve=reserve)
    write(engine, [put("row", "early", LARGE)])
    disk.capacity = disk.used + reserve - 1
    engine.look_at_space()
    return disk, engine


def test_a_full_disk_refuses_writes_before_the_log_is_in_danger_and_serves_reads() -> None:
    """Trap 27: when writes are refused there is still room for what is on its way, and for a segment to close the log."""
    disk, engine = filled()
    with pytest.raises(NoSpace, match="bytes are free on the disk of /data; writes need 30000"):
        engine.check_space()
    assert contents(engine) == {("row", "early"): LARGE}
    write(engine, [put("row", "was on its way", bytes(10_000))])
    engine.append_commit(1, 2)
    engine.close()
    assert ("row", "was on its way") in contents(opened(disk))


def test_a_disk_that_was_full_has_room_again_only_when_a_little_more_is_free() -> None:
    disk, engine = filled()
    for free, full in ((30_000, True), (37_499, True), (37_500, False), (30_000, False), (29_999, True)):
        disk.capacity = disk.used + free
        engine.look_at_space()
        assert engine.is_full == full, free


def test_writes_resume_by_themselves_when_there_is_room() -> None:
    disk, engine = filled()
    with pytest.raises(NoSpace):
        engine.check_space()
    disk.capacity *= 2
    engine.check_space()
    write(engine, [put("row", "late", b"x")])


@pytest.mark.parametrize("operation", ["create", "reserve", "write"])
def test_no_room_at_any_kind_of_write_loses_nothing(operation: str) -> None:
    """The log keeps what waits and goes on; a checkpoint is given up and made another time."""
    disk = FaultyDisk()
    engine = with_tablet(disk, checkpoint_log=1)
    full = True
    faults(engine, lambda op, path: errno.ENOSPC if full and op == operation and "LOCK" not in path else None)
    for i in range(10):
        log(engine, [put("row", f"{i}", bytes([i]) * 3000)])
    with pytest.raises(NoSpace):
        engine.sync()
    with pytest.raises(NoSpace):
        engine.sync()
    full = False
    engine.sync()
    engine.apply(1, 10)
    full = True
    if operation != "reserve":
        run_to_end(engine, checkpoint(engine, engine.tablets[1]))
        assert (engine.figures.checkpoints, engine.figures.checkpoints_failed) == (0, 1)
    full = False
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    assert engine.figures.checkpoints == 1
    engine.append_commit(1, 10)
    engine.sync()
    again = opened(disk.after_crash(random.Random(1)))
    assert contents(again) == {("row", f"{i}"): bytes([i]) * 3000 for i in range(10)}
    assert again.damage == []


def test_a_failed_fsync_of_a_checkpoint_stops_the_node() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    faults(engine, lambda operation, path: errno.EIO if operation == "fdatasync" and ".ckpt" in path else None)
    with pytest.raises(DiskFailed, match="writing a checkpoint failed"):
        run_to_end(engine, checkpoint(engine, engine.tablets[1]))


def test_that_no_more_files_may_be_opened_is_no_damage() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", LARGE)])
    cell = engine.tablets[1].tablet.get("row", "a")
    assert cell is not None
    engine.wal.folder.close()
    faults(engine, lambda operation, path: errno.EMFILE if operation in ("open", "create") else None)
    with pytest.raises(TooManyFiles, match=r"00000001\.seg cannot be opened"):
        engine.read(cell)
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    assert engine.figures.checkpoints_failed == 1
    faults(engine, lambda operation, path: None)
    assert engine.read(cell) == LARGE
    assert engine.tablets[1].intact


@pytest.mark.parametrize(
    ("operation", "where"),
    [
        ("create", "/data/checkpoints"),
        ("write", "/data/checkpoints"),
        ("fdatasync", "/data/checkpoints"),
        ("rename", "/data/checkpoints"),
        ("fsync_dir", "/data/checkpoints"),
        ("create", "/data/store"),
        ("write", "/data/store"),
        ("fdatasync", "/data/store"),
        ("rename", "/data/store"),
        ("fsync_dir", "/data"),
        ("rename", "/data/log/spare"),
        ("create", "/data/log/new-spare"),
        ("reserve", "/data/log/new-spare"),
        ("write", "/data/log/new-spare"),
        ("fdatasync", "/data/log/new-spare"),
    ],
)
def test_no_room_for_background_work_is_no_harm(operation: str, where: str) -> None:
    """It is given up, and done when there is room; what is acknowledged meanwhile, and a power cut, change nothing."""
    engine = with_tablet(FaultyDisk(), segment_size=8192, checkpoint_log=100, spares=1)
    failed = 0

    def no_room(its_operation: str, path: str) -> int | None:
        nonlocal failed
        if its_operation != operation or not (path == where if operation == "fsync_dir" else path.startswith(where)):
            return None
        failed += 1
        return errno.ENOSPC

    faults(engine, no_room)
    for i in range(12):
        write(engine, [put("row", f"{i % 3}", bytes([i]) * 3000)])
        jobs: list[tuple[str, Job] | None] = (
            [("checkpoint", checkpoint(engine, engine.tablets[1]))] if i % 4 == 3 else []
        )
        for _ in range(6):
            job = jobs.pop() if jobs else next_job(engine)
            if job is not None:
                with contextlib.suppress(OSError):
                    run_to_end(engine, job[1])
                engine.look_at_space()
    assert failed, "the fault must have struck"
    expected = contents(engine)
    engine.append_commit(1, 12)
    engine.sync()
    assert isinstance(engine.files, FaultyFiles)
    for seed in range(20):
        again = opened(engine.files.disk.after_crash(random.Random(seed)), segment_size=8192)
        assert (again.damage, contents(again)) == ([], expected)
    faults(engine, lambda operation, path: None)
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    maintain(engine)
    assert len(engine.wal.folder.segments) < 8, "log is dropped now"
    assert contents(reopened(engine, segment_size=8192)) == expected


def test_values_are_not_moved_into_the_last_room_of_a_full_disk() -> None:
    engine = with_tablet(FaultyDisk(), segment_size=8192, checkpoint_log=100)
    for i in range(36):
        write(engine, [put("row", f"{i}", bytes([i]) * 1000)])
    for i in range(36):
        if i % 3:
            write(engine, [delete("row", f"{i}")])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    while (job := next_job(engine)) is not None and job[0] != "compaction":
        run_to_end(engine, job[1])
    assert job is not None, "there is something to compact"
    engine.no_room()
    assert next_job(engine) is None
    engine.look_at_space()
    assert next_job(engine) is not None
