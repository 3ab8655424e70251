"""PennCloud as the benchmark meets it: a coordinator and three nodes, and the product's own client in one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.figures import CASES, Case, Figure, figure, row
from tests.cluster import StoreCluster
from tests.processes import ROOT

LARGE_PUTS = next(case for case in CASES if case.name == "put_4mib_4")
PREPARATION = 6.0
"""Seconds."""


class PennCloud:
    """The cluster's data lives through all rounds. Before the first, large values are written until the log has gone round:
    from then on its segments are written over, as in a node that has been in use. (The ceiling fills its log in advance.)"""

    system = "penncloud"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.cluster = StoreCluster(folder)
        self._prepared = False

    def missing(self) -> str:
        """Nothing is: it is what this repository holds."""
        return ""

    def start(self) -> None:
        self.cluster.start()
        self.cluster.wait_until_whole()
        if not self._prepared:
            self.run(LARGE_PUTS, PREPARATION)
            self._prepared = True

    def stop(self) -> None:
        self.cluster.stop()

    def measure(self, case: Case, seconds: float) -> Figure:
        """One round of a case."""
        found = self.run(case, seconds)
        return figure(self.system, case, found["per_second"], found["p50_ms"], found["p99_ms"])

    def run(self, case: Case, seconds: float, *pids: int) -> dict[str, float]:
        """What `tests.bench.load` prints."""
        connections = 1 if case.shared else case.callers
        numbers = (case.callers, case.size, seconds, case.keys, connections, *pids)
        command = [sys.executable, "-m", "tests.bench.load", self.cluster.coordinators, str(self.cluster.key_file)]
        command += [case.operation, *map(str, numbers)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120 + seconds)
        if done.returncode:
            raise RuntimeError(f"the load failed: {done.stderr}")
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def primary(self) -> str:
        """The node that leads the tablet in which the benchmark's rows lie."""
        name: str = self.cluster.tablet_of(row(0))["primary"]
        return name
