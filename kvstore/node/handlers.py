"""One handler for each message about one tablet that comes from a peer: `handler(replica, message, now)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvstore.messages import (
    Acknowledge,
    Announce,
    Append,
    CaughtUp,
    CommitPoint,
    Establish,
    Join,
    JoinAccepted,
    PeerRefusal,
    Relinquish,
)
from kvstore.node.replica import Replica


def _to_leadership(name: str) -> Callable[[Replica, Any, float], None]:
    """A handler for what followers say: it concerns a primary only."""

    def handle(replica: Replica, message: Any, now: float) -> None:
        if replica.leadership is not None:
            getattr(replica.leadership, name)(message, now)

    return handle


def _join_accepted(replica: Replica, message: JoinAccepted, now: float) -> None:
    if replica.catchup is not None and replica.accepts(message):
        replica.catchup.accepted(message, now)


def _relinquished(replica: Replica, message: Relinquish, now: float) -> None:
    replica.host.leases.relinquished(message.tablet, message.epoch, message.sender)
    if replica.leadership is not None:
        replica.leadership.advance(now)


HANDLERS: dict[type, Callable[[Replica, Any, float], None]] = {
    Establish: Replica.establish,
    Announce: Replica.announced,
    Append: Replica.append,
    CommitPoint: Replica.commit_point,
    Acknowledge: _to_leadership("acknowledged"),
    PeerRefusal: _to_leadership("refused"),
    Join: _to_leadership("join"),
    CaughtUp: _to_leadership("caught_up"),
    JoinAccepted: _join_accepted,
    Relinquish: _relinquished,
}
