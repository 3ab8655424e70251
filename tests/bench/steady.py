"""A load that goes on until its input ends, and tells as it goes: greenlets that put and get small cells of many rows.

    python -m tests.bench.steady COORDINATORS KEY_FILE KEYS PUTTERS GETTERS

Prints one JSON object a line, every quarter of a second: `at` (of `time.monotonic`, the machine's), `puts` and `gets` in that
quarter, `slowest_put_ms`, `slowest_get_ms`, `errors`.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import gevent  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

from kvstore.client import Client, connect  # noqa: E402
from kvstore.errors import StoreError  # noqa: E402
from tests.bench.figures import COLUMN, SMALL, row  # noqa: E402

QUARTER = 0.25


class Count:
    """Calls of one kind since it was last told."""

    def __init__(self) -> None:
        self.calls = 0
        self.slowest = 0.0
        self.errors = 0

    def repeat(self, call: Callable[[], object]) -> None:
        """Call for ever."""
        clock = time.monotonic
        while True:
            begun = clock()
            try:
                call()
            except StoreError:
                self.errors += 1
            self.calls += 1
            self.slowest = max(self.slowest, clock() - begun)


def tell(puts: Count, gets: Count) -> None:
    """Print a line for each quarter of a second, for ever."""
    while True:
        gevent.sleep(QUARTER)
        line = {
            "at": time.monotonic(),
            "puts": puts.calls,
            "gets": gets.calls,
            "slowest_put_ms": puts.slowest * 1000,
            "slowest_get_ms": gets.slowest * 1000,
            "errors": puts.errors + gets.errors,
        }
        puts.__init__()  # type: ignore[misc]
        gets.__init__()  # type: ignore[misc]
        print(json.dumps(line), flush=True)


def main(coordinators: str, key_file: str, keys: str, putters: str, getters: str) -> None:
    """Run until standard input ends."""
    client: Client = connect(coordinators, key_file)
    pick, value, most = random.randrange, bytes(SMALL), int(keys)
    puts, gets = Count(), Count()
    for _ in range(int(putters)):
        gevent.spawn(puts.repeat, lambda: client.put(row(pick(most)), COLUMN, value))
    for _ in range(int(getters)):
        gevent.spawn(gets.repeat, lambda: client.get(row(pick(most)), COLUMN))
    gevent.spawn(tell, puts, gets)
    FileObject(sys.stdin.buffer).read()


if __name__ == "__main__":
    main(*sys.argv[1:])
