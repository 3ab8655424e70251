"""How long a replica takes to move, and how long that holds up requests: the slowest put and get of steady callers meanwhile.

    make bench ARGS="moving [--chunks 64] [--data-dir DIR]"

Four nodes, seven tablets of three replicas, and callers as in `tests.bench.handover`. Of each tablet a secondary's replica
moves to the node that has none, then the primary's; then the same of the tablet that holds `chunks` values of 4 MiB. Nothing
moves by itself meanwhile. No request may fail. Prints seconds that the moves took, and the slowest request around each.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.bench.handover import SETTLE, Traffic, rows_of
from tests.cluster import StoreCluster
from tests.processes import ROOT, wait_for

CHUNK = 4 << 20
LARGE = "bob:drive:file:f:"
"""Prefix of the rows that hold the chunks."""


class Moves:
    """Moves on one cluster under traffic, and what they cost."""

    def __init__(self, cluster: StoreCluster, traffic: Traffic) -> None:
        self._cluster, self._traffic = cluster, traffic
        self._admin = cluster.admin()
        self.took: dict[str, list[float]] = {}
        """Seconds."""
        self.slowest: dict[str, list[float]] = {}
        """Milliseconds."""

    def close(self) -> None:
        """Close the connections."""
        self._admin.close()

    def _replicas(self, tablet: int) -> tuple[list[str], str]:
        found = next(each for each in self._admin.status()["tablets"] if each["id"] == tablet)
        return found["replicas"], found["primary"]

    def move(self, kind: str, tablet: int, *, leads: bool) -> None:
        """Move the primary's replica, or that of another, to the node that has none."""
        replicas, primary = self._replicas(tablet)
        source = next(name for name in replicas if (name == primary) == leads)
        target = next(name for name in self._cluster.names[1:] if name not in replicas)
        since = time.monotonic()
        self._admin.move(tablet, source, target)
        wait_for(lambda: source not in self._replicas(tablet)[0], "the move", 120)
        self.took.setdefault(kind, []).append(time.monotonic() - since)
        self._observe(kind, since)

    def quiet(self) -> None:
        """Nothing moves for a while."""
        self._observe("quiet", time.monotonic())

    def _observe(self, kind: str, since: float) -> None:
        time.sleep(SETTLE)  # what it sets going belongs to it
        self.slowest.setdefault(kind, []).append(self._traffic.slowest(since, time.monotonic()).ms)


def measure(cluster: StoreCluster, chunks: int) -> Moves:
    """All of the above on a cluster that is whole. `chunks`: values of 4 MiB in one of the tablets."""
    with closing(cluster.admin()) as admin, cluster.client() as client:
        admin.spread(False)
        for number in range(chunks):
            client.put(f"{LARGE}{number:05}", "chunk", bytes([number % 256]) * CHUNK)
        large = cluster.tablet_of(LARGE)["id"]
        others = [tablet["id"] for tablet in cluster.status()["tablets"] if tablet["id"] != large]
        with Traffic(client, rows_of(cluster)) as traffic:
            moves = Moves(cluster, traffic)
            for tablet in others:
                moves.quiet()
                moves.move("a secondary's", tablet, leads=False)
            for tablet in others:
                moves.move("the primary's", tablet, leads=True)
            moves.move("a secondary's, large", large, leads=False)
            moves.move("the primary's, large", large, leads=True)
            moves.close()
        assert traffic.errors == [], traffic.errors[:3]
    return moves


def main(argv: list[str]) -> int:
    """Run it and print; the exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--data-dir", default=str(ROOT / "var" / "bench"))
    options = parser.parse_args(argv)
    Path(options.data_dir).mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="moving-", dir=options.data_dir)
    cluster = StoreCluster(Path(folder), nodes=4)
    try:
        cluster.start()
        cluster.wait_until_whole()
        moves = measure(cluster, options.chunks)
    finally:
        cluster.stop()
        shutil.rmtree(folder)
    for kind, slowest in moves.slowest.items():
        took = moves.took.get(kind)
        seconds = f"took {statistics.median(took):.2f} s, at most {max(took):.2f} s; " if took else ""
        print(f"{kind:22} {seconds}slowest request {statistics.median(slowest):.1f} ms, at worst {max(slowest):.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
