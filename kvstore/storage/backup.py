"""`python -m kvstore backup DATA_DIR … FOLDER`: a consistent copy of the data of nodes, running or not, in one folder.

Each data folder is read as a node would find it that is started at that moment: everything acknowledged before is there. While
it is read, a lock on its file `HOLD` keeps the node from removing anything that the backup may still need; the node serves and
writes on. If one of the folders has all tablets, as up to date as any, the backup is that node's data at one moment. If none
has, the intact replica with the longest history is taken of each tablet. For a cluster on several machines, give the folders of
so many nodes that every tablet is among them: the ranges are checked for gaps.

A write that was not yet acknowledged when the backup began may be in it, whole, or not. Of two such writes to different tablets
that are taken from different nodes, the second may be in it without the first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator

from kvstore.errors import StorageFailure, StoreError
from kvstore.storage.archive import ArchivedCell, ArchivedTablet, write_cells, write_index
from kvstore.storage.engine import HOLD, Engine
from kvstore.storage.files import Files
from kvstore.storage.readonly import ReadOnlyFiles
from kvstore.storage.replica import DiskReplica

HOLD_PATIENCE = 120.0
"""Seconds to wait for a node to come to the end of a checkpoint."""


@contextlib.contextmanager
def held(data_dir: str) -> Iterator[None]:
    """Keep a running node from removing anything from its data folder."""
    files = Files()
    deadline = time.monotonic() + HOLD_PATIENCE
    while (fd := files.lock(f"{data_dir}/{HOLD}")) is None:
        if time.monotonic() > deadline:
            raise StorageFailure(f"{data_dir} is held by something else: another backup, or a checkpoint without end")
        time.sleep(0.05)
    try:
        yield
    finally:
        files.close(fd)


def back_up(data_dirs: list[str], folder: str) -> list[ArchivedTablet]:
    """Back up the data folders into `folder`, which is made and must be empty; what was written."""
    for data_dir in data_dirs:
        if not os.path.exists(f"{data_dir}/store"):
            raise StorageFailure(f"{data_dir} is not the data folder of a storage node: it has no file `store`")
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder):
        raise StorageFailure(f"{folder} is not empty")
    with contextlib.ExitStack() as stack:
        engines: list[Engine] = []
        for data_dir in data_dirs:
            stack.enter_context(held(data_dir))
            engines.append(Engine.open(data_dir, ReadOnlyFiles()))
            stack.callback(engines[-1].abandon)
        best = _best(engines)
        _check_ranges([replica for _, replica in best.values()])
        written = [_write_tablet(engine, replica, folder) for _, (engine, replica) in sorted(best.items())]
        write_index(folder, written)
        return written


def _best(engines: list[Engine]) -> dict[int, tuple[Engine, DiskReplica]]:
    """Of each tablet the replica to take.

    All of one node if there is one that is a member everywhere: a node's log is one sequence, so what was written after
    something else was acknowledged is not in it without the other. Members have a tablet's highest epoch.
    """
    best: dict[int, tuple[Engine, DiskReplica]] = {}
    epochs: dict[int, int] = {}
    for engine in engines:
        for tablet_id, replica in engine.tablets.items():
            epochs[tablet_id] = max(epochs.get(tablet_id, 0), replica.epoch)
            if replica.intact and (tablet_id not in best or _history(best[tablet_id][1]) < _history(replica)):
                best[tablet_id] = engine, replica
    members = [e for e in engines if {r.id: r.epoch for r in e.tablets.values() if r.intact} == epochs]
    if members:
        latest = max(members, key=lambda engine: sum(replica.last for replica in engine.tablets.values()))
        return {tablet_id: (latest, replica) for tablet_id, replica in latest.tablets.items()}
    return best


def _history(replica: DiskReplica) -> tuple[int, int, int, int]:
    # of two that know no more of its log the one that knows that it was split: the other's upper rows are another tablet's
    return replica.epoch, replica.range_version, replica.last_epoch, replica.last


def _check_ranges(replicas: list[DiskReplica]) -> None:
    reached: str | None = ""
    for replica in sorted(replicas, key=lambda r: r.start):
        if reached is None or replica.start != reached:
            raise StorageFailure(
                f"the tablets in these folders do not join at {replica.start!r}: give more nodes' folders, or newer ones"
            )
        reached = replica.end
    if reached is not None:
        raise StorageFailure(f"no intact replica of the rows from {reached!r} on is in these folders")


def _write_tablet(engine: Engine, replica: DiskReplica, folder: str) -> ArchivedTablet:
    # What is logged and not known to be committed was sent to every member of the in-sync set, or is about to be: a new primary
    # would commit it, and so does the backup.
    engine.apply(replica.id, replica.last)
    name = f"{replica.id:08x}.cells"
    count, size = write_cells(f"{folder}/{name}", _cells(engine, replica))
    return ArchivedTablet(
        name, replica.id, replica.start, replica.end, replica.commit_epoch, replica.commit, count, size
    )


def _cells(engine: Engine, replica: DiskReplica) -> Iterator[ArchivedCell]:
    for row, column, cell in replica.tablet.scan():
        yield row, column, *cell.version, engine.read(cell)


def main(argv: list[str]) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m kvstore backup",
        description="Copy the data of storage nodes, running or not, into one folder (see `restore`).",
    )
    parser.add_argument("data_dirs", nargs="+", metavar="DATA_DIR", help="storage nodes' data folders")
    parser.add_argument("folder", metavar="FOLDER", help="where the backup goes; a new or empty folder")
    options = parser.parse_args(argv)
    try:
        written = back_up(options.data_dirs, options.folder)
    except (StoreError, OSError) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 1
    print(f"{sum(t.cells for t in written):,} cells, {sum(t.bytes for t in written):,} bytes of {len(written)} tablets")
    return 0
