"""Mutations and log entries: one format for the wire, the log and the replication stream.

A *mutation* is encoded once, by the client, and travels as the same bytes to the primary, into every replica's log and to
the secondaries. It has a header and a bulk part.

Header: msgpack array
    [client: uint64, number: uint64, floor: uint64, requires: array, operations: array]
    - (client, number) names the mutation for the suppression of repeats. `floor` is the client's lowest number whose
      outcome it still waits for: results below it may be forgotten.
    - requires: [kind, row, column(, argument)]
          [0, row, column]                 the cell is absent
          [1, row, column, value: bin]     the cell's value is exactly this (under BULK_VALUE bytes)
          [2, row, column, epoch, seq]     the cell's version is exactly this
    - operations, in order:
          [0, row, column, value: bin]     put, value under BULK_VALUE bytes
          [1, row, column, length, crc32c] put of the next `length` bytes of the bulk part
          [2, row, column]                 delete the cell (absent is fine)
          [3, row]                         delete every cell of the row
Bulk: the values of the kind-1 operations, in order, nothing between them.

An *entry* is what a primary logs and replicates: `count` mutations with the outcome that the primary decided for each. It
covers the sequence numbers [first, first + count) of its tablet: mutation i has sequence first + i, which with the entry's
epoch is the version of every cell that it writes. A mutation whose outcome is not OK applies none of its operations; only
its result is remembered. `failed` is the index of the requirement that did not hold, so that every replica can
give the same answer to a repeated request; it is 0 for all others.

Entry payload, little-endian:
    u32 count
    count * (u8 outcome, u16 failed, u32 header length, u32 bulk length)
    the headers, one after the other
    the bulk parts, one after the other
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import google_crc32c
import msgpack

from kvstore import settings
from kvstore.errors import BadRequest, ValueTooLarge
from kvstore.keys import MAX_KEY, checked

Buffer = bytes | bytearray | memoryview

_pack: Callable[[Any], bytes] = msgpack.Packer(
    autoreset=True
).pack  # one for all: making a packer costs more than packing
_unpack = msgpack.unpackb


class Version(NamedTuple):
    """Which mutation wrote a cell. Within a tablet it only grows, and no two mutations share one."""

    epoch: int
    sequence: int


class Require(IntEnum):
    """Kinds of requirement."""

    ABSENT = 0
    VALUE = 1
    VERSION = 2


NUMBER_END = 1 << 63
"""A mutation's number and floor stay below: one more than the highest is still written as 64 bits."""


class Op(IntEnum):
    """Kinds of operation."""

    PUT = 0
    PUT_BULK = 1
    DELETE = 2
    DELETE_ROW = 3


class Outcome(IntEnum):
    """What the primary decided about a mutation, for good."""

    OK = 0
    REQUIREMENT_FAILED = 1


@dataclass(slots=True)
class Header:
    """A decoded mutation header. `requires` and `operations` are the msgpack arrays of the format above."""

    client: int
    number: int
    floor: int
    requires: list[list[Any]]
    operations: list[list[Any]]


@dataclass(slots=True)
class Mutation:
    """A mutation as it travels: its encoded header and its bulk part, with the decoded header beside them."""

    encoded: bytes
    bulk: Buffer
    header: Header

    @property
    def size(self) -> int:
        """Bytes on the wire and in the log."""
        return len(self.encoded) + len(self.bulk)


def encode_header(client: int, number: int, floor: int, requires: list[Any], operations: list[Any]) -> bytes:
    """The header bytes of a mutation."""
    return _pack([client, number, floor, requires, operations])


def decode_header(encoded: Buffer) -> Header:
    """The header that `encoded` holds; `BadRequest` if it is not one. Its rows and columns are not checked here."""
    try:
        client, number, floor, requires, operations = _unpack(encoded)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadRequest(f"not a mutation: {error}") from error
    if type(requires) is not list or type(operations) is not list:
        raise BadRequest("not a mutation: requirements and operations are arrays")
    return Header(client, number, floor, requires, operations)


