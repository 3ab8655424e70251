"""Figures of the storage engine alone, on this machine's disk: `make bench-engine` (`ARGS="--large 20"`: 20 GB of chunks too).

Each figure is the median of several runs. One JSON object a line is appended to `var/bench/engine.jsonl`;
`docs/benchmarks-engine.md` and `docs/engine-growth.svg` are written anew.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kvstore.mutation import Entry, bundle_of, encode_mutation  # noqa: E402
from kvstore.storage.crc import crc32c  # noqa: E402
from kvstore.storage.engine import Engine, EngineOptions  # noqa: E402
from kvstore.storage.maintenance import settle_collector  # noqa: E402
from kvstore.storage.upkeep import checkpoint, maintain, run_to_end  # noqa: E402
from tests.bench.growth import draw, write_page  # noqa: E402

MIB = 1 << 20
CHUNK = 4 * MIB
VALUE = 150
COLUMNS = 100
"""Cells of one row."""
SIZES = (10_000, 100_000, 1_000_000)
UNITS = {
    "put_64": "cells/s",
    "put_batch_64": "cells/s",
    "put_4mib": "MB/s",
    "disk_4mib": "MB/s",
    "get_4mib": "MB/s",
    "get_small": "gets/s",
    "scan": "cells/s",
    "bytes_per_cell": "bytes",
    "longest_pause_ms": "ms",
    "longest_run_ms": "ms",
    "open_s": "s",
    "checkpoint_s": "s",
}


def key_of(number: int) -> tuple[str, str]:
    """The row and column of cell `number`: mailboxes of 100 messages."""
    return f"user{number // COLUMNS:06d}:mailbox", f"inbox:{number % COLUMNS:012d}"


class Bench:
    """An engine in a folder of its own, with tablet 1."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.engine = Engine.open(folder, options=EngineOptions(reserve=64 * MIB))
        if 1 not in self.engine.tablets:
            self.engine.create_tablet(1, "", None, 1)
            self.engine.sync()
        self.sequence = self.engine.tablets[1].last

    def ready_segments(self) -> None:
        """Have zero-filled segments ready, as a running node does."""
        folder = self.engine.wal.folder
        while folder.spares < folder.options.most_spares:
            for blocking in folder.prepare_spare():
                if blocking is not None:
                    blocking()

    def headers(self, count: int, cells: int, choose: Callable[[int], int]) -> list[bytes]:
        """Encoded mutations of `cells` puts each, as clients send them."""
        value = random.Random(0).randbytes(VALUE)
        made = []
        for i in range(count):
            operations = [[0, *key_of(choose(i * cells + j)), value] for j in range(cells)]
            made.append(encode_mutation(7, i, max(0, i - 100), [], operations))
        return made

    def write(self, headers: list[bytes], bulk: bytes = b"") -> None:
        """One entry of one bundle: decoded as a node decodes it, logged, synced, applied."""
        entry = Entry(1, self.sequence + 1, [bundle_of(*headers, bulk=bulk)], [0] * len(headers))
        self.engine.append_entry(1, entry, self.sequence)
        self.engine.sync()
        self.sequence = entry.last
        self.engine.apply(1, self.sequence)

    def fill(self, cells: int) -> None:
        """Load so many small cells."""
        for begin in range(0, cells, 1000):
            self.write(self.headers(10, 100, begin.__add__))

    def close(self) -> None:
        self.engine.append_commit(1, self.sequence)
        self.engine.close()


def rate(work: Callable[[], int]) -> float:
    """Things a second."""
    gc.collect()
    begin = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - begin)


# ---------------------------------------------------------------- the figures


def put_64(bench: Bench, existing: int) -> float:
    """64 callers, each with one put of 150 B on its way: an entry of 64 mutations, one sync."""
    chance = random.Random(bench.sequence)
    groups = [bench.headers(64, 1, lambda _: chance.randrange(existing)) for _ in range(300)]

    def work() -> int:
        for group in groups:
            bench.write(group)
        return 64 * len(groups)

    return rate(work)


def put_batch_64(bench: Bench, existing: int) -> float:
    """16 callers, each with a batch of 64 puts of 150 B on its way: an entry of 16 mutations."""
    chance = random.Random(bench.sequence)
    groups = [bench.headers(16, 64, lambda _: chance.randrange(existing)) for _ in range(40)]

    def work() -> int:
        for group in groups:
            bench.write(group)
        return 16 * 64 * len(groups)

    return rate(work)


def put_4mib(bench: Bench, count: int = 40) -> float:
    value = random.Random(1).randbytes(CHUNK)
    crc = crc32c(value)

    def work() -> int:
        for i in range(count):
            header = encode_mutation(8, bench.sequence, 0, [], [[1, f"drive:file:{i:04d}", "chunk", CHUNK, crc]])
            bench.write([header], value)
        return count * CHUNK // 1_000_000

    found = rate(work)
    maintain(bench.engine)
    return found


def disk_4mib(folder: str, count: int = 40) -> float:
    """The bare loop: write and fdatasync of 4 MiB into a file that was written before; the system calls and nothing else."""
    path = f"{folder}/bare"
    value = random.Random(1).randbytes(CHUNK)
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    if os.fstat(fd).st_size == 0:
        for i in range(16):
            os.pwrite(fd, bytes(CHUNK), i * CHUNK)
        os.fsync(fd)

    def work() -> int:
        for i in range(count):
            os.pwrite(fd, value, i % 16 * CHUNK)
            os.fdatasync(fd)
        return count * CHUNK // 1_000_000

    found = rate(work)
    os.close(fd)
    return found


