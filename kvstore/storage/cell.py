"""One cell as it lies in memory and in checkpoints: version and value in one byte string; its share of the tablet's digest.

Packed cell, big-endian, so that the first 16 bytes compare as versions do:
    u64 epoch, u64 sequence, u8 kind, then
    kind 0: the value itself
    kind 1: u32 length, u32 crc32c, u32 segment, u32 offset      (a value in the log; the first 25 bytes agree on all replicas)

Digest: the sum modulo 2**64, over all cells, of (crc32c(key) + A) * (crc32c(packed cell without its place) + B), so it does not
depend on order and each change adjusts it. Two replicas with equal digests hold equal cells, but for a chance of about 2**-32
for each differing cell: it finds faults, not forgeries.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import google_crc32c

from kvstore.mutation import Version

INLINE, BULK = 0, 1
CELL_HEAD = struct.Struct(">QQB")
BULK_CELL = struct.Struct(">QQBIIII")
VALUE_PLACE = struct.Struct(">IIII")
assert CELL_HEAD.size == 17
assert BULK_CELL.size == 33
DIGESTED = 25
"""Bytes of a packed bulk cell that are the same on every replica."""

DIGEST_MASK = (1 << 64) - 1
DIGEST_KEY, DIGEST_VALUE = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
crc32c_value = google_crc32c.value


class BulkRef(NamedTuple):
    """Where a value lies in the log: segment generation, byte offset in its file, length in bytes, checksum."""

    segment: int
    offset: int
    length: int
    crc32c: int

    def fits(self, data: bytes) -> bool:
        """Whether `data`, read there, is the value that was written."""
        return len(data) == self.length and crc32c_value(data) == self.crc32c


class StoredCell(tuple[bytes]):
    """One cell, as a light view of its packed bytes."""

    __slots__ = ()

    @property
    def version(self) -> Version:
        """The (epoch, sequence) that wrote it."""
        epoch, sequence, _ = CELL_HEAD.unpack_from(self[0])
        return Version(epoch, sequence)

    @property
    def value(self) -> bytes | BulkRef:
        """The value, or where in the log it lies (`Engine.read` fetches it)."""
        packed = self[0]
        if packed[16] == INLINE:
            return packed[17:]
        length, crc, segment, offset = VALUE_PLACE.unpack_from(packed, 17)
        return BulkRef(segment, offset, length, crc)

    @property
    def size(self) -> int:
        """Bytes of the value, wherever it lies."""
        packed = self[0]
        return len(packed) - 17 if packed[16] == INLINE else int.from_bytes(packed[17:21], "big")


def pack_inline(epoch: int, sequence: int, value: bytes) -> bytes:
    """A packed cell that holds `value`."""
    return CELL_HEAD.pack(epoch, sequence, INLINE) + value


def pack_bulk(epoch: int, sequence: int, ref: BulkRef) -> bytes:
    """A packed cell whose value lies in the log."""
    return BULK_CELL.pack(epoch, sequence, BULK, ref.length, ref.crc32c, ref.segment, ref.offset)


def packed_at(packed: bytes, segment: int, offset: int) -> bytes:
    """The same cell with its value, if it is a bulk one, at another place."""
    return packed if packed[16] == INLINE else packed[:DIGESTED] + struct.pack(">II", segment, offset)


def check_packed(key: object, packed: object) -> None:
    """Raise `ValueError` unless these are a cell's key and a packed cell (None: it is gone), as far as their form tells."""
    if type(key) is not bytes or b"\0\0" not in key:
        raise ValueError("a cell's key is bytes, row and column")
    if packed is None:
        return
    if type(packed) is not bytes or len(packed) < CELL_HEAD.size or packed[16] not in (INLINE, BULK):
        raise ValueError("a packed cell is bytes with a version and a kind")
    if packed[16] == BULK and len(packed) != BULK_CELL.size:
        raise ValueError("a cell in the log names a length, a checksum and a place")


class Place(NamedTuple):
    """Where an entry's bulk part begins in the log."""

    segment: int
    offset: int


NOWHERE = Place(0, 0)


def cell_digest(key: bytes, packed: bytes) -> int:
    """What one cell adds to the digest."""
    told = packed if packed[16] == INLINE else packed[:DIGESTED]
    return int((crc32c_value(key) + DIGEST_KEY) * (crc32c_value(told) + DIGEST_VALUE) & DIGEST_MASK)


def cell_bytes(key: bytes, packed: bytes) -> int:
    """Bytes of row, column and value, wherever the value lies."""
    inside = len(packed) - 17 if packed[16] == INLINE else int.from_bytes(packed[17:21], "big")
    return len(key) - 2 + inside
