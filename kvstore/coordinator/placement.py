"""Which node has what part in a tablet: elections, removals, additions. Pure functions of a configuration and of what is
known about the nodes; each gives the next configuration, or None when the present one stays.

Only a member of the in-sync set is ever promoted, and only one whose data is still there and intact (trap 6). Of the set those
remain that never restarted; if none of them is left alive, those that restarted on the same data folder with an intact
replica, who hold every acknowledged write as well: nothing was acknowledged without them since (traps 9, 11). Everybody
else learns (trap 17). If nobody of the set is there the configuration stays, and the tablet waits.

Of those who may lead, the first in the tablet's order does whose process is old enough to begin at once; if none is, the
first of all, who waits for that. A primary that is only asked to go leads on meanwhile: a planned hand-over costs nobody a
wait.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from kvstore.coordinator.membership import Membership
from kvstore.messages import ChangeKind, ChangeRequest, Configuration, Member


def first_configurations(
    starts: Sequence[str], nodes: Sequence[str], replication: int, min_in_sync: int
) -> list[Configuration]:
    """The configurations of a new cluster: tablet i begins at `starts[i]` and belongs on `replication` nodes, rotated by
    i. Nobody leads them yet: first every node makes its empty replica durable."""
    configurations = []
    for index, start in enumerate(starts):
        replicas = tuple(nodes[(index + offset) % len(nodes)] for offset in range(replication))
        end = starts[index + 1] if index + 1 < len(starts) else None
        configurations.append(
            Configuration(
                tablet=index + 1,
                start=start,
                end=end,
                range_version=1,
                epoch=1,
                primary=None,
                in_sync=(),
                replicas=replicas,
                min_in_sync=min_in_sync,
            )
        )
    return configurations


def decide(now: Configuration, nodes: Membership) -> Configuration | None:
    """What follows for a tablet from who is alive, in what state; None if nothing does."""
    if not now.in_sync:
        return _form(now, nodes)
    if any(nodes.unheard(member.node) for member in now.in_sync):
        return None  # silence before this coordinator listened says nothing (trap 10)
    keep = _keep(now, nodes)
    if not keep:
        return None
    primary = now.primary
    if primary is None or primary not in keep:
        seasoned = [member for member in keep if nodes.seasoned(member.node)]
        if primary is not None and not seasoned and _may_stay(now, primary, nodes):
            keep = [*keep, primary]
        else:
            primary = first_of(now.replicas, seasoned or keep)
    return _next(now, nodes, primary, keep)


def _may_stay(now: Configuration, primary: Member, nodes: Membership) -> bool:
    """Whether the primary lacks nothing but leave to go on: it is disabled, or about to stop."""
    name = primary.node
    return nodes.run_of(name) == primary and nodes.sound(name) and nodes.intact(name, now.tablet)


def _form(now: Configuration, nodes: Membership) -> Configuration | None:
    """The first in-sync set of a new tablet: who has made its empty replica, once nobody alive is still at it. Nothing was
    ever written, so whoever comes later has missed nothing that it cannot learn."""
    if any(nodes.unheard(name) for name in now.replicas):
        return None
    there = [name for name in now.replicas if nodes.alive(name)]
    if not there or not all(nodes.intact(name, now.tablet) for name in there):
        return None
    members = [member for member in map(nodes.run_of, there) if member is not None]
    return _next(now, nodes, members[0], members)


def _keep(now: Configuration, nodes: Membership) -> list[Member]:
    """The in-sync set that can go on: the best of what is left of the present one."""
    trusted = [m for m in now.in_sync if nodes.alive(m.node) and nodes.intact(m.node, now.tablet)]
    standing = [m for m in trusted if nodes.run_of(m.node) == m]
    restarted = [m.node for m in trusted if m not in standing and nodes.same_store(m)]
    returned = [run for run in map(nodes.run_of, restarted) if run is not None]
    for candidates in (standing, returned):
        # a node that is disabled, or whose disk stalls or is full, goes on only where nobody else could
        fit = [member for member in candidates if nodes.fit(member.node)]
        if fit or candidates:
            return fit or candidates
    return []


def first_of(order: Sequence[str], members: Sequence[Member]) -> Member:
    """The member whose node comes first in the tablet's order of replicas."""
    return min(members, key=lambda member: order.index(member.node))


def _next(
    now: Configuration, nodes: Membership, primary: Member | None, in_sync: Sequence[Member]
) -> Configuration | None:
    """The configuration with this primary and set, and everybody else who can as a learner; None if that is no change."""
    led = now.primary == primary
    learners = tuple(learners_of(now, nodes, in_sync))
    if led and set(in_sync) == set(now.in_sync) and set(learners) == set(now.learners):
        return None
    return changed(now, nodes, primary, in_sync, learners)


def changed(
    now: Configuration,
    nodes: Membership,
    primary: Member | None,
    in_sync: Sequence[Member],
    learners: Sequence[Member],
) -> Configuration:
    """The configuration after `now`, with these in it. `former` are all that led and are not known to have ended."""
    former = [member for member in (*now.former, now.primary) if member is not None and member != primary]
    return dataclasses.replace(
        now,
        epoch=now.epoch + 1,
        primary=primary,
        in_sync=tuple(in_sync),
        learners=tuple(learners),
        former=tuple(dict.fromkeys(member for member in former if not nodes.has_ended(member))),
        since=now.since if now.primary == primary else now.epoch + 1,
    )


def learners_of(now: Configuration, nodes: Membership, in_sync: Sequence[Member]) -> list[Member]:
    """Everybody who belongs to the tablet, is not in the set, and can learn."""
    inside = {member.node for member in in_sync}
    learners = []
    for name in now.replicas:
        run = nodes.run_of(name)
        if run is None or name in inside:
            continue
        if nodes.fit(name) or (nodes.unheard(name) and run in now.learners):
            learners.append(run)
    return learners


def change(now: Configuration, request: ChangeRequest, nodes: Membership) -> tuple[Configuration | None, str]:
    """What a primary asks for: the next configuration, or None and why not. Compare-and-set on the epoch."""
    if request.epoch != now.epoch:
        return None, f"the epoch is {now.epoch}"
    if request.sender != now.primary or nodes.run_of(request.sender.node) != request.sender:
        return None, "only the primary may ask"
    ask: Callable[..., tuple[Configuration | None, str]] = _add if request.kind == ChangeKind.ADD else _remove
    return ask(now, request.member, nodes)


def _add(now: Configuration, member: Member, nodes: Membership) -> tuple[Configuration | None, str]:
    if member not in now.learners or nodes.run_of(member.node) != member:
        return None, "only a learner, in its present run, can be added"
    if not nodes.fit(member.node):
        return None, "the learner is silent, disabled, or its disk is in trouble"
    in_sync = [*now.in_sync, member]
    return changed(now, nodes, now.primary, in_sync, learners_of(now, nodes, in_sync)), ""


def _remove(now: Configuration, member: Member, nodes: Membership) -> tuple[Configuration | None, str]:
    if member == now.primary or member not in (*now.in_sync, *now.learners):
        return None, "only another member or learner can be removed"
    in_sync = [m for m in now.in_sync if m != member]
    return changed(now, nodes, now.primary, in_sync, learners_of(now, nodes, in_sync)), ""


def restart_learning(now: Configuration, member: Member, nodes: Membership) -> Configuration | None:
    """A learner found that it differs all the same: the epoch moves on, so that a request to add it fails."""
    if member not in now.learners:
        return None
    return changed(now, nodes, now.primary, now.in_sync, now.learners)
