"""Many runs: `python -m tests.simulation --seeds 0-9999`. Prints the story of each seed that fails; exit status 1 if any
did."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.run import Outcome, run


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def outcomes(seeds: range, processes: int) -> Iterator[Outcome]:
    """The outcome of every seed. A worker process that is killed is an error, not a wait for ever."""
    if processes == 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run, seeds, chunksize=4)


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=range(200), metavar="A-B")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--lines", type=int, default=200, help="lines of a failing seed's story")
    parser.add_argument("--stop", action="store_true", help="stop at the first failure")
    options = parser.parse_args()
    began = time.monotonic()
    done = failed = operations = splits = moves = 0
    for outcome in outcomes(options.seeds, options.processes):
        done += 1
        operations += outcome.done
        splits += outcome.splits
        moves += outcome.moves
        if outcome.failure is not None:
            failed += 1
            print(f"\n===== seed {outcome.seed}\n{chr(10).join(outcome.story.splitlines()[-options.lines :])}")
            print(f"===== seed {outcome.seed}: {outcome.failure}", flush=True)
            if options.stop:
                break
        if done % 200 == 0 and sys.stderr.isatty():
            print(f"{done} runs, {failed} failed", end="\r", file=sys.stderr)
    took = time.monotonic() - began
    print(f"{done} runs, {operations} operations, {splits} splits, {moves} moves, {failed} failed, {took:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
