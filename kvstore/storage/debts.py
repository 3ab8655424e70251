"""What the tablets of a node owe: cells that were put and are not counted yet in digests and bytes.

A put over a cell only notes the cell that was there; what blocks and tablet count is brought up to date (`settle`) when
somebody asks for it, and when a block becomes another. The bound is one for all tablets of a node, so that neither the memory
of what was noted, nor the moment in which a heartbeat asks all tablets for their digests, grows with their number.
"""

from __future__ import annotations

from typing import Protocol

MOST_OWED = 768 * 1024
"""Bytes of noted cells, with keys and what replaced them, after which all is settled. For cells of a few hundred bytes that
takes one or two milliseconds; eight at worst, when thousands of empty cells were written again as large as they may be."""
NOTE = 160
"""Bytes that noting a cell takes besides its own, about."""


class Debtor(Protocol):
    """A tablet that may owe something."""

    def settle(self) -> None: ...
    def reconsider(self) -> None: ...


class Debts:
    """The debts of a node's tablets."""

    __slots__ = ("_bytes", "_debtors")

    def __init__(self) -> None:
        self._bytes = 0
        self._debtors: dict[Debtor, None] = {}

    def add(self, debtor: Debtor, size: int) -> None:
        """The tablet noted a cell, which keeps so many bytes. All tablets settle when it is too much."""
        self._debtors[debtor] = None
        self._bytes += size
        if self._bytes > MOST_OWED:
            for each in list(self._debtors):
                each.reconsider()
                each.settle()

    def settled(self, debtor: Debtor, size: int) -> None:
        """The tablet owes nothing any more; it owed so many bytes."""
        del self._debtors[debtor]
        self._bytes -= size
