"""Open a data folder and tell how long it took and what memory it needs: `python -m tests.bench.opening FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import time

from kvstore.storage.engine import Engine, EngineOptions
from kvstore.storage.maintenance import settle_collector


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(folder: str) -> None:
    """Print one JSON object."""
    before = resident()
    begin = time.perf_counter()
    engine = Engine.open(folder, options=EngineOptions(reserve=0))
    seconds = time.perf_counter() - begin
    settle_collector()
    after = resident()
    cells = sum(replica.tablet.cells for replica in engine.tablets.values())
    inside = sum(replica.tablet.bytes - sum(replica.tablet.bulk_bytes.values()) for replica in engine.tablets.values())
    assert not engine.damage, engine.damage
    found = {
        "seconds": seconds,
        "cells": cells,
        "resident_mb": after / 1e6,
        "bytes_per_cell": (after - before - inside) / max(1, cells),
    }
    print(json.dumps(found))
    engine.abandon()


if __name__ == "__main__":
    main(sys.argv[1])
