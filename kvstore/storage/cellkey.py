"""One ordered byte string for each (row, column).

    key = row in UTF-8, every 00 byte followed by 01; then 00 00; then the column in UTF-8

Keys compare as bytes exactly as (row, column) pairs compare as text: the row's end, 00 00, sorts below an escaped 00 (00 01)
and below every other byte. UTF-8 bytes sort as code points do.
"""

from __future__ import annotations

from kvstore.keys import prefix_end

_END = "\0\0"
_END_BYTES = b"\0\0"


def cell_key(row: str, column: str) -> bytes:
    """The key of cell (row, column)."""
    if "\0" in row:
        row = row.replace("\0", "\0\1")
    return f"{row}{_END}{column}".encode()


def split_key(key: bytes) -> tuple[str, str]:
    """The (row, column) whose key this is."""
    row, _, column = key.partition(_END_BYTES)
    text = row.decode()
    return text.replace("\0\1", "\0") if "\0" in text else text, column.decode()


def row_end(row: str) -> bytes:
    """The least key above every cell of `row`."""
    return cell_key(row, "")[:-1] + b"\1"


def column_bounds(row: str, start: str, end: str | None, prefix: str) -> tuple[bytes, bytes]:
    """The keys [low, high) of the columns of `row` that lie in [start, end) and begin with `prefix`."""
    low = cell_key(row, max(start, prefix))
    after = prefix_end(prefix) if prefix else None
    ends = [e for e in (end, after) if e is not None]
    return low, cell_key(row, min(ends)) if ends else row_end(row)
