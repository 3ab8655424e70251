"""Mutations and entries for the tests of the storage engine."""

from __future__ import annotations

from typing import Any

from kvstore.mutation import Bundle, Entry, Op, bundle_of, encode_mutation
from kvstore.storage.crc import crc32c

BULK = 64
"""Values of this size and more count as bulk in these tests' engines."""


def put(row: str, column: str, value: bytes) -> tuple[Any, ...]:
    """An operation as the tests write it."""
    return ("put", row, column, value)


def delete(row: str, column: str) -> tuple[Any, ...]:
    """An operation as the tests write it."""
    return ("delete", row, column)


def delete_row(row: str) -> tuple[Any, ...]:
    """An operation as the tests write it."""
    return ("delete_row", row)


def mutation(operations: list[tuple[Any, ...]], client: int = 1, number: int = 1, floor: int = 0) -> Bundle:
    """A bundle of one mutation."""
    encoded: list[list[Any]] = []
    bulk = []
    for kind, row, *rest in operations:
        if kind == "put" and len(rest[1]) >= BULK:
            encoded.append([Op.PUT_BULK, row, rest[0], len(rest[1]), crc32c(rest[1])])
            bulk.append(rest[1])
        elif kind == "put":
            encoded.append([Op.PUT, row, *rest])
        elif kind == "delete":
            encoded.append([Op.DELETE, row, *rest])
        else:
            encoded.append([Op.DELETE_ROW, row])
    return bundle_of(encode_mutation(client, number, floor, [], encoded), bulk=b"".join(bulk))


def entry(epoch: int, first: int, *batches: list[tuple[Any, ...]], client: int = 1, floor: int = 0) -> Entry:
    """An entry of one mutation per batch; the mutations are numbered by their sequence."""
    bundles = [mutation(batch, client, first + i, floor) for i, batch in enumerate(batches)]
    return Entry(epoch, first, bundles, [0] * len(bundles))
