"""`python -m kvstore restore FOLDER`: fill a new cluster from a backup (`kvstore.storage.backup`).

Every cell is written through the client, so the new cluster may have other nodes, other tablets and another replication.
Versions are the new cluster's. A cluster that holds rows already is refused, unless it is told to overwrite: a restore that
broke off is carried on so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from kvstore import settings
from kvstore.batch import Batch
from kvstore.client import Client, connect
from kvstore.errors import StorageFailure, StoreError
from kvstore.storage.archive import ArchivedCell, read_cells, read_index

_BATCH_CELLS = 200
_BATCH_BYTES = 4 * settings.MIB
_AT_ONCE = 4


def restore(folder: str, client: Client, overwrite: bool = False) -> tuple[int, int]:
    """Write every cell of a backup; (cells, bytes of values). Everything is verified before the first write."""
    tablets = read_index(folder)
    for tablet in tablets:
        found = sum(1 for _ in read_cells(f"{folder}/{tablet.file}"))
        if found != tablet.cells:
            raise StorageFailure(f"{folder}/{tablet.file} holds {found} cells, its index says {tablet.cells}")
    if not overwrite and next(iter(client.scan("", None, limit=1)), None) is not None:
        raise StorageFailure(
            "the cluster holds rows already; a backup is restored into a new cluster (or use --overwrite)"
        )
    cells = size = 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting: set[Future[object]] = set()
        for tablet in tablets:
            for batch, count, length in _batches(client, read_cells(f"{folder}/{tablet.file}")):
                if len(waiting) >= _AT_ONCE:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                waiting.add(pool.submit(client.apply, batch))
                cells, size = cells + count, size + length
        for future in waiting:
            future.result()
    return cells, size


def _batches(client: Client, cells: Iterator[ArchivedCell]) -> Iterator[tuple[Batch, int, int]]:
    """Batches of one group's cells each, within limits."""
    rule = client.router.tablets.group_rule
    assert rule is not None, "a connected client has the tablet map"
    batch, group, count, size = Batch(), None, 0, 0
    for row, column, _, _, value in cells:
        its_group = rule.group_of(row)
        if count and (its_group != group or count >= _BATCH_CELLS or size + len(value) > _BATCH_BYTES):
            yield batch, count, size
            batch, count, size = Batch(), 0, 0
        group = its_group
        batch.put(row, column, value)
        count, size = count + 1, size + len(value)
    if count:
        yield batch, count, size


def main(argv: list[str]) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m kvstore restore", description="Fill a new cluster from a backup (see `backup`)."
    )
    parser.add_argument("folder", metavar="FOLDER", help="the backup")
    parser.add_argument("--coordinators", default="127.0.0.1:7400", metavar="HOST:PORT,…")
    parser.add_argument("--key-file", default="var/cluster.key", metavar="FILE")
    parser.add_argument("--overwrite", action="store_true", help="write into a cluster that holds rows already")
    options = parser.parse_args(argv)
    try:
        with connect(options.coordinators, options.key_file) as client:
            cells, size = restore(options.folder, client, options.overwrite)
    except (StoreError, OSError) as error:
        print(f"restore: {error}", file=sys.stderr)
        return 1
    print(f"{cells:,} cells, {size:,} bytes restored")
    return 0
