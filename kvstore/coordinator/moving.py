"""One replica of a tablet goes from one node to another. Pure.

A move is two records (`docs/replication.md`, "A replica is moved"). `begin` adds the node that it goes to at the end of
`replicas`, to learn, and names in `leaving` the one that it goes from, which stays what it is. `ended` takes that one out,
when all the others are in the set and in time. What is under way stands in the configuration, so a coordinator that starts
anew goes on with it. On either side of each record the tablet has one owner and every copy that it had.

A move is withdrawn when the node that it goes to is disabled, or stays missing; never while that node is in the set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from kvstore import settings
from kvstore.coordinator.membership import Membership
from kvstore.coordinator.placement import changed, first_of, learners_of
from kvstore.errors import BadRequest
from kvstore.messages import Configuration, Member


@dataclass(slots=True, frozen=True)
class Step:
    """What is decided about one tablet, and the sentence that says why."""

    configuration: Configuration
    words: str


def arriving(now: Configuration) -> str:
    """The node that the tablet's replica on `now.leaving` moves to; empty if none moves."""
    return now.replicas[-1] if now.leaving else ""


def wanted(now: Configuration) -> int:
    """How many members make the tablet's set full: a replica that moves is not wanted twice."""
    return len(now.replicas) - bool(now.leaving)


def size_of(now: Configuration, nodes: Membership) -> int:
    """Bytes of the tablet, keys and values, as its primary told last; 0 while nobody has."""
    report = nodes.nodes[now.primary.node].reports.get(now.tablet) if now.primary is not None else None
    return report.bytes if report is not None else 0


def has_room(name: str, size: int, nodes: Membership) -> bool:
    """Whether the node's disk has room for `size` bytes more, and enough besides, as far as it has told."""
    free = nodes.nodes[name].figures.get("disk_free")
    return free is None or free > size + settings.MOVE_LEAVES


# ---------------------------------------------------------------- the first record


def is_so(now: Configuration, source: str, target: str, nodes: Membership) -> bool:
    """Whether what the move is for is already so, or under way. Nothing ever moved from a node that there is not: that name
    is a mistake, though its replica is nowhere."""
    if now.leaving:
        return (now.leaving, arriving(now)) == (source, target)
    return source in nodes.nodes and source not in now.replicas and target in now.replicas


def check(now: Configuration, source: str, target: str, nodes: Membership) -> None:
    """Raise `BadRequest` with what speaks against moving the tablet's replica on `source` to `target`, if anything does."""
    tablet, replicas = f"tablet {now.tablet}", ", ".join(now.replicas)
    if now.leaving:
        raise BadRequest(f"{tablet} is moving already, from {now.leaving} to {arriving(now)}")
    for name in (source, target):
        if name not in nodes.nodes:
            raise BadRequest(f"there is no node {name!r}")
    if source not in now.replicas:
        raise BadRequest(f"{tablet} has no replica on {source}; it has them on {replicas}")
    if target in now.replicas:
        raise BadRequest(f"{tablet} has a replica on {target} already")
    if not nodes.fit(target):
        raise BadRequest(
            f"{target} cannot take a replica: it is down, disabled, about to stop, or its disk is in trouble"
        )
    if not has_room(target, size_of(now, nodes), nodes):
        size, least = size_of(now, nodes), settings.MOVE_LEAVES // settings.MIB
        raise BadRequest(
            f"{target} has no room on its disk for {tablet}, which has {size:,} bytes, and {least:,} MiB besides"
        )
    if now.primary is None or nodes.run_of(now.primary.node) != now.primary or not nodes.alive(now.primary.node):
        raise BadRequest(f"nobody leads {tablet} at the moment: there is nobody to copy it from")


def begin(now: Configuration, source: str, target: str, nodes: Membership) -> Configuration:
    """The replica on `source` begins to move to `target`. What `check` refuses must not be asked for."""
    assert not now.leaving
    assert source in now.replicas
    assert target not in now.replicas
    moved = dataclasses.replace(now, replicas=(*now.replicas, target), leaving=source)
    return changed(moved, nodes, now.primary, now.in_sync, learners_of(moved, nodes, now.in_sync))


