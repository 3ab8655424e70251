"""Large values read from the primary alone, and from all in-sync replicas by turns.

    make bench ARGS="spread --rounds 5 --seconds 4"

Three nodes on one machine; one process with four callers gets 4 MiB values, and beside it one caller puts small values into
the same tablet, whose latency shows what is left of the primary. The two ways take turns. Told are MB/s, processor time for
each get (of the client, the primary, and a secondary), and the small puts' median and 99th percentile. The table goes into
`docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from kvstore.client import Client
from tests.bench.figures import COLUMN, LARGE, SMALL, Case
from tests.bench.load import percentile
from tests.bench.penncloud import PennCloud
from tests.bench.report import put_into_page
from tests.processes import ROOT

CASES = {
    "from the primary": Case("get_4mib_4", "get", 4, LARGE, 16, "MB/s", ""),
    "from all by turns": Case("get_4mib_4_spread", "get_spread", 4, LARGE, 16, "MB/s", ""),
}
QUIET = "nobody reads"


class Putter(threading.Thread):
    """Puts small values, one after another, into the tablet that is read, and notes how long each took."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._over = threading.Event()
        self.taken: list[float] = []

    def run(self) -> None:
        number = 0
        while not self._over.is_set():
            begun = time.perf_counter()
            self._client.put(f"bench:drive:small{number % 1000}", COLUMN, bytes(SMALL))
            self.taken.append(time.perf_counter() - begun)
            number += 1

    def stop(self) -> list[float]:
        """The times, in order of length."""
        self._over.set()
        self.join()
        return sorted(self.taken)


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one way. Processor times in milliseconds for each get, latencies in milliseconds."""

    megabytes: float
    client: float
    primary: float
    secondary: float
    p50: float
    p99: float


def turn(system: PennCloud, case: Case | None, seconds: float) -> Round:
    """Measure one way; None: nobody reads, only the small puts."""
    primary = system.primary()
    names = [primary, *(name for name in system.cluster.names[1:] if name != primary)]
    client = system.cluster.client()
    putter = Putter(client)
    putter.start()
    found: dict[str, object] = {"per_second": 0.0, "processor": 0.0, "servers": [0.0, 0.0, 0.0]}
    if case is None:
        time.sleep(seconds)
    else:
        found = dict(system.run(case, seconds, *(system.cluster.pid(name) for name in names)))
    taken = putter.stop()
    client.close()
    servers = found["servers"]
    assert isinstance(servers, list)
    return Round(
        float(str(found["per_second"])) * LARGE / 1e6,
        float(str(found["processor"])) / 1000,
        servers[0] / 1000,
        statistics.mean(servers[1:]) / 1000,
        percentile(taken, 0.5),
        percentile(taken, 0.99),
    )


def table(rounds: dict[str, list[Round]]) -> str:
    """Medians, as Markdown."""
    lines = [
        "| 4 MiB gets, 4 callers | MB/s | client, ms a get | primary, ms a get | each secondary, ms a get"
        " | small puts beside it, p50 (p99) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in rounds.items():
        megabytes, client, primary, secondary, p50, p99 = (
            statistics.median(getattr(each, field) for each in found) for field in Round.__slots__
        )
        puts = f"{p50:.1f} ms ({p99:.0f} ms)"
        if name == QUIET:
            lines.append(f"| {name} | – | – | – | – | {puts} |")
        else:
            processor = f"{client:.2f} | {primary:.2f} | {secondary:.2f}"
            lines.append(f"| {name} | {megabytes:,.0f} | {processor} | {puts} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=spread", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--data-dir", type=Path, default=ROOT / "var" / "bench", help="on the disk to be measured")
    parser.add_argument("--no-docs", action="store_true", help="print the table, leave docs/ as it is")
    options = parser.parse_args(argv)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="spread-", dir=options.data_dir))
    rounds: dict[str, list[Round]] = {QUIET: [], **{name: [] for name in CASES}}
    try:
        system = PennCloud(folder / "penncloud")
        system.start()
        try:
            for _ in range(options.rounds):
                for name, found in rounds.items():
                    found.append(turn(system, CASES.get(name), options.seconds))
        finally:
            system.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    told = table(rounds)
    print(told)
    if not options.no_docs:
        put_into_page("spread", f"Median of {options.rounds} rounds of {options.seconds:g} s.\n\n{told}")
    return 0
