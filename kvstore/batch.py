"""A batch: requirements and operations that are applied together or not at all, checked as they are added."""

from __future__ import annotations

from typing import Any

import google_crc32c

from kvstore import settings
from kvstore.errors import BadRequest, CrossTabletBatch, ValueTooLarge
from kvstore.keys import MAX_KEY, GroupRule, checked
from kvstore.mutation import Op, Require, Version

# at hand: each is looked at for every put
_MOST_OPERATIONS, _BULK_VALUE, _MOST_BYTES = settings.MAX_OPERATIONS, settings.BULK_VALUE, settings.MAX_BATCH


class Batch:
    """Built by chaining: `Batch().require(…).put(…).delete(…)`; see `Client.apply`.

    Every method raises `BadRequest` for what can never be applied: keys that are not text, values that are not bytes, and
    (as `ValueTooLarge`) a key, value, batch or number of operations over the limits of `kvstore.settings`. All
    requirements are judged before the first operation; operations take effect in the order in which they were added.
    """

    __slots__ = ("_bulk", "_size", "operations", "requires")

    def __init__(self) -> None:
        self.requires: list[tuple[Any, ...]] = []
        """As `kvstore.mutation` encodes them."""
        self.operations: list[tuple[Any, ...]] = []
        """As `kvstore.mutation` encodes them."""
        self._bulk: list[bytes] = []
        self._size = 0

    def require(self, row: str, column: str, expected: bytes | None) -> Batch:
        """The cell's value must be exactly `expected` (under `BULK_VALUE` bytes), or the cell absent if that is None."""
        self._add(row, column)
        if expected is None:
            self.requires.append((int(Require.ABSENT), row, column))
            return self
        expected = as_value(expected)
        if len(expected) >= settings.BULK_VALUE:
            raise ValueTooLarge(
                f"a value to compare with must be under {settings.BULK_VALUE} bytes; use require_version for larger ones"
            )
        self._grow(len(expected))
        self.requires.append((int(Require.VALUE), row, column, expected))
        return self

    def require_version(self, row: str, column: str, version: Version) -> Batch:
        """The cell's version must be exactly `version`: nobody has written it since it was read."""
        self._add(row, column)
        try:
            epoch, sequence = version
        except (TypeError, ValueError) as error:
            raise BadRequest(f"{version!r} is no version") from error
        if not isinstance(epoch, int) or not isinstance(sequence, int):
            raise BadRequest(f"{version!r} is no version")
        self.requires.append((int(Require.VERSION), row, column, epoch, sequence))
        return self

    def put(self, row: str, column: str, value: bytes) -> Batch:
        """Write the cell."""
        if type(row) is type(column) is str and type(value) is bytes and row.isascii() and column.isascii():
            # what nearly every put is, checked in one go
            keys, size = len(row) + len(column), len(value)
            total = self._size + keys + size
            few = len(self.operations) + len(self.requires) < _MOST_OPERATIONS
            if keys <= MAX_KEY and size < _BULK_VALUE and total <= _MOST_BYTES and few:
                self._size = total
                self.operations.append((0, row, column, value))
                return self
        self._add(row, column)
        operation, bulk = put_operation(row, column, value)
        self._grow(len(bulk) or len(operation[3]))
        self.operations.append(operation)
        if bulk:
            self._bulk.append(bulk)
        return self

    def delete(self, row: str, column: str) -> Batch:
        """Delete the cell; it may be absent."""
        self._add(row, column)
        self.operations.append((int(Op.DELETE), row, column))
        return self

    def delete_row(self, row: str) -> Batch:
        """Delete every cell of the row."""
        self._add(row, "")
        self.operations.append((int(Op.DELETE_ROW), row))
        return self

    def __len__(self) -> int:
        return len(self.requires) + len(self.operations)

    @property
    def bulk(self) -> bytes:
        """The large values, end to end."""
        return self._bulk[0] if len(self._bulk) == 1 else b"".join(self._bulk)

    def only_row(self, rule: GroupRule) -> str:
        """A row of the one group that all rows lie in; `CrossTabletBatch` if there are several groups."""
        rows = {step[1] for steps in (self.operations, self.requires) for step in steps}
        if not rows:
            raise BadRequest("the batch is empty")
        if not rule.is_one_group(rows):
            one, other, *_ = sorted({rule.group_of(row): row for row in rows}.values())
            raise CrossTabletBatch(f"rows {one!r} and {other!r} lie in different groups: no batch can span them")
        return str(next(iter(rows)))

    def _add(self, row: str, column: str) -> None:
        checked(row, "row")
        checked(column, "column")
        if len(self) >= settings.MAX_OPERATIONS:
            raise ValueTooLarge(f"a batch holds at most {settings.MAX_OPERATIONS} operations and requirements")
        self._grow(len(row.encode()) + len(column.encode()))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > settings.MAX_BATCH:
            raise ValueTooLarge(f"the batch is over {settings.MAX_BATCH} bytes")


def as_value(value: object) -> bytes:
    """`value` as bytes that nobody can change any more; `BadRequest` when it is not bytes, `ValueTooLarge` over the limit."""
    if type(value) is not bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise BadRequest(f"a value must be bytes, not {type(value).__name__}")
        value = bytes(value)
    if len(value) > settings.MAX_VALUE:
        raise ValueTooLarge(f"a value of {len(value)} bytes; the most is {settings.MAX_VALUE}")
    return value


def put_operation(row: str, column: str, value: bytes) -> tuple[tuple[Any, ...], bytes]:
    """The put as `kvstore.mutation` encodes it, and what of it belongs in the bulk part (empty: nothing)."""
    if type(value) is not bytes or len(value) >= settings.BULK_VALUE:
        value = as_value(value)
        if len(value) >= settings.BULK_VALUE:
            return (1, row, column, len(value), google_crc32c.value(value)), value
    return (0, row, column, value), b""


assert (Op.PUT, Op.PUT_BULK) == (0, 1)
