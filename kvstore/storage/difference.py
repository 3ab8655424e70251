"""How two copies of a tablet find out where they differ without telling each other all that they hold.

One copy knows of itself that it held, once, all that the other had up to a version. Of a range of keys the other then tells
the cells that are newer, and one digest of the rest (`kvstore.storage.cell` says what a digest is worth). If that is also the
digest of the first copy's cells there, but for those that were told, nothing else differs; if not, something was deleted since.

The digest of a whole block of cells is at hand, so telling a range costs a look at each cell's version, and little else.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from kvstore import settings
from kvstore.mutation import Version
from kvstore.storage.block import Block
from kvstore.storage.cell import BULK, DIGEST_MASK, DIGESTED, cell_digest
from kvstore.storage.tablet import Tablet

_VERSION = struct.Struct(">QQ")


class Part(NamedTuple):
    """What a tablet holds from some key on to below `end`: `cells` that are newer than asked, and the digest of the `rest`."""

    cells: list[tuple[bytes, bytes]]
    end: bytes | None
    examined: int
    rest: int


def newer_part(tablet: Tablet, low: bytes, high: bytes | None, since: Version, most: int) -> Part:
    """The first part of [low, high): about `most` cells at most, of which no more than a page are newer."""
    bound = _VERSION.pack(*since) + b"\xff"  # above every cell of that version, below every newer one
    told: list[tuple[bytes, bytes]] = []
    examined = rest = room = 0
    for block, keys, whole in tablet.pieces(low, high):
        room = _room(told)
        if examined and (not room or examined + len(keys) > most):
            return Part(told, keys[0], examined, rest & DIGEST_MASK)
        newer, covered = _newer(block, keys[: most - examined], bound, max(room, 1))
        told += newer
        rest += _digest(block, keys[:covered], whole and covered == len(keys))
        rest -= sum(cell_digest(key, packed) for key, packed in newer)
        examined += covered
        if covered < len(keys):
            return Part(told, keys[covered], examined, rest & DIGEST_MASK)
    return Part(told, high, examined, rest & DIGEST_MASK)


def _room(told: list[tuple[bytes, bytes]]) -> int:
    """How many more cells a page takes after these."""
    if sum(len(packed) for _, packed in told) >= settings.SCAN_PAGE_BYTES:
        return 0
    return max(0, settings.SCAN_PAGE_CELLS - len(told))


def _newer(block: Block, keys: Sequence[bytes], bound: bytes, room: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """Of `keys` the cells above `bound`, as far as there is room; how many of the keys that is about."""
    cells = block.cells
    newer: list[tuple[bytes, bytes]] = []
    size = 0
    for key in [key for key in keys if cells[key] > bound]:
        if len(newer) >= room or size >= settings.SCAN_PAGE_BYTES:
            return newer, bisect_right(keys, newer[-1][0])
        packed = cells[key]
        newer.append((key, packed[:DIGESTED] if packed[16] == BULK else packed))
        size += len(packed)
    return newer, len(keys)


def _digest(block: Block, keys: Sequence[bytes], whole: bool) -> int:
    if whole:
        return block.digest
    cells = block.cells
    return sum(cell_digest(key, cells[key]) for key in keys)


def doubtful(
    tablet: Tablet, low: bytes, told: Sequence[tuple[bytes, bytes]], marks: Sequence[tuple[bytes | None, int]]
) -> list[tuple[bytes, bytes | None]]:
    """The ranges, from `low` on and parted by `marks` (end, digest of the rest), where this copy's rest is another one."""
    found: list[tuple[bytes, bytes | None]] = []
    at = 0
    for end, rest in marks:
        own = sum(_digest(*piece) for piece in tablet.pieces(low, end))
        while at < len(told) and (end is None or told[at][0] < end):
            mine = tablet.packed(told[at][0])
            own -= 0 if mine is None else cell_digest(told[at][0], mine)
            at += 1
        if own & DIGEST_MASK != rest:
            found.append((low, end))
        if end is not None:
            low = end
    return found
