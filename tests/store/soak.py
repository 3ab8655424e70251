"""A cluster under random harm for as long as you like: `python -m tests.store.soak --seconds 600 --seed 1`.

Writers count in every part of the key space (see `Writers`) while nodes and coordinator are killed, stopped, disabled, ended in
order, all at once or one after the other. In the end everything acknowledged must be there, once, and all replicas alike.
One line for each harm done; the seed chooses the harm, not the timing.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvstore.admin import Admin
from kvstore.errors import StoreError
from tests.cluster import StoreCluster
from tests.store.test_failures import PATIENT, Writers, alike


class Harm:
    """What is done to a cluster. Each method does one kind of harm; afterwards all processes are started again."""

    def __init__(self, cluster: StoreCluster, admin: Admin, chance: random.Random) -> None:
        self.cluster = cluster
        self.admin = admin
        self.chance = chance
        self.kinds: list[Callable[[str], None]] = [
            self.kill,
            self.kill_and_tell,
            self.hang,
            self.kill_coordinator,
            self.end,
            self.disable,
            self.power_cut,
            self.kill_two,
            self.kill_while_the_coordinator_hangs,
        ]

    def pause(self) -> None:
        time.sleep(self.chance.choice([0, 0.1, 0.5, 2.0]))

    def kill(self, node: str) -> None:
        self.cluster.kill(node)
        self.pause()

    def kill_and_tell(self, node: str) -> None:
        self.cluster.kill(node)
        self.admin.process_exited(node, self.cluster.pid(node))
        self.pause()

    def hang(self, node: str) -> None:
        self.cluster.kill(node, signal.SIGSTOP)
        time.sleep(self.chance.choice([0.3, 1.2, 2.5]))
        self.cluster.kill(node, signal.SIGCONT)

    def kill_coordinator(self, node: str) -> None:
        self.cluster.kill("coordinator")
        self.pause()

    def end(self, node: str) -> None:
        self.cluster.end(node)
        self.pause()

    def disable(self, node: str) -> None:
        self.admin.disable(node)
        self.pause()
        self.admin.enable(node)

    def power_cut(self, node: str) -> None:
        for name in self.cluster.names:
            self.cluster.kill(name)

    def kill_two(self, node: str) -> None:
        for name in self.chance.sample(self.cluster.names[1:], 2):
            self.cluster.kill(name)
            self.pause()

    def kill_while_the_coordinator_hangs(self, node: str) -> None:
        self.cluster.kill("coordinator", signal.SIGSTOP)
        self.cluster.kill(node)
        self.pause()
        self.cluster.kill("coordinator", signal.SIGCONT)


def soak(seed: int, seconds: float) -> None:
    """Harm a cluster of its own for so long; raises when a promise was broken."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        cluster = StoreCluster(Path(folder))
        try:
            cluster.start()
            cluster.wait_until_whole()
            admin = cluster.admin(timeout=5.0)
            with cluster.client(timeout=PATIENT) as client, Writers(client, "soak") as writers:
                _harm_for(seconds, Harm(cluster, admin, chance), writers)
                cluster.wait_until_whole()
                writers.stop()
                writers.check()
            alike(cluster)
        finally:
            cluster.stop()


def _harm_for(seconds: float, harm: Harm, writers: Writers) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind, node = harm.chance.choice(harm.kinds), harm.chance.choice(harm.cluster.names[1:])
        writers.calm()
        try:
            kind(node)
        except StoreError as error:
            print(f"  (no control at this moment: {error})", flush=True)
        harm.cluster.start()
        if harm.chance.random() < 0.6:
            harm.cluster.wait_until_whole()
        assert not writers.errors, writers.errors[0]
        done = sum(writers.counts.values())
        print(f"{kind.__name__:34} {node:8} slowest {writers.longest:5.2f} s, {done:,} counted", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Harm a cluster of this machine at random, and see that it keeps its word."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300)
    options = parser.parse_args()
    soak(options.seed, options.seconds)
    print(f"seed {options.seed}: everything acknowledged is there, once, on every replica")


if __name__ == "__main__":
    main()
