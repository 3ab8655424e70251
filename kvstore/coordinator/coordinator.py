"""The whole coordinator without sockets, clock, disk or threads: events in, effects out.

It decides only from its durable state, from who is alive, and from what nodes report about their replicas. Every decision
is a `Journal` effect that stands before whatever tells anybody. What the driver promises: one call at a time; `now` is
`clock.now()`, read after the event happened; effects are carried out in order, each record durable before the effect after
it; `tick` every 20 to 50 ms, and messages that have arrived are fed before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvstore.coordinator.effects import Connection, Effect
from kvstore.messages import (
    ChangeRequest,
    GetMap,
    GetStatus,
    Heartbeat,
    ProcessExited,
    Register,
    ReplicaDamaged,
    SetDisabled,
)


@dataclass(slots=True)
class Creation:
    """What a new cluster is to be. `splits` are the first rows of all tablets but the first, in order."""

    cluster: str
    group_rule: str
    splits: list[str]
    replication: int
    min_in_sync: int
    nodes_expected: int


class Coordinator:
    """The control plane's decisions. `out` holds the effects not taken yet."""

    def __init__(self, creation: Creation | None, records: Iterable[dict[str, object]], now: float) -> None:
        """`records`: the journal, snapshot first. When it is empty a cluster is made as `creation` says (`BadRequest` when
        that is malformed, or missing); when it is not, `creation` is not looked at."""
        raise NotImplementedError

    def from_node(
        self, connection: Connection, message: Register | Heartbeat | ChangeRequest | ReplicaDamaged, now: float
    ) -> None:
        """A message of a node. `connection` is remembered from a `Register`, for what is to be sent to that run."""
        raise NotImplementedError

    def node_disconnected(self, connection: Connection, now: float) -> None:
        """The connection is gone. That says nothing about the node: only missed heartbeats do."""
        raise NotImplementedError

    def request(self, token: object, message: GetMap | GetStatus | SetDisabled | ProcessExited, now: float) -> None:
        """A client's, console's or supervisor's request, answered once with `Reply`."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Every 20 to 50 ms: notice who has fallen silent, decide what follows."""
        raise NotImplementedError

    def status(self, now: float) -> dict[str, object]:
        """What `Admin.status` shows: see `kvstore.admin`."""
        raise NotImplementedError

    def snapshot(self) -> list[dict[str, object]]:
        """Records from which the durable state, as of all `Journal` effects so far, is restored."""
        raise NotImplementedError

    def take_effects(self) -> list[Effect]:
        """The effects since the last call, in the order in which they must be carried out."""
        raise NotImplementedError