def check_header(header: Header, bulk_length: int) -> None:
    """Raise `BadRequest` unless everything in a mutation from outside is of the form above and inside the limits."""
    if len(header.requires) + len(header.operations) > settings.MAX_OPERATIONS:
        raise ValueTooLarge(f"a batch holds at most {settings.MAX_OPERATIONS} operations and requirements")
    expected_bulk = 0
    try:
        for number in (header.client, header.number, header.floor):
            if not isinstance(number, int) or number < 0:
                raise BadRequest("client, number and floor must be whole numbers from 0")
        if max(header.number, header.floor) >= NUMBER_END:
            raise BadRequest("number and floor must be below 2**63")
        for require in header.requires:
            _check_require(require)
        for operation in header.operations:
            if not _is_plain_put(operation):
                expected_bulk += _check_operation(operation)
    except (TypeError, IndexError, ValueError) as error:
        raise BadRequest(f"malformed mutation: {error}") from error
    if expected_bulk != bulk_length:
        raise BadRequest(f"the bulk part is {bulk_length} bytes long, the operations name {expected_bulk}")


_SURELY_SHORT = MAX_KEY // 4  # characters: UTF-8 takes at most four bytes for each


def _is_plain_put(operation: list[Any]) -> bool:
    """Whether it is a put with nothing to find fault with, told quickly: nearly every operation is one."""
    if len(operation) != 4 or operation[0] != 0:
        return False
    _, row, column, value = operation
    return (
        type(row) is str
        and type(column) is str
        and type(value) is bytes
        and len(row) <= _SURELY_SHORT
        and len(column) <= _SURELY_SHORT
        and len(value) < settings.BULK_VALUE
        and row.isascii()
        and column.isascii()
    )


def _check_require(require: list[Any]) -> None:
    kind, row, column, *rest = require
    checked(row, "row")
    checked(column, "column")
    wanted = {Require.ABSENT: (), Require.VALUE: (bytes,), Require.VERSION: (int, int)}[Require(kind)]
    if len(rest) != len(wanted) or not all(isinstance(a, t) for a, t in zip(rest, wanted, strict=True)):
        raise BadRequest(f"malformed requirement on row {row!r}")
    if kind == Require.VALUE and len(rest[0]) >= settings.BULK_VALUE:
        raise ValueTooLarge(f"a value to compare with must be under {settings.BULK_VALUE} bytes; compare the version")


def _check_operation(operation: list[Any]) -> int:
    """Check one operation; how many bytes of the bulk part it takes."""
    kind, row, *rest = operation
    checked(row, "row")
    kind = Op(kind)
    if kind == Op.DELETE_ROW:
        wanted: tuple[type, ...] = ()
    else:
        checked(rest[0], "column")
        rest = rest[1:]
        wanted = {Op.PUT: (bytes,), Op.PUT_BULK: (int, int), Op.DELETE: ()}[kind]
    if len(rest) != len(wanted) or not all(isinstance(a, t) for a, t in zip(rest, wanted, strict=True)):
        raise BadRequest(f"malformed operation on row {row!r}")
    if kind == Op.PUT and len(rest[0]) >= settings.BULK_VALUE:
        raise BadRequest("a value of this size belongs in the bulk part")
    if kind == Op.PUT_BULK:
        if not settings.BULK_VALUE <= rest[0] <= settings.MAX_VALUE:
            raise ValueTooLarge(f"a value of {rest[0]} bytes; the most is {settings.MAX_VALUE}")
        return int(rest[0])
    return 0


def check_bulk(header: Header, bulk: Buffer) -> None:
    """Raise `BadRequest` unless every value of the bulk part has the checksum that its operation names."""
    offset = 0
    whole = bulk if type(bulk) is bytes else bytes(bulk)
    for operation in header.operations:
        if operation[0] == Op.PUT_BULK:
            _, row, column, length, crc = operation
            # a slice of all there is costs no copy: Python gives the same bytes
            if google_crc32c.value(whole[offset : offset + length]) != crc:
                raise BadRequest(f"row {row!r}, column {column!r}: the value was damaged on its way; send it again")
            offset += length


