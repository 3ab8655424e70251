"""What is asked of this machine's own processes: the load balancer's view of the front ends, the supervisor's levers.

Neither is the store's business, and either may be away while the store is well: what cannot be reached raises
`Unreachable` with a sentence, and the page says it in place of the figures.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from penncloud_site.supervisor.control import Refused, SupervisorClient, SupervisorGone

BALANCER_TIMEOUT_S = 1.0
BALANCER_ANSWER_BYTES = 1024 * 1024


class Unreachable(Exception):
    """The balancer or the supervisor cannot be asked; the message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A front end as the balancer sees it; the counts are since the balancer started."""

    address: str
    healthy: bool
    active: int
    served: int
    failures: int


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the supervisor sees it; its states are those of `penncloud_site.supervisor.control`."""

    name: str
    state: str
    restarts: int

    @property
    def is_down(self) -> bool:
        """Whether it stays down until somebody starts it."""
        return self.state == "down"


def front_ends() -> tuple[FrontEnd, ...]:
    """The balancer's front ends in the order of their addresses; `Unreachable` if it does not say."""
    url = str(settings.PENNCLOUD.get("BALANCER_STATUS") or "")
    if not url.startswith("http://"):
        raise Unreachable("No load balancer is configured for this front end (BALANCER_STATUS).")
    try:
        with urllib.request.urlopen(url, timeout=BALANCER_TIMEOUT_S) as answer:  # noqa: S310 - http:// was checked
            return read_front_ends(json.loads(answer.read(BALANCER_ANSWER_BYTES)))
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Unreachable(f"The load balancer does not answer at {url}: {reason}.") from error


def read_front_ends(raw: object) -> tuple[FrontEnd, ...]:
    """The balancer's JSON (`penncloud_site.loadbalancer.status`) as records; `ValueError` if it is something else."""
    listed = raw.get("frontends") if isinstance(raw, dict) else None
    if not isinstance(listed, list):
        raise ValueError("its status has no list of front ends")
    try:
        found = [
            FrontEnd(
                address=str(one["address"]),
                healthy=bool(one["healthy"]),
                active=int(one["active"]),
                served=int(one["served"]),
                failures=int(one["failures"]),
            )
            for one in listed
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"its status lacks {error}") from error
    return tuple(sorted(found, key=lambda one: one.address))


class Supervisor:
    """The levers of this machine's supervisor. Every method raises `Unreachable`: no supervisor, or no such process."""

    def __init__(self) -> None:
        self._client = SupervisorClient(settings.PENNCLOUD["DATA_DIR"])

    def process(self, name: str) -> Process | None:
        """The process of that name, or None if this machine's supervisor does not run it."""
        return next((process for process in self._all() if process.name == name), None)

    def restart(self, name: str) -> None:
        """Stop it cleanly and start it again."""
        self._tell(self._client.restart, name)

    def kill(self, name: str) -> None:
        """SIGKILL; the supervisor then starts it again, as after any death."""
        self._tell(self._client.kill, name)

    def start(self, name: str) -> None:
        """Start what was stopped."""
        self._tell(self._client.start, name)

    def _all(self) -> list[Process]:
        try:
            listed = self._client.status()
            return [Process(str(one["name"]), str(one["state"]), int(one["restarts"])) for one in listed]
        except SupervisorGone as error:
            raise Unreachable(str(error)) from error
        except (Refused, KeyError, TypeError, ValueError) as error:
            raise Unreachable(f"This machine's supervisor gives no list of its processes: {error}.") from error

    def _tell(self, command: Callable[[str], None], name: str) -> None:
        try:
            command(name)
        except (SupervisorGone, Refused) as error:
            raise Unreachable(str(error)) from error
