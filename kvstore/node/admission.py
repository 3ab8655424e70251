"""The node's edge: what is checked of a write from outside before anything else looks at it."""

from __future__ import annotations

from kvstore import settings
from kvstore.keys import MAX_KEY
from kvstore.mutation import NUMBER_END, Mutation, Op, check_bulk, check_header

_SURELY_SHORT = MAX_KEY // 4  # characters: UTF-8 takes at most four bytes for each


def check_mutation(mutation: Mutation) -> None:
    """Raise `BadRequest` unless a mutation from outside is well formed, inside the limits, and arrived whole."""
    header = mutation.header
    if not mutation.bulk and not header.requires and len(header.operations) == 1:
        operation = header.operations[0]
        # One small put is nearly every write. msgpack has refused what is not UTF-8, and a text of so few characters cannot
        # be over the limit in bytes, so there is nothing more to look for.
        if type(operation) is list and len(operation) == 4 and operation[0] == Op.PUT:
            _, row, column, value = operation
            if (
                type(row) is str
                and type(column) is str
                and type(value) is bytes
                and len(row) <= _SURELY_SHORT
                and len(column) <= _SURELY_SHORT
                and len(value) < settings.BULK_VALUE
                and type(header.client) is type(header.number) is type(header.floor) is int
                and header.client >= 0 <= header.number < NUMBER_END
                and 0 <= header.floor < NUMBER_END
            ):
                return
    check_header(header, len(mutation.bulk))
    check_bulk(header, mutation.bulk)
