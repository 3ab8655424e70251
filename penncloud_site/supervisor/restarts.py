"""When a process that died is started again. Pure: times come in, a pause comes out.

The first time at once: whoever killed it wants to see it back. If it keeps dying soon after its start, the pauses
double up to PAUSE_MOST; one that ran for STABLE seconds has earned a fresh start.
"""

from __future__ import annotations

from dataclasses import dataclass

PAUSE_FIRST = 0.1
PAUSE_SECOND = 0.5
PAUSE_MOST = 15.0
STABLE = 30.0
LOOPING = 4
"""So many deaths in a row, each within STABLE of its start, are called a crash loop."""


@dataclass
class Restarts:
    """The history of one process, as far as it matters. All times in seconds."""

    quick_deaths: int = 0
    total: int = 0

    def died(self, lifetime: float) -> float:
        """It died after `lifetime`; the pause until its next start."""
        self.total += 1
        self.quick_deaths = 1 if lifetime >= STABLE else self.quick_deaths + 1
        if self.quick_deaths == 1:
            return PAUSE_FIRST
        return min(PAUSE_SECOND * 2 ** (self.quick_deaths - 2), PAUSE_MOST)

    @property
    def looping(self) -> bool:
        """Whether it keeps dying soon after each start."""
        return self.quick_deaths >= LOOPING
