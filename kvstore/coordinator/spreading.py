"""Replicas and leads are spread over the nodes that are there, one step at a time. Pure.

A node that joins, or comes back as a spare, gets its share by itself: while a node holds at least two replicas more than
another, one moves from the one that holds most to the one that holds least. When no replica is to move, orders are evened:
where the first of a tablet's order is first of two tablets more than another of its members, that one becomes the first, and
the lead follows as leads do (`kvstore.coordinator.handback`).

It comes to rest from any start (`docs/replication.md`, "Data spreads over the nodes that are there"): a move lowers the sum
of the squares of how many replicas the nodes hold, whichever replica it is; a new order leaves that sum, and lowers the one
of the squares of how often each node is first.

Nothing is done unless all is at rest: a cluster that mends itself has better things to copy.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kvstore import settings
from kvstore.coordinator.membership import Membership
from kvstore.coordinator.moving import Step, begin, has_room, size_of
from kvstore.coordinator.placement import changed
from kvstore.coordinator.rebuilding import in_order
from kvstore.messages import Configuration


@dataclass(slots=True)
class _Shares:
    """What each node has to do with the tablets; bytes are those of the tablets, each counted for every replica."""

    held: Counter[str] = field(default_factory=Counter)
    first: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)


def next_step(configurations: Iterable[Configuration], changed_at: dict[int, float], nodes: Membership) -> Step | None:
    """The next step towards an even spread; None if there is none, or this is not the time.

    `changed_at`: when each tablet's configuration was decided, on this coordinator's clock.
    """
    present = list(configurations)
    if not _at_rest(present, changed_at, nodes):
        return None
    shares = _Shares()
    for now in present:
        shares.first[now.replicas[0]] += 1
        for name in now.replicas:
            shares.held[name] += 1
            shares.bytes[name] += size_of(now, nodes)
    return _even_data(present, shares, nodes) or _even_order(present, shares, nodes)


def _at_rest(present: list[Configuration], changed_at: dict[int, float], nodes: Membership) -> bool:
    """Whether every set is full and steady, and everybody in it is in time."""
    for now in present:
        if now.primary is None or now.leaving or len(now.in_sync) != len(now.replicas):
            return False
        if nodes.now - changed_at[now.tablet] < settings.SPREAD_STEADY:
            return False
        if not all(nodes.run_of(member.node) == member and nodes.punctual(member.node) for member in now.in_sync):
            return False
    return True


def _may_have_more(name: str, nodes: Membership) -> bool:
    """Whether the node can be given something: it is fit, in time, and has not failed lately."""
    return nodes.punctual(name) and nodes.seasoned(name) and nodes.now >= nodes.steady_after(name)


def _even_data(present: list[Configuration], shares: _Shares, nodes: Membership) -> Step | None:
    held, size = shares.held, shares.bytes
    takers = sorted(
        (name for name in nodes.nodes if _may_have_more(name, nodes)),
        key=lambda name: (held[name], size[name], in_order(name)),
    )
    givers = sorted(held, key=lambda name: (-held[name], -size[name], in_order(name)))
    for taker in takers:
        for giver in givers:
            if held[giver] < held[taker] + 2:
                break
            now = _which(present, giver, taker, size[giver] - size[taker], nodes)
            if now is not None:
                words = f"tablet {now.tablet}: its replica on {giver}, which holds {held[giver]}, moves to {taker}, which holds"
                return Step(begin(now, giver, taker, nodes), f"{words} {held[taker]}")
    return None


def _which(present: list[Configuration], giver: str, taker: str, apart: int, nodes: Membership) -> Configuration | None:
    """The tablet whose replica goes from one to the other, which are `apart` by so many bytes; None if the taker has room for
    none. Best is one that the giver is not to lead, and that leaves the two most alike."""

    def loss(now: Configuration) -> tuple[bool, int, int]:
        return now.replicas[0] == giver, abs(apart - 2 * size_of(now, nodes)), now.tablet

    movable = [
        now
        for now in present
        if giver in now.replicas and taker not in now.replicas and has_room(taker, size_of(now, nodes), nodes)
    ]
    return min(movable, key=loss, default=None)


def _even_order(present: list[Configuration], shares: _Shares, nodes: Membership) -> Step | None:
    first = shares.first
    found = [
        (first[now.replicas[0]] - first[name], now, name)
        for now in present
        for name in now.replicas[1:]
        if first[now.replicas[0]] - first[name] >= 2 and _may_have_more(name, nodes)
    ]
    if not found:
        return None
    _, now, name = min(found, key=lambda each: (-each[0], each[1].tablet, in_order(each[2])))
    replicas = (name, *(other for other in now.replicas if other != name))
    reordered = dataclasses.replace(now, replicas=replicas)
    words = (
        f"tablet {now.tablet}: {name}, first in the order of {first[name]}, is to lead it in place of {now.replicas[0]}"
    )
    return Step(changed(reordered, nodes, now.primary, now.in_sync, ()), words)
