"""For how long writes stop when the node that leads dies or hangs: the longest time between two acknowledged writes of one
caller that writes without pause. Each failure is followed by the node's return to the full set."""

from __future__ import annotations

import itertools
import signal
import statistics
import threading
import time
from collections.abc import Callable

from kvstore.client import Client
from kvstore.errors import StoreError
from tests.bench.figures import COLUMN, FAILOVER, HANG, SMALL, Figure, row
from tests.bench.penncloud import PennCloud
from tests.processes import wait_for

STEADY = 300
"""Acknowledged writes before the failure, and after it."""


class Writer(threading.Thread):
    """Writes one cell after another, and notes when each was acknowledged."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._stopping = False
        self.acknowledged: list[float] = []
        self.errors: list[StoreError] = []

    def run(self) -> None:
        value = bytes(SMALL)
        number = 0
        while not self._stopping:
            try:
                self._client.put(row(number % 1000), COLUMN, value)
            except StoreError as error:
                self.errors.append(error)
                continue
            self.acknowledged.append(time.perf_counter())
            number += 1

    def wait_for_more(self) -> None:
        seen = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= seen + STEADY, f"{STEADY} acknowledged writes")

    def stop(self) -> None:
        self._stopping = True
        self.join()


def _gap(penncloud: PennCloud, fail: Callable[[str], None]) -> float:
    """Seconds without an acknowledged write, around one failure of the primary."""
    with penncloud.cluster.client() as client:
        writer = Writer(client)
        writer.start()
        writer.wait_for_more()
        before = len(writer.acknowledged)
        fail(penncloud.primary())
        writer.wait_for_more()
        writer.stop()
    if writer.errors:
        raise RuntimeError(f"writes failed: {writer.errors[0]}")
    times = writer.acknowledged[before - 1 :]
    return max(later - sooner for sooner, later in itertools.pairwise(times))


def _kill(penncloud: PennCloud) -> Callable[[str], None]:
    def fail(node: str) -> None:
        admin = penncloud.cluster.admin()
        pid = penncloud.cluster.pid(node)
        penncloud.cluster.kill(node)  # and reap, as the supervisor would
        admin.process_exited(node, pid)
        admin.close()

    return fail


def _hang(penncloud: PennCloud) -> Callable[[str], None]:
    return lambda node: penncloud.cluster.kill(node, signal.SIGSTOP)


def measure_failovers(penncloud: PennCloud, rounds: int) -> list[Figure]:
    """The median gap of so many kills, and of so many hangs."""
    found = []
    for name, fail in ((FAILOVER, _kill(penncloud)), (HANG, _hang(penncloud))):
        gaps = []
        for _ in range(rounds):
            node = penncloud.primary()
            gaps.append(_gap(penncloud, fail) * 1000)
            if name == HANG:
                penncloud.cluster.kill(node, signal.SIGCONT)
            penncloud.cluster.start()
            penncloud.cluster.wait_until_whole()
        found.append(Figure(penncloud.system, name, statistics.median(gaps), "ms", statistics.median(gaps), max(gaps)))
    return found
