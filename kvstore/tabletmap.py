"""Which tablet a row is in, and which node leads it, as far as this process knows.

Pure: no socket, no clock. What is known comes from the coordinator, from any node, and from refusals that carry a
configuration; the higher epoch is right, and nothing is ever forgotten, so a map that is old in one place costs one wrong
turn. Reading needs no lock: a change swaps one tuple.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from kvstore.keys import GroupRule
from kvstore.messages import Configuration


class TabletMap:
    """The tablets in key order, and the nodes' addresses."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        """Node id → `host:port`. Never changed in place."""
        self.group_rule: GroupRule | None = None
        """None until somebody has told it."""
        self._by_id: dict[int, Configuration] = {}
        self._ordered: tuple[list[str], list[Configuration]] = ([], [])

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, row: str) -> Configuration | None:
        """The configuration of the tablet that holds `row`; None when no known tablet does."""
        starts, configurations = self._ordered
        index = bisect_right(starts, row) - 1
        if index < 0:
            return None
        found = configurations[index]
        return found if found.end is None or row < found.end else None

    def find_below(self, row: str | None) -> Configuration | None:
        """The configuration of the tablet that holds the rows just below `row` (None: the last rows of all)."""
        starts, configurations = self._ordered
        if row is None:
            found = configurations[-1] if configurations else None
            return found if found is not None and found.end is None else None
        index = -1
        for at, start in enumerate(starts):
            if start >= row:
                break
            index = at
        if index < 0:
            return None
        found = configurations[index]
        return found if found.end is None or row <= found.end else None

    def get(self, tablet: int) -> Configuration | None:
        """The configuration of the tablet of this id, if it is known."""
        return self._by_id.get(tablet)

    def all(self) -> list[Configuration]:
        """Every known configuration, in key order."""
        return list(self._ordered[1])

    def learn(self, configurations: Iterable[Configuration]) -> list[Configuration]:
        """Take in what is newer than what is known; which configurations were."""
        newer = [c for c in configurations if (known := self._by_id.get(c.tablet)) is None or c.epoch > known.epoch]
        if not newer:
            return []
        by_id = dict(self._by_id)
        by_id.update((configuration.tablet, configuration) for configuration in newer)
        ordered: list[Configuration] = []
        # where a split is known of one half only, two ranges overlap: the one whose range was decided later is right
        for candidate in sorted(by_id.values(), key=lambda c: (-c.range_version, -c.epoch)):
            if not any(_overlap(candidate, placed) for placed in ordered):
                ordered.append(candidate)
        ordered.sort(key=lambda c: c.start)
        self._by_id = by_id
        self._ordered = ([c.start for c in ordered], ordered)
        return newer

    def learn_addresses(self, addresses: dict[str, str]) -> None:
        """Take in where nodes listen; what is not named keeps its address."""
        if any(self.addresses.get(node) != address for node, address in addresses.items()):
            self.addresses = {**self.addresses, **addresses}

    def learn_group_rule(self, pattern: str) -> None:
        """Take in the cluster's group rule, which never changes."""
        if self.group_rule is None or self.group_rule.pattern != pattern:
            self.group_rule = GroupRule(pattern)


def _overlap(one: Configuration, other: Configuration) -> bool:
    return (one.end is None or other.start < one.end) and (other.end is None or one.start < other.end)
