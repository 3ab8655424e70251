"""A tablet's cells in memory: ordered, compact, with a digest; no disk.

Layout. Cells lie in *blocks* of at most `MOST_CELLS`, neighbours in key order (`kvstore.storage.cellkey`). A block holds a dict
from key to packed cell; its keys in order are a tuple made when a scan first wants it, and kept until a key comes or goes. To
find a cell is one bisection over the blocks' first keys and one dict lookup. A cell costs its key, its packed bytes and a dict
slot, and no object of its own; nothing of it is of a type that the garbage collector looks at, so a full collection with a
million cells takes no longer than with none (`docs/storage.md` has the measurements and what was compared).

Snapshots. `snapshot` costs one copy of the list of blocks; a block that a snapshot shares is copied before it is changed.
So a checkpoint or a backup reads the tablet as it was at one moment while writes go on, and no slice of it is long. A tablet is
cut in two by handing blocks over (`kvstore.storage.blocklist`).

Digest and bytes. A put over a cell only notes what was there (`kvstore.storage.debts`), so a cell that is written again and
again is counted once. Where few are, noting only costs, and for a while each put is counted at once.

Scans may be suspended between cells while the tablet changes: they go on after the last key that they gave.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from kvstore.mutation import Entry, Mutation, Op, Outcome
from kvstore.storage.block import FEW_CELLS, MOST_CELLS, Block
from kvstore.storage.blocklist import BlockList
from kvstore.storage.cell import (
    BULK,
    BULK_CELL,
    CELL_HEAD,
    DIGEST_KEY,
    DIGEST_MASK,
    DIGEST_VALUE,
    DIGESTED,
    INLINE,
    Place,
    StoredCell,
    cell_bytes,
    cell_digest,
    crc32c_value,
)
from kvstore.storage.cellkey import cell_key, column_bounds, row_end, split_key
from kvstore.storage.results import Result, ResultTable

_new = tuple.__new__
_OK, _PUT, _PUT_BULK, _DELETE = int(Outcome.OK), int(Op.PUT), int(Op.PUT_BULK), int(Op.DELETE)
_kind = itemgetter(0)
BLOCKS_AT_ONCE = 1000
"""Blocks that `bulk_cells` passes over in one call: less than a millisecond."""
_SEVERAL = 8
"""Puts of one mutation from which `_put_together` is worth its beginning and end."""
_NO_BLOCK = Block(-1)
_ABOVE_ALL = b"\xff"
"""Above every key: no byte of UTF-8."""


class Tablet(BlockList):
    """Cells in key order."""

    # ------------------------------------------------------------------ reading

    def get(self, row: str, column: str) -> StoredCell | None:
        """The cell, or None if it is absent."""
        if "\0" in row:
            row = row.replace("\0", "\0\1")
        key = f"{row}\0\0{column}".encode()
        packed = self._blocks[bisect_right(self._firsts, key) - 1].cells.get(key)
        return None if packed is None else _new(StoredCell, (packed,))

    def columns(
        self, row: str, start: str = "", end: str | None = None, prefix: str = "", reverse: bool = False
    ) -> Iterator[tuple[str, StoredCell]]:
        """(column, cell) of the row's columns in [start, end) that begin with `prefix`, in order or in reverse."""
        low, high = column_bounds(row, start, end, prefix)
        skip = len(cell_key(row, ""))
        for key, packed in self.walk(low, high, reverse):
            yield key[skip:].decode(), _new(StoredCell, (packed,))

    def scan(
        self,
        start_row: str = "",
        start_column: str = "",
        end_row: str | None = None,
        end_column: str | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[str, str, StoredCell]]:
        """(row, column, cell) from (start_row, start_column) to below (end_row, end_column), in order or in reverse.

        An `end_row` of None has no end; an `end_column` of None stands for the row's first.
        """
        low = cell_key(start_row, start_column)
        high = None if end_row is None else cell_key(end_row, end_column or "")
        for key, packed in self.walk(low, high, reverse):
            row, column = split_key(key)
            yield row, column, _new(StoredCell, (packed,))

    def walk(self, low: bytes, high: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """(key, packed cell) of the keys in [low, high), in order or in reverse; goes on when the tablet changes."""
        return self._walk_down(low, high) if reverse else self._walk_up(low, high)

    def _walk_up(self, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        while True:
            seen = self._changes
            number = bisect_right(self._firsts, low) - 1
            begin = bisect_left(self._blocks[number].ordered(), low)
            while number < len(self._blocks):
                block = self._blocks[number]
                keys, cells = block.ordered(), block.cells
                whole = high is None or (number + 1 < len(self._firsts) and self._firsts[number + 1] <= high)
                end = len(keys) if whole or high is None else bisect_left(keys, high)
                for key in keys[begin:end]:
                    yield key, cells[key]
                    if seen != self._changes:
                        low = key + b"\0"  # the least key above the one given last
                        break
                else:
                    if not whole:
                        return
                    number, begin = number + 1, 0
                    continue
                break
            else:
                return

    def _walk_down(self, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        while True:
            seen = self._changes
            number = len(self._blocks) - 1 if high is None else bisect_right(self._firsts, high) - 1
            end = None if high is None else bisect_left(self._blocks[number].ordered(), high)
            while number >= 0:
                block = self._blocks[number]
                keys, cells = block.ordered(), block.cells
                begin = 0 if self._firsts[number] >= low else bisect_left(keys, low)
                for key in reversed(keys[begin:end]):
                    yield key, cells[key]
                    if seen != self._changes:
                        high = key
                        break
                else:
                    if self._firsts[number] < low:
                        return
                    number, end = number - 1, None
                    continue
                break
            else:
                return

    def pieces(self, low: bytes, high: bytes | None) -> Iterator[tuple[Block, Sequence[bytes], bool]]:
        """Block by block, (block, those of its keys that lie in [low, high), whether that is all of them). The tablet must not
        change meanwhile. No block owes anything."""
        self.settle()
        for number in range(bisect_right(self._firsts, low) - 1, len(self._blocks)):
            if high is not None and self._firsts[number] >= high:
                return
            keys = self._blocks[number].ordered()
            begin = bisect_left(keys, low)
            end = len(keys) if high is None else bisect_left(keys, high)
            if begin < end:
                yield self._blocks[number], keys[begin:end], end - begin == len(keys)

    def bulk_cells(self, low: bytes, most: int) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """(key, packed cell) of cells from key `low` on whose values lie in the log, in order; and the key to go on from, None
        when there is nothing behind.

        At most so many that their values have `most` bytes, or one, and those of one block; none, if the next `BLOCKS_AT_ONCE`
        blocks have none. Nothing is kept: a walk that takes days may come back by key.
        """
        found: list[tuple[bytes, bytes]] = []
        number = bisect_right(self._firsts, low) - 1
        end = min(number + BLOCKS_AT_ONCE, len(self._blocks))
        while number < end and not found:
            block = self._blocks[number]
            number += 1
            if not block.bulk:
                continue
            size = 0
            # not by `ordered`, which would leave the order of every block in memory
            for key in sorted(key for key, packed in block.cells.items() if packed[16] == BULK and key >= low):
                packed = block.cells[key]
                size += _new(StoredCell, (packed,)).size
                if found and size > most:
                    return found, key
                found.append((key, packed))
        return found, self._firsts[number] if number < len(self._blocks) else None

    # ------------------------------------------------------------------ applying

    def apply(self, entry: Entry, place: Place, results: ResultTable | None, newer_only: bool = False) -> None:
        """Carry out an entry's mutations, in order; their results are recorded in `results` if given.

        `place`: where the entry's bulk part lies in the log. `newer_only` is for a learner: a cell that has a newer version
        than a mutation's (the snapshot was read after it) stays; otherwise versions must grow, and this is asserted.
        """
        assert results is None or not newer_only, "what settles has its results already"
        epoch, sequence, offset = entry.epoch, entry.first, place.offset
        outcomes, failed = entry.outcomes, entry.failed or bytes(entry.count)
        all_done = not any(outcomes)
        for bundle in entry.bundles:
            mutations = bundle.mutations
            if all_done and not newer_only:
                offset = self._carry_out_done(mutations, epoch, sequence, place.segment, offset)
                if results is not None:
                    results.record_done(mutations, epoch, sequence)
                sequence += len(mutations)
                continue
            for client, number, floor, _, operations in mutations:
                outcome, index = outcomes[sequence - entry.first], failed[sequence - entry.first]
                if outcome == _OK:
                    offset = self._carry_out(operations, epoch, sequence, place.segment, offset, newer_only)
                else:
                    offset += sum(o[3] for o in operations if o[0] == _PUT_BULK)
                if results is not None:
                    results.record(client, number, floor, _new(Result, (outcome, epoch, sequence, index)))
                sequence += 1

    def _carry_out_done(
        self, mutations: Sequence[Mutation], epoch: int, sequence: int, segment: int, offset: int
    ) -> int:
        """Carry out mutations, the first of which has `sequence`, and whose bulk values begin at `offset`; where they end.

        The hottest code of a node: `_put` is spelled out here for values that lie in the cell and replace such.
        """
        pack, crc, find = CELL_HEAD.pack, crc32c_value, bisect_right
        firsts, blocks, stamp = self._firsts, self._blocks, self._stamp
        digests = sizes = again = 0
        at_once = self._at_once > 0
        if at_once:
            self._at_once -= len(mutations)
        self._changes += 1
        for mutation in mutations:
            head = pack(epoch, sequence, INLINE)
            operations = mutation[4]
            if len(operations) >= _SEVERAL and _are_of_one_row(operations):
                self._put_together(operations, head, at_once)
                firsts, blocks = self._firsts, self._blocks
                sequence += 1
                continue
            for operation in operations:
                if operation[0]:
                    offset = self._carry_out([operation], epoch, sequence, segment, offset, False)
                    firsts, blocks = self._firsts, self._blocks  # it may have put others in their place
                    continue
                _, row, column, value = operation
                key = f"{row}\0\0{column}".encode() if "\0" not in row else cell_key(row, column)
                packed = head + value
                block = blocks[find(firsts, key) - 1]
                cells = block.cells
                old = cells.get(key)
                if old is None or old[16] or block.stamp != stamp:
                    self._put(key, packed)
                    continue
                assert old < packed or old[:16] <= packed[:16], "versions of a cell only grow"
                cells[key] = packed
                if key in block.owed:
                    again += 1
                elif at_once:
                    # what both have in common of (crc of the key + A) * (crc of the cell + B) falls away
                    digest = (crc(key) + DIGEST_KEY) * (crc(packed) - crc(old))
                    size = len(packed) - len(old)
                    block.digest += digest
                    block.bytes += size
                    digests += digest
                    sizes += size
                else:
                    self._owe(block, key, old, packed)
            sequence += 1
        self._digest = self._digest + digests & DIGEST_MASK
        self._bytes += sizes
        self._again += again
        return offset

    def _put_together(self, operations: Sequence[Sequence[Any]], head: bytes, at_once: bool) -> None:
        """Carry out the puts of one mutation. They are of one row, mostly, and its cells lie side by side: each is looked for
        in the block of the one before."""
        stamp = self._stamp
        block, cells, low, high = _NO_BLOCK, _NO_BLOCK.cells, _ABOVE_ALL, b""
        latest, prefix = None, b""
        for _, row, column, value in operations:
            if row != latest:
                latest, prefix = row, cell_key(row, "")
            key = prefix + column.encode()
            if not low <= key < high:
                number = bisect_right(self._firsts, key) - 1
                block, low = self._blocks[number], self._firsts[number]
                high = self._firsts[number + 1] if number + 1 < len(self._firsts) else _ABOVE_ALL
                cells = block.cells
            packed = head + value
            old = cells.get(key)
            if old is None or old[16] or block.stamp != stamp:
                self._put(key, packed)
                high = b""  # it may have put other blocks in the place of this one
                continue
            assert old < packed or old[:16] <= packed[:16], "versions of a cell only grow"
            cells[key] = packed
            if key in block.owed:
                self._again += 1
            elif at_once:
                change = crc32c_value(packed) - crc32c_value(old)
                self._count(block, (crc32c_value(key) + DIGEST_KEY) * change, len(packed) - len(old))
            else:
                self._owe(block, key, old, packed)

    def _carry_out(
        self,
        operations: Sequence[Sequence[Any]],
        epoch: int,
        sequence: int,
        segment: int,
        offset: int,
        newer_only: bool,
    ) -> int:
        """Carry out one mutation whose bulk values begin at `offset`; where they end."""
        head = CELL_HEAD.pack(epoch, sequence, INLINE)
        for operation in operations:
            kind = operation[0]
            if kind == _PUT:
                self._put(cell_key(operation[1], operation[2]), head + operation[3], newer_only)
            elif kind == _PUT_BULK:
                _, row, column, length, crc = operation
                packed = BULK_CELL.pack(epoch, sequence, BULK, length, crc, segment, offset)
                offset += length
                self._put(cell_key(row, column), packed, newer_only)
            elif kind == _DELETE:
                self._delete(cell_key(operation[1], operation[2]), head[:16] if newer_only else None)
            else:
                assert kind == Op.DELETE_ROW, operation
                self._delete_row(operation[1], head[:16] if newer_only else None)
        return offset

    def set_packed(self, key: bytes, packed: bytes | None) -> None:
        """Make the cell exactly this (None: absent), whatever it was: what a learner read from its primary."""
        if packed is None:
            self._delete(key, None)
        else:
            self._put(key, packed, any_version=True)

    def packed(self, key: bytes) -> bytes | None:
        """The packed cell of a key."""
        return self._blocks[bisect_right(self._firsts, key) - 1].cells.get(key)

    def relocate(self, key: bytes, moved: bytes) -> bool:
        """If the cell is `moved` but for the place of its value, let it point to the place that `moved` names."""
        packed = self.packed(key)
        if packed is None or packed[:DIGESTED] != moved[:DIGESTED] or packed[16] != BULK:
            return False
        self._put(key, moved, any_version=True)
        return True

    def delete_range(self, low: bytes, high: bytes | None, unless_newer_than: bytes | None = None) -> int:
        """Delete every cell with a key in [low, high); how many there were. Cells of a newer version than that stay.

        Whole blocks go at once, and unsorted: a row of a million columns takes some milliseconds.
        """
        before = self.cells
        number = bisect_right(self._firsts, low) - 1
        begin = bisect_left(self._blocks[number].ordered(), low)
        while number < len(self._blocks) and (high is None or self._firsts[number] < high):
            block = self._blocks[number]
            end = len(block.cells)
            if high is not None and (number + 1 == len(self._firsts) or self._firsts[number + 1] > high):
                end = bisect_left(block.ordered(), high)
            none_newer = unless_newer_than is None or max(block.cells.values(), default=b"")[:16] <= unless_newer_than
            if 0 == begin < end == len(block.cells) and none_newer:
                self._drop_block(number)  # the next one has this number now
                continue
            for key in block.ordered()[begin:end]:
                self._delete(key, unless_newer_than, merge=False)
            number, begin = number + 1, 0
        number = bisect_right(self._firsts, low) - 1
        if len(self._blocks) > 1 and len(self._blocks[number].cells) < FEW_CELLS:
            self._join(number)
        return before - self.cells

    # ------------------------------------------------------------------ inside

    def _put(self, key: bytes, packed: bytes, newer_only: bool = False, any_version: bool = False) -> None:
        # Hot code: digest and sizes are spelled out here, for cells without bulk values.
        number = bisect_right(self._firsts, key) - 1
        block = self._blocks[number]
        if block.stamp != self._stamp:
            block = self._own(number)
        cells = block.cells
        old = cells.get(key)
        if old is not None and old > packed and old[:16] > packed[:16] and not any_version:
            assert newer_only, "versions of a cell only grow"
            return
        self._changes += 1
        if key in block.owed:
            self.settle()
        if packed[16] or (old is not None and old[16]):
            digest, size = self._count_change(block, key, old, packed)
        else:
            seed = crc32c_value(key) + DIGEST_KEY
            if old is None:
                digest = seed * (crc32c_value(packed) + DIGEST_VALUE) & DIGEST_MASK
                size = len(key) + len(packed) - 19
            else:
                digest = seed * (crc32c_value(packed) - crc32c_value(old))  # what both have in common falls away
                size = len(packed) - len(old)
        cells[key] = packed
        self._count(block, digest, size)
        if old is None:
            block.order = None
            self.cells += 1
            if len(cells) > MOST_CELLS:
                self._split(number)

    def _count(self, block: Block, digest: int, size: int) -> None:
        block.digest += digest
        block.bytes += size
        self._digest += digest
        self._bytes += size

    def _count_change(self, block: Block, key: bytes, old: bytes | None, packed: bytes) -> tuple[int, int]:
        """What the digest and the bytes grow by when a cell changes; bulk values are counted."""
        digest, size = cell_digest(key, packed), cell_bytes(key, packed)
        if packed[16] == BULK:
            self._count_bulk(block, packed, 1)
        if old is not None:
            digest -= cell_digest(key, old)
            size -= cell_bytes(key, old)
            if old[16] == BULK:
                self._count_bulk(block, old, -1)
        return digest, size

    def _delete(self, key: bytes, unless_newer_than: bytes | None, merge: bool = True) -> None:
        number = bisect_right(self._firsts, key) - 1
        block = self._blocks[number]
        old = block.cells.get(key)
        if old is None or (unless_newer_than is not None and old[:16] > unless_newer_than):
            return
        if key in block.owed:
            self.settle()
        block = self._own(number)
        self._changes += 1
        del block.cells[key]
        block.order = None
        digest, size = cell_digest(key, old), cell_bytes(key, old)
        self._count(block, -digest, -size)
        self.cells -= 1
        if old[16] == BULK:
            self._count_bulk(block, old, -1)
        if merge and len(block.cells) < FEW_CELLS and len(self._blocks) > 1:
            self._join(number)

    def _delete_row(self, row: str, unless_newer_than: bytes | None) -> None:
        self.delete_range(cell_key(row, ""), row_end(row), unless_newer_than)


def _are_of_one_row(operations: Sequence[Sequence[Any]]) -> bool:
    """Whether all are puts, of one row as far as the first and the last tell."""
    return bool(operations[0][1] == operations[-1][1]) and not any(map(_kind, operations))


assert _PUT == 0, "any kind that counts as true is something else"
