"""Group commit under gevent: drives the log to the disk.

Everything that was appended while the last sync ran goes out in the next one. A sync of the ordinary kind is a callback of the
hub, for it happens thousands of times a second; what has to wait for something is done by a greenlet. Three modes, a setting
(`settings.LOG_SYNC`):

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
from collections.abc import Callable, Iterator

import gevent
from gevent.event import Event
from gevent.socket import wait_read

from kvstore import clock, settings
from kvstore.errors import NoSpace, StorageFailure
from kvstore.storage.engine import Engine
from kvstore.storage.wal import Batch
from kvstore.worker import Worker

PATIENCE = 0.002
"""Seconds for which the loop waits for the kernel's sync before it goes on with other things."""
LARGE_GROUP = 1 * settings.MIB
"""Bytes from which a group is written in the thread: copying 4 MiB into the page cache takes about a millisecond."""
IDLE_MARK = 0.025
"""Seconds between two looks. If nothing was appended meanwhile a mark is logged, so that damage to the last record is told from
a torn tail."""
TURN = 1e-6
"""Seconds that let the event loop come round once, sockets and timers included. A callback does not: the loop then runs what
is ready over and over and looks at the clock only after dozens of rounds, each with a sync in it; heartbeats came 2 s late."""
NO_SPACE_PAUSE = 0.2
"""Seconds between attempts to go on after the disk had no room."""


class Mode(enum.Enum):
    """Who writes and syncs the log."""

    KERNEL = "kernel"
    LOOP = "loop"
    THREAD = "thread"


class GroupCommitter:
    """Syncs an engine's log whenever something waits in it.

    at rest ──wake──▶ turn ──▶ synced, nothing waits ──▶ at rest
                       ▲ ╰───▶ synced, more waits ─╮
                       ╰──────── next iteration ───╯
    """

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
        self._worker = None if mode is Mode.LOOP else Worker()
        self._loop = gevent.get_hub().loop
        self._next_turn = self._loop.timer(TURN)
        self._when_there_is_room = self._loop.timer(NO_SPACE_PAUSE)
        self._look = self._loop.timer(IDLE_MARK, IDLE_MARK)
        self._busy = False
        """Whether a turn is under way, or will come by itself."""
        self._synced_in = -1
        """The iteration of the loop in which the last sync ended."""
        self._wanting_since: float | None = None
        self._marked = False
        self._syncs_seen = -1
        self._quick = True
        """Whether the disk answered the last time within `PATIENCE`."""
        self._out_of_room = False
        self._at_rest = Event()
        """Set when a turn has ended; for `stop`."""

    def start(self) -> None:
        """Begin."""
        self._look.start(self._mark_if_idle)

    def stop(self) -> None:
        """Sync what waits, then end. Waits for that, but not for room on a full disk."""
        self._look.close()
        if self._wal.waiting:
            self.wake()
        while self._busy and not self._out_of_room:  # others may append, and wake, meanwhile
            self._at_rest.clear()
            self._at_rest.wait()
        self._busy = True  # nothing begins from here on
        self._next_turn.close()
        self._when_there_is_room.close()
        if self._worker is not None:
            self._worker.close()
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def wake(self) -> None:
        """Something was appended. What was put down to be sent before this leaves first."""
        self._marked = False
        if self._wanting_since is None:
            self._wanting_since = clock.now()
        if not self._busy:
            self._busy = True
            self._loop.run_callback(self._turn)

    def disk_age(self) -> float:
        """For how many seconds the log has had something to write, or been writing, without a sync coming to its end."""
        since = self._wanting_since
        return 0.0 if since is None else clock.now() - since

    def _mark_if_idle(self) -> None:
        syncs = self._wal.figures.syncs
        if syncs == self._syncs_seen and not self._busy and not self._marked and self._wal.failure is None:
            self._wal.mark()
            self.wake()
            self._marked = True
        self._syncs_seen = syncs

    def _rest(self) -> None:
        self._busy = False
        self._wanting_since = None
        self._at_rest.set()

    # ------------------------------------------------------------------ one sync, in the hub

    def _turn(self) -> None:
        self._out_of_room = False
        if self._wal.failure is not None or not self._wal.waiting:
            self._rest()
        elif self._loop.iteration == self._synced_in:
            self._next_turn.start(self._turn)  # nobody else may have run since the last sync
        else:
            self._sync()

    def _sync(self) -> None:
        """Write what waits, and sync it; a greenlet goes on if that takes longer."""
        batch = self._wal.take()
        if self._worker is not None and (self._kernel is None or batch.bytes > LARGE_GROUP):
            gevent.spawn(self._finish, batch, self._write_in_thread)
        elif self._kernel is not None and not self._quick:
            gevent.spawn(self._finish, batch, self._write_and_wait)
        else:
            self._finish(batch, self._write_at_once)

    def _finish(self, batch: Batch, write: Callable[[Batch], bool]) -> None:
        """Have `batch` written, tell of it, and see to what comes next. `write` is False if another will finish it."""
        try:
            if not write(batch):
                return
            lsn = self._wal.written(batch)
        except NoSpace:
            self._engine.no_room()
            self._rest()  # a full disk is not a stalled one, and nobody who stops need wait for room
            self._busy = self._out_of_room = True
            self._when_there_is_room.start(self._turn)
            return
        except StorageFailure as error:
            # a failed fsync is never tried again: what is on disk now, nobody knows
            self._rest()
            self._on_failure(error)
            return
        self._synced_in = self._loop.iteration
        self._wanting_since = clock.now() if self._wal.waiting else None
        self._on_durable(lsn)
        if self._wal.waiting:
            self._next_turn.start(self._turn)
        else:
            self._rest()

    # ------------------------------------------------------------------ ways to write

    def _write_at_once(self, batch: Batch) -> bool:
        if self._kernel is None:
            self._wal.write(batch)
            return True
        descriptors = self._wal.writing(batch)
        for fd in descriptors:
            self._begin_sync(fd)
            # A sync is mostly done before the loop could come round. When the disk is slow, nobody waits for it here.
            if not self._sync_ended(PATIENCE):
                self._quick = False
                gevent.spawn(self._finish, batch, lambda _: self._wait_through(descriptors))
                return False
        return True

    def _write_and_wait(self, batch: Batch) -> bool:
        begun = clock.now()
        descriptors = self._wal.writing(batch)
        self._begin_sync(next(descriptors))
        self._wait_through(descriptors)
        self._quick = clock.now() - begun < PATIENCE
        return True

    def _wait_through(self, descriptors: Iterator[int]) -> bool:
        """Wait for the sync under way; write and sync what is left of its batch."""
        assert self._kernel is not None
        while True:
            while not self._sync_ended(0.0):
                wait_read(self._kernel.eventfd)
            fd = next(descriptors, None)
            if fd is None:
                return True
            self._begin_sync(fd)

    def _begin_sync(self, fd: int) -> None:
        assert self._kernel is not None
        try:
            self._kernel.begin(fd)
        except OSError as error:
            self._wal.sync_failed(error)

    def _sync_ended(self, patience: float) -> bool:
        assert self._kernel is not None
        try:
            return self._kernel.wait(patience)
        except OSError as error:
            self._wal.sync_failed(error)

    def _write_in_thread(self, batch: Batch) -> bool:
        assert self._worker is not None
        self._worker.call(self._wal.write, batch)
        return True
