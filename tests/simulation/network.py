"""The network: connections that carry messages in order until they break, and everything that can befall them.

Within the life of a connection messages arrive complete and in order, as TCP has it; a message that is lost breaks the
connection, and its ends notice late. What was under way when a connection broke may still arrive, after messages of
the next connection did. A blocked direction first holds messages back (they come through if it is unblocked in time)
and then breaks what runs over it. A process that ends takes its connections along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.simulation.world import World


class Party(Protocol):
    """A machine that connections lead to. `boot` counts its processes; 0 in `alive` terms is told by `alive`."""

    name: str
    boot: int

    @property
    def alive(self) -> bool: ...


class Network:
    """Who reaches whom, and how well."""

    LONGEST = 3.0
    """Seconds that a message takes at most: what takes longer has broken its connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.blocked: set[tuple[str, str]] = set()
        self.loss = 0.0
        """Chance that a message is lost (and its connection breaks)."""
        self.slowness = 1.0

    def delay(self) -> float:
        """Seconds that a message takes now: mostly little, now and then much."""
        chance = self.world.random
        base = chance.uniform(0.0001, 0.001)
        if chance.random() < 0.02:
            base += chance.uniform(0.0, 0.1)
        return min(base * self.slowness, self.LONGEST)

    def reaches(self, source: str, target: str) -> bool:
        """Whether the direction is open at this moment."""
        return (source, target) not in self.blocked

    def loses(self) -> bool:
        """Whether the message sent now is lost."""
        return self.loss > 0 and self.world.random.random() < self.loss


class Connection:
    """One direction of one connection, from one process to another."""

    PATIENCE = (0.3, 3.0)
    """After how many seconds of holding back a connection breaks."""

    def __init__(
        self,
        network: Network,
        source: Party,
        target: Party,
        deliver: Callable[[object], None],
        broken: Callable[[], None],
    ) -> None:
        """`deliver(message)` at the target; `broken()` once, when the source notices that it broke."""
        self._network, self._world = network, network.world
        self._source, self._target = source, target
        self._source_boot, self._target_boot = source.boot, target.boot
        self._deliver, self._broken = deliver, broken
        self._clear_at = 0.0
        self._held: list[object] = []
        self.up = True

    def send(self, message: object) -> None:
        """Put a message on its way."""
        if not self.up:
            return
        if self._network.loses():
            self.breaks(self._world.random.uniform(0.0, 0.5))
        elif self._held or not self._network.reaches(self._source.name, self._target.name):
            if not self._held:
                self._world.after(self._world.random.uniform(*self.PATIENCE), self._impatient, len(self._held))
                self._world.after(0.05, self._unblock)
            self._held.append(message)
        else:
            self._depart(message)

    def _depart(self, message: object) -> None:
        # behind all that was sent before on this connection
        self._clear_at = max(self._clear_at, self._world.now + self._network.delay())
        self._world.after(self._clear_at - self._world.now, self._arrive, message)

    def _unblock(self) -> None:
        if not self._held or not self.up:
            return
        if self._network.reaches(self._source.name, self._target.name):
            held, self._held = self._held, []
            for message in held:
                self._depart(message)
        else:
            self._world.after(0.05, self._unblock)

    def _impatient(self, _: int) -> None:
        if self._held:
            self.breaks(0.0)

    def _arrive(self, message: object) -> None:
        # a broken connection still brings what had left before; never to another process than the one that it led to
        if self._target.alive and self._target.boot == self._target_boot:
            self._deliver(message)

    def breaks(self, notice: float) -> None:
        """From now on nothing leaves; the source notices after `notice` seconds."""
        if self.up:
            self.up = False
            self._held.clear()
            self._world.after(notice, self._notice)

    def _notice(self) -> None:
        if self._source.alive and self._source.boot == self._source_boot:
            self._broken()
