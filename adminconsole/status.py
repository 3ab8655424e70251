"""The coordinator's status as records: the one place that knows the shape of `Admin.status()`.

Times are seconds, sizes bytes. What the status must have (ids, states, ranges, sets) is required, and its absence is
`MalformedStatus`; figures that a node has not reported yet are zero or None.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kvstore import settings


class MalformedStatus(Exception):
    """The status lacks something that it must have; the message names it."""


class NodeState(enum.StrEnum):
    """What the coordinator thinks of a node."""

    UP = "up"  # heard in time
    SUSPECT = "suspect"  # a heartbeat is late; nothing was decided yet
    DOWN = "down"  # taken for dead: its roles go to others
    DISABLED = "disabled"  # runs, but an operator wants it to hold no role
    DRAINING = "draining"  # being disabled: its roles are on their way to others


@dataclass(frozen=True, slots=True)
class Node:
    """One storage node. `last_heartbeat_s` and `disk_age_s` are ages; None when nothing was ever heard."""

    id: str
    state: NodeState
    address: str = ""
    pid: int = 0
    incarnation: int = 0
    last_heartbeat_s: float | None = None
    disk_age_s: float | None = None
    log_bytes: int = 0
    disk_free: int | None = None
    disk_full: bool = False
    """It takes no writes for want of room, and so is in no set that can do without it."""
    memory_bytes: int = 0
    cells: int = 0
    bytes: int = 0
    primary_of: int = 0
    secondary_of: int = 0
    learner_of: int = 0
    disabled: bool = False
    """An operator took it out of service, whether its process runs or not: what it holds is not rebuilt elsewhere."""
    replica_of: int | None = None
    """How many tablets belong on it; None when the coordinator does not say."""
    rebuilt_in_s: float | None = None
    """After how long what it held is rebuilt elsewhere; None when it is neither gone nor its disk of no use, or that is never
    done."""
    longest_pause_ms: float | None = None
    """The longest that its event loop was kept from going round since it started; None when it does not say."""
    scrub_percent: int | None = None
    """How much of what it stores it has read again in the scrub's present round; None when it does not say."""
    scrub_ended_s: float | None = None
    """How long ago the last round ended; None when none has."""
    scrub_damages: int = 0
    """What it found damaged so, since it started."""

    @property
    def can_take(self) -> bool:
        """Whether it can be given a replica, as far as its state and its disk tell."""
        return self.state is NodeState.UP and not self.disk_full and not self.disk_stalls

    @property
    def disk_stalls(self) -> bool:
        """Whether its log has waited too long to reach the disk."""
        return self.disk_age_s is not None and self.disk_age_s > settings.DISK_STALL

    @property
    def is_spare(self) -> bool:
        """Whether it runs, and could take any tablet, having none."""
        return self.can_take and self.replica_of == 0

    @property
    def is_live(self) -> bool:
        """Whether its process is taken to run and can serve what it holds."""
        return self.state is not NodeState.DOWN

    def has_room(self, size: int) -> bool:
        """Whether a replica of `size` bytes fits on its disk, with enough left, as far as it has told."""
        return self.disk_free is None or self.disk_free > size + settings.MOVE_LEAVES

    @property
    def is_sound(self) -> bool:
        """Whether one may count on it: a suspect node may be dead already."""
        return self.state not in (NodeState.DOWN, NodeState.SUSPECT)


