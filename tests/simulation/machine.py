"""A machine with one process on it: a clock that runs a little wrong, an inbox, effects that are carried out one by one.

A process handles what came in, then carries out its effects in order. Between any two of them it may crash, or be paused for
longer than a lease; then the rest is carried out late, or never. A pause holds up everything but the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.world import World


class Machine:
    """What nodes and coordinators have in common."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.boot = 0
        """Counts the processes that ran here."""
        self.process: Any = None
        chance = world.random
        self._rate = 1 + chance.uniform(-0.0095, 0.0095)
        self._offset = chance.uniform(0, 1000)
        self._paused_until = 0.0
        self._inbox: deque[Callable[[Any, float], None]] = deque()
        self._effects: deque[Any] = deque()
        self._turn_scheduled = False
        self.crash_in: int | None = None
        """Crash after so many effects."""
        self.pause_in: tuple[int, float] | None = None
        """Pause after so many effects, for so many seconds."""

    @property
    def alive(self) -> bool:
        """Whether a process runs here (paused or not)."""
        return self.process is not None

    @property
    def clock(self) -> float:
        """This machine's own clock."""
        return self._offset + self.world.now * self._rate

    def of_clock(self, seconds: float) -> float:
        """How long `seconds` of this machine's clock take in truth."""
        return seconds / self._rate

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Start a process."""
        assert self.process is None
        self.boot += 1
        self._paused_until = 0.0
        self.crash_in = self.pause_in = None
        self.world.note(self.name, "starts, process", self.boot)
        self.process = self.make_process()
        self._tick(self.boot)

    def crash(self) -> None:
        """The process ends at once."""
        if self.process is None:
            return
        self.world.note(self.name, "CRASHES")
        self.process = None
        self._inbox.clear()
        self._effects.clear()
        self.crash_in = self.pause_in = None
        self.ended()

    def pause(self, seconds: float) -> None:
        """The process does not run for a while."""
        if self.process is not None:
            self.world.note(self.name, f"is PAUSED for {seconds:.2f} s")
            self._paused_until = max(self._paused_until, self.world.now + seconds)

    @property
    def paused(self) -> bool:
        """Whether the process does not run at this moment."""
        return self.world.now < self._paused_until

    # ---------------------------------------------------------------- turns

    def put(self, event: Callable[[Any, float], None]) -> None:
        """Something for the process: `event(process, its clock)`, in its next turn."""
        if self.process is not None:
            self._inbox.append(event)
            self._wake()

    def _wake(self, delay: float = 0.0) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self.world.after(delay or self.world.random.uniform(0.0, 0.0003), self._turn, self.boot)

    def _turn(self, boot: int) -> None:
        self._turn_scheduled = False
        if boot != self.boot or self.process is None:
            if self._inbox:
                self._wake()
            return
        if self.paused:
            self._wake(self._paused_until - self.world.now)
            return
        if not self._carry_out():
            return
        while self._inbox:
            self._inbox.popleft()(self.process, self.clock)
            if self.process is None:
                return
        self.settle_turn()
        self._effects.extend(self.process.take_effects())
        if self._carry_out() and self._inbox:
            self._wake()

    def _carry_out(self) -> bool:
        """Carry out effects; False if the process crashed or was paused before the last of them."""
        boot = self.boot
        while self._effects:
            if self.crash_in is not None:
                self.crash_in -= 1
                if self.crash_in < 0:
                    self.crash()
                    return False
            if self.pause_in is not None:
                count, seconds = self.pause_in
                self.pause_in = (count - 1, seconds) if count > 0 else None
                if count <= 0:
                    self.pause(seconds)
            if self.paused:
                self._wake(self._paused_until - self.world.now)
                return False
            self.carry_out(self._effects.popleft())
            if self.process is None or self.boot != boot:
                return False
        return True

    def _tick(self, boot: int) -> None:
        if boot != self.boot or self.process is None:
            return
        self.put(self.on_tick)
        self.world.after(self.of_clock(self.world.random.uniform(0.02, 0.05)), self._tick, boot)

    # ---------------------------------------------------------------- what differs

    def make_process(self) -> Any:
        """A new process on what is on disk here."""
        raise NotImplementedError

    def ended(self) -> None:
        """The process is gone: its connections break, its disk loses what was not synced."""
        raise NotImplementedError

    def carry_out(self, effect: Any) -> None:
        """Do one effect."""
        raise NotImplementedError

    def settle_turn(self) -> None:
        """All that had arrived was fed."""

    def on_tick(self, process: Any, now: float) -> None:
        """Some tens of milliseconds have passed."""
        process.tick(now)
