"""How long an event loop is held by writes, scans, checkpoints and compaction at once.

    python -m tests.bench.pauses FOLDER CELLS

Two measures. A ticker sleeps a millisecond at a time: by how much does it come late? And the processor time that any greenlet
took between two switches: that one is the engine's own doing, whoever else uses the machine. The log is synced in a thread, so
that the disk's stalls are not counted.
"""

from __future__ import annotations

import json
import random
import sys
import time

import gevent
import greenlet

from kvstore.mutation import Entry, bundle_of, encode_mutation
from kvstore.storage.commit import GroupCommitter, Mode
from kvstore.storage.crc import crc32c
from kvstore.storage.engine import Engine, EngineOptions
from kvstore.storage.maintenance import Maintenance, settle_collector
from tests.bench.bench_engine import MIB, key_of

MOST_SECONDS = 120.0
"""It ends earlier when there were two checkpoints and something was compacted."""


class Load:
    """What goes on beside the ticker."""

    def __init__(self, folder: str, cells: int) -> None:
        sys.setswitchinterval(0.0005)
        options = EngineOptions(reserve=0, checkpoint_log=4 * MIB, replay_most=128 * MIB, dead_most=0.05)
        self.engine = Engine.open(folder, options=options)
        self.cells = cells
        self.stop = False
        self.committer = GroupCommitter(self.engine, lambda lsn: None, self.failed, Mode.THREAD)
        self.maintenance = Maintenance(self.engine, self.committer.wake, self.failed)
        self.longest = 0.0
        self.late: list[float] = []

    @staticmethod
    def failed(error: Exception) -> None:
        raise error

    def write(self) -> None:
        """Small puts, and values of 256 KiB that overwrite each other, so that there is something to compact."""
        chance = random.Random(1)
        value, large = chance.randbytes(150), chance.randbytes(256 * 1024)
        crc = crc32c(large)
        replica = self.engine.tablets[1]
        while not self.stop:
            operations: list[list[object]] = [[0, *key_of(chance.randrange(self.cells)), value] for _ in range(64)]
            operations.append([1, f"file:{chance.randrange(200)}", "chunk", len(large), crc])
            bundle = bundle_of(encode_mutation(7, replica.last, replica.last, [], operations), bulk=large)
            self.engine.append_entry(1, Entry(1, replica.last + 1, [bundle], [0]), replica.commit)
            self.committer.wake()
            while self.engine.wal.waiting and not self.stop:
                gevent.sleep(0.001)
            self.engine.apply(1, replica.last)
            gevent.sleep(0.004)

    def scan(self) -> None:
        """The whole tablet in pages of 500 cells, over and over; half a millisecond after each page the next is asked for. (One
        that never rests keeps the interpreter from the threads that write and sync: then no checkpoint comes to its end.)"""
        while not self.stop:
            for number, _ in enumerate(self.engine.tablets[1].tablet.scan()):
                if number % 500 == 0:
                    gevent.sleep(0.0005)
                    if self.stop:
                        return

    def watch_switches(self) -> None:
        """Note the longest processor time between two switches of greenlets."""
        last = time.thread_time()

        def switched(event: str, greenlets: object) -> None:
            nonlocal last
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now

        greenlet.settrace(switched)

    def tick(self) -> None:
        """Note by how much each millisecond is late."""
        while not self.stop:
            begin = time.perf_counter()
            gevent.sleep(0.001)
            self.late.append(time.perf_counter() - begin - 0.001)


def main(folder: str, cells: int) -> None:
    """Print one JSON object."""
    load = Load(folder, cells)
    settle_collector()
    load.committer.start()
    load.maintenance.start()
    load.watch_switches()
    jobs = [gevent.spawn(job) for job in (load.write, load.scan, load.tick)]
    figures = load.engine.figures
    begin = time.monotonic()
    while time.monotonic() - begin < MOST_SECONDS and not (
        figures.checkpoints >= 2 and figures.compacted_bytes > 32 * MIB
    ):
        gevent.sleep(0.5)
    greenlet.settrace(None)
    load.stop = True
    gevent.joinall(jobs, raise_error=True)
    load.maintenance.stop()
    load.committer.stop()
    if not (figures.checkpoints and figures.compacted_bytes):
        raise RuntimeError("no checkpoint or no compaction came to its end: there is nothing to measure")
    late = sorted(load.late)
    found = {
        "longest_pause_ms": late[-1] * 1000,
        "longest_run_ms": load.longest * 1000,
        "p999_ms": late[int(len(late) * 0.999)] * 1000,
        "longest_slice_ms": figures.longest_slice * 1000,
        "checkpoints": figures.checkpoints,
        "compacted_mb": figures.compacted_bytes / 1e6,
    }
    print(json.dumps(found))
    load.engine.append_commit(1, load.engine.tablets[1].commit)
    load.engine.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