def get_4mib(bench: Bench, count: int = 40) -> float:
    engine, tablet = bench.engine, bench.engine.tablets[1].tablet

    def work() -> int:
        for i in range(count):
            cell = tablet.get(f"drive:file:{i:04d}", "chunk")
            assert cell is not None
            assert len(engine.read(cell)) == CHUNK
        return count * CHUNK // 1_000_000

    work()
    return rate(work)


def get_small(bench: Bench, existing: int) -> float:
    chance = random.Random(3)
    keys = [key_of(chance.randrange(existing)) for _ in range(200_000)]
    get = bench.engine.tablets[1].tablet.get

    def work() -> int:
        for row, column in keys:
            get(row, column)
        return len(keys)

    return rate(work)


def scan(bench: Bench) -> float:
    tablet = bench.engine.tablets[1].tablet

    def work() -> int:
        return sum(1 for _ in tablet.scan())

    return rate(work)


def pauses(folder: str, existing: int) -> dict[str, float]:
    """How long an event loop beside checkpoints, compaction, writes and a scan is held (`tests.bench.pauses`)."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.bench.pauses", folder, str(existing)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    measured: dict[str, float] = json.loads(found.stdout)
    return measured


def memory_of(folder: str) -> dict[str, float]:
    """Memory and time of opening a folder, in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.bench.opening", folder], cwd=ROOT, check=True, capture_output=True, text=True
    )
    opened: dict[str, float] = json.loads(found.stdout)
    return opened


# ---------------------------------------------------------------- running them


def at_size(folder: str, cells: int, runs: int) -> dict[str, list[float]]:
    """Every figure that depends on the number of cells."""
    figures: dict[str, list[float]] = {}
    bench = Bench(folder)
    bench.fill(cells)
    bench.ready_segments()
    settle_collector()
    for _ in range(runs):
        for name, found in (
            ("get_small", get_small(bench, cells)),
            ("scan", scan(bench)),
            ("put_64", put_64(bench, cells)),
            ("put_batch_64", put_batch_64(bench, cells)),
        ):
            figures.setdefault(name, []).append(found)
        begin = time.perf_counter()
        run_to_end(bench.engine, checkpoint(bench.engine, bench.engine.tablets[1]))
        figures.setdefault("checkpoint_s", []).append(time.perf_counter() - begin)
    bench.close()
    for _ in range(runs):
        opened = memory_of(folder)
        figures.setdefault("open_s", []).append(opened["seconds"])
        figures.setdefault("bytes_per_cell", []).append(opened["bytes_per_cell"])
    return figures


def large_values(folder: str, runs: int) -> dict[str, list[float]]:
    """The figures of 4 MiB values, the bare disk in between."""
    figures: dict[str, list[float]] = {"put_4mib": [], "disk_4mib": [], "get_4mib": []}
    bench = Bench(folder)
    bench.ready_segments()
    put_4mib(bench)
    for _ in range(runs):
        figures["disk_4mib"].append(disk_4mib(folder))
        figures["put_4mib"].append(put_4mib(bench))
        figures["get_4mib"].append(get_4mib(bench))
    bench.close()
    return figures


def chunks(folder: str, gigabytes: int) -> dict[str, float]:
    """A node with so many GB of chunks: the memory it has when it has opened them, and how long it takes to open with a
    million small cells beside them."""
    bench = Bench(folder)
    value = random.Random(1).randbytes(CHUNK)
    crc = crc32c(value)
    for i in range(gigabytes * 1_000_000_000 // CHUNK):
        bench.write([encode_mutation(8, i, i, [], [[1, f"drive:file:{i:07d}", "chunk", CHUNK, crc]])], value)
        if i % 64 == 0:
            maintain(bench.engine)
    bench.close()
    resident = memory_of(folder)["resident_mb"]
    bench = Bench(folder)
    bench.fill(SIZES[-1])
    maintain(bench.engine)
    bench.close()
    return {"resident_mb": resident, "seconds": memory_of(folder)["seconds"]}


def report(figures: dict[str, list[float]]) -> Iterator[dict[str, object]]:
    """What goes into `engine.jsonl`."""
    for name, values in figures.items():
        yield {"name": name, "value": statistics.median(values), "unit": UNITS[name], "runs": len(values)}


def main(argv: list[str]) -> int:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", type=int, default=0, metavar="GB", help="also fill a node with so many GB of chunks")
    parser.add_argument("--folder", default=str(ROOT / "var"), help="where the data folders are made (default: var/)")
    options = parser.parse_args(argv)
    os.makedirs(options.folder, exist_ok=True)
    growth: dict[int, dict[str, float]] = {}
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures |= large_values(f"{folder}/large", options.runs)
        for cells in SIZES:
            found = at_size(f"{folder}/{cells}", cells, options.runs)
            growth[cells] = {name: statistics.median(values) for name, values in found.items()}
            print(cells, {name: round(value, 3) for name, value in growth[cells].items()}, flush=True)
            figures |= found  # the last size counts
        held = [pauses(f"{folder}/{SIZES[-1]}", SIZES[-1]) for _ in range(min(3, options.runs))]
        print(held, flush=True)
        figures["longest_pause_ms"] = [found["longest_pause_ms"] for found in held]
        figures["longest_run_ms"] = [found["longest_run_ms"] for found in held]
        shutil.rmtree(f"{folder}/{SIZES[-1]}")
        opened = chunks(f"{folder}/chunks", options.large) if options.large else None
    lines = list(report(figures))
    for line in lines:
        print(line, flush=True)
    if opened is not None:
        print(f"{options.large} GB of chunks: {opened}")
    path = ROOT / "var" / "bench" / "engine.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    draw(ROOT / "docs" / "engine-growth.svg", growth)
    write_page(ROOT / "docs" / "benchmarks-engine.md", figures, growth, options.large, opened)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
