"""Which configurations this node has heard, and which of them it may act under. Pure.

A replica whose tablet was split elsewhere still holds the rows of both halves. Under the parent's narrower configuration it
would drop, or digest otherwise, rows that are the child's; under the child's it would begin with nothing. So the parent's
counts when every birth that its replica has not been through was heard, and the child's when the replica was parted
(`docs/replication.md`, "A tablet is split"). Until then the node goes on as if it had heard of neither: nobody who could
serve those rows elsewhere does so before this node's leases, or its grants to somebody, have run out.

Each split of a tablet raises its range version by one, and the child remembers the one that it was born with: so a replica
knows how many births it has missed, and in which order they were. (One whose checkpoint cannot be read does not know its range
version, which is 0 then: it has nothing that could be parted, and no birth waits for it.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvstore.messages import Configuration


class Heard:
    """The newest configuration of each tablet, whoever told it."""

    def __init__(self) -> None:
        self._newest: dict[int, Configuration] = {}
        self._children: dict[tuple[int, int], int] = {}
        """(parent, the range version that its birth gave it) → the child."""
        self.waiting: dict[int, None] = {}
        """Tablets whose newest configuration is not acted under yet. (A dict, for its order: a run must be repeatable.)"""

    def all(self) -> list[Configuration]:
        """The newest configuration of every tablet that was heard of."""
        return list(self._newest.values())

    def newest(self, tablet: int) -> Configuration:
        """The newest configuration of a tablet that was heard of."""
        return self._newest[tablet]

    def hear(self, configuration: Configuration) -> bool:
        """Take it in, and let it wait; whether it is newer than what was known."""
        known = self._newest.get(configuration.tablet)
        if known is not None and known.epoch >= configuration.epoch:
            return False
        self._newest[configuration.tablet] = configuration
        self.waiting[configuration.tablet] = None
        if configuration.born is not None:
            self._children[configuration.born.parent, configuration.born.range_version] = configuration.tablet
        return True

    def ready(self, ranges: Mapping[int, int]) -> int | None:
        """A tablet that waits no longer; None if all others still do. `ranges`: the range version of each replica here."""
        for tablet in self.waiting:
            if tablet in ranges:
                # a narrower replica than the configuration's was parted under a later one, which will be heard again
                there = ranges[tablet]
                ready = there <= self._newest[tablet].range_version and self.births(tablet, there) is not None
            else:
                ready = not self._comes_by_a_split(self._newest[tablet], ranges)
            if ready:
                del self.waiting[tablet]
                return tablet
        return None

    def births(self, tablet: int, range_version: int) -> list[Configuration] | None:
        """The tablets that were split off `tablet` since it had `range_version`, in order; None if one was not heard of."""
        if range_version == 0:
            return []
        versions: Iterable[int] = range(range_version + 1, self._newest[tablet].range_version + 1)
        children = [self._children.get((tablet, version)) for version in versions]
        found = [self._newest[child] for child in children if child is not None]
        return found if len(found) == len(children) else None

    def _comes_by_a_split(self, configuration: Configuration, ranges: Mapping[int, int]) -> bool:
        """Whether a replica of the tablet, of which there is none here, may still come out of one that is."""
        while configuration.born is not None:
            born = configuration.born
            if ranges.get(born.parent, 0):
                return ranges[born.parent] < born.range_version
            if born.parent not in self._newest:
                return True  # it may itself come out of one
            configuration = self._newest[born.parent]
        return False
