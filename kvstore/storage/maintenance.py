"""Runs an engine's background work under gevent, so gently that the event loop is never held for long.

After a step that took t seconds the greenlet sleeps at least `REST` times t; blocking calls run in a thread of their own;
compaction is held to a bandwidth. The longest step is in the engine's figures.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable

import gevent
from gevent.event import Event

from kvstore import settings
from kvstore.errors import StorageFailure
from kvstore.storage.engine import Engine
from kvstore.storage.failures import DiskFailed
from kvstore.storage.files import TOO_MANY_FILES
from kvstore.storage.segments import NO_ROOM
from kvstore.storage.upkeep import Job, next_job
from kvstore.worker import Worker

REST = 2.0
LEAST_REST = 0.0005
"""Seconds."""
IDLE = 0.25
"""Seconds between looks for something to do."""
COMPACTION_BANDWIDTH = 100 * settings.MIB
"""Bytes a second."""


class Maintenance:
    """One greenlet that does an engine's background work."""

    def __init__(
        self,
        engine: Engine,
        wake_log: Callable[[], None],
        on_failure: Callable[[StorageFailure], None],
        bandwidth: float = COMPACTION_BANDWIDTH,
    ) -> None:
        """`wake_log`: called after a step that may have appended to the log. `on_failure`: the disk is not to be trusted."""
        self._engine = engine
        self._wake_log = wake_log
        self._on_failure = on_failure
        self._bandwidth = bandwidth
        self._worker = Worker()
        self._stopping = Event()
        self._greenlet: gevent.Greenlet | None = None
        self.doing = ""
        """The job under way, for the console."""

    def start(self) -> gevent.Greenlet:
        """Begin; the greenlet, to be watched."""
        self._greenlet = gevent.spawn(self._run)
        return self._greenlet

    def stop(self) -> None:
        """End after the step under way; a job that is not finished is given up, and done anew some time."""
        self._stopping.set()
        if self._greenlet is not None:
            self._greenlet.join()
        self._worker.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._engine.look_at_space()
                found = next_job(self._engine)
                if found is None:
                    self._stopping.wait(IDLE)
                    continue
                self.doing, job = found
                with contextlib.closing(job):
                    self._drive(job)
                self.doing = ""
        except StorageFailure as failure:
            self._on_failure(failure)

    def _drive(self, job: Job) -> None:
        error: OSError | None = None
        while not self._stopping.is_set():
            moved = self._engine.figures.compacted_bytes
            begin = time.perf_counter()
            try:
                blocking = next(job) if error is None else job.throw(error)
            except StopIteration:
                return
            except OSError as raised:
                self._failed(raised)
                return
            finally:
                took = time.perf_counter() - begin
                self._engine.figures.longest_slice = max(self._engine.figures.longest_slice, took)
            if self._engine.wal.waiting:
                self._wake_log()
            error = self._in_thread(blocking) if blocking is not None else None
            moved = self._engine.figures.compacted_bytes - moved
            gevent.sleep(max(LEAST_REST, took * REST, moved / self._bandwidth))

    def _in_thread(self, blocking: Callable[[], None]) -> OSError | None:
        try:
            self._worker.call(blocking)
        except OSError as error:
            return error
        return None

    def _failed(self, error: OSError) -> None:
        if error.errno in NO_ROOM:
            self._engine.no_room()
            self._stopping.wait(IDLE)
            return
        if error.errno in TOO_MANY_FILES:
            self._stopping.wait(IDLE)  # given up, and done another time
            return
        raise DiskFailed(f"work on the data folder failed: {error}") from error


def settle_collector() -> None:
    """To be called once a server has loaded its data: what is there now will stay, and need not be looked at again.

    Cells are of no type that the collector follows, so later collections are short too.
    """
    gc.collect()
    gc.freeze()
    # a bundle of a few hundred writes is thousands of lists and tuples that are gone when it is answered: at the usual 700
    # the collector would look through them for nothing, several times for each bundle
    gc.set_threshold(20_000, 20, 20)
