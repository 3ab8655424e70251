"""A node comes back: how long it takes, what is transferred, and what the clients notice.

    make bench ARGS="recovery --cells 1000000 --missed 10000"

Three nodes; `--cells` cells of 150 B in one tablet. A secondary is killed; `--missed` cells, picked at random over the whole
tablet, are written or (one in ten) deleted; then it is started again, while clients put and get without pause. Told are the
time until it is a member again, what it compared and copied (its own count, as the console shows it), the bytes that its
connection to the primary brought (the kernel's count), and the clients' throughput meanwhile, and when all three were there.
The table goes into `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvstore.client import Batch, Client
from tests.bench.figures import COLUMN, SMALL, row
from tests.bench.report import put_into_page
from tests.cluster import StoreCluster
from tests.processes import ROOT, wait_for

BATCH = 400
BEFORE = 5.0
"""Seconds of load with all three nodes, before one is killed; the first of them does not count."""
PUTTERS, GETTERS = 16, 4


@dataclass(slots=True)
class Recovery:
    """What was seen of one recovery."""

    seconds: float = 0.0
    received: int = 0
    recovery: dict[str, Any] = field(default_factory=dict)
    shown: int = 0
    """How many different states of its progress the status showed."""
    before: list[dict[str, float]] = field(default_factory=list)
    meanwhile: list[dict[str, float]] = field(default_factory=list)


def in_batches(client: Client, numbers: Iterable[int], change: Callable[[Batch, int], object]) -> None:
    """Apply `change` for every number, in batches, eight at a time."""
    pending = list(numbers)

    def apply(begin: int) -> None:
        batch = Batch()
        for number in pending[begin : begin + BATCH]:
            change(batch, number)
        client.apply(batch, timeout=60.0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(apply, range(0, len(pending), BATCH)))


def received(pid: int, port: int) -> int:
    """Bytes that the process's connections to a port of this machine have brought, as the kernel counts them."""
    told = subprocess.run(
        ["ss", "-tinpH", "dst", f"127.0.0.1:{port}"], capture_output=True, text=True, check=True
    ).stdout
    sockets = re.findall(rf"pid={pid},.*\n.*?bytes_received:(\d+)", told)
    return sum(map(int, sockets))


class Load:
    """`tests.bench.steady` beside it all."""

    def __init__(self, cluster: StoreCluster, cells: int) -> None:
        command = [sys.executable, "-m", "tests.bench.steady", cluster.coordinators, str(cluster.key_file)]
        self._process = subprocess.Popen(
            [*command, str(cells), str(PUTTERS), str(GETTERS)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def stop(self) -> list[dict[str, float]]:
        """Every line that it told."""
        told, _ = self._process.communicate()
        return [json.loads(line) for line in told.splitlines()]


def recover(cluster: StoreCluster, cells: int, missed: int) -> Recovery:
    """Take a secondary away, let it miss something, and bring it back."""
    client = cluster.client()
    found = Recovery()
    load = Load(cluster, cells)
    time.sleep(BEFORE)
    found.before = load.stop()[4:]
    tablet = cluster.tablet_of(row(0))
    away = next(name for name in tablet["in_sync"] if name != tablet["primary"])
    cluster.kill(away)
    wait_for(lambda: away not in cluster.tablet_of(row(0))["in_sync"], f"{away} leaving the set")
    value = bytes(SMALL)
    picked = random.sample(range(cells), missed)
    in_batches(client, picked[missed // 10 :], lambda batch, number: batch.put(row(number), COLUMN, value))
    in_batches(client, picked[: missed // 10], lambda batch, number: batch.delete(row(number), COLUMN))
    load = Load(cluster, cells)
    started = time.monotonic()
    cluster.start(away)
    try:
        _watch(cluster, away, tablet["primary"], found)
    finally:
        ended = time.monotonic()
        told = load.stop()
        client.close()
    found.seconds = ended - started
    found.meanwhile = [line for line in told[2:] if line["at"] <= ended]  # the load takes a moment to be under way
    return found


def _watch(cluster: StoreCluster, away: str, primary: str, found: Recovery) -> None:
    """Look at the status until `away` is a member again."""
    port = cluster.port + cluster.names.index(primary)
    admin = cluster.admin()
    states: set[str] = set()

    def member() -> bool:
        tablets = admin.status()["tablets"]
        tablet = next(each for each in tablets if each["start"] <= row(0) and (not each["end"] or row(0) < each["end"]))
        for part in tablet["recovery"]:
            if part["node"] == away:
                found.recovery = part
                states.add(json.dumps(part))
        found.received = max(found.received, received(cluster.pid(away), port))
        return away in tablet["in_sync"]

    try:
        wait_for(member, f"{away} coming back", 600.0)
    finally:
        found.shown = len(states)
        admin.close()


def _rate(lines: list[dict[str, float]], what: str) -> float:
    return statistics.mean(line[what] for line in lines) / 0.25 if lines else 0.0


def _least(lines: list[dict[str, float]], what: str) -> float:
    """Of any second."""
    sums = [sum(line[what] for line in lines[at : at + 4]) for at in range(max(1, len(lines) - 3))]
    return min(sums, default=0.0)


def table(found: Recovery, cells: int, missed: int) -> str:
    """As Markdown."""
    before, meanwhile = found.before, found.meanwhile
    part = found.recovery
    errors = sum(line["errors"] for line in before + meanwhile)
    slowest = max((line["slowest_get_ms"] for line in meanwhile), default=0.0)
    return "\n".join(
        [
            f"| a node that missed {missed:,} of {cells:,} cells | |",
            "| --- | ---: |",
            f"| a member again after, s | {found.seconds:.1f} |",
            f"| brought by its connection to the primary, MB | {found.received / 1e6:.1f} |",
            f"| cells compared | {part.get('cells_done', 0):,} |",
            f"| cells copied | {part.get('cells_copied', 0):,} |",
            f"| values copied, MB | {part.get('bytes_done', 0) / 1e6:.1f} |",
            f"| puts a second with all three, meanwhile (least of any second) | {_rate(before, 'puts'):,.0f},"
            f" {_rate(meanwhile, 'puts'):,.0f} ({_least(meanwhile, 'puts'):,.0f}) |",
            f"| gets a second with all three, meanwhile (least of any second) | {_rate(before, 'gets'):,.0f},"
            f" {_rate(meanwhile, 'gets'):,.0f} ({_least(meanwhile, 'gets'):,.0f}) |",
            f"| slowest get meanwhile, ms | {slowest:.0f} |",
            f"| errors of clients | {errors:.0f} |",
            f"| different states of its progress that the status showed | {found.shown} |",
        ]
    )


def main(argv: list[str]) -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=recovery", description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--missed", type=int, default=10_000)
    parser.add_argument("--data-dir", type=Path, default=ROOT / "var" / "bench", help="on the disk to be measured")
    parser.add_argument("--no-docs", action="store_true", help="print the table, leave docs/ as it is")
    options = parser.parse_args(argv)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="recovery-", dir=options.data_dir))
    try:
        cluster = StoreCluster(folder)
        cluster.start()
        try:
            cluster.wait_until_whole()
            client = cluster.client()
            value = bytes(SMALL)
            in_batches(client, range(options.cells), lambda batch, number: batch.put(row(number), COLUMN, value))
            client.close()
            found = recover(cluster, options.cells, options.missed)
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    told = table(found, options.cells, options.missed)
    print(told)
    if not options.no_docs:
        put_into_page("recovery", told)
    return 0
