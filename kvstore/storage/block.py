"""Neighbouring cells of a tablet, as one unit of splitting, copying and dropping."""

from __future__ import annotations

from kvstore.storage.cell import cell_bytes, cell_digest

MOST_CELLS = 680
"""Cells of one block. A dict of up to 682 entries fits a table of 1024; half a block (340) just fits one of 512."""
FEW_CELLS = 64
"""A block that shrinks below this is joined with a neighbour if both together fit half a block."""


class Block:
    """A run of cells. `stamp`: the tablet's when the block was made; one with an older stamp may be shared with a snapshot."""

    __slots__ = ("bulk", "bytes", "cells", "digest", "order", "stamp")

    def __init__(self, stamp: int) -> None:
        self.cells: dict[bytes, bytes] = {}
        self.order: tuple[bytes, ...] | None = ()
        self.digest = 0
        self.bytes = 0
        self.bulk = 0
        self.stamp = stamp

    def ordered(self) -> tuple[bytes, ...]:
        """The keys in order."""
        order = self.order
        if order is None:
            order = self.order = tuple(sorted(self.cells))
        return order

    def copy(self, stamp: int) -> Block:
        """The same cells in a block that may be changed."""
        twin = Block(stamp)
        twin.cells, twin.order = self.cells.copy(), self.order
        twin.digest, twin.bytes, twin.bulk = self.digest, self.bytes, self.bulk
        return twin

    def take_from(self, other: Block, begin: int) -> None:
        """Move the cells of `other` from index `begin` on into this block."""
        keys = other.ordered()
        digest = size = bulk = 0
        for key in keys[begin:]:
            packed = other.cells[key]
            self.cells[key] = packed
            digest += cell_digest(key, packed)
            size += cell_bytes(key, packed)
            bulk += packed[16]
        self.order = None
        other.order = keys[:begin]
        other.cells = {key: other.cells[key] for key in other.order}  # anew: a dict does not shrink by itself
        self.digest, other.digest = self.digest + digest, other.digest - digest
        self.bytes, other.bytes = self.bytes + size, other.bytes - size
        self.bulk, other.bulk = self.bulk + bulk, other.bulk - bulk
