"""Many crash workloads: `python -m tests.unit.storage.soak --seeds 10000`. Prints each seed that fails, and how many ran."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.unit.storage.workload import Workload


def main(argv: list[str]) -> int:
    """Run the seeds; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=1_000_000)
    parser.add_argument("--big-every", type=int, default=500, help="each so many seeds, one with values up to 8 MiB")
    options = parser.parse_args(argv)
    begin = time.monotonic()
    crashes = 0
    failed = []
    for seed in range(options.first, options.first + options.seeds):
        workload = Workload(seed, operations=120, big=seed % options.big_every == 0)
        try:
            workload.run()
        except Exception:  # noqa: BLE001 (told, and counted)
            failed.append(seed)
            print(f"seed {seed} failed", flush=True)
            traceback.print_exc()
        crashes += workload.crashes
    took = time.monotonic() - begin
    print(f"{options.seeds} workloads, {crashes} crashes, {took:.0f} s; failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
