"""Mutations, bundles of them, and log entries: one format for the wire, the log and the replication stream.

A *mutation* is encoded once, by the client, and travels as the same bytes to the primary, into every replica's log and to
the secondaries. Mutations that leave a client together travel, and stay, as one *bundle*: they are decoded by one call, and
nobody makes an object for each of their cells. A bundle has a head and a bulk part.

Head: msgpack array of mutations, each an array
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
Bulk: the values of the kind-1 operations of all its mutations, in order, nothing between them.

An *entry* is what a primary logs and replicates: bundles, with the outcome that the primary decided for each of their
mutations. It covers the sequence numbers [first, first + count) of its tablet: mutation i has sequence first + i, which with
the entry's epoch is the version of every cell that it writes. A mutation whose outcome is not OK applies none of its
operations; only its result is remembered. `failed` is the index of the requirement that did not hold, so that every replica
can give the same answer to a repeated request; it is 0 for all others.

Entry payload, little-endian:
    u32 2**31 + number of bundles, u32 count: the number of mutations
    for each bundle: u32 mutations, u32 length of the head, u32 length of the bulk part
    count * u8 outcome
    count * u16 failed, if any outcome is not 0
    the heads, one after the other
    the bulk parts, one after the other
Entries from before there were bundles are read too: u32 count (so without 2**31), count * (u8 outcome, u16 failed, u32 length
of the mutation, u32 length of its bulk part), the mutations, the bulk parts.
"""

from __future__ import annotations

import struct
import sys
from array import array
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

_packer = msgpack.Packer(autoreset=True)  # one for all: making a packer costs more than packing
_pack: Callable[[Any], bytes] = _packer.pack
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


class Mutation(NamedTuple):
    """A decoded mutation. `requires` and `operations` are the msgpack arrays of the format above, as tuples: many are in
    memory at a time, and a tuple takes less of it than a list, and is made sooner."""

    client: int
    number: int
    floor: int
    requires: Sequence[Sequence[Any]]
    operations: Sequence[Sequence[Any]]


_as_mutation = Mutation._make


@dataclass(slots=True)
class Bundle:
    """Mutations as they travel: the encoded head and the bulk part, and what the head holds, if somebody had to look.

    Who received a bundle from a client has checked it, and keeps what was decoded for that. A secondary decodes the bundles of
    an entry when they are applied: that is behind the acknowledgement, for which everybody waits, and what was decoded is used,
    and gone, while it is still in the processor's cache. (One with large values is decoded when it arrives, since the log wants
    to know their checksums.)
    """

    head: Buffer
    bulk: Buffer
    count: int
    """How many mutations there are."""
    decoded: list[Mutation] | None = field(default=None, compare=False, repr=False)

    @property
    def mutations(self) -> list[Mutation]:
        """The mutations; decoded each time they are asked for, unless they were once and for all."""
        if self.decoded is not None:
            return self.decoded
        try:
            mutations = decode_head(self.head)
        except BadRequest as error:
            raise AssertionError(f"a bundle that was checked, and has its checksum, cannot be read: {error}") from error
        assert len(mutations) == self.count, "a bundle that was checked, and has its checksum, holds another number"
        return mutations

    @property
    def size(self) -> int:
        """Bytes on the wire and in the log."""
        return len(self.head) + len(self.bulk)


def encode_mutation(client: int, number: int, floor: int, requires: Sequence[Any], operations: Sequence[Any]) -> bytes:
    """One mutation as it stands in a bundle's head."""
    return _pack([client, number, floor, requires, operations])


_one_head = _pack([None])[:1]


def encode_head(mutations: Sequence[Buffer]) -> bytes:
    """The head of a bundle of these encoded mutations, none of which is encoded again."""
    if len(mutations) == 1:
        return _one_head + mutations[0]
    return b"".join([_packer.pack_array_header(len(mutations)), *mutations])


def bundle_of(*mutations: bytes, bulk: Buffer = b"") -> Bundle:
    """A bundle of encoded mutations."""
    head = encode_head(mutations)
    return Bundle(head, bulk, len(mutations), decode_head(head))


