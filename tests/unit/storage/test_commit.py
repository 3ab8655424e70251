"""Group commit and background work under gevent, on the real disk."""

from __future__ import annotations

import errno
import shutil
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from kvstore.errors import StorageFailure
from kvstore.storage.commit import GroupCommitter, Mode
from kvstore.storage.engine import Engine
from kvstore.storage.files import Files
from kvstore.storage.kernelsync import KernelSync
from kvstore.storage.maintenance import Maintenance, settle_collector
from kvstore.storage.upkeep import checkpoint, run_to_end
from tests.unit.storage.engines import contents, options
from tests.unit.storage.entries import entry, put

MODES = pytest.mark.parametrize("mode", list(Mode))


class TroubledSync(KernelSync):
    """The kernel's sync, of a disk that may be broken, or not answer until `go_on`."""

    def __init__(self, files: TroubledFiles) -> None:
        super().__init__()
        self.files = files
        self.stalled = False
        self._kept: int | None = None

    def begin(self, fd: int) -> None:
        if self.stalled:
            self._kept, self._busy = fd, True
        else:
            super().begin(fd)

    def go_on(self) -> None:
        self.stalled = False
        assert self._kept is not None
        self._busy = False
        super().begin(self._kept)

    def wait(self, seconds: float) -> bool:
        done = super().wait(seconds)
        if done:
            self.files.syncs += 1
        if done and self.files.broken:
            raise OSError(errno.EIO, "broken")
        return done


