"""What a `Node` wants done: the driver (server or simulator) carries these out in the order in which they stand.

Nothing here is waited for by the node: what comes of an effect comes back as an input. A driver may stop between any two
(that is a crash); it must not swap two messages to the same receiver, nor move a message in front of an earlier effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvstore.errors import NotPrimary
from kvstore.messages import (
    Beacon,
    ChangeRequest,
    Get,
    GetRow,
    Grant,
    Heartbeat,
    PeerMessage,
    Refused,
    ReplicaDamaged,
    Scan,
    SplitDeclined,
    SplitRequest,
)
from kvstore.questions import AskCommitPoint, ReadChanges, ReadResults

NOT_PRIMARY_ANY_MORE = Refused(NotPrimary.__name__, "the lease ran out before the answer could be sent")
"""What a read is answered when its lease did not last (see `Reply`)."""

Token = object
"""Names a client's request: chosen by the driver, never looked into. Of a write, (its source, its id)."""


@dataclass(slots=True)
class SendPeer:
    """Send `message` to the node of that name, if it is connected (a message that is lost breaks the connection)."""

    node: str
    message: PeerMessage | Beacon | Grant


@dataclass(slots=True)
class SendCoordinator:
    """Send `message` to the coordinator, if it is connected."""

    message: ChangeRequest | Heartbeat | ReplicaDamaged | SplitRequest | SplitDeclined


@dataclass(slots=True)
class Reply:
    """Answer the request `token`.

    `valid_until` is the end of the lease under which a read was made, on this node's clock. The driver reads the clock
    *after* it took this effect: if that is past `valid_until`, the process was paused since, somebody else may have
    written, and `NOT_PRIMARY_ANY_MORE` is the answer instead (trap 3). Once checked, the answer may be sent at any time:
    it was true at the moment of the check, which lies between the request and its answer.
    """

    token: Token
    message: object
    valid_until: float = math.inf


@dataclass(slots=True)
class Committed:
    """Writes that were committed together: in the order of `groups`, (source, id) i gets
    `Written(outcomes[i], epoch, first + i, failed[i])`. `failed` is None when no requirement failed in the whole entry.
    """

    groups: list[tuple[Token, list[int]]]
    epoch: int
    first: int
    outcomes: list[int]
    failed: list[int] | None = None


@dataclass(slots=True)
class Forward:
    """This node is a secondary: ask `request` of `node`. When the answer comes, or the connection is lost,
    `Node.forward_ended(token)` tells whether to give it to `token`, as it is; the node may have answered meanwhile."""

    token: Token
    node: str
    request: Get | GetRow | Scan


@dataclass(slots=True)
class RequestPrimary:
    """Ask `request` of `node` as a client would; the answer, or None when the connection was lost before it came, goes to
    `Node.primary_answered(token, …)`."""

    node: str
    request: Get | Scan | ReadChanges | ReadResults | AskCommitPoint
    token: Token


@dataclass(slots=True)
class FlushAgain:
    """More is ready, and was kept back so that large values leave one by one: have another round, with `Node.flush`, soon."""


@dataclass(slots=True)
class WakeLog:
    """Something was appended to the log: make it durable soon, then call `Node.synced`."""


@dataclass(slots=True)
class StopServing:
    """The node must not go on: its log failed. It answers nothing any more; the process should end and say `reason`."""

    reason: str


Effect = SendPeer | SendCoordinator | Reply | Committed | Forward | RequestPrimary | FlushAgain | WakeLog | StopServing