def join_single(bundles: Sequence[Bundle]) -> list[Bundle]:
    """The same mutations in the same order, neighbours that came alone and without bulk part as one bundle. Nothing is
    encoded or decoded again."""
    joined: list[Bundle] = []
    alone: list[Bundle] = []

    def join() -> None:
        if len(alone) > 1:
            head = encode_head([bundle.head[1:] for bundle in alone])
            joined.append(Bundle(head, b"", len(alone), [bundle.mutations[0] for bundle in alone]))
        else:
            joined.extend(alone)
        alone.clear()

    for bundle in bundles:
        if bundle.count == 1 and not bundle.bulk and bundle.head[:1] == _one_head:
            alone.append(bundle)
        else:
            join()
            joined.append(bundle)
    join()
    return joined


def decode_head(head: Buffer) -> list[Mutation]:
    """The mutations of a bundle's head; `BadRequest` if it is not one. Their rows and columns are not checked here."""
    try:
        mutations = list(map(_as_mutation, _unpack(head, use_list=False)))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadRequest(f"not a bundle of mutations: {error}") from error
    for mutation in mutations:
        if type(mutation[3]) is not tuple or type(mutation[4]) is not tuple:
            raise BadRequest("not a bundle of mutations: requirements and operations are arrays")
    return mutations


_MOST_OPERATIONS = settings.MAX_OPERATIONS
_MOST_STEPS = 2 * settings.MAX_OPERATIONS
"""Operations and requirements of a bundle: what a client adds to one before it sends it (`kvstore.link.MUCH` bytes), and the
largest batch behind that. More would keep a node from everything else for too long (trap 29)."""


def check_bundle(bundle: Bundle) -> None:
    """Raise `BadRequest` unless everything in a bundle from outside is well formed, inside the limits, and arrived whole."""
    expected_bulk = steps = 0
    for mutation in bundle.mutations:
        client, number, floor, requires, operations = mutation
        try:
            if not (type(client) is type(number) is type(floor) is int and client >= 0 <= floor):
                raise BadRequest("client, number and floor must be whole numbers from 0")
            if not floor <= number < NUMBER_END:
                raise BadRequest("a number is at or above its floor, and below 2**63")
            count = len(requires) + len(operations)
            if count > _MOST_OPERATIONS:
                raise ValueTooLarge(f"a batch holds at most {_MOST_OPERATIONS} operations and requirements")
            steps += count
            if steps > _MOST_STEPS:
                raise ValueTooLarge(f"a bundle holds at most {_MOST_STEPS} operations and requirements")
            for require in requires:
                _check_require(require)
            expected_bulk += _check_operations(operations)
        except (TypeError, IndexError, ValueError) as error:
            raise BadRequest(f"malformed mutation: {error}") from error
    if expected_bulk != len(bundle.bulk):
        raise BadRequest(f"the bulk part is {len(bundle.bulk)} bytes long, the operations name {expected_bulk}")
    if expected_bulk:
        check_bulk(bundle)


_BULK_VALUE = settings.BULK_VALUE
_SEVERAL = 8
"""Operations from which looking at all of them together takes less than at one after the other."""


def _check_operations(operations: Sequence[Any]) -> int:
    """Check operations; how many bytes of the bulk part they take."""
    if len(operations) >= _SEVERAL and _are_plain_puts(operations):
        return 0
    bulk = 0
    for operation in operations:
        # a put with nothing to find fault with is told quickly: nearly every operation is one
        if type(operation) is tuple and len(operation) == 4 and operation[0] == 0:
            _, row, column, value = operation
            if (
                type(row) is type(column) is str
                and type(value) is bytes
                and row.isascii()
                and column.isascii()
                and len(row) <= MAX_KEY
                and len(column) <= MAX_KEY
                and len(value) < _BULK_VALUE
            ):
                continue
        bulk += _check_operation(operation)
    return bulk