_COUNT = struct.Struct("<I")
_SIZES = struct.Struct("<BHII")
assert _COUNT.size == 4
assert _SIZES.size == 11
assert settings.MAX_OPERATIONS < 1 << 16, "the index of a failed requirement is a u16"


@dataclass(slots=True)
class Entry:
    """One log entry of a tablet: mutations in order, with the outcome of each.

    `payload_parts` are the buffers that make up the payload, in order, ready for `writev` and `sendmsg`. `failed` holds the
    index of the requirement that failed for each mutation; empty stands for all zeros.
    """

    epoch: int
    first: int
    mutations: Sequence[Mutation]
    outcomes: Sequence[Outcome | int]
    failed: Sequence[int] = ()
    _parts: list[Buffer] | None = field(default=None, repr=False, compare=False)

    @property
    def count(self) -> int:
        """How many sequence numbers the entry covers."""
        return len(self.mutations)

    @property
    def last(self) -> int:
        """The last sequence number that the entry covers."""
        return self.first + len(self.mutations) - 1

    @property
    def payload_parts(self) -> list[Buffer]:
        """The payload of the format above as a list of buffers: one for all headers, then each bulk part as it is."""
        if self._parts is None:
            head = [_COUNT.pack(len(self.mutations))]
            failed = self.failed or bytes(len(self.mutations))
            head += [
                _SIZES.pack(outcome, index, len(m.encoded), len(m.bulk))
                for m, outcome, index in zip(self.mutations, self.outcomes, failed, strict=True)
            ]
            head += [m.encoded for m in self.mutations]
            self._parts = [b"".join(head), *(m.bulk for m in self.mutations if len(m.bulk))]
        return self._parts

    @property
    def payload_size(self) -> int:
        """Bytes of the payload."""
        return sum(map(len, self.payload_parts))

    @property
    def bulk_start(self) -> int:
        """Offset of the first bulk part inside the payload."""
        return len(self.payload_parts[0])


def decode_entry(epoch: int, first: int, payload: Buffer) -> Entry:
    """The entry that `payload` holds. Its bulk parts are views into `payload`, not copies; `BadRequest` if malformed."""
    view = memoryview(payload)
    try:
        (count,) = _COUNT.unpack_from(view, 0)
        at = _COUNT.size + count * _SIZES.size
        sizes = list(_SIZES.iter_unpack(view[_COUNT.size : at]))
    except struct.error as error:
        raise BadRequest(f"not an entry: {error}") from error
    bulk_start = bulk_at = at + sum([size[2] for size in sizes])
    if len(sizes) != count or bulk_at + sum([size[3] for size in sizes]) != len(view):
        raise BadRequest("not an entry: its lengths do not add up")
    # Every secondary does this for every write: one copy of all headers, no views where there is nothing to see.
    headers = bytes(view[at:bulk_start])
    at = 0
    mutations = []
    try:
        for _, _, header_length, bulk_length in sizes:
            encoded = headers[at : at + header_length]
            at += header_length
            client, number, floor, requires, operations = _unpack(encoded)
            if type(requires) is not list or type(operations) is not list:
                raise BadRequest("not a mutation: requirements and operations are arrays")
            bulk: Buffer = b""
            if bulk_length:
                bulk = view[bulk_at : bulk_at + bulk_length]
                bulk_at += bulk_length
            mutations.append(Mutation(encoded, bulk, Header(client, number, floor, requires, operations)))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadRequest(f"not a mutation: {error}") from error
    # the payload itself is kept, so that a secondary logs and passes on what came in without putting it together again
    parts: list[Buffer] = [view[:bulk_start], view[bulk_start:]] if bulk_start < len(view) else [view]
    return Entry(epoch, first, mutations, [size[0] for size in sizes], [size[1] for size in sizes], parts)
