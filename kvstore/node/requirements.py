"""Whether a mutation's requirements hold: decided once, by the primary, when the mutation is gathered into an entry.

They are judged against the committed cells overlaid with everything that is on its way: entries that are logged and not yet
committed, and the mutations gathered into this entry before. So the decision may rest on writes that are not committed;
the mutation is logged behind them, and answered only when it, and so they, are committed (trap 14).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvstore.mutation import Entry, Mutation, Op, Outcome, Require, Version

_GONE = None
"""In the overlay: deleted by something on its way."""


class Overlay:
    """The cells that entries on their way write, on top of a tablet's committed ones."""

    def __init__(self, tablet: Any, entries: Iterable[Entry]) -> None:
        """`tablet`: the committed cells (`kvstore.storage.tablet.Tablet`). `entries`: logged after them, in order."""
        self._tablet = tablet
        self._cells: dict[tuple[str, str], tuple[Version, bytes | None] | None] = {}
        self._rows: dict[str, set[str]] = {}
        self._deleted_rows: set[str] = set()
        for entry in entries:
            sequence = entry.first
            for mutation, outcome in zip(entry.mutations, entry.outcomes, strict=True):
                if outcome == Outcome.OK:
                    self.add(mutation, Version(entry.epoch, sequence))
                sequence += 1

    def add(self, mutation: Mutation, version: Version) -> None:
        """What `mutation` writes comes on top. A bulk value is remembered by its version alone: none is compared with."""
        for operation in mutation.operations:
            kind, row = operation[0], operation[1]
            if kind == Op.DELETE_ROW:
                for column in self._rows.pop(row, ()):
                    del self._cells[row, column]
                self._deleted_rows.add(row)
                continue
            column = operation[2]
            self._rows.setdefault(row, set()).add(column)
            if kind == Op.PUT:
                self._cells[row, column] = (version, operation[3])
            else:
                self._cells[row, column] = (version, None) if kind == Op.PUT_BULK else _GONE

    def first_failed(self, mutation: Mutation) -> int | None:
        """The index of the first requirement that does not hold; None if all do."""
        for index, require in enumerate(mutation.requires):
            cell = self._cell(require[1], require[2])
            kind = require[0]
            if kind == Require.ABSENT:
                held = cell is None
            elif kind == Require.VALUE:
                held = cell is not None and cell[1] == require[3]
            else:
                held = cell is not None and tuple(cell[0]) == (require[3], require[4])
            if not held:
                return index
        return None

    def _cell(self, row: str, column: str) -> tuple[Version, bytes | None] | None:
        if (row, column) in self._cells:
            return self._cells[row, column]
        if row in self._deleted_rows:
            return None
        cell = self._tablet.get(row, column)
        if cell is None:
            return None
        return cell.version, cell.value if isinstance(cell.value, bytes) else None
