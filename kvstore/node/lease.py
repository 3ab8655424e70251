"""Leases between nodes: those that this node holds as a primary, and those that it granted to others.

A lease of a (tablet, member) says: that member will not lead the tablet for a while, whatever it is told. A primary that
holds one from every other in-sync member may answer reads: nobody who could be promoted serves yet.

- It counts, for the holder, `LEASE` seconds from when the beacon was *sent* (trap 1), and only once the grant came back
  (trap 4): were it counted from the grant's arrival, a grant that dawdled would outlive the grantor's promise.
- It counts, for the grantor, `GRANT_WAIT` from when the beacon was *received*, which is later than the sending; it is the
  longer of the two, by more than two clocks can drift apart (`kvstore.settings` asserts it).
- Only differences of this node's own clock are used (trap 2).

A process forgets its grants when it ends. So what starts may have promised something: it leads nothing until `GRANT_WAIT`
after its start, unless nobody is left who could hold a lease.

Relies on: `now` read after the message arrived. Leaves out: who leads what, and when to ask (`kvstore.node.leadership`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from kvstore import settings
from kvstore.messages import Beacon, Grant, Member

BEACONS_REMEMBERED = 16
"""Beacons to one peer whose grant may still come; an older one's lease would have run out long ago."""

assert BEACONS_REMEMBERED * settings.BEACON_INTERVAL > settings.LEASE


class Leases:
    """All leases of one run of a node."""

    def __init__(self, started: float) -> None:
        """`started`: this node's clock when the process began."""
        self._started = started
        self._number = 0
        self._sent: dict[str, dict[int, tuple[float, dict[int, int]]]] = {}
        self._held: dict[tuple[int, Member], float] = {}
        self._given: dict[int, dict[Member, tuple[float, int]]] = {}
        self._relinquished: dict[tuple[int, Member], int] = {}

    # ---------------------------------------------------------------- held, as a primary

    def beacon(self, sender: Member, peer: str, tablets: dict[int, int], now: float) -> Beacon:
        """A beacon to `peer` that asks for leases on `tablets` (tablet → epoch), sent at `now` or later."""
        self._number += 1
        sent = self._sent.setdefault(peer, {})
        sent[self._number] = (now, tablets)
        if len(sent) > BEACONS_REMEMBERED:
            del sent[next(iter(sent))]
        return Beacon(sender, self._number, tablets)

    def granted(self, grant: Grant) -> list[int]:
        """Take in a grant; the tablets whose lease from its sender lasts longer now."""
        when, asked = self._sent.get(grant.sender.node, {}).get(grant.number, (0.0, {}))
        longer: list[int] = []
        for tablet, epoch in grant.tablets.items():
            if asked.get(tablet) != epoch:
                continue  # a straggler from before this process, or one that was forgotten
            until = when + settings.LEASE
            if until > self._held.get((tablet, grant.sender), -math.inf):
                self._held[tablet, grant.sender] = until
                longer.append(tablet)
        return longer

    def held_until(self, tablet: int, member: Member) -> float:
        """When the lease from `member` runs out; -inf if there never was one. Another run's grant is not this one's."""
        return self._held.get((tablet, member), -math.inf)

    def lay_down(self, tablet: int) -> None:
        """Forget what was granted to this node for `tablet`, and what it asked for: it leads it no more. A grant that is
        still on its way must not count under a later lead: its sender keeps no promise once it hears `Relinquish`."""
        for key in [key for key in self._held if key[0] == tablet]:
            del self._held[key]
        for sent in self._sent.values():
            for number, (when, asked) in sent.items():
                if tablet in asked:
                    sent[number] = when, {other: epoch for other, epoch in asked.items() if other != tablet}

    # ---------------------------------------------------------------- given, as a member

    def give(self, tablet: int, epoch: int, grantee: Member, now: float) -> bool:
        """Promise `grantee` not to lead `tablet` for `GRANT_WAIT` from `now`, when its beacon was received.

        False, and no promise, when it has already said that it no longer serves under that epoch: the beacon is late.
        """
        if self._relinquished.get((tablet, grantee), 0) >= epoch:
            return False
        given = self._given.setdefault(tablet, {})
        until, newest = given.get(grantee, (-math.inf, 0))
        given[grantee] = (max(until, now + settings.GRANT_WAIT), max(newest, epoch))
        return True

    def inherit(self, parent: int, child: int) -> None:
        """`child` is split off `parent`: whoever was promised that this node does not lead the one may still serve rows that
        are the other's now, until the promise has run out or is given back. What was promised to this node is not: nobody
        knew of `child` then."""
        given = self._given.setdefault(child, {})
        for grantee, (until, epoch) in self._given.get(parent, {}).items():
            if self._relinquished.get((child, grantee), 0) < epoch:
                known, newest = given.get(grantee, (-math.inf, 0))
                given[grantee] = (max(known, until), max(newest, epoch))

    def relinquished(self, tablet: int, epoch: int, grantee: Member) -> None:
        """`grantee` serves `tablet` no longer under any epoch up to `epoch`. A promise for a later one holds: the word may
        be a straggler from before `grantee` led again."""
        self._relinquished[tablet, grantee] = max(epoch, self._relinquished.get((tablet, grantee), 0))
        given = self._given.get(tablet, {})
        if grantee in given and given[grantee][1] <= epoch:
            del given[grantee]

    def free_at(self, tablet: int, me: Member, former: Iterable[Member]) -> float:
        """From when this node may lead `tablet`, if `former` are all the others that may still think that they do."""
        others = [member for member in former if member != me]
        if not others:
            return -math.inf
        given = self._given.get(tablet, {})
        promises = [given[member][0] for member in others if member in given]
        # what the former life of this node promised, and to whom, is forgotten: the longest that it can last
        return max([self._started + settings.GRANT_WAIT, *promises])
