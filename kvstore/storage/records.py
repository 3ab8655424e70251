"""What the engine writes into its log: the kinds of record, and their payloads.

Every record names a tablet and an epoch; `first` and the payload depend on the kind:

    CREATE    a replica begins, empty. Payload: msgpack [start, end or nil, range version]
    DROP      it ends
    ENTRY     first: the entry's. Payload: u64 the commit point known when it was logged, then the entry (`kvstore.mutation`)
    COMMIT    first: the commit point
    EPOCH     epoch: the highest that the replica has seen
    CUT       first: logged entries above this sequence never were
    LEARN     the replica is not intact from here on; its tail above `first` (its commit point then) is cut, entries that
              follow are held back. Payload: msgpack
              [start, end or nil, range version, whether it begins with no cells (it had been damaged)]
    INSTALL   cells as the primary has them: cell list (below)
    FINISH    first: the commit point c that the results belong to. epoch: that of the entry that ends there. Payload: u64 where
              the held-back entries begin (the sequence before the first), then the results (`kvstore.storage.results`).
              Held-back entries up to c are applied where newer, those behind as ever
    MOVED     values copied to here from a segment that is to be freed: cell list; a cell that is still the same points here now
    DAMAGED   the replica is not to be trusted. Payload: msgpack [start, end or nil, range version, why]
    SPLIT     the cells of some rows become another replica. first, epoch: the commit point n, and the epoch of the entry that
              ends there. Payload: msgpack [start, end or nil, range version, tablet] of the other one. It begins with the cells
              from that start on and with the results, as both are at n, and with the epoch of this one; n is its commit point.
              This one ends at that start from here on, under the same range version; what it has logged above n stays with it
    NARROW    the cells behind the end are gone, and so are logged entries above `first` (its commit point then); one that is
              learning learns nothing more before the next LEARN. Payload: msgpack [start, end, range version]

DAMAGED, and LEARN with no cells, begin the replica if the log before them is gone: nothing of it was worth keeping. A replica
that a SPLIT began depends on log and checkpoint of the one that it was part of, until it has a checkpoint of its own
(`kvstore.storage.upkeep` keeps the order); a SPLIT is passed over by the one side, or the other, whose checkpoint is of later.

Cell list: u32 length of the msgpack part, the msgpack part, then the bulk values with nothing between them. The msgpack part is
an array of [key: bin (`kvstore.storage.cellkey`), packed: bin or nil]: the cell in the form of `kvstore.storage.cell`, nil
when it is gone. The place that a packed bulk cell names is 0, 0: its value is the next one of the bulk part.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any

import msgpack

from kvstore.errors import BadRequest
from kvstore.mutation import Buffer
from kvstore.storage.cell import BULK, BulkRef, StoredCell, check_packed, packed_at
from kvstore.storage.crc import combined, crc32c
from kvstore.storage.segment import MARK

_U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")


class Kind(IntEnum):
    """Kinds of record. 0 and 1 are the log's own (`kvstore.storage.segment`)."""

    CREATE = 2
    DROP = 3
    ENTRY = 4
    COMMIT = 5
    EPOCH = 6
    CUT = 7
    LEARN = 8
    INSTALL = 9
    FINISH = 10
    MOVED = 11
    DAMAGED = 12
    SPLIT = 13
    NARROW = 14


def kind_name(kind: int) -> str:
    """What to call a record of this kind."""
    return "mark" if kind == MARK else Kind(kind).name.lower()


def encode_range(start: str, end: str | None, range_version: int, *more: object) -> bytes:
    """The payload of CREATE, LEARN, DAMAGED, SPLIT and NARROW."""
    packed: bytes = msgpack.packb([start, end, range_version, *more])
    return packed


def decode_range(payload: bytes) -> tuple[str, str | None, int, list[Any]]:
    """(start, end, range version, what follows) of a record that states a range; `BadRequest` if it is malformed."""
    try:
        start, end, range_version, *more = msgpack.unpackb(payload)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadRequest(f"not a range: {error}") from error
    if type(start) is not str or type(end) not in (str, type(None)) or type(range_version) is not int:
        raise BadRequest("not a range: its members are of other types")
    return start, end, range_version, more


def encode_cells(cells: Iterable[tuple[bytes, bytes | None]], values: list[Buffer]) -> tuple[list[Buffer], int]:
    """The parts of a cell list's payload, and their checksum. `values`: those of the bulk cells, in order."""
    listed = list(cells)
    table = msgpack.packb([(key, None if packed is None else packed_at(packed, 0, 0)) for key, packed in listed])
    head = _U32.pack(len(table)) + table
    crc = crc32c(head)
    for _, packed in listed:
        if packed is not None and packed[16] == BULK:
            ref = StoredCell((packed,)).value
            assert isinstance(ref, BulkRef)
            crc = combined(crc, ref.crc32c, ref.length)
    return [head, *values], crc


def decode_cells(payload: bytes, segment: int, offset: int) -> Iterator[tuple[bytes, bytes | None]]:
    """The cells of a cell list whose payload lies at (segment, offset): bulk cells point there. `BadRequest` if malformed."""
    try:
        (length,) = _U32.unpack_from(payload)
        at = _U32.size + length
        listed = [(key, packed) for key, packed in msgpack.unpackb(payload[_U32.size : at])]
        placed = []
        for key, packed in listed:
            check_packed(key, packed)
            if packed is not None and packed[16] == BULK:
                packed = packed_at(packed, segment, offset + at)
                at += StoredCell((packed,)).size
            placed.append((key, packed))
    except (ValueError, TypeError, struct.error, msgpack.UnpackException) as error:
        raise BadRequest(f"not a list of cells: {error}") from error
    if at != len(payload):
        raise BadRequest("not a list of cells: its lengths do not add up")
    return iter(placed)
