"""`python -m kvstore inspect DATA_DIR`: what a data folder holds, and whether every byte of it has its checksum.

Reads only, also beside a running node, whose last segment may grow meanwhile, and which is kept from removing anything. Every
record of every segment, and every checkpoint, is verified. The exit status is 1 if anything is damaged or the folder cannot be
read.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from kvstore.errors import StorageFailure, StoreError
from kvstore.storage import checkpoint, manifest, segment
from kvstore.storage.backup import held
from kvstore.storage.compaction import live_bytes
from kvstore.storage.engine import Engine
from kvstore.storage.failures import Damage
from kvstore.storage.files import Files
from kvstore.storage.readonly import ReadOnlyFiles
from kvstore.storage.records import kind_name


@dataclass(slots=True)
class SegmentFinding:
    """One segment. Sizes in bytes; `live`: of values that cells point to; `records`: how many of each kind."""

    generation: int
    capacity: int
    used: int
    live: int
    replayed: bool
    records: dict[str, int]


@dataclass(slots=True)
class TabletFinding:
    """One replica, as a node that is started now would find it."""

    tablet: int
    start: str
    end: str | None
    epoch: int
    commit: int
    last: int
    state: str
    cells: int
    bytes: int
    digest: str
    checkpoint: str | None
    checkpoint_bytes: int


@dataclass(slots=True)
class Findings:
    """Everything that `inspect` tells."""

    data_dir: str
    store_id: str
    in_use: bool
    formats: dict[str, int]
    log_start: tuple[int, int]
    spares: int
    live_ratio: float
    torn_tail: tuple[int, int] | None
    segments: list[SegmentFinding] = field(default_factory=list)
    tablets: list[TabletFinding] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def inspect_folder(data_dir: str, progress: Callable[[int, int], None] = lambda done, total: None) -> Findings:
    """Look at a data folder and verify it. `progress(bytes verified, bytes in all)`. `StorageFailure`, `OSError`."""
    if not Files().exists(f"{data_dir}/{manifest.NAME}"):
        raise StorageFailure(f"{data_dir} is not a storage node's data folder: it has no file {manifest.NAME!r}")
    lock = Files().lock(f"{data_dir}/LOCK")
    if lock is not None:
        Files().close(lock)
    with held(data_dir) if lock is None else contextlib.nullcontext():
        return _inspect(data_dir, lock is None, progress)


def _inspect(data_dir: str, in_use: bool, progress: Callable[[int, int], None]) -> Findings:
    engine = Engine.open(data_dir, ReadOnlyFiles())
    try:
        folder = engine.wal.folder
        capacity = sum(s.capacity for s in folder.segments.values())
        live = live_bytes(engine)
        found = Findings(
            data_dir,
            engine.store_id,
            in_use,
            {"folder": manifest.FORMAT, "log": segment.FORMAT, "checkpoint": checkpoint.FORMAT},
            engine.log_start,
            folder.spares,
            sum(live.values()) / capacity if capacity else 1.0,
            engine.wal.cut,
        )
        found.tablets = [_tablet(engine, tablet_id) for tablet_id in sorted(engine.tablets)]
        damage = dict.fromkeys(map(str, engine.damage))
        done = 0
        for generation in sorted(folder.segments):
            finding, more = _segment(engine, generation, live.get(generation, 0), _shifted(progress, done, capacity))
            found.segments.append(finding)
            damage.update(dict.fromkeys(str(dataclasses.replace(d, file=f"log/{d.file}")) for d in more))
            done += folder.segments[generation].capacity
            progress(done, capacity)
        found.damage = list(damage)
        return found
    finally:
        engine.abandon()


def _shifted(progress: Callable[[int, int], None], done: int, total: int) -> Callable[[int], None]:
    return lambda here: progress(done + here, total)


def _segment(
    engine: Engine, generation: int, live: int, progress: Callable[[int], None]
) -> tuple[SegmentFinding, list[Damage]]:
    folder = engine.wal.folder
    known = folder.segments[generation]
    counts: dict[str, int] = {}
    finding = SegmentFinding(generation, known.capacity, 0, live, generation >= engine.log_start.segment, counts)
    if not known.whole:
        return finding, []
    with folder.reader(generation, last=generation == folder.last) as reader:
        for offset, header, _ in reader.records():
            kind = kind_name(header.kind)
            counts[kind] = counts.get(kind, 0) + 1
            progress(offset)
    finding.used = reader.end
    return finding, reader.damage


def _tablet(engine: Engine, tablet_id: int) -> TabletFinding:
    replica = engine.tablets[tablet_id]
    head = replica.checkpoint
    return TabletFinding(
        tablet_id,
        replica.start,
        replica.end,
        replica.epoch,
        replica.commit,
        replica.last,
        replica.learning.value,
        replica.tablet.cells,
        replica.tablet.bytes,
        f"{replica.tablet.digest:016x}",
        None if head is None else checkpoint.checkpoint_name(tablet_id, head.number),
        replica.checkpoint_bytes,
    )


def _show(found: Findings) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(
        f"Data folder {found.data_dir}, store {found.store_id}" + (" (a node is working on it)" if found.in_use else "")
    )
    console.print(
        f"Replay begins in segment {found.log_start[0]} at byte {found.log_start[1]}; {found.spares} spare segments"
    )
    names = ("Tablet", "Start", "End", "Epoch", "Commit", "Last", "State", "Cells", "Bytes", "Checkpoint")
    tablets = Table(*(Column(name, overflow="fold") for name in names))
    for t in found.tablets:
        numbers = (str(t.epoch), str(t.commit), str(t.last), t.state, f"{t.cells:,}", f"{t.bytes:,}")
        tablets.add_row(
            str(t.tablet), repr(t.start), "" if t.end is None else repr(t.end), *numbers, t.checkpoint or "none"
        )
    console.print(tablets)
    columns = ("Segment", "Size", "Used", "Live values", "Replayed", "Records")
    segments = Table(*(Column(name, overflow="fold") for name in columns))
    for s in found.segments:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(s.records.items()))
        sizes = (f"{s.capacity:,}", f"{s.used:,}", f"{s.live:,}")
        segments.add_row(segment.segment_name(s.generation), *sizes, "yes" if s.replayed else "no", kinds)
    console.print(segments)
    console.print(f"Live values are {found.live_ratio:.0%} of the log")
    for damage in found.damage:
        console.print(f"[red]damaged[/red] {damage}", markup=True, highlight=False)
    if not found.damage:
        console.print("Every checksum is right.")


def main(argv: list[str]) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m kvstore inspect", description="Look at a data folder and verify it."
    )
    parser.add_argument("data_dir", metavar="DATA_DIR", help="a storage node's data folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    try:
        if sys.stderr.isatty():
            from rich.progress import Progress

            with Progress(transient=True) as bar:
                task = bar.add_task("Verifying", total=None)
                found = inspect_folder(options.data_dir, lambda n, total: bar.update(task, completed=n, total=total))
        else:
            found = inspect_folder(options.data_dir)
    except (StoreError, OSError) as error:
        print(f"inspect: {error}", file=sys.stderr)
        return 1
    if options.json:
        json.dump(dataclasses.asdict(found), sys.stdout, indent=2)
        print()
    else:
        _show(found)
    return 1 if found.damage else 0
