"""Figures: what was measured, of which system, and where that is kept.

Every figure is one JSON object a line: system, name, value, unit, p50_ms, p99_ms. `value` is the median of the rounds, the
percentiles are those of the median round.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: `operation` is put, batch or get; `callers` at a time; values of `size` bytes; so many `keys`."""

    name: str
    operation: str
    callers: int
    size: int
    keys: int
    unit: str
    title: str
    shared: bool = True
    """Whether the callers share a connection, where the system's client can do so."""


SMALL, LARGE = 150, 4 << 20
CASES = (
    Case("put_1", "put", 1, SMALL, 1000, "ops/s", "put 150 B, 1 caller"),
    Case("put_64", "put", 64, SMALL, 1000, "ops/s", "put 150 B, 64 callers"),
    Case("put_256", "put", 256, SMALL, 1000, "ops/s", "put 150 B, 256 callers"),
    Case("put_64_connections", "put", 64, SMALL, 1000, "ops/s", "put 150 B, 64 connections", shared=False),
    Case("batch_64x16", "batch", 16, SMALL, 1000, "cells/s", "batches of 64 cells, 16 callers"),
    Case("get_64", "get", 64, SMALL, 1000, "ops/s", "get 150 B, 64 callers"),
    Case("put_4mib_4", "put", 4, LARGE, 16, "MB/s", "put 4 MiB, 4 callers"),
    Case("get_4mib_4", "get", 4, LARGE, 16, "MB/s", "get 4 MiB, 4 callers"),
)
BATCH = 64
"""Cells of one batch."""
COLUMN = "chunk"
FAILOVER, HANG = "failover_ms", "failover_hang_ms"


def row(number: int) -> str:
    """PennCloud's key. All lie in one group, so that any may share a batch, and so in one tablet with one primary."""
    return f"bench:drive:{number:012d}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measurement."""

    system: str
    name: str
    value: float
    unit: str
    p50_ms: float
    p99_ms: float


def figure(system: str, case: Case, per_second: float, p50_ms: float, p99_ms: float) -> Figure:
    """Of `per_second` operations (of a batch: cells)."""
    value = per_second * case.size / 1e6 if case.unit == "MB/s" else per_second
    return Figure(system, case.name, value, case.unit, p50_ms, p99_ms)


def medians(figures: Iterable[Figure]) -> list[Figure]:
    """The median of each system's rounds, by name; of an even number the lower one."""
    rounds: dict[tuple[str, str], list[Figure]] = {}
    for each in figures:
        rounds.setdefault((each.name, each.system), []).append(each)
    return [sorted(found, key=lambda f: f.value)[(len(found) - 1) // 2] for found in rounds.values()]


def write(path: Path, figures: Iterable[Figure]) -> None:
    """Replace what `path` holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in figures))


def read(path: Path) -> list[Figure]:
    """What `write` wrote."""
    return [Figure(**json.loads(line)) for line in path.read_text().splitlines()]
