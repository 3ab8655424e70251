"""A cluster under random harm for as long as you like: `python -m tests.store.soak --seconds 600 --seed 1`.

Callers work on a few cells in four tablets (`tests.probe.histories`) while nodes and coordinator are killed, stopped,
disabled, ended in order, cut off in one direction, or find their disk empty or old, while tablets are split, and while
replicas move; one at a time, or several. Every few rounds, and in the end, what everybody saw must be linearizable, no
operation may have failed, and all replicas must be alike.

One line for each harm done; the seed chooses the harm, not the timing. Cuts need root (`tests.probe.hosts`), and are left out
without.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kvstore.admin import Admin
from kvstore.errors import BadRequest, StoreError
from tests.cluster import StoreCluster
from tests.probe.histories import PATIENT, Histories
from tests.probe.hosts import Hosts, Unsupported, hosts
from tests.processes import wait_for

NODES = ("node1", "node2", "node3", "node4")
MOST_TABLETS = 40
JUDGED_EVERY = 5
"""Rounds: a history is judged when it is still short."""


class Harm:
    """What is done to a cluster. Each method does one kind of harm; afterwards everything is healed and started again."""

    def __init__(self, cluster: StoreCluster, admin: Admin, network: Hosts | None, chance: random.Random) -> None:
        self.cluster = cluster
        self.admin = admin
        self.network = network
        self.chance = chance
        self.kinds: list[Callable[[str], None]] = [
            self.kill,
            self.kill_and_tell,
            self.hang,
            self.flicker,
            self.kill_coordinator,
            self.hang_coordinator,
            self.kill_coordinator_and_node,
            self.end,
            self.disable,
            self.power_cut,
            self.suspend_all,
            self.kill_two,
            self.kill_while_the_coordinator_hangs,
            self.split,
            self.split_and_kill,
            self.move,
            self.move_and_kill,
            self.empty,
            self.put_back_old,
        ]
        if network is not None:
            self.kinds += [self.cut_one_way, self.mute, self.deafen, self.cut_and_kill]

    def pause(self, *lengths: float) -> None:
        """A while of one of these lengths."""
        time.sleep(self.chance.choice(lengths or (0, 0.1, 0.5, 2.0)))

    def other(self, node: str) -> str:
        """Some other node."""
        return self.chance.choice([name for name in NODES if name != node])

    # -- processes

    def kill(self, node: str) -> None:
        self.cluster.kill(node)
        self.pause()

    def kill_and_tell(self, node: str) -> None:
        self.cluster.kill_and_tell(node)
        self.pause()

    def hang(self, node: str) -> None:
        self._stopped(node, lambda: self.pause(0.3, 1.2, 2.5))

    def flicker(self, node: str) -> None:
        """It gets short turns only, now and then longer than a lease apart."""
        for _ in range(8):
            self._stopped(node, lambda: self.pause(0.05, 0.3, 0.9, 1.3))
            self.pause(0.01, 0.05, 0.2)

    def kill_coordinator(self, node: str) -> None:
        self.cluster.kill("coordinator")
        self.pause()

    def hang_coordinator(self, node: str) -> None:
        self._stopped("coordinator", lambda: self.pause(0.5, 2.0, 3.0))

    def kill_coordinator_and_node(self, node: str) -> None:
        self.cluster.kill("coordinator")
        self.pause()
        self.cluster.kill(node)
        self.pause(0, 0.5)
        if self.chance.random() < 0.5:
            self.cluster.start(node)
            self.pause()

    def end(self, node: str) -> None:
        self.cluster.end(node)
        self.pause()

    def disable(self, node: str) -> None:
        self.admin.disable(node)
        self.pause()
        self.admin.enable(node)

    def power_cut(self, node: str) -> None:
        self.cluster.kill_all()

    def suspend_all(self, node: str) -> None:
        names = list(self.cluster.names)
        self.chance.shuffle(names)
        with contextlib.ExitStack() as stack:
            for name in names:
                self.cluster.kill(name, signal.SIGSTOP)
                stack.callback(self.cluster.kill, name, signal.SIGCONT)
            self.pause(0.5, 1.5, 3.0)

    def kill_two(self, node: str) -> None:
        for name in self.chance.sample(NODES, 2):
            self.cluster.kill(name)
            self.pause()

    def kill_while_the_coordinator_hangs(self, node: str) -> None:
        def kill() -> None:
            self.cluster.kill(node)
            self.pause()

        self._stopped("coordinator", kill)

    def _stopped(self, name: str, meanwhile: Callable[[], None]) -> None:
        self.cluster.kill(name, signal.SIGSTOP)
        try:
            meanwhile()
        finally:
            self.cluster.kill(name, signal.SIGCONT)

    # -- tablets

    def split(self, node: str) -> None:
        """A tablet in which callers work is split just below their rows, or just above them."""
        if len(self.admin.status()["tablets"]) < MOST_TABLETS:
            letter, number = self.chance.choice("aek"), self.chance.randrange(1000)
            row = self.chance.choice([f"{letter}-soak:drive:file:{number:03}", f"{letter}-soak~{number:03}"])
            with contextlib.suppress(BadRequest):  # there is a tablet that begins there
                self.admin.split(self.cluster.tablet_of(row)["id"], row)

    def split_and_kill(self, node: str) -> None:
        def split() -> None:
            with contextlib.suppress(StoreError):
                self.split(node)

        splitting = threading.Thread(target=split)
        splitting.start()
        self.pause(0, 0.005, 0.02)
        self.cluster.kill(self.chance.choice([node, "coordinator"]))
        self.cluster.start()
        splitting.join()

    def move(self, node: str) -> None:
        """A replica of a tablet goes to the node that has none of it."""
        self._move()

    def move_and_kill(self, node: str) -> None:
        """One of those who take part is killed just then."""
        involved = self._move()
        self.pause(0, 0.005, 0.02, 0.1)
        self.cluster.kill(self.chance.choice(involved))
        self.pause()

    def _move(self) -> list[str]:
        """Who takes part."""
        tablet = self.chance.choice(self.admin.status()["tablets"])
        source = self.chance.choice(tablet["replicas"])
        target = self.chance.choice([name for name in NODES if name not in tablet["replicas"]] or [source])
        with contextlib.suppress(BadRequest):  # it moves already, or the node cannot take it at this moment
            self.admin.move(tablet["id"], source, target)
        return [source, target, tablet["primary"] or source, "coordinator"]

    # -- disks: of one node at a time, when the others hold everything

    def empty(self, node: str) -> None:
        self.cluster.wait_until_whole()
        self.cluster.kill(node)
        shutil.rmtree(self.cluster.data_folder(node))
        self.pause(0, 0.5)

    def put_back_old(self, node: str) -> None:
        """The folder as it was a while, and an epoch or two, ago."""
        folder = self.cluster.data_folder(node)
        aside = folder.with_suffix(".aside")
        self.cluster.kill(node)
        shutil.copytree(folder, aside)
        if self.chance.random() < 0.5:
            self.cluster.start(node)
        else:
            self.pause(2.0)  # it is missed and counted out
            self.cluster.start(node)
        self.cluster.wait_until_whole()
        self.cluster.kill(node)
        shutil.rmtree(folder)
        aside.rename(folder)
        # A disk that takes back what it acknowledged says that it is whole. That does no harm once the coordinator has seen the
        # restart: the run that acknowledged has lost its roles, and this one learns. Before that, and with all others
        # restarted too, nothing would tell it from a member of the last set: there nothing is promised.
        self.cluster.start(node)
        wait_for(lambda: self._counts(node), f"{node}'s new run counting", PATIENT)

    def _counts(self, node: str) -> bool:
        nodes = self.admin.status()["nodes"]
        return any(each["id"] == node and each["pid"] == self.cluster.pid(node) for each in nodes)

    # -- the network

    def cut_one_way(self, node: str) -> None:
        self._cut(node, self.chance.choice([self.other(node), "coordinator", "here"]))
        self.pause(0.5, 1.5, 3.0)

    def mute(self, node: str) -> None:
        """It hears all and is heard by nobody (but by the callers)."""
        for name in self.cluster.names:
            if name != node:
                self._cut(node, name)
        self.pause(0.5, 1.5, 3.0)

    def deafen(self, node: str) -> None:
        """It is heard, and hears nobody (but the callers)."""
        for name in self.cluster.names:
            if name != node:
                self._cut(name, node)
        self.pause(0.5, 1.5, 3.0)

    def cut_and_kill(self, node: str) -> None:
        """One is cut off from another while a third dies: what is left has to be enough."""
        other = self.other(node)
        self._cut(node, other)
        self.pause(0, 0.5, 1.5)
        self.cluster.kill(self.chance.choice([name for name in NODES if name not in (node, other)]))
        self.pause(0.5, 1.5)

    def _cut(self, sender: str, receiver: str) -> None:
        assert self.network is not None
        if receiver == "here":
            sender, receiver = receiver, sender  # packets can be lost on hosts only
        self.network.cut(sender, receiver)

    def heal(self) -> None:
        """Everything runs, and everybody hears everybody."""
        if self.network is not None:
            self.network.heal()
        self.cluster.start()


def soak(seed: int, seconds: float, kinds: list[str]) -> None:
    """Harm a cluster of its own for so long; raises when a promise was broken. `kinds`: only these (empty: all)."""
    chance = random.Random(seed)
    folder = tempfile.mkdtemp(prefix="soak-")
    print(f"logs and data are in {folder} until it ends well", flush=True)
    with contextlib.ExitStack() as stack:
        network = None
        try:
            network = stack.enter_context(hosts("coordinator", *NODES))
        except Unsupported as reason:
            print(f"(nobody is cut off: {reason})", flush=True)
        cluster = StoreCluster(Path(folder), len(NODES), network)
        stack.callback(cluster.stop)
        cluster.start()
        cluster.wait_until_whole()
        admin = cluster.admin(timeout=5.0)
        stack.callback(admin.close)
        harm = Harm(cluster, admin, network, chance)
        if kinds:
            harm.kinds = [kind for kind in harm.kinds if kind.__name__ in kinds]
        with Histories(cluster, "soak", timeout=PATIENT, pause=0.02) as histories:
            _harm_for(seconds, harm, histories)
    shutil.rmtree(folder)


def _harm_for(seconds: float, harm: Harm, histories: Histories) -> None:
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        kind, node = harm.chance.choice(harm.kinds), harm.chance.choice(NODES)
        histories.calm()
        try:
            kind(node)
        except StoreError as error:
            print(f"  (no control at this moment: {error})", flush=True)
        harm.heal()
        if harm.chance.random() < 0.6:
            harm.cluster.wait_until_whole()
        if rounds % JUDGED_EVERY == 0:
            _judge(harm.cluster, histories)
            histories.go_on()
        done = sum(histories.done.values())
        print(f"{kind.__name__:34} {node:8} slowest {histories.slowest:5.2f} s, {done:,} operations", flush=True)
    _judge(harm.cluster, histories)


def _judge(cluster: StoreCluster, histories: Histories) -> None:
    histories.advance()
    histories.judge()
    cluster.wait_until_alike()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Harm a cluster of this machine at random, and see that it keeps its word."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument(
        "--only", default="", metavar="KIND,…", help="kinds of harm, as they are printed (default: all)"
    )
    options = parser.parse_args()
    soak(options.seed, options.seconds, [kind for kind in options.only.split(",") if kind])
    print(f"seed {options.seed}: what everybody saw is linearizable, no operation failed, all replicas are alike")


if __name__ == "__main__":
    main()
