"""`make bench`: PennCloud beside what a user would pick instead, on one disk, in one run.

One system runs at a time, and the systems take turns in rounds, so that whatever else the machine does hits all alike; what
counts is the median of the rounds. Figures go to `var/bench/cluster.jsonl`, table and plot into `docs/`.

    make bench ARGS="--rounds 5 --seconds 4 --peers ../shared/peers --peers-python /opt/peers/bin/python"

Only the peers that are installed take part. The peers' Python clients want packages that PennCloud does not: keep them in a
virtual environment of their own, and name its Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench import report
from tests.bench.failover import measure_failovers
from tests.bench.figures import CASES, Case, Figure, medians, write
from tests.bench.peers import System, Tools, all_peers
from tests.bench.penncloud import PennCloud
from tests.processes import ROOT

FIGURES = ROOT / "var" / "bench" / "cluster.jsonl"


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure PennCloud and its peers.")
    parser.add_argument("--rounds", type=int, default=3, help="each system takes so many turns")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case and turn")
    parser.add_argument("--cases", default="", help="names parted by commas; all, if none is given")
    parser.add_argument("--systems", default="", help="names parted by commas; all, if none is given")
    parser.add_argument("--failovers", type=int, default=5, help="so many kills, and so many hangs, of the primary")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "var" / "bench", help="on the disk to be measured")
    parser.add_argument("--turns", type=int, default=0, help="all run at once, and take so many turns with each case")
    parser.add_argument("--no-docs", action="store_true", help="print the table, leave docs/ as it is")
    peers = os.environ.get("PENNCLOUD_PEERS", ROOT.parent / "shared" / "peers")
    parser.add_argument("--peers", type=Path, default=peers, help="the folder of the peers' programs")
    python = os.environ.get("PENNCLOUD_PEERS_PYTHON", sys.executable)
    parser.add_argument("--peers-python", default=python, help="a Python that has the peers' clients")
    return parser.parse_args(argv)


def turn(system: System, cases: list[Case], seconds: float) -> list[Figure]:
    """One round of one system, by itself on the machine."""
    found = []
    system.start()
    try:
        for case in cases:
            figure = system.measure(case, seconds)
            if figure is not None:
                found.append(figure)
                print(f"  {system.system:10s} {case.name:18s} {figure.value:9.0f} {figure.unit}", flush=True)
    finally:
        system.stop()
    return found


def select(wanted: str, cases: tuple[Case, ...]) -> list[Case]:
    names = wanted.split(",") if wanted else [case.name for case in cases]
    return [case for case in cases if case.name in names]


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Figure], dict[str, str]]:
    """All figures, and why which peers are not among them."""
    penncloud = PennCloud(folder / "penncloud")
    data = folder / "peers"
    data.mkdir()
    data.chmod(0o777)  # PostgreSQL runs as a user of its own
    tools = Tools(options.peers.resolve(), options.peers_python, data)
    wanted = options.systems.split(",") if options.systems else None
    systems = [system for system in (penncloud, *all_peers(tools)) if wanted is None or system.system in wanted]
    skipped = {system.system: reason for system in systems if (reason := system.missing())}
    for name, reason in skipped.items():
        print(f"  {name} is left out: {reason}", flush=True)
    systems = [system for system in systems if system.system not in skipped]
    cases = select(options.cases, CASES)
    if options.turns:
        in_turns(systems, cases, options.seconds, options.turns)
        return [], skipped
    found = []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        for system in systems:
            found += turn(system, cases, options.seconds)
    result = medians(found)
    if options.failovers and penncloud in systems:
        penncloud.start()
        try:
            result += measure_failovers(penncloud, options.failovers)
        finally:
            penncloud.stop()
    return result, skipped


def in_turns(systems: list[System], cases: list[Case], seconds: float, turns: int) -> None:
    """All systems run, and one after the other is measured, case by case: a minute in which the machine is slow hits all.
    Prints the median of each, and of the ratios of the first one to it within a turn."""
    if {"redis", "redis_c"} <= {system.system for system in systems}:
        raise SystemExit("redis and redis_c are clients of one server: name one of them in --systems")
    with ExitStack() as running:
        for system in systems:
            running.callback(system.stop)
            system.start()
        for case in cases:
            found = [[system.measure(case, seconds) for system in systems] for _ in range(turns)]
            for number, system in enumerate(systems):
                pairs = [(turn[0], turn[number]) for turn in found]
                ratios = [
                    first.value / figure.value for first, figure in pairs if first is not None and figure is not None
                ]
                values = [figure.value for _, figure in pairs if figure is not None]
                if ratios:
                    ratio = f"{systems[0].system} {median(ratios):.2f} x it"
                    print(
                        f"  {system.system:10s} {case.name:18s} {median(values):9.0f} {case.unit}, {ratio}", flush=True
                    )


def main(argv: list[str]) -> int:
    options = arguments(argv)
    options.data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.data_dir))
    folder.chmod(0o755)
    try:
        figures, skipped = measure(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.turns:
        return 0
    write(FIGURES, figures)
    print(report.table(figures))
    if not options.no_docs:
        report.into_docs(figures, skipped, options.rounds, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
