"""Virtual time: what happens when, in one order, from one source of chance."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any


class World:
    """The run's clock, its queue of events, its random numbers and its timeline."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.timeline: list[tuple[float, str, str, tuple[Any, ...]]] = []
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = itertools.count()

    def after(self, delay: float, what: Callable[..., None], *arguments: Any) -> None:
        """Call `what` in `delay` seconds."""
        heapq.heappush(self._queue, (self.now + delay, next(self._serial), what, arguments))

    def run(self, until: float) -> None:
        """Let everything happen that is due up to `until`."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, what, arguments = heapq.heappop(queue)
            what(*arguments)
        self.now = until

    def note(self, who: str, what: str, *arguments: Any) -> None:
        """Write a line into the timeline; it is put together only if somebody reads it."""
        self.timeline.append((self.now, who, what, arguments))

    def story(self, last: int = 400) -> str:
        """The last lines of the timeline, readable."""
        lines = []
        for now, who, what, arguments in self.timeline[-last:]:
            lines.append(f"{now:9.4f}  {who:<8} {what} {' '.join(map(str, arguments))}")
        return "\n".join(lines)
