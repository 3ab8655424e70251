"""Replicas whose node stays missing are rebuilt on a spare one. Pure, as `kvstore.coordinator.placement`.

A *spare* for a tablet is any fit node that does not belong to it, and has room. It takes the missing node's place in
`replicas`, by one record: whichever side of it a crash falls on, the tablet's owner is the same, for only `replicas` and
`learners` change. It then learns as every learner does, and is taken into the set when it has everything.

Never replaced is who is in the in-sync set: first the primary, or the coordinator, removes it as ever, which takes another
live member (traps 6, 7). So of a tablet that waits for its last holders nothing is given away, however long they are
missing (trap 11). And nothing is rebuilt where nobody leads, for there is nobody to learn from.

The node that was replaced is an outsider from then on: it drops its copy only under a configuration that does not name it
and whose set is full (`kvstore.node.node`).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kvstore import settings
from kvstore.coordinator.membership import Membership
from kvstore.coordinator.moving import arriving, has_room, size_of
from kvstore.coordinator.placement import changed, learners_of
from kvstore.messages import Configuration


@dataclass(slots=True, frozen=True)
class Rebuilding:
    """One replica gets another node: the configuration, and which nodes."""

    configuration: Configuration
    missing: str
    spare: str


def rebuildings(configurations: Iterable[Configuration], nodes: Membership, after: float) -> list[Rebuilding]:
    """What is to be rebuilt now: of each tablet one replica at most, and on one node `REBUILDS_AT_ONCE` at most.

    `after`: seconds for which a node must have been missing.
    """
    late = {name for name in nodes.nodes if nodes.missing_for(name) >= after and not nodes.unheard(name)}
    if not late:
        return []
    present = list(configurations)
    held = Counter(name for configuration in present for name in configuration.replicas)
    learning = Counter(member.node for configuration in present for member in configuration.learners)
    coming: Counter[str] = Counter()
    for configuration in present:
        for member in configuration.learners:
            coming[member.node] += size_of(configuration, nodes)
    found = []
    for configuration in present:
        missing = _missing_of(configuration, late, nodes)
        spare = missing and (
            _already_copying(configuration, nodes) or _spare_for(configuration, nodes, held, learning, coming)
        )
        if missing and spare:
            following = _replaced(configuration, missing, spare, nodes)
            held.subtract(configuration.replicas)
            held.update(following.replicas)
            learning[spare] += 1
            coming[spare] += size_of(configuration, nodes)
            found.append(Rebuilding(following, missing, spare))
    return found


def _missing_of(now: Configuration, late: set[str], nodes: Membership) -> str | None:
    """The first node of the tablet that is to be replaced, if there is one."""
    return next((name for name in now.replicas if name in late and may_lose(now, name, nodes)), None)


def may_lose(now: Configuration, name: str, nodes: Membership) -> bool:
    """Whether the tablet can do without what the node holds, and rebuild it: the node belongs to it and is not in the set, and
    somebody leads. A replica that moves is replaced by that, and one that is moved to is withdrawn."""
    if name in (now.leaving, arriving(now)):
        return False
    if now.primary is None or nodes.run_of(now.primary.node) != now.primary or not nodes.alive(now.primary.node):
        return False
    return name in now.replicas and all(member.node != name for member in now.in_sync)


def _already_copying(now: Configuration, nodes: Membership) -> str | None:
    """The node that a replica of this very tablet is moving to, if it can hold it: what it copies is now missing elsewhere."""
    target = arriving(now)
    return target if target and nodes.sound(target) else None


def _spare_for(
    now: Configuration, nodes: Membership, held: Counter[str], learning: Counter[str], coming: Counter[str]
) -> str | None:
    """The node that holds fewest replicas, by its name if several do; None while nobody can, or has room. `coming`: bytes of
    the tablets that a node is learning, all of which may have yet to come."""
    size = size_of(now, nodes)
    spares = [
        name
        for name in nodes.nodes
        if name not in now.replicas
        and nodes.fit(name)
        and learning[name] < settings.REBUILDS_AT_ONCE
        and has_room(name, size + coming[name], nodes)
    ]
    return min(spares, key=lambda name: (held[name], in_order(name)), default=None)


def _replaced(now: Configuration, missing: str, spare: str, nodes: Membership) -> Configuration:
    # in the same place of the order: what the missing node was to lead falls to the one that has its copies
    # (where a replica was moving to the spare, the spare belongs to the tablet already, and that replica stays where it was)
    leaving = "" if spare in now.replicas else now.leaving
    replicas = tuple(spare if name == missing else name for name in now.replicas if name != spare)
    moved = dataclasses.replace(now, replicas=replicas, leaving=leaving)
    return changed(moved, nodes, now.primary, now.in_sync, learners_of(moved, nodes, now.in_sync))


def in_order(name: str) -> list[str | int]:
    """Sorts node10 after node9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