def _are_plain_puts(operations: Sequence[Any]) -> bool:
    """Whether all are puts with nothing to find fault with."""
    try:
        kinds, rows, columns, values = zip(*operations, strict=True)
        # joining tells by an error that one of them is no text
        if kinds.count(0) < len(kinds) or not ("".join(rows).isascii() and "".join(columns).isascii()):
            return False
    except (TypeError, ValueError):
        return False
    if set(map(type, values)) != {bytes}:
        return False
    longest = max(map(len, rows)), max(map(len, columns)), max(map(len, values))
    return longest[0] <= MAX_KEY and longest[1] <= MAX_KEY and longest[2] < _BULK_VALUE


def _check_require(require: Sequence[Any]) -> None:
    kind, row, column, *rest = require
    checked(row, "row")
    checked(column, "column")
    wanted = {Require.ABSENT: (), Require.VALUE: (bytes,), Require.VERSION: (int, int)}[Require(kind)]
    if len(rest) != len(wanted) or not all(isinstance(a, t) for a, t in zip(rest, wanted, strict=True)):
        raise BadRequest(f"malformed requirement on row {row!r}")
    if kind == Require.VALUE and len(rest[0]) >= settings.BULK_VALUE:
        raise ValueTooLarge(f"a value to compare with must be under {settings.BULK_VALUE} bytes; compare the version")


def _check_operation(operation: Sequence[Any]) -> int:
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


def check_bulk(bundle: Bundle) -> None:
    """Raise `BadRequest` unless every value of the bulk part has the checksum that its operation names."""
    offset = 0
    whole = bundle.bulk if type(bundle.bulk) is bytes else bytes(bundle.bulk)
    for mutation in bundle.mutations:
        for operation in mutation.operations:
            if operation[0] == Op.PUT_BULK:
                _, row, column, length, crc = operation
                # a slice of all there is costs no copy: Python gives the same bytes
                if google_crc32c.value(whole[offset : offset + length]) != crc:
                    raise BadRequest(f"row {row!r}, column {column!r}: the value was damaged on its way; send it again")
                offset += length


_COUNTS = struct.Struct("<II")
_SIZES = struct.Struct("<III")
_BUNDLED = 1 << 31
_DAMAGED = "an entry was damaged on its way"
_FIRST_COUNT = struct.Struct("<I")
_FIRST_SIZES = struct.Struct("<BHII")
assert _COUNTS.size == 8
assert _SIZES.size == 12
assert _FIRST_SIZES.size == 11
assert settings.MAX_OPERATIONS < 1 << 16, "the index of a failed requirement is a u16"
assert sys.byteorder == "little", "arrays are written as they lie in memory"


@dataclass(slots=True)
class Entry:
    """One log entry of a tablet: bundles in order, with the outcome of each of their mutations.

    `failed` holds the index of the requirement that failed for each mutation; empty stands for all zeros.
    """

    epoch: int
    first: int
    bundles: Sequence[Bundle]
    outcomes: Sequence[int]
    failed: Sequence[int] = ()
    _parts: list[Buffer] | None = field(default=None, repr=False, compare=False)

    @property
    def count(self) -> int:
        """How many sequence numbers the entry covers."""
        return len(self.outcomes)

    @property
    def last(self) -> int:
        """The last sequence number that the entry covers."""
        return self.first + len(self.outcomes) - 1

    @property
    def mutations(self) -> list[Mutation]:
        """All mutations, in order."""
        return [mutation for bundle in self.bundles for mutation in bundle.mutations]

    @property
    def payload_parts(self) -> list[Buffer]:
        """The payload of the format above as buffers, in order, ready for `writev` and `sendmsg`: one for all heads, then
        each bulk part as it is. Asked for when the entry is complete, and not to change after that."""
        if self._parts is None:
            bundles = self.bundles
            parts: list[Buffer] = [_COUNTS.pack(_BUNDLED + len(bundles), len(self.outcomes))]
            parts += [_SIZES.pack(b.count, len(b.head), len(b.bulk)) for b in bundles]
            parts.append(bytes(self.outcomes))
            if any(self.outcomes):
                parts.append(array("H", self.failed or [0] * len(self.outcomes)).tobytes())
            parts += [b.head for b in bundles]
            self._parts = [b"".join(parts), *(b.bulk for b in bundles if len(b.bulk))]
        return self._parts

    @property
    def bulk_start(self) -> int:
        """Offset of the first bulk part inside the payload."""
        return len(self.payload_parts[0])

    @property
    def checksum(self) -> int:
        """CRC-32C of the payload's first part: all but the bulk parts, for whose values the heads have checksums."""
        return _checksum(self.payload_parts[0])


