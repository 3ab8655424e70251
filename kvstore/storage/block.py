"""Neighbouring cells of a tablet, as one unit of splitting, copying and dropping."""

from __future__ import annotations

from operator import mul, sub

from kvstore.storage.cell import BULK, DIGEST_KEY, VALUE_PLACE, cell_bytes, cell_digest, crc32c_value

MOST_CELLS = 680
"""Cells of one block. A dict of up to 682 entries fits a table of 1024; half a block (340) just fits one of 512."""
FEW_CELLS = 64
"""A block that shrinks below this is joined with a neighbour if both together fit half a block."""


class Block:
    """A run of cells. `stamp`: the tablet's when the block was made; one with an older stamp may be shared with a snapshot.

    `bulk`: by segment, how many bytes of values lie there. `owed`: by key, the packed cells that `digest` and `bytes` still
    count in the place of those that are here now; none of either is a bulk one. To count them when somebody asks costs less
    than at every put, and a cell that was written often meanwhile is counted once.
    """

    __slots__ = ("bulk", "bytes", "cells", "digest", "order", "owed", "stamp")

    def __init__(self, stamp: int) -> None:
        self.cells: dict[bytes, bytes] = {}
        self.order: tuple[bytes, ...] | None = ()
        self.digest = 0
        self.bytes = 0
        self.bulk: dict[int, int] = {}
        self.owed: dict[bytes, bytes] = {}
        self.stamp = stamp

    def settle(self) -> tuple[int, int]:
        """Let `digest` and `bytes` count the cells that are here, and owe nothing; by how much they grow."""
        owed, self.owed = self.owed, {}
        before = owed.values()
        now = list(map(self.cells.__getitem__, owed))
        # What both have in common of (crc of the key + A) * (crc of the cell + B) falls away. All in C: a call for each step.
        changes = list(map(sub, map(crc32c_value, now), map(crc32c_value, before)))
        digest = int(sum(map(mul, map(crc32c_value, owed), changes)) + DIGEST_KEY * sum(changes))
        size = sum(map(len, now)) - sum(map(len, before))
        self.digest += digest
        self.bytes += size
        return digest, size

    def ordered(self) -> tuple[bytes, ...]:
        """The keys in order."""
        order = self.order
        if order is None:
            order = self.order = tuple(sorted(self.cells))
        return order

    def copy(self, stamp: int) -> Block:
        """The same cells in a block that may be changed."""
        assert not self.owed, "a shared block is not written to"
        twin = Block(stamp)
        twin.cells, twin.order = self.cells.copy(), self.order
        twin.digest, twin.bytes, twin.bulk = self.digest, self.bytes, self.bulk.copy()
        return twin

    def take_from(self, other: Block, begin: int) -> None:
        """Move the cells of `other` from index `begin` on into this block. Neither owes anything."""
        assert not self.owed, "settled before"
        assert not other.owed, "settled before"
        keys = other.ordered()
        digest = size = 0
        for key in keys[begin:]:
            packed = other.cells[key]
            self.cells[key] = packed
            digest += cell_digest(key, packed)
            size += cell_bytes(key, packed)
            if packed[16] == BULK:
                length, _, segment, _ = VALUE_PLACE.unpack_from(packed, 17)
                add_bulk(self.bulk, segment, length)
                add_bulk(other.bulk, segment, -length)
        self.order = None
        other.order = keys[:begin]
        other.cells = {key: other.cells[key] for key in other.order}  # anew: a dict does not shrink by itself
        self.digest, other.digest = self.digest + digest, other.digest - digest
        self.bytes, other.bytes = self.bytes + size, other.bytes - size


def add_bulk(counts: dict[int, int], segment: int, size: int) -> None:
    """Count `size` bytes more of values in a segment, which may be fewer; a segment without any is not listed."""
    left = counts.get(segment, 0) + size
    if left:
        counts[segment] = left
    else:
        del counts[segment]
