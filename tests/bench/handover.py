"""How long a planned hand-over holds up requests: the slowest put and get of steady callers around each of many.

    python -m tests.bench.handover [--rounds 4] [--tablets 7] [--data-dir DIR]

Callers put and get small cells in seven tablets of a cluster of three nodes, one request after another with a pause in between.
In each round every node is disabled and enabled, then every node told to stop and started again, each as soon as the sets
are full; then leads go back by themselves. No request may fail. Prints the slowest request of each kind of hand-over, and of
quiet times, for the machine has pauses of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvstore import settings
from kvstore.client import Client
from kvstore.errors import StoreError
from tests.cluster import Store, StoreCluster
from tests.processes import ROOT, wait_for

PAUSE = 0.01
VALUE = bytes(150)
ROWS = 10
SETTLE = 0.7
"""Seconds after a hand-over that still belong to it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when it began and ended, by `time.monotonic`."""

    kind: str
    row: str
    begun: float
    ended: float

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.ended - self.begun) * 1000


class Traffic:
    """Two callers for each row, one that puts and one that gets, each in a thread of its own."""

    def __init__(self, client: Client, rows: list[str]) -> None:
        self._client = client
        self._stopping = threading.Event()
        self.calls: list[Call] = []
        self.errors: list[StoreError] = []
        self._threads = [
            threading.Thread(target=self._call, args=(kind, row), daemon=True)
            for row in rows
            for kind in ("put", "get")
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self.calls) > 10 * len(self._threads), "the first calls")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a call never ends"

    def _call(self, kind: str, row: str) -> None:
        number = 0
        while not self._stopping.wait(PAUSE):
            number += 1
            begun = time.monotonic()
            try:
                if kind == "put":
                    self._client.put(row, f"column{number % 10}", VALUE)
                else:
                    self._client.get(row, f"column{number % 10}")
            except StoreError as error:
                self.errors.append(error)
            self.calls.append(Call(kind, row, begun, time.monotonic()))

    def slowest(self, since: float, until: float) -> Call:
        """The slowest call that was on its way at some moment between the two."""
        return max(
            (call for call in self.calls if call.ended >= since and call.begun <= until), key=lambda call: call.ms
        )


def rows_of(cluster: Store) -> list[str]:
    """One row in each tablet, or in every so many-th of many."""
    found = [(tablet["start"] or "a") + ":x" for tablet in cluster.status()["tablets"]]
    return found[:: -(-len(found) // ROWS)]


def cut(cluster: StoreCluster, tablets: int) -> None:
    """Have a cluster that is not made yet begin with at least so many tablets."""
    plan = json.loads((cluster.folder / "creation.json").read_text())
    more = [f"e{number:03}" for number in range(tablets - len(plan["splits"]) - 1)]
    plan["splits"] = sorted([*plan["splits"], *more])
    (cluster.folder / "creation.json").write_text(json.dumps(plan))


class HandOvers:
    """The kinds of hand-over, on one cluster under traffic. Each leaves every set full."""

    def __init__(self, cluster: StoreCluster, traffic: Traffic) -> None:
        self._cluster, self._traffic = cluster, traffic
        self._admin = cluster.admin()
        self.slowest: dict[str, list[float]] = {}

    def close(self) -> None:
        """Close the connections."""
        self._admin.close()

    def _observe(self, kind: str, do: Callable[[], object]) -> None:
        since = time.monotonic()
        do()
        time.sleep(SETTLE)
        call = self._traffic.slowest(since, time.monotonic())
        self.slowest.setdefault(kind, []).append(call.ms)
        print(
            f"{kind:10s} {call.ms:7.1f} ms  {call.kind} {call.row} after {(call.begun - since) * 1000:.0f} ms",
            flush=True,
        )

    def quiet(self) -> None:
        """Nothing happens, for comparison."""
        self._observe("quiet", lambda: None)

    def disable(self, node: str) -> None:
        """Its roles move away, and back when it has caught up."""

        def drain() -> None:
            self._admin.disable(node)
            wait_for(lambda: self._state(node) == "disabled", f"{node} being drained")

        def fill() -> None:
            self._admin.enable(node)
            self._cluster.wait_until_whole()

        self._observe("disable", drain)
        self._observe("enable", fill)

    def restart(self, node: str) -> None:
        """As a supervisor does it: the process is told to stop, the coordinator is told when it has, it is started."""

        def stop() -> None:
            pid = self._cluster.pid(node)
            self._cluster.end(node)
            self._admin.process_exited(node, pid)

        def start() -> None:
            self._cluster.start(node)
            self._cluster.wait_until_whole()

        self._observe("stop", stop)
        self._observe("start", start)

    def go_back(self) -> None:
        """Wait until every tablet is led by the first in its order again."""

        def back() -> bool:
            return all(each["primary"] == each["replicas"][0] for each in self._admin.status()["tablets"])

        self._observe("hand-back", lambda: wait_for(back, "every lead going back", 60 + settings.LEAD_STEADY_MOST))

    def _state(self, node: str) -> str:
        return str(next(each["state"] for each in self._admin.status()["nodes"] if each["id"] == node))


def measure(cluster: StoreCluster, rounds: int) -> tuple[dict[str, list[float]], int, list[StoreError]]:
    """The slowest request of each hand-over by its kind, how many requests there were, and those that failed."""
    with cluster.client() as client, Traffic(client, rows_of(cluster)) as traffic:
        handovers = HandOvers(cluster, traffic)
        for _ in range(rounds):
            handovers.quiet()
            for node in cluster.names[1:]:
                handovers.disable(node)
            for node in cluster.names[1:]:
                handovers.restart(node)
            handovers.go_back()
        handovers.close()
        return handovers.slowest, len(traffic.calls), traffic.errors


def main(argv: list[str]) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.handover", description="Measure planned hand-overs.")
    parser.add_argument("--rounds", type=int, default=4, help="each with three of each kind")
    parser.add_argument("--tablets", type=int, default=0, help="so many (default: as a new cluster has)")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "var" / "bench", help="on the disk to be measured")
    options = parser.parse_args(argv)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="handover-", dir=options.data_dir))
    cluster = StoreCluster(folder)
    cut(cluster, options.tablets)
    try:
        cluster.start()
        cluster.wait_until_whole()
        slowest, calls, errors = measure(cluster, options.rounds)
    except BaseException:
        print(f"what the processes said is in {folder}", file=sys.stderr)
        raise
    finally:
        cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)
    for kind, found in slowest.items():
        figures = {
            "median_ms": round(statistics.median(found), 1),
            "worst_ms": round(max(found), 1),
            "times": len(found),
        }
        print(json.dumps({"name": f"handover_{kind}", **figures}))
    print(f"{calls:,} requests, {len(errors)} failed")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
