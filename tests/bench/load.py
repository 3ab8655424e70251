"""The load: one client process with many callers, each of which asks again as soon as it has its answer.

    python -m tests.bench.load COORDINATORS KEY_FILE OPERATION CALLERS SIZE SECONDS KEYS CONNECTIONS [PID …]

Prints one JSON object: `per_second` (operations; for batches: cells), `p50_ms` and `p99_ms` of one call, `calls`, `processor`
(µs of this process for each call), and `servers` (the same of each PID). The callers are greenlets and share CONNECTIONS
clients of the product: 1 is how it is meant to be used, as many as there are callers is how others are used.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402
import gevent.pool  # noqa: E402

from kvstore.client import Batch, Client, connect  # noqa: E402
from kvstore.memory import keep_freed_memory  # noqa: E402
from tests.bench.figures import BATCH, COLUMN, row  # noqa: E402


def put(client: Client, rows: list[str], value: bytes) -> Callable[[], object]:
    pick = random.choice
    return lambda: client.put(pick(rows), COLUMN, value)


def batch(client: Client, rows: list[str], value: bytes) -> Callable[[], object]:
    pick = random.choices  # a row may come twice, as in the other systems' loads

    def call() -> object:
        cells = Batch()
        for each in pick(rows, k=BATCH):
            cells.put(each, COLUMN, value)
        return client.apply(cells)

    return call


def get(client: Client, rows: list[str], value: bytes) -> Callable[[], object]:
    pick = random.choice

    def call() -> object:
        cell = client.get(pick(rows), COLUMN)
        assert cell is not None, "a get that finds nothing measures nothing"
        return cell

    return call


def get_spread(client: Client, rows: list[str], value: bytes) -> Callable[[], object]:
    pick = random.choice

    def call() -> object:
        cell = client.get(pick(rows), COLUMN, spread=True)
        assert cell is not None, "a get that finds nothing measures nothing"
        return cell

    return call


OPERATIONS = {"put": put, "batch": batch, "get": get, "get_spread": get_spread}


def percentile(ordered: list[float], share: float) -> float:
    """In milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def processor_seconds(pid: int) -> float:
    """Of a process, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(client: Client, size: int, keys: int) -> None:
    """Let there be something to get."""
    value = os.urandom(size)
    pool = gevent.pool.Pool(16)
    for number in range(keys):
        pool.spawn(client.put, row(number), COLUMN, value)
    pool.join(raise_error=True)


def run(
    operation: str, clients: list[Client], callers: int, size: int, seconds: float, keys: int, pids: list[int]
) -> dict[str, object]:
    """Let `callers` greenlets call for `seconds`; what came of it."""
    rows = [row(number) for number in range(keys)]
    value = os.urandom(size)
    taken: list[float] = []
    clock = time.perf_counter
    begin = clock()
    end = begin + seconds

    def caller(number: int) -> None:
        call = OPERATIONS[operation](clients[number % len(clients)], rows, value)
        now = clock()
        while now < end:
            call()
            before, now = now, clock()
            taken.append(now - before)

    used = [time.process_time(), *map(processor_seconds, pids)]
    gevent.joinall([gevent.spawn(caller, number) for number in range(callers)], raise_error=True)
    elapsed = clock() - begin
    now_used = [time.process_time(), *map(processor_seconds, pids)]
    each = [(after - before) / len(taken) * 1e6 for before, after in zip(used, now_used, strict=True)]
    taken.sort()
    cells = BATCH if operation == "batch" else 1
    return {
        "per_second": len(taken) * cells / elapsed,
        "p50_ms": percentile(taken, 0.5),
        "p99_ms": percentile(taken, 0.99),
        "calls": len(taken),
        "processor": each[0],
        "servers": each[1:],
    }


def main(coordinators: str, key_file: str, operation: str, *numbers: str) -> None:
    callers, size, keys, connections = (int(numbers[at]) for at in (0, 1, 3, 4))
    clients = [connect(coordinators, key_file) for _ in range(connections)]
    for client in clients:
        client.get(row(0), COLUMN)  # connected, before the clock runs
    if operation.startswith("get"):
        fill(clients[0], size, keys)
    keep_freed_memory()  # as every process of ours that handles large values
    gc.collect()
    gc.freeze()
    pids = [int(pid) for pid in numbers[5:]]
    print(json.dumps(run(operation, clients, callers, size, float(numbers[2]), keys, pids)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
