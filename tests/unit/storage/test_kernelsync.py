"""Syncs that the kernel carries out: what interrupts the waiting, or signals late, is not the disk's failure."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.storage.kernelsync import KernelSync


class EndlessSync(KernelSync):
    """One that is begun and never done, as on a disk that hangs."""

    def begin(self, fd: int) -> None:
        self._busy = True


def made(kind: type[KernelSync]) -> KernelSync:
    """One of that kind; skips where the kernel offers none."""
    try:
        return kind()
    except OSError as error:
        pytest.skip(f"no asynchronous sync here: {error}")


@pytest.fixture
def interruptions() -> Iterator[None]:
    """This thread's system calls are interrupted again and again, as stopping, continuing and tracing a process do."""
    former = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    waiting, ended = threading.get_ident(), threading.Event()

    def interrupt() -> None:
        while not ended.wait(0.01):
            signal.pthread_kill(waiting, signal.SIGUSR1)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        yield
    finally:
        ended.set()
        interrupter.join()
        signal.signal(signal.SIGUSR1, former)


@pytest.mark.usefixtures("interruptions")
def test_an_interrupted_wait_says_not_yet() -> None:
    sync = made(EndlessSync)
    sync.begin(0)
    assert sync.wait(60.0) is False


@pytest.mark.usefixtures("interruptions")
def test_a_sync_ends_however_often_the_waiting_is_interrupted(tmp_path: Path) -> None:
    sync = made(KernelSync)
    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    for _ in range(20):
        os.pwrite(fd, b"x" * 100_000, 0)
        sync.begin(fd)
        while not sync.wait(1.0):
            pass
    os.close(fd)
    sync.close()


def signalled(sync: KernelSync, seconds: float) -> bool:
    return bool(select.select([sync.eventfd], [], [], seconds)[0])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_a_sync_is_waited_for_or_told_by_the_eventfd(file: int) -> None:
    sync = made(KernelSync)
    sync.begin(file)
    assert signalled(sync, 60.0)
    assert sync.wait(0.0)
    sync.close()


def test_a_sync_that_is_seen_before_its_signal_is_done(file: int) -> None:
    """The kernel first shows that the sync is done and then signals: on another processor the one may be seen alone."""
    sync = made(KernelSync)
    sync.begin(file)
    assert signalled(sync, 60.0)
    os.eventfd_read(sync.eventfd)
    assert sync.wait(60.0)
    sync.close()


class LateSync(KernelSync):
    """Of the first look nothing is seen: the sync ends between it and the taking of the signal."""

    looks = 0

    def _ended(self, seconds: float) -> bool:
        self.looks += 1
        return self.looks > 1 and super()._ended(seconds)


def test_a_sync_whose_signal_is_taken_away_is_looked_at_once_more(file: int) -> None:
    sync = made(LateSync)
    sync.begin(file)
    assert signalled(sync, 60.0)
    assert sync.wait(0.0), "nobody would be called again"
    sync.close()


def test_the_signal_of_a_former_sync_is_not_taken_for_the_next_ones() -> None:
    """It may come late, and is left where nobody waited for it."""
    sync = made(EndlessSync)
    os.eventfd_write(sync.eventfd, 1)
    sync.begin(0)
    assert not sync.wait(0.0)
    assert not signalled(sync, 0), "or whoever waits for it would go round and round"
    sync.close()
