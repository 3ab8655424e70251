"""The blocks of a tablet, in key order: found by their first keys, split, joined, shared with snapshots, handed over.

A block that a snapshot shares is copied before it is changed. A tablet that is cut in two gives the blocks above the cut to the
other one as they are, and the snapshots that share them with it: both tablets then copy before they change.

`kvstore.storage.tablet` says what lies in them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import islice
from operator import gt
from typing import Self

from kvstore.storage.block import MOST_CELLS, Block, add_bulk
from kvstore.storage.cell import BULK, CELL_HEAD, DIGEST_MASK, VALUE_PLACE, cell_bytes, cell_digest
from kvstore.storage.debts import NOTE, Debts
from kvstore.storage.snapshot import Snapshot

WORTH_NOTING = 1.0
"""Further puts over each cell that was noted: below this, noting is not worth it."""
AT_ONCE = 50_000
"""Mutations that are then counted at once, before noting is tried again."""
# by these names, because inside the class `bytes` is a property
Key = bytes
Packed = bytes


class BlockList:
    """Blocks and their sums. `bulk_bytes` tells, by segment generation, how many bytes of live values lie there."""

    def __init__(self, debts: Debts | None = None) -> None:
        """`debts`: those of all tablets of the node."""
        self.debts = debts or Debts()
        self._stamp = 0
        self._snapshots: list[Snapshot] = []
        self._blocks = [Block(0)]
        self._firsts = [b""]
        self._changes = 0
        self._dropped: list[Block] = []
        self._digest = 0
        self._owing: list[Block] = []
        """The blocks that owe something."""
        self._owed = 0
        """Bytes that this keeps, as `debts` counts them."""
        self._again = 0
        """Puts over cells that were already noted."""
        self._at_once = 0
        """So many mutations are counted at once from here on."""
        self._bytes = 0
        self.cells = 0
        self.bulk_bytes: dict[int, int] = {}

    @property
    def digest(self) -> int:
        """The digest of all cells, 64 bits."""
        self.settle()
        return self._digest & DIGEST_MASK

    @property
    def bytes(self) -> int:
        """Bytes of all rows, columns and values, wherever the values lie."""
        self.settle()
        return self._bytes

    def settle(self) -> None:
        """Let digests and bytes count the cells that are here: before anybody looks at them, and before a block becomes
        another."""
        if self._owing:
            for block in self._owing:
                digest, size = block.settle()
                self._digest += digest
                self._bytes += size
            self._owing.clear()
            self.debts.settled(self, self._owed)
            self._owed = self._again = 0

    def reconsider(self) -> None:
        """Much was noted: see whether that was worth it."""
        if self._again < WORTH_NOTING * sum([len(block.owed) for block in self._owing]):
            self._at_once = AT_ONCE

    def _owe(self, block: Block, key: Key, old: Packed, packed: Packed) -> None:
        """The cell that is counted, `old`, was replaced by `packed`; neither is a bulk one."""
        if not block.owed:
            self._owing.append(block)
        block.owed[key] = old
        size = len(key) + len(old) + len(packed) + NOTE
        self._owed += size
        self.debts.add(self, size)

    def clear(self) -> None:
        """Delete every cell; their memory is freed by `release_dropped`."""
        self._changes += 1
        self.settle()
        self._dropped += self._blocks
        self._blocks, self._firsts = [Block(self._stamp)], [b""]
        self._digest = self.cells = self._bytes = 0
        self.bulk_bytes = {}

    @property
    def has_dropped(self) -> bool:
        """Whether deleted blocks wait to be freed by `release_dropped`."""
        return bool(self._dropped)

    def release_dropped(self, blocks: int = 4) -> bool:
        """Free the memory of a few deleted blocks; whether there are more. Freeing a big row at once would take long."""
        del self._dropped[-blocks:]
        return bool(self._dropped)

    # ------------------------------------------------------------------ snapshots, loading, cutting in two

    def snapshot(self) -> Snapshot:
        """The tablet as it is now."""
        self.settle()  # a block that is shared owes nothing
        self._stamp += 1
        taken = Snapshot(self, list(self._blocks))
        self._snapshots.append(taken)
        return taken

    def release_snapshot(self, snapshot: Snapshot) -> None:
        """The snapshot is no longer read."""
        self._snapshots.remove(snapshot)

    def load(self, keys: list[Key], packed: list[Packed]) -> None:
        """Add cells that lie above all that are here, in order: the fast way in, for checkpoints. Any number of them.

        `ValueError`, `TypeError` if they are no cells, or not in order.
        """
        for begin in range(0, len(keys), MOST_CELLS):
            block = Block(self._stamp)
            block.order = tuple(keys[begin : begin + MOST_CELLS])
            block.cells = dict(zip(block.order, packed[begin : begin + MOST_CELLS], strict=True))
            if any(map(gt, block.order, islice(block.order, 1, None))) or len(block.cells) < len(block.order):
                raise ValueError("the cells are not in order")
            for key, cell in block.cells.items():
                if len(cell) < CELL_HEAD.size:
                    raise ValueError("a cell is shorter than its version")
                block.digest += cell_digest(key, cell)
                block.bytes += cell_bytes(key, cell)
                if cell[16] == BULK:
                    self._count_bulk(block, cell, 1)
            if self._blocks[-1].cells:
                if self._blocks[-1].ordered()[-1] >= block.order[0]:
                    raise ValueError("the cells are not in order")
                self._blocks.append(block)
                self._firsts.append(block.order[0])
            else:
                self._blocks[-1] = block
            self._add_totals(block, 1)

    def cut_off(self, low: Key) -> Self:
        """Take out every cell with a key of `low` or above, as a tablet of its own.

        Blocks change hands as they are, and at most one is cut; what takes time is to add up their sums.
        """
        self.settle()
        number = self._boundary(low)
        self._changes += 1
        upper = type(self)(self.debts)
        upper._stamp = self._stamp
        upper._snapshots = list(self._snapshots)
        for snapshot in self._snapshots:
            snapshot.shared_with(upper)
        if number == len(self._blocks):
            return upper
        upper._blocks, upper._firsts = self._blocks[number:], [b"", *self._firsts[number + 1 :]]
        del self._blocks[number:], self._firsts[number:]
        if not self._blocks:
            self._blocks, self._firsts = [Block(self._stamp)], [b""]
        for block in upper._blocks:
            upper._add_totals(block, 1)
            self._add_totals(block, -1)
            for segment, size in block.bulk.items():
                add_bulk(upper.bulk_bytes, segment, size)
                add_bulk(self.bulk_bytes, segment, -size)
        return upper

    # ------------------------------------------------------------------ inside

    def middle(self) -> Key | None:
        """The key of a cell with half of all bytes below it, or little more than half at or below it; None without cells."""
        left = self.bytes // 2
        for block in self._blocks:
            if left < block.bytes:
                for key in block.ordered():
                    left -= cell_bytes(key, block.cells[key])
                    if left < 0:
                        return key
            left -= block.bytes
        return None

    def bytes_below(self, high: Key) -> int:
        """Bytes of the cells whose keys lie below `high`."""
        self.settle()
        number = bisect_right(self._firsts, high) - 1
        block = self._blocks[number]
        inside = sum(cell_bytes(key, packed) for key, packed in block.cells.items() if key < high)
        return inside + sum(below.bytes for below in self._blocks[:number])

    def _boundary(self, low: Key) -> int:
        """The number of the first block of keys of `low` or above; the block that `low` lies in is cut for it."""
        number = bisect_right(self._firsts, low) - 1
        begin = bisect_left(self._blocks[number].ordered(), low)
        if begin == 0:
            return number
        if begin < len(self._blocks[number].cells):
            self._own(number)
            self._cut_block(number, begin)
        return number + 1

    def _own(self, number: int) -> Block:
        """The block in a form that no snapshot shares."""
        block = self._blocks[number]
        if block.stamp != self._stamp:
            if self._snapshots:
                block = self._blocks[number] = block.copy(self._stamp)
            else:
                block.stamp = self._stamp
        return block

    def _drop_block(self, number: int) -> None:
        self.settle()
        block = self._blocks[number]
        self._changes += 1
        self._add_totals(block, -1)
        for segment, size in block.bulk.items():
            add_bulk(self.bulk_bytes, segment, -size)
        self._dropped.append(block)
        if len(self._blocks) == 1:
            self._blocks[0] = Block(self._stamp)
            return
        del self._blocks[number]
        del self._firsts[number]
        self._firsts[0] = b""

    def _add_totals(self, block: Block, sign: int) -> None:
        self._digest += sign * block.digest
        self._bytes += sign * block.bytes
        self.cells += sign * len(block.cells)

    def _count_bulk(self, block: Block, packed: Packed, sign: int) -> None:
        length, _, segment, _ = VALUE_PLACE.unpack_from(packed, 17)
        for counts in (self.bulk_bytes, block.bulk):
            left = counts.get(segment, 0) + sign * length
            if left:
                counts[segment] = left
            else:
                del counts[segment]

    def _split(self, number: int) -> None:
        """Split a full block: in halves, but keep it full when keys arrive in order at the tablet's end."""
        block = self._blocks[number]
        at_end = number == len(self._blocks) - 1 and next(reversed(block.cells)) == block.ordered()[-1]
        self._cut_block(number, len(block.cells) - 1 if at_end else len(block.cells) // 2)

    def _cut_block(self, number: int, begin: int) -> None:
        """Put the cells of a block from index `begin` on into a block of their own, behind it."""
        self.settle()
        upper = Block(self._stamp)
        upper.take_from(self._blocks[number], begin)
        self._blocks.insert(number + 1, upper)
        self._firsts.insert(number + 1, upper.ordered()[0])

    def _join(self, number: int) -> None:
        """Join a small block with a neighbour if the two fit half a block."""
        left = number - 1 if number > 0 else 0
        if len(self._blocks[left].cells) + len(self._blocks[left + 1].cells) > MOST_CELLS // 2:
            return
        self.settle()
        upper = self._own(left + 1)
        self._own(left).take_from(upper, 0)
        del self._blocks[left + 1]
        del self._firsts[left + 1]
