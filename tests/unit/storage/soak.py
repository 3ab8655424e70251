"""Long runs of the engine: `python -m tests.unit.storage.soak --seeds 10000 --fuzz 300`.

Crash workloads (`tests/unit/storage/workload.py`): prints each seed that fails, and how many ran. Then the readers are fuzzed
for so many seconds (`tests/unit/storage/fuzz.py`), where atheris is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
import traceback

from tests.unit.storage.workload import Workload


def main(argv: list[str]) -> int:
    """Run the seeds, and fuzz; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.storage.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=1_000_000)
    parser.add_argument("--big-every", type=int, default=500, help="each so many seeds, one with values up to 8 MiB")
    parser.add_argument("--fuzz", type=int, default=300, metavar="SECONDS", help="0: not at all")
    options = parser.parse_args(argv)
    failed = crash(range(options.first, options.first + options.seeds), options.big_every)
    if options.fuzz and importlib.util.find_spec("atheris") is None:
        print("atheris is not installed (it comes for Linux on x86-64): the readers are not fuzzed")
    elif options.fuzz:
        command = [sys.executable, "-m", "tests.unit.storage.fuzz", "--seconds", str(options.fuzz)]
        failed |= subprocess.run(command, check=False).returncode != 0
    return 1 if failed else 0


def crash(seeds: range, big_every: int) -> bool:
    """Run a workload for each seed; whether any failed."""
    begin = time.monotonic()
    crashes = 0
    failed = []
    for seed in seeds:
        workload = Workload(seed, operations=120, big=seed % big_every == 0)
        try:
            workload.run()
        except Exception:  # noqa: BLE001 (told, and counted)
            failed.append(seed)
            print(f"seed {seed} failed", flush=True)
            traceback.print_exc()
        crashes += workload.crashes
    took = time.monotonic() - begin
    print(f"{len(seeds)} workloads, {crashes} crashes, {took:.0f} s; failed: {failed or 'none'}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
