"""What operators, the console and the supervisor say to the coordinator, and its answers (or `kvstore.messages.Refused`).

Messages as those of `kvstore.messages`; `kvstore.wire` turns them into frames. `kvstore.admin` says them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ProcessExited:
    """The supervisor reaped the process `pid` of `node`: nobody need wait for its heartbeats or its leases."""

    node: str
    pid: int


@dataclass(slots=True)
class SetDisabled:
    """An operator takes a node out of service (its roles move away first) or back."""

    node: str
    disabled: bool


@dataclass(slots=True)
class SetRebuildAfter:
    """An operator says after how many seconds a gone node's replicas are rebuilt elsewhere; None: never."""

    seconds: float | None


@dataclass(slots=True)
class MoveReplica:
    """An operator wants the tablet's replica on `source` to be on `target` instead. Asked again while it moves, or when it is
    there, it changes nothing."""

    tablet: int
    source: str
    target: str


@dataclass(slots=True)
class WithdrawMove:
    """An operator does not want this move any more: the copy on `target` that was being made goes. Asked again when it is
    gone, it changes nothing."""

    tablet: int
    source: str
    target: str


@dataclass(slots=True)
class SetSpread:
    """An operator says whether replicas and leads are spread evenly over the nodes that are there, by themselves."""

    on: bool


@dataclass(slots=True)
class SplitTablet:
    """An operator wants the tablet cut in two, so that `row` begins the upper part; None: near the middle of its bytes.

    Not done where the tablet's range version is no longer `range_version`: asked again after the answer was lost, it tells
    what the first asking brought.
    """

    tablet: int
    range_version: int
    row: str | None


@dataclass(slots=True)
class WasSplit:
    """The answer to `SplitTablet`: the new tablet `child` begins at `row`."""

    child: int
    row: str


@dataclass(slots=True)
class SetSplitAbove:
    """An operator says from how many bytes in memory on a tablet is split by itself; None: never (`kvstore.split_above`)."""

    bytes: int | None


@dataclass(slots=True)
class Done:
    """The answer to what an operator or the supervisor says: taken note of, durably where it must be."""


@dataclass(slots=True)
class GetStatus:
    """Everything that the console and `status --json` show."""


@dataclass(slots=True)
class Status:
    """The answer to `GetStatus`: plain data, see `kvstore.admin.Admin.status`."""

    status: dict[str, object]
