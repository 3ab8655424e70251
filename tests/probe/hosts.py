"""Machines of their own for a cluster's processes: network namespaces on one switch, and one-way loss between them.

    ┌ here ────┐   ┌ coordinator ┐   ┌ node1 ───┐   …       each with an interface and an address of its own
    └────┬─────┘   └──────┬──────┘   └────┬─────┘
         └───────────── switch ───────────┘

`cut(sender, receiver)` loses every packet from one to the other, and nothing else: the receiver's kernel drops it at the
routing decision. The sender sees no error; its TCP sends again and again, as with a cable broken in one direction. `here` is
the network of the test's own process; it can be cut off as a sender.

Needs root, `ip` of iproute2, and a kernel with network namespaces, veth, bridges and routing rules: `Unsupported` says what is
missing.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster import Machines
from tests.processes import is_alive

HERE = "here"
_SWITCH = "switch"
_LOCAL, _CUTS = 100, 50  # preferences of routing rules: what is for this machine itself must come after the cuts


class Unsupported(Exception):
    """This machine cannot have network namespaces. The text says why."""


class Hosts(Machines):
    """One host for each name. Made by `hosts`."""

    def __init__(self, names: Sequence[str]) -> None:
        """Connects the hosts; `Unsupported` where that is not possible."""
        if os.geteuid() != 0:
            raise Unsupported("only root may make network namespaces")
        if shutil.which("ip") is None:
            raise Unsupported("there is no `ip`; on Debian: apt install iproute2")
        remove_left_over()
        self._prefix = f"pc{os.getpid()}-"
        self._network = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
        self._numbers = {name: number for number, name in enumerate((HERE, *names), start=1)}
        self._cuts: list[tuple[str, str]] = []
        try:
            self._connect(names)
        except Unsupported:
            self.remove()
            raise

    def address(self, name: str) -> str:
        """The host's address."""
        return f"{self._network}.{self._numbers[name]}"

    def command(self, name: str) -> list[str]:
        """Runs what follows on the host."""
        return ["ip", "netns", "exec", self._prefix + name]

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing that `sender` sends reaches `receiver`."""
        self._on(receiver, "rule", "add", *self._cut(sender))
        self._cuts.append((sender, receiver))

    def heal(self) -> None:
        """Everything reaches everybody again."""
        for sender, receiver in self._cuts:
            self._on(receiver, "rule", "del", *self._cut(sender))
        self._cuts.clear()

    def _cut(self, sender: str) -> list[str]:
        return ["pref", str(_CUTS), "from", self.address(sender), "iif", "eth0", "blackhole"]

    def _connect(self, names: Sequence[str]) -> None:
        switch = self._prefix + _SWITCH
        ip("netns", "add", switch)
        self._on(_SWITCH, "link", "add", "bridge", "type", "bridge")
        self._on(_SWITCH, "link", "set", "bridge", "up")
        # in this process's own namespace the interface must have a name that no other test run gives
        here = f"pc{os.getpid()}"
        ip("link", "add", here, "type", "veth", "peer", "name", HERE, "netns", switch)
        ip("addr", "add", f"{self.address(HERE)}/24", "dev", here)
        ip("link", "set", here, "up")
        for name in names:
            host = self._prefix + name
            ip("netns", "add", host)
            self._on(name, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", switch)
            self._on(name, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            self._on(name, "link", "set", "lo", "up")
            self._on(name, "link", "set", "eth0", "up")
            self._on(name, "rule", "add", "pref", str(_LOCAL), "lookup", "local")
            self._on(name, "rule", "del", "pref", "0", "lookup", "local")
        for port in (HERE, *names):
            self._on(_SWITCH, "link", "set", port, "master", "bridge", "up")

    def _on(self, name: str, *arguments: str) -> None:
        ip("-n", self._prefix + name, *arguments)

    def remove(self) -> None:
        """Take the hosts away; their interfaces go with them."""
        for name in (_SWITCH, *self._numbers):
            if (Path("/run/netns") / (self._prefix + name)).exists():
                ip("netns", "del", self._prefix + name)


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Hosts for the length of the block."""
    made = Hosts(names)
    try:
        yield made
    finally:
        made.remove()


def ip(*arguments: str) -> None:
    """Run `ip`; `Unsupported`, with its words, when it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise Unsupported(f"`ip {' '.join(arguments)}` fails: {done.stderr.strip()}")


def remove_left_over() -> None:
    """Remove the namespaces of test runs that were killed."""
    folder = Path("/run/netns")
    for path in folder.iterdir() if folder.exists() else ():
        found = re.fullmatch(r"pc(\d+)-.+", path.name)
        if found and not is_alive(int(found[1])):
            ip("netns", "del", path.name)