def _checksum(data: Buffer) -> int:
    # the library takes nothing but bytes
    return int(google_crc32c.value(data if type(data) is bytes else bytes(data)))


def decode_entry(epoch: int, first: int, payload: Buffer, checksum: int | None = None) -> Entry:
    """The entry that `payload` holds. Its bundles are views into `payload`, not copies; `BadRequest` if malformed.

    `checksum`: of the entry as its primary made it (`Entry.checksum`). If it is right, what the heads hold was checked there,
    and is decoded here when somebody asks for it; `BadRequest` if it is not. Without it they are decoded at once.
    """
    view = memoryview(payload)
    try:
        bundles, count = _COUNTS.unpack_from(view, 0)
        if not bundles & _BUNDLED:
            entry = _decode_without_bundles(epoch, first, view)
            if checksum is not None and entry.checksum != checksum:
                raise BadRequest(_DAMAGED)
            return entry
        bundles -= _BUNDLED
        at = _COUNTS.size + bundles * _SIZES.size
        sizes = list(_SIZES.iter_unpack(view[_COUNTS.size : at]))
    except struct.error as error:
        raise BadRequest(f"not an entry: {error}") from error
    mutations = heads = bulks = 0
    for number, length, bulk_length in sizes:
        mutations += number
        heads += length
        bulks += bulk_length
    outcomes = bytes(view[at : at + count])
    at += count
    failed: Sequence[int] = ()
    if any(outcomes):
        listed = bytes(view[at : at + 2 * count])
        if len(listed) < 2 * count:
            raise BadRequest("not an entry: it ends early")
        failed = array("H", listed)
        at += 2 * count
    bulk_start = bulk_at = at + heads
    if len(sizes) != bundles or mutations != count or bulk_start + bulks != len(view):
        raise BadRequest("not an entry: its numbers do not add up")
    # the payload itself is kept, so that a secondary logs and passes on what came in without putting it together again
    parts: list[Buffer] = [view[:bulk_start], view[bulk_start:]] if bulk_start < len(view) else [payload]
    if checksum is not None and _checksum(parts[0]) != checksum:
        raise BadRequest(_DAMAGED)
    found = []
    for number, length, bulk_length in sizes:
        head = view[at : at + length]
        at += length
        bundle = Bundle(head, view[bulk_at : bulk_at + bulk_length] if bulk_length else b"", number)
        bulk_at += bulk_length
        if checksum is None or bulk_length:
            bundle.decoded = decode_head(head)
            if len(bundle.decoded) != number:
                raise BadRequest("not an entry: a bundle holds another number of mutations")
        found.append(bundle)
    return Entry(epoch, first, found, outcomes, failed, parts)


def _decode_without_bundles(epoch: int, first: int, view: memoryview) -> Entry:
    """An entry of the form that the log had before there were bundles: each mutation becomes a bundle."""
    (count,) = _FIRST_COUNT.unpack_from(view, 0)
    at = _FIRST_COUNT.size + count * _FIRST_SIZES.size
    sizes = list(_FIRST_SIZES.iter_unpack(view[_FIRST_COUNT.size : at]))
    bulk_start = bulk_at = at + sum([size[2] for size in sizes])
    if len(sizes) != count or bulk_at + sum([size[3] for size in sizes]) != len(view):
        raise BadRequest("not an entry: its lengths do not add up")
    bundles = []
    for _, _, length, bulk_length in sizes:
        bundles.append(bundle_of(bytes(view[at : at + length]), bulk=view[bulk_at : bulk_at + bulk_length]))
        at += length
        bulk_at += bulk_length
    parts: list[Buffer] = [view[:bulk_start], view[bulk_start:]] if bulk_start < len(view) else [view]
    return Entry(epoch, first, bundles, [size[0] for size in sizes], [size[1] for size in sizes], parts)