# ---------------------------------------------------------------- the second


def steps(configurations: Iterable[Configuration], nodes: Membership, after: float | None) -> list[Step]:
    """Every move that ends now, as it was meant to or withdrawn. `after`: seconds for which the node that a replica goes to may
    be missing; None: as long as is usual."""
    patience = settings.REBUILD_AFTER if after is None else after
    found = []
    for now in configurations:
        if now.leaving:
            step = _ended(now, nodes) or _withdrawn(now, nodes, patience)
            if step is not None:
                found.append(step)
    return found


def _ended(now: Configuration, nodes: Membership) -> Step | None:
    """The replica is where it was to go, and everybody else is in the set: the one that it comes from goes."""
    stay = [name for name in now.replicas if name != now.leaving]
    members = [member for member in now.in_sync if member.node != now.leaving]
    if {member.node for member in members} != set(stay) or not all(_counts(member, now, nodes) for member in members):
        return None
    source, target = now.leaving, arriving(now)
    replicas = tuple(target if name == source else name for name in now.replicas[:-1])
    primary = now.primary
    if primary not in members:
        # a process that would have to wait before it leads is not handed anything: nothing hurries
        ready = [member for member in members if nodes.seasoned(member.node)]
        if not ready:
            return None
        primary = first_of(replicas, ready)
    moved = dataclasses.replace(now, replicas=replicas, leaving="")
    configuration = changed(moved, nodes, primary, members, learners_of(moved, nodes, members))
    return Step(configuration, f"tablet {now.tablet}: its replica on {source} has moved to {target}")


def _counts(member: Member, now: Configuration, nodes: Membership) -> bool:
    """Whether the member is there in this very run, in time, and holds what it acknowledged: the copy that goes is not
    the one that would be missed next."""
    name = member.node
    return nodes.run_of(name) == member and nodes.punctual(name) and nodes.intact(name, now.tablet)


def _withdrawn(now: Configuration, nodes: Membership, patience: float) -> Step | None:
    target = arriving(now)
    if any(member.node == target for member in now.in_sync):
        return None
    if nodes.nodes[target].disabled:
        return Step(without(now, nodes), _withdrawn_in_words(now, f"{target} is disabled"))
    if nodes.missing_for(target) >= patience and not nodes.unheard(target):
        return Step(without(now, nodes), _withdrawn_in_words(now, nodes.missing_in_words(target, patience)))
    return None


def is_withdrawn(now: Configuration, source: str, target: str) -> bool:
    """Whether the replica is where it was, and nothing of it moves."""
    return source in now.replicas and source != now.leaving and target not in now.replicas


def withdraw(now: Configuration, source: str, target: str, nodes: Membership) -> Step:
    """An operator does not want this move any more. `BadRequest` if there is no such move, or it is too late."""
    if (now.leaving, arriving(now)) != (source, target):
        raise BadRequest(f"no replica of tablet {now.tablet} is moving from {source} to {target}")
    if any(member.node == target for member in now.in_sync):
        raise BadRequest(
            f"{target} holds all of tablet {now.tablet} by now and counts as a member; {now.leaving} goes as soon as every "
            "other replica is in sync"
        )
    return Step(without(now, nodes), _withdrawn_in_words(now, "an operator does not want it any more"))


def without(now: Configuration, nodes: Membership) -> Configuration:
    """The configuration in which the replica stays where it was."""
    stays = dataclasses.replace(now, replicas=now.replicas[:-1], leaving="")
    return changed(stays, nodes, now.primary, now.in_sync, learners_of(stays, nodes, now.in_sync))


def _withdrawn_in_words(now: Configuration, reason: str) -> str:
    return f"tablet {now.tablet}: its replica on {now.leaving} does not move to {arriving(now)} after all: {reason}"