@dataclass(frozen=True, slots=True)
class Recovery:
    """How far a learner has come with one tablet."""

    node: str
    cells_done: int
    cells_total: int
    cells_copied: int
    bytes_done: int
    seconds_left: int | None
    """At the pace so far; None when that cannot be told."""

    @property
    def percent(self) -> int:
        """0 to 99: it is complete only when the coordinator has taken the learner into the in-sync set."""
        if self.cells_total <= 0:
            return 0
        return max(0, min(99, self.cells_done * 100 // self.cells_total))


@dataclass(frozen=True, slots=True)
class Copy:
    """What one node last reported of its replica of a tablet; the digest is of what is committed at `commit`."""

    node: str
    sequence: int
    commit: int
    digest: str
    cells: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Tablet:
    """One tablet: rows in [start, end); an `end` of None has no upper bound."""

    id: int
    start: str
    end: str | None
    epoch: int
    primary: str
    in_sync: tuple[str, ...]
    learners: tuple[str, ...]
    replicas: tuple[str, ...]
    wanted: int
    range_version: int = 0
    cells: int = 0
    bytes: int = 0
    sequence: int = 0
    digest: str = ""
    waiting_for: tuple[str, ...] = ()
    recovery: tuple[Recovery, ...] = ()
    copies: tuple[Copy, ...] = ()
    moving_from: str = ""
    moving_to: str = ""
    """The nodes between which one replica is on its way; empty when none is. `replicas` names both, `wanted` counts it once."""

    def copy(self, node_id: str) -> Copy | None:
        """What that node reported of its replica, or None."""
        return next((copy for copy in self.copies if copy.node == node_id), None)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What holds for the whole cluster."""

    name: str
    replication: int
    min_in_sync: int
    group_rule: str = ""
    uptime_s: float = 0.0
    rebuild_after_s: float | None = None
    """For how long a node must be gone before its replicas are rebuilt elsewhere; None: for ever."""
    split_above: int | None = None
    """Bytes in memory from which on a tablet is split by itself; None: never."""
    spread: bool = False
    """Whether replicas and leads spread by themselves over the nodes that are there."""


@dataclass(frozen=True, slots=True)
class Status:
    """The cluster, its nodes and its tablets, as the coordinator saw them at one moment."""

    cluster: Cluster
    nodes: tuple[Node, ...]
    tablets: tuple[Tablet, ...]

    def node(self, node_id: str) -> Node | None:
        """The node of that id, or None."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def tablet(self, tablet_id: int) -> Tablet | None:
        """The tablet of that id, or None."""
        return next((tablet for tablet in self.tablets if tablet.id == tablet_id), None)

    def could_take_over(self, node_id: str) -> tuple[str, ...]:
        """The nodes on which replicas of that node could be rebuilt: those that can take one that they do not hold, and have
        room for it."""
        its = [tablet for tablet in self.tablets if node_id in tablet.replicas]
        able = [node for node in self.nodes if node.can_take]
        return tuple(
            node.id for node in able if any(node.id not in each.replicas and node.has_room(each.bytes) for each in its)
        )

    def aged(self, seconds: float) -> Status:
        """This status as it reads `seconds` later: what was heard 0.2 s before it was taken is so much older now."""
        return replace(self, nodes=tuple(_aged(node, seconds) for node in self.nodes))

    def live(self, node_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `node_ids` that are not down, in their order."""
        return tuple(name for name in node_ids if (node := self.node(name)) is not None and node.is_live)


def _aged(node: Node, seconds: float) -> Node:
    return node if node.last_heartbeat_s is None else replace(node, last_heartbeat_s=node.last_heartbeat_s + seconds)


def parse(raw: Mapping[str, Any]) -> Status:
    """`Admin.status()` as records; `MalformedStatus` if a required part is missing or of the wrong kind."""
    try:
        return Status(
            cluster=_cluster(raw["cluster"]),
            nodes=tuple(sorted((_node(node) for node in raw["nodes"]), key=lambda node: _natural(node.id))),
            tablets=tuple(sorted((_tablet(tablet) for tablet in raw["tablets"]), key=lambda tablet: tablet.start)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedStatus(f"the status cannot be read: {type(error).__name__}: {error}") from error


def _natural(name: str) -> tuple[str, int]:
    """Sorts node10 after node9."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def _cluster(raw: Mapping[str, Any]) -> Cluster:
    return Cluster(
        name=str(raw["name"]),
        replication=int(raw["replication"]),
        min_in_sync=int(raw["min_in_sync"]),
        group_rule=str(raw.get("group_rule") or ""),
        uptime_s=float(raw.get("uptime_s") or 0.0),
        rebuild_after_s=_age(raw.get("rebuild_after_s")),
        split_above=None if raw.get("split_above") is None else int(raw["split_above"]),
        spread=bool(raw.get("spread")),
    )


def _age(value: object) -> float | None:
    """An age in seconds; None when nothing was heard. A clock that stepped must not show a negative one."""
    return None if value is None else max(0.0, float(value))  # type: ignore[arg-type]


def _node(raw: Mapping[str, Any]) -> Node:
    figures = {
        name: int(raw.get(name) or 0)
        for name in (
            "pid",
            "incarnation",
            "log_bytes",
            "memory_bytes",
            "cells",
            "bytes",
            "primary_of",
            "secondary_of",
            "learner_of",
        )
    }
    told = raw.get("figures") or {}
    ended = told.get("scrub_ended_s", -1)
    replica_of = raw.get("replica_of")
    state = NodeState(raw["state"])
    disk_free = raw.get("disk_free")
    return Node(
        id=str(raw["id"]),
        state=state,
        address=str(raw.get("address") or ""),
        last_heartbeat_s=_age(raw.get("last_heartbeat_s")),
        disk_age_s=_age(raw.get("disk_age_s")),
        disk_free=None if disk_free is None else int(disk_free),
        disk_full=bool(raw.get("disk_full")),
        disabled=bool(raw.get("disabled", state in (NodeState.DISABLED, NodeState.DRAINING))),
        replica_of=None if replica_of is None else int(replica_of),
        rebuilt_in_s=_age(raw.get("rebuilt_in_s")),
        longest_pause_ms=_age(told.get("longest_pause_ms")),
        scrub_percent=None if "scrub_round" not in told else int(told["scrub_round"] * 100),
        scrub_ended_s=None if ended < 0 else ended,
        scrub_damages=int(told.get("scrub_damages") or 0),
        **figures,
    )


def _names(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, (list, tuple)):
        raise TypeError(f"a list of node ids was expected, not {raw!r}")
    return tuple(str(name) for name in raw)


def _tablet(raw: Mapping[str, Any]) -> Tablet:
    end = raw["end"]
    moving = raw.get("moving") or {"from": "", "to": ""}
    return Tablet(
        id=int(raw["id"]),
        start=str(raw["start"]),
        end=None if end is None else str(end),
        epoch=int(raw["epoch"]),
        primary=str(raw["primary"] or ""),
        in_sync=_names(raw["in_sync"]),
        learners=_names(raw["learners"]),
        replicas=_names(raw["replicas"]),
        wanted=int(raw["wanted"]),
        range_version=int(raw.get("range_version") or 0),
        cells=int(raw.get("cells") or 0),
        bytes=int(raw.get("bytes") or 0),
        sequence=int(raw.get("sequence") or 0),
        digest="" if raw.get("digest") is None else str(raw["digest"]),
        waiting_for=_names(raw.get("waiting_for") or ()),
        recovery=tuple(_recovery(part) for part in raw.get("recovery") or ()),
        copies=tuple(_copy(part) for part in raw.get("copies") or ()),
        moving_from=str(moving["from"]),
        moving_to=str(moving["to"]),
    )


def _recovery(raw: Mapping[str, Any]) -> Recovery:
    left = int(raw.get("seconds_left", -1))
    return Recovery(
        node=str(raw["node"]),
        cells_done=int(raw.get("cells_done") or 0),
        cells_total=int(raw.get("cells_total") or 0),
        cells_copied=int(raw.get("cells_copied") or 0),
        bytes_done=int(raw.get("bytes_done") or 0),
        seconds_left=None if left < 0 else left,
    )


def _copy(raw: Mapping[str, Any]) -> Copy:
    return Copy(
        node=str(raw["node"]),
        sequence=int(raw.get("sequence") or 0),
        commit=int(raw.get("commit") or 0),
        digest=str(raw.get("digest") or ""),
        cells=int(raw.get("cells") or 0),
        bytes=int(raw.get("bytes") or 0),
    )
