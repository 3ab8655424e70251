"""Which front ends there are, which are healthy, and whose turn it is. Pure: no socket, no clock.

Health is a small state machine for each front end:

    UNTRIED ──probe ok──▶ HEALTHY ──PROBE_FAILURES failed probes in a row, or one refused connection──▶ OUT
                             ▲                                                                            │
                             └──────────────────────────── one probe ok ─────────────────────────────────┘

A refused connection is proof (nothing listens there) and counts at once, so the next request does not have to find
out for itself. A slow or failed answer is only a hint, and is left to the health checks: one page that crashes must
not take down a front end that serves a thousand others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum

from . import limits


class Health(Enum):
    """What is known of a front end."""

    UNTRIED = "untried"  # just configured: gets no request before its first good health check
    HEALTHY = "healthy"  # gets requests
    OUT = "out"  # gets none until a health check succeeds


@dataclass
class Backend:
    """One front end as the balancer sees it."""

    address: tuple[str, int]
    health: Health = Health.UNTRIED
    active: int = 0
    """Requests in hand."""
    served: int = 0
    """Requests answered, since the balancer started."""
    failures: int = 0
    """Requests and connections that broke, since the balancer started."""
    probe_failures: int = 0
    """Health checks failed in a row."""
    last_chosen: int = 0

    @property
    def name(self) -> str:
        """As people write it: host:port."""
        return f"{self.address[0]}:{self.address[1]}"


@dataclass
class BackendTable:
    """All front ends of a balancer."""

    backends: list[Backend] = field(default_factory=list)
    _turn: int = 0

    @classmethod
    def of(cls, addresses: Collection[tuple[str, int]]) -> BackendTable:
        return cls([Backend(address) for address in addresses])

    def choose(self, without: Collection[Backend] = ()) -> Backend | None:
        """The healthy front end with the fewest requests in hand, of equals the one that has waited longest; never
        one of `without`. None: there is none."""
        candidates = [
            backend
            for backend in self.backends
            if backend.health is Health.HEALTHY and not any(backend is other for other in without)
        ]
        chosen = min(candidates, key=lambda backend: (backend.active, backend.last_chosen), default=None)
        if chosen is not None:
            self._turn += 1
            chosen.last_chosen = self._turn
        return chosen

    def probe_succeeded(self, backend: Backend) -> bool:
        """True if the front end has just become healthy."""
        recovered = backend.health is not Health.HEALTHY
        backend.health = Health.HEALTHY
        backend.probe_failures = 0
        return recovered

    def probe_failed(self, backend: Backend, *, refused: bool = False) -> bool:
        """True if the front end has just been put out."""
        backend.probe_failures += 1
        if backend.health is not Health.HEALTHY:
            return False
        if refused or backend.probe_failures >= limits.PROBE_FAILURES:
            backend.health = Health.OUT
            return True
        return False

    def connection_failed(self, backend: Backend) -> bool:
        """A request could not even connect. True if the front end has just been put out."""
        backend.failures += 1
        return self.probe_failed(backend, refused=True)
