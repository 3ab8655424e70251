"""After failures one node may lead most tablets. When all is well again, leads go back, one at a time. Pure.

A tablet is to be led by the first node in its order of `replicas`; the orders are rotated from tablet to tablet, so then all
nodes lead about as many. That is a fixed goal: two hand-backs can never undo each other, and which node leads depends on
nothing but who is there.

A lead goes back only when the set is full, every member in it is punctual, the configuration has not changed for `LEAD_STEADY`,
and the node has not failed lately: with each fault that is remembered it waits twice as long (`Membership.steady_after`). So
a node that comes and goes costs its tablets fewer and fewer hand-overs. By then its process is old enough to lead at once
(`kvstore.settings` asserts it).
"""

from __future__ import annotations

from collections.abc import Iterable

from kvstore import settings
from kvstore.coordinator.membership import Membership
from kvstore.coordinator.placement import changed
from kvstore.messages import Configuration, Member


def hand_back(
    configurations: Iterable[Configuration], changed_at: dict[int, float], nodes: Membership
) -> Configuration | None:
    """The next configuration of the first tablet whose lead may go back; None if there is none.

    `changed_at`: when each tablet's configuration was decided, on this coordinator's clock.
    """
    for now in configurations:
        first = _should_lead(now)
        if first is None or first == now.primary or nodes.now - changed_at[now.tablet] < settings.LEAD_STEADY:
            continue
        if nodes.now < nodes.steady_after(first.node):
            continue
        if all(nodes.punctual(member.node) for member in now.in_sync):
            return changed(now, nodes, first, now.in_sync, ())
    return None


def _should_lead(now: Configuration) -> Member | None:
    """The member whose node is first in the order, if the set is full."""
    if now.primary is None or len(now.in_sync) != len(now.replicas):
        return None
    return next((member for member in now.in_sync if member.node == now.replicas[0]), None)
