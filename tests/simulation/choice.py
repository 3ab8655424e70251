"""What a caller does next: reads, puts, compare-and-puts, deletes and batches, on so few cells that callers meet.

The simulator's callers and those of the probes, who work on a real cluster, choose alike.
"""

from __future__ import annotations

import math
import random
from typing import Any

from kvstore import settings
from tests.simulation.checker import Operation

ROWS = ("", ":a", ":b")
COLUMNS = ("x", "y")


class Choice:
    """One chooser; nobody else makes the values that it makes, as long as `number` is its own."""

    def __init__(
        self,
        chance: random.Random,
        number: int,
        groups: list[str],
        history: dict[str, list[Operation]],
        large: float = 0.05,
    ) -> None:
        """`history`: what was done so far, by group, for guesses at what a cell holds. `large`: the chance that a value is of
        `BULK_VALUE` bytes, so that it travels and lies beside the others."""
        self._chance = chance
        self._number = number
        self._groups = groups
        self._history = history
        self._large = large
        self._values = 0

    def _value(self) -> bytes:
        """A value that nobody else writes."""
        self._values += 1
        value = b"%d.%d" % (self._number, self._values)
        if self._chance.random() < self._large:
            value = value.ljust(settings.BULK_VALUE, b".")
        return value

    def next(self, now: float) -> tuple[str, Operation]:
        """A group, and something to do on it that begins `now`; nobody knows yet what comes of it."""
        chance = self._chance
        group = chance.choice(self._groups)
        keys = [(group + row, column) for row in ROWS for column in COLUMNS]
        key = chance.choice(keys)
        kind = chance.random()
        operation = Operation(self._number, "write", now, math.inf)
        if kind < 0.3:
            operation.kind, operation.key = "read", key
        elif kind < 0.4:
            operation.kind, operation.key = "read_all", group
        elif kind < 0.6:
            operation.changes = ((key, self._value()),)
        elif kind < 0.75:
            operation.requires = ((key, self._guess(group, key)),)
            operation.changes = ((key, self._value()),)
        elif kind < 0.85:
            operation.changes = ((key, None),)
        elif kind < 0.88:
            row = group + chance.choice(ROWS)
            operation.changes = tuple(((row, column), None) for column in COLUMNS)
        else:
            picked = chance.sample(keys, chance.randint(2, 4))
            operation.changes = tuple((k, self._value() if chance.random() < 0.7 else None) for k in picked)
            if chance.random() < 0.5:
                operation.requires = ((picked[0], self._guess(group, picked[0])),)
        operation.key = operation.key or key
        return group, operation

    def _guess(self, group: str, key: Any) -> bytes | None:
        """What the cell may hold: what somebody was seen to write there last, mostly."""
        if self._chance.random() < 0.4:
            return None
        for operation in reversed(self._history[group][-8:]):
            for changed, value in operation.changes:
                if changed == key and (value is None or len(value) < settings.BULK_VALUE):
                    return value
            seen = operation.result
            if operation.kind == "read" and operation.key == key and (seen is None or len(seen) < settings.BULK_VALUE):
                return seen
        return None


def deletes_a_row(operation: Operation) -> bool:
    """Whether all that the operation changes is that every cell of one row is deleted."""
    rows = {row for (row, _), _ in operation.changes}
    return len(rows) == 1 and [value for _, value in operation.changes] == [None] * len(COLUMNS)
