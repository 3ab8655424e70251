"""Group commit under gevent: one greenlet that drives the log to the disk.

Everything that was appended while the last sync ran goes out in the next one. Three modes, a setting (`settings.LOG_SYNC`):

- `kernel`: the write is made in the loop (it goes into the page cache), the fdatasync by the kernel
  (`kvstore.storage.kernelsync`). The loop waits for it `PATIENCE` at most, then goes on. Large groups are written in a thread,
  so that copying them does not hold the loop. Falls back to `thread` where the kernel does not offer it.
- `loop`: write and fdatasync are called in the event loop. Nothing is lost in handing over; a stalled disk stalls the loop with
  it, and heartbeats with that.
- `thread`: they run in one thread, and the loop goes on meanwhile; coming back beside a busy loop takes a switch interval.

`docs/storage.md` has what each costs. With each, `disk_age` tells for how long the log has been wanting to reach the disk.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.socket import wait_read
from gevent.threadpool import ThreadPool

from kvstore import clock, settings
from kvstore.errors import NoSpace, StorageFailure
from kvstore.storage.engine import Engine
from kvstore.storage.kernelsync import KernelSync
from kvstore.storage.wal import Batch

PATIENCE = 0.002
"""Seconds for which the loop waits for the kernel's sync before it goes on with other things."""
LARGE_GROUP = 1 * settings.MIB
"""Bytes from which a group is written in the thread: copying 4 MiB into the page cache takes about a millisecond."""
IDLE_MARK = 0.05
"""Nothing appended for this many seconds: a mark is logged, so that damage to the last record is told from a torn tail."""
TURN = 1e-6
"""Seconds that let the event loop come round once, sockets and timers included. A sleep of 0 does not: the loop then runs what
is ready over and over and looks at the clock only after dozens of rounds, each with a sync in it; heartbeats came 2 s late."""
NO_SPACE_PAUSE = 0.2
"""Seconds between attempts to go on after the disk had no room."""


class Mode(enum.Enum):
    """Who writes and syncs the log."""

    KERNEL = "kernel"
    LOOP = "loop"
    THREAD = "thread"


class GroupCommitter:
    """Syncs an engine's log whenever something waits in it."""

    def __init__(
        self,
        engine: Engine,
        on_durable: Callable[[int], None],
        on_failure: Callable[[StorageFailure], None],
        mode: Mode | None = None,
    ) -> None:
        """`on_durable(lsn)` after each sync, in the loop; `on_failure` once: the log refuses everything after that.

        `mode`: as `settings.LOG_SYNC` says, if it is not given.
        """
        mode = mode or Mode(settings.LOG_SYNC)
        self._kernel = engine.files.kernel_sync() if mode is Mode.KERNEL else None
        self._wal = engine.wal
        self._engine = engine
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._pool = None if mode is Mode.LOOP else ThreadPool(1)
        self._event = Event()
        self._wanting_since: float | None = None
        self._marked = False
        self._quick = True
        """Whether the disk answered the last time within `PATIENCE`."""
        self._stopping = False
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> gevent.Greenlet:
        """Begin; the greenlet, to be watched."""
        self._greenlet = gevent.spawn(self._run)
        return self._greenlet

    def stop(self) -> None:
        """Sync what waits, then end. Waits for that."""
        self._stopping = True
        self._event.set()
        if self._greenlet is not None:
            self._greenlet.join()
        if self._pool is not None:
            self._pool.kill()
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def wake(self) -> None:
        """Something was appended."""
        if self._wanting_since is None:
            self._wanting_since = clock.now()
        self._event.set()

    def disk_age(self) -> float:
        """For how many seconds the log has had something to write, or been writing, without a sync coming to its end."""
        since = self._wanting_since
        return 0.0 if since is None else clock.now() - since

    def _run(self) -> None:
        try:
            while not self._stopping or self._wal.waiting:
                self._event.wait(None if self._marked else IDLE_MARK)
                if not self._event.is_set() and not self._wal.waiting:
                    self._marked = True
                    self._wal.mark()
                    self._sync()
                    continue
                self._event.clear()
                gevent.sleep(0)  # let what was put down to be sent leave first
                while self._wal.waiting:
                    self._marked = False
                    self._sync()
        except StorageFailure as error:
            # a failed fsync is never tried again: what is on disk now, nobody knows
            self._on_failure(error)

    def _sync(self) -> None:
        if self._wanting_since is None:
            self._wanting_since = clock.now()
        try:
            batch = self._wal.take()
            if self._pool is None:
                self._wal.write(batch)
            elif self._kernel is None or batch.bytes > LARGE_GROUP:
                self._pool.apply(self._wal.write, (batch,))
            else:
                self._write_with(self._kernel, batch)
        except NoSpace:
            self._engine.no_room()
            self._wanting_since = None  # a full disk is not a stalled one
            gevent.sleep(NO_SPACE_PAUSE)
            return
        lsn = self._wal.written(batch)
        self._wanting_since = clock.now() if self._wal.waiting else None
        self._on_durable(lsn)
        gevent.sleep(TURN)  # nobody else may have run during the sync

    def _write_with(self, kernel: KernelSync, batch: Batch) -> None:
        """Write a batch; let the kernel sync it, and everybody else run meanwhile."""
        for fd in self._wal.writing(batch):
            try:
                begun = clock.now()
                kernel.begin(fd)
                # A sync is mostly done before the loop could come round. When the disk is slow, nobody waits for it here.
                while not kernel.wait(PATIENCE if self._quick else 0.0):
                    self._quick = False
                    wait_read(kernel.eventfd)
                self._quick = clock.now() - begun < PATIENCE
            except OSError as error:
                self._wal.sync_failed(error)