class TroubledFiles(Files):
    """The real disk, with an fsync that takes its time or fails."""

    def __init__(self) -> None:
        self.stall = 0.0
        self.broken = False
        self.full = False
        self.syncs = 0

    def kernel_sync(self) -> KernelSync | None:
        self.kernel = TroubledSync(self)
        return self.kernel

    def reserve(self, fd: int, length: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        super().reserve(fd, length)

    def fdatasync(self, fd: int) -> None:
        self.syncs += 1
        time.sleep(self.stall)
        if self.broken:
            raise OSError(errno.EIO, "broken")
        super().fdatasync(fd)


class Node:
    """An engine with tablet 1, its committer, and what it told."""

    def __init__(self, folder: Path, mode: Mode, **others: Any) -> None:
        self.files = TroubledFiles()
        self.engine = Engine.open(str(folder), self.files, options(**others))
        self.engine.create_tablet(1, "", None, 1)
        self.durable = 0
        self.synced = Event()
        self.failures: list[StorageFailure] = []
        self.failed = Event()
        self.committer = GroupCommitter(self.engine, self._durable, self._failure, mode)
        self.committer.start()

    def _durable(self, lsn: int) -> None:
        self.durable = lsn
        self.synced.set()

    def _failure(self, failure: StorageFailure) -> None:
        self.failures.append(failure)
        self.failed.set()

    def write(self, number: int) -> int:
        new = entry(1, number, [put("row", f"{number % 50}", b"%050d" % number)])
        lsn = self.engine.append_entry(1, new, number - 1)
        self.committer.wake()
        return lsn

    def fill_up(self) -> int:
        """Write until the disk has no room; the lsn of what was written last."""
        self.files.full = True
        while not self.engine.is_full:
            last = self.write(self.engine.tablets[1].last + 1)
            gevent.sleep(0.001)
        return last

    def until_durable(self, lsn: int) -> None:
        with gevent.Timeout(10):
            while self.durable < lsn:
                self.synced.wait()
                self.synced.clear()

    def close(self) -> None:
        self.committer.stop()
        self.engine.close()


@pytest.fixture
def unexpected(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the hub was told of: in a server each would end the process (`kvstore.supervision`)."""
    told: list[object] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *error: told.append(error))
    return told


@MODES
def test_what_is_appended_becomes_durable_and_is_told(tmp_path: Path, mode: Mode) -> None:
    node = Node(tmp_path, mode)
    node.until_durable(node.write(1))
    node.until_durable(node.write(2))
    assert node.committer.disk_age() == 0
    node.close()
    again = Engine.open(str(tmp_path), Files(), options())
    assert again.tablets[1].last == 2
    again.close()


@MODES
def test_all_that_waits_goes_out_in_one_sync(tmp_path: Path, mode: Mode) -> None:
    node = Node(tmp_path, mode, segment_size=1 << 20)
    node.until_durable(node.write(1))
    before = node.files.syncs
    lsn = [node.write(number) for number in range(2, 102)][-1]
    node.until_durable(lsn)
    assert node.files.syncs - before <= 2
    node.close()


def test_in_a_thread_a_stalled_disk_does_not_stop_the_loop_and_shows_in_its_age(tmp_path: Path) -> None:
    """Trap 5: the node goes on to send heartbeats, and they say that its disk does not answer."""
    node = Node(tmp_path, Mode.THREAD)
    node.until_durable(node.write(1))
    node.files.stall = 2.0
    lsn = node.write(2)
    while node.committer.disk_age() < 0.15:
        assert node.durable < lsn, "the loop stood still until the disk answered"
        gevent.sleep(0.005)
    node.until_durable(lsn)
    node.files.stall = 0
    node.close()


def test_the_kernels_sync_of_a_stalled_disk_does_not_stop_the_loop(tmp_path: Path) -> None:
    """Trap 5, as nodes run: what came meanwhile goes out in the next sync, and quick syncs are waited for again."""
    node = Node(tmp_path, Mode.KERNEL)
    node.until_durable(node.write(1))
    node.files.kernel.stalled = True
    node.write(2)
    while node.committer.disk_age() < 0.15:
        gevent.sleep(0.005)
    last = node.write(3)
    assert node.engine.tablets[1].last == 3
    syncs, age = node.files.syncs, node.committer.disk_age()
    ages: list[float] = []

    def durable(lsn: int) -> None:
        ages.append(node.committer.disk_age())
        node._durable(lsn)

    node.committer._on_durable = durable
    node.files.kernel.go_on()
    node.until_durable(last)
    assert node.files.syncs == syncs + 2
    assert ages[0] < age, "a busy log is not a stalled one"
    assert node.committer.disk_age() == 0
    node.until_durable(node.write(4))
    node.close()


def test_what_came_during_a_slow_sync_follows_without_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvstore.storage.commit.IDLE_MARK", 3600.0)
    node = Node(tmp_path, Mode.KERNEL)
    node.until_durable(node.write(1))
    node.files.kernel.stalled = True
    node.write(2)
    gevent.sleep(0.01)
    last = node.write(3)
    node.files.kernel.go_on()
    node.until_durable(last)
    assert not node.engine.wal.waiting
    node.close()


def test_a_slow_sync_of_a_batch_over_several_segments_is_told_of_when_all_is_on_disk(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", Mode.KERNEL, segment_size=16384)
    node.until_durable(node.write(1))
    node.files.kernel.stalled = True
    for number in range(2, 400):
        last = node.write(number)
    gevent.sleep(0.01)
    node.files.kernel.go_on()
    node.until_durable(last)
    shutil.copytree(tmp_path / "node", tmp_path / "as killed now")
    again = Engine.open(str(tmp_path / "as killed now"), Files(), options(segment_size=16384))
    assert again.tablets[1].last == 399
    assert len(again.wal.folder.segments) > 2
    again.abandon()
    node.close()


@MODES
def test_a_large_group_and_small_ones_become_durable_alike(
    tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvstore.storage.commit.LARGE_GROUP", 1000)
    node = Node(tmp_path, mode, segment_size=1 << 20)
    number = 0
    for size in (1, 20, 1, 40, 1):
        for _ in range(size):
            number += 1
            last = node.write(number)
        node.until_durable(last)
    assert node.durable == node.engine.wal.synced >= last
    node.close()


@MODES
def test_to_stop_is_to_sync_what_waits(tmp_path: Path, mode: Mode) -> None:
    node = Node(tmp_path, mode)
    node.until_durable(node.write(1))
    last = node.write(2)
    node.committer.stop()
    assert node.durable >= last
    assert not node.engine.wal.waiting
    node.engine.abandon()


@MODES
def test_between_two_syncs_the_loop_comes_round(tmp_path: Path, mode: Mode) -> None:
    """Or heartbeats would wait while each sync lets the next write in."""
    node = Node(tmp_path, mode)
    node.until_durable(node.write(1))
    loop = gevent.get_hub().loop
    rounds: list[int] = []
    done = Event()

    def again(lsn: int) -> None:
        rounds.append(loop.iteration)
        if len(rounds) < 20:
            loop.run_callback(node.write, len(rounds) + 2)
        else:
            done.set()

    node.committer._on_durable = again
    node.write(2)
    assert done.wait(10)
    assert len(set(rounds)) == len(rounds)
    node.close()


@MODES
def test_a_log_that_found_no_room_goes_on_when_there_is_some(
    tmp_path: Path, mode: Mode, unexpected: list[object]
) -> None:
    node = Node(tmp_path, mode, segment_size=16384)
    node.until_durable(node.write(1))
    last = node.fill_up()
    assert node.durable < last
    assert node.committer.disk_age() == 0, "a full disk is not a stalled one"
    node.files.full = False
    node.until_durable(last)
    assert node.failures == unexpected == []
    node.close()


@MODES
def test_what_is_appended_while_it_stops_is_synced_or_left_alone(
    tmp_path: Path, mode: Mode, unexpected: list[object]
) -> None:
    """A node that leaves still hears from its peers."""
    node = Node(tmp_path, mode)
    node.until_durable(node.write(1))
    loop = gevent.get_hub().loop

    def another(lsn: int) -> None:
        if node.engine.tablets[1].last < 4:
            loop.run_callback(node.write, node.engine.tablets[1].last + 1)

    node.committer._on_durable = another
    node.write(2)
    with gevent.Timeout(10):
        node.committer.stop()
    assert node.engine.tablets[1].last == 4
    assert not node.engine.wal.waiting
    syncs = node.files.syncs
    node.write(5)
    gevent.sleep(0.01)
    assert node.files.syncs == syncs
    assert unexpected == []
    node.engine.abandon()


@MODES
def test_a_log_that_finds_no_room_can_be_stopped(tmp_path: Path, mode: Mode) -> None:
    node = Node(tmp_path, mode, segment_size=16384)
    node.until_durable(node.write(1))
    node.fill_up()
    with gevent.Timeout(10):
        node.committer.stop()
    assert node.engine.wal.waiting
    node.engine.abandon()


@MODES
def test_a_failed_fsync_is_told_once_and_everything_after_is_refused(
    tmp_path: Path, mode: Mode, unexpected: list[object]
) -> None:
    node = Node(tmp_path, mode)
    node.until_durable(node.write(1))
    node.files.broken = True
    node.write(2)
    assert node.failed.wait(10)
    node.files.broken = False
    syncs = node.files.syncs
    with pytest.raises(StorageFailure):
        node.write(3)
    node.committer.wake()
    gevent.sleep(0.01)
    assert len(node.failures) == 1
    assert unexpected == []
    assert node.files.syncs == syncs
    with gevent.Timeout(10):
        node.committer.stop()
    assert node.durable < node.engine.wal.appended


@MODES
def test_an_idle_log_is_marked_once(tmp_path: Path, mode: Mode) -> None:
    """Then damage to the last record is told from a torn tail."""
    node = Node(tmp_path, mode)
    lsn = node.write(1)
    node.until_durable(lsn)
    node.until_durable(lsn + 1)
    marked = node.engine.wal.appended
    gevent.sleep(0.2)
    assert node.engine.wal.appended == marked
    node.close()


def test_background_work_goes_on_beside_writes_in_short_slices(tmp_path: Path) -> None:
    node = Node(tmp_path, Mode.LOOP, segment_size=16384, checkpoint_log=5_000)
    maintenance = Maintenance(node.engine, node.committer.wake, node.failures.append)
    maintenance.start()
    number = 0
    with gevent.Timeout(60):
        while node.engine.figures.checkpoints < 3 or node.engine.figures.segments_freed == 0:
            number += 1
            node.until_durable(node.write(number))
            node.engine.apply(1, number)
    assert node.engine.figures.longest_slice > 0
    maintenance.stop()
    expected = contents(node.engine)
    node.close()
    assert node.failures == []
    again = Engine.open(str(tmp_path), Files(), options(segment_size=16384))
    again.apply(1, number)
    assert contents(again) == expected
    again.close()


def test_background_work_that_finds_no_room_in_its_thread_is_tried_again(
    tmp_path: Path, unexpected: list[object]
) -> None:
    node = Node(tmp_path, Mode.KERNEL, spares=1)
    node.files.full = True
    maintenance = Maintenance(node.engine, node.committer.wake, node.failures.append)
    maintenance.start()
    with gevent.Timeout(10):
        while not node.engine.is_full:
            gevent.sleep(0.005)
        node.files.full = False
        while node.engine.wal.folder.spares < 1:
            gevent.sleep(0.005)
    assert node.failures == unexpected == []
    maintenance.stop()
    node.close()


def test_a_full_collection_with_many_cells_is_short(tmp_path: Path) -> None:
    import gc

    engine = Engine.open(str(tmp_path), Files(), options())
    engine.create_tablet(1, "", None, 1)
    for first in range(1, 50_000, 1000):
        batch = [put("row", f"{first + i:07d}", b"v") for i in range(1000)]
        new = entry(1, first // 1000 + 1, batch)
        engine.append_entry(1, new, 0)
        engine.apply(1, new.last)
    settle_collector()
    tracked = sum(
        len(block.cells) for block in engine.tablets[1].tablet.snapshot().blocks if gc.is_tracked(block.cells)
    )
    assert tracked == 0, "cells are of no type that the collector follows"
    engine.abandon()


def test_the_scrub_reads_in_a_thread_beside_writes_and_has_a_damaged_checkpoint_written_anew(tmp_path: Path) -> None:
    node = Node(tmp_path, Mode.LOOP, segment_size=16384, scrub_period=1.0)
    for number in range(1, 20):
        node.until_durable(node.write(number))
        node.engine.apply(1, number)
    run_to_end(node.engine, checkpoint(node.engine, node.engine.tablets[1]))
    damaged = Path(node.engine.checkpoint_path(1, 1))
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    maintenance = Maintenance(node.engine, node.committer.wake, node.failures.append)
    maintenance.start()
    with gevent.Timeout(60):
        while node.engine.figures.scrub_rounds < 2 or damaged.exists():
            number += 1
            node.until_durable(node.write(number))
            node.engine.apply(1, number)
    maintenance.stop()
    assert node.engine.figures.scrub_damages == 1
    expected = contents(node.engine)
    node.close()
    assert node.failures == []
    again = Engine.open(str(tmp_path), Files(), options(segment_size=16384))
    again.apply(1, number)
    assert (again.damage, contents(again)) == ([], expected)
    again.close()
