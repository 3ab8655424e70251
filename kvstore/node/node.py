"""A whole storage node without sockets, clock, disk or threads: events in, effects out.

`Node` routes what comes in to the machines that decide: a `Replica` for each tablet, the `Leases` of all of them, a
`CatchUp` for each tablet that it is learning. The storage engine's calls are made synchronously; they only buffer: durable
is what `synced` has been told. The same class runs behind sockets (`kvstore.node.server`) and under the simulator.

What the driver promises:

- One call at a time, never re-entered. `now` is `clock.now()` of this machine, read *after* the event happened: a beacon's
  grant counts from there (trap 1), so a reading older than the message's arrival would end a grant too early.
- After one or more inputs: `flush(now)`, then `take_effects()`, carried out in order.
- `tick(now)` every 20 to 50 ms, and what has already arrived is fed before it: else a process that was paused takes its
  peers for silent.
- A message lost between two nodes shows as `peer_disconnected`, or at the latest as the next `peer_connected`: within the
  life of one connection messages arrive complete and in order.
- Requests from outside were checked for their form (`mutation.check_header`, `mutation.check_bulk`); that rows lie in the
  tablet and in one group is checked here.
"""

from __future__ import annotations

from kvstore.messages import (
    Beacon,
    ChangeAnswer,
    Configure,
    Get,
    GetMap,
    GetRow,
    Grant,
    Heartbeat,
    PeerMessage,
    ReadResults,
    Register,
    Registered,
    Scan,
    Write,
)
from kvstore.node.effects import Effect, Token


class Node:
    """A storage node. `name` is its id in configurations; `out` holds the effects not taken yet."""

    def __init__(
        self, name: str, engine: object, *, boot_id: str, started: float, address: str = "", pid: int = 0
    ) -> None:
        """`engine`: an open `kvstore.storage.engine.Engine`. `boot_id`: made at random for this process. `started`: the
        clock's reading when the process began; what it promised in an earlier life may hold for `GRANT_WAIT` from then.
        `address` ("host:port") and `pid` go into the registration."""
        raise NotImplementedError

    # -- registration and the coordinator

    def register_message(self, now: float) -> Register:
        """What to send first on every new connection to the coordinator."""
        raise NotImplementedError

    def from_coordinator(self, message: Registered | Configure | ChangeAnswer, now: float) -> None:
        """A message of the coordinator. After `Registered` a heartbeat is sent at once, as an effect."""
        raise NotImplementedError

    def heartbeat(self, now: float, disk_age: float, figures: dict[str, float]) -> Heartbeat | None:
        """What to send every `HEARTBEAT_INTERVAL`; None before the first registration. `disk_age` in seconds."""
        raise NotImplementedError

    # -- peers

    def from_peer(self, message: PeerMessage | Beacon | Grant, now: float) -> None:
        """A message of another node."""
        raise NotImplementedError

    def peer_connected(self, node: str, now: float) -> None:
        """What is sent to `node` from now on arrives, in order, until the connection is lost."""
        raise NotImplementedError

    def peer_disconnected(self, node: str, now: float) -> None:
        """The connection on which this node sends to `node` is gone; what was sent last may be lost."""
        raise NotImplementedError

    def primary_answered(self, token: Token, message: object | None, now: float) -> None:
        """The answer to a `RequestPrimary` (a `Refused` included), or None: the connection was lost."""
        raise NotImplementedError

    # -- clients

    def client_request(
        self, token: Token, request: Write | Get | GetRow | Scan | ReadResults | GetMap, now: float
    ) -> None:
        """A client's request. `token` is answered exactly once, unless the process dies."""
        raise NotImplementedError

    # -- the log

    def synced(self, lsn: int, now: float) -> None:
        """Everything appended up to `lsn` is on disk."""
        raise NotImplementedError

    def log_failed(self, reason: str) -> None:
        """The log could not be made durable. It is never tried again: the node stops serving (trap 23)."""
        raise NotImplementedError

    def out_of_space(self, full: bool) -> None:
        """Whether there is no room for writes any more (trap 27): they are refused with `NoSpace`, reads go on."""
        raise NotImplementedError

    def replica_damaged(self, tablet: int, reason: str, now: float) -> None:
        """The engine found damage in a tablet's data (its `on_corrupt`): the replica must be rebuilt from another."""
        raise NotImplementedError

    # -- time

    def flush(self, now: float) -> None:
        """After a round of inputs: waiting writes become entries, entries are sent."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Every 20 to 50 ms: beacons, silent members, commit notices, lost requests to the coordinator."""
        raise NotImplementedError

    def take_effects(self) -> list[Effect]:
        """The effects since the last call, in the order in which they must be carried out."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """Whether the node leads no tablet: it may stop without anybody noticing."""
        raise NotImplementedError
