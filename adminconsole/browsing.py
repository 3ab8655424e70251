"""Pages of the store's rows, columns and cells, for the console's data browser.

Takes a store client and plain values, never a request. Bounded: a page of rows reads keys only, at most
`COLUMNS_COUNTED` of each row, and skips over the rest of a long row instead of reading it.

**Credentials are never shown.** Of an account's row only the columns known to be harmless are opened (a column that is
added later is not, until somebody says here that it may be), of a session's row all but the session itself. The rows are
listed: a session's row is named by a hash of what the visitor holds. An operator of the web site is not by that a holder
of everybody's password: who must see these cells has the cluster key and the store's shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvstore.keys import MAX_KEY, prefix_end
from penncloud_site.accounts import schema

if TYPE_CHECKING:
    from kvstore.client import Cell, Client

ROWS_A_PAGE = 50
COLUMNS_A_PAGE = 100
COLUMNS_COUNTED = 100
"""A row with more columns than this is shown as having "100+": counting them all would read the whole row."""

_ACCOUNTS = schema.user_row("")
_HARMLESS = (schema.PROFILE, schema.OPERATOR, schema.LAST_LOGIN)


class Concealed(Exception):
    """The cell holds a credential, which the console does not show."""


@dataclass(frozen=True, slots=True)
class RowSummary:
    """A row in a list: how many columns (`more`: at least so many), and the bytes of the values counted."""

    row: str
    columns: int
    bytes: int
    more: bool


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows in order. `earlier` and `later` are the rows to page from, None where there is nothing further."""

    rows: tuple[RowSummary, ...]
    earlier: str | None
    later: str | None


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """A column in a list; `concealed` ones are not opened."""

    column: str
    size: int
    version: tuple[int, int]
    concealed: bool


@dataclass(frozen=True, slots=True)
class ColumnPage:
    """Columns of one row in order. `earlier` and `later` as in `RowPage`."""

    columns: tuple[ColumnSummary, ...]
    earlier: str | None
    later: str | None


def is_concealed(row: str, column: str) -> bool:
    """Whether the cell holds, or may hold, a credential."""
    if row.startswith(_ACCOUNTS):
        return column not in _HARMLESS and not column.startswith(schema.SESSION_COLUMNS)
    return row.startswith(schema.SESSION_ROWS) and column == schema.SESSION_DATA


def rows_from(client: Client, start: str, prefix: str = "", limit: int = ROWS_A_PAGE) -> RowPage:
    """The first `limit` rows at or above `start` that begin with `prefix`."""
    found = _rows_upward(client, max(start, prefix), prefix, limit + 1)
    first = found[0].row if found else max(start, prefix)
    earlier = first if _rows_downward(client, first, prefix, 1) else None
    return RowPage(tuple(found[:limit]), earlier, found[limit].row if len(found) > limit else None)


def rows_before(client: Client, before: str, prefix: str = "", limit: int = ROWS_A_PAGE) -> RowPage:
    """The last `limit` rows below `before` that begin with `prefix`, in ascending order."""
    found = _rows_downward(client, before, prefix, limit + 1)
    shown = tuple(reversed(found[:limit]))
    if not shown:
        return rows_from(client, prefix, prefix, limit)
    return RowPage(shown, shown[0].row if len(found) > limit else None, before)


def _rows_upward(client: Client, start: str, prefix: str, limit: int) -> list[RowSummary]:
    """Up to `limit` rows from `start` on. Each row is one scan: it ends at the next row, or when it has counted enough."""
    found: list[RowSummary] = []
    following: str | None = start
    while following is not None and len(found) < limit:
        summary, following = _first_row(client, following, prefix)
        if summary is not None:
            found.append(summary)
    return found


def _first_row(client: Client, start: str, prefix: str) -> tuple[RowSummary | None, str | None]:
    """The first row at or above `start` if it begins with `prefix`, and where to look for the next one."""
    row, columns, size = None, 0, 0
    for name, _, cell in client.scan(start, limit=COLUMNS_COUNTED + 1, keys_only=True):
        if row is None:
            if not name.startswith(prefix):
                return None, None
            row = name
        if name != row or columns == COLUMNS_COUNTED:
            following = name if name != row else _after(row)
            return RowSummary(row, columns, size, more=name == row), following
        columns += 1
        size += cell.size
    # The scan ended before its limit: there is nothing behind this row.
    return (RowSummary(row, columns, size, more=False) if row is not None else None), None


def _after(row: str) -> str | None:
    """The least row above `row`; a row that is as long as may be cannot be made longer, so the next one differs."""
    return row + "\0" if len(row.encode()) < MAX_KEY else prefix_end(row)


def _rows_downward(client: Client, before: str, prefix: str, limit: int) -> list[RowSummary]:
    """Up to `limit` rows below `before`, the highest first. Their columns are counted upward, as in `_first_row`."""
    found: list[RowSummary] = []
    end = before
    while len(found) < limit:
        row = next((name for name, _, _ in client.scan("", end, limit=1, reverse=True, keys_only=True)), None)
        if row is None or not row.startswith(prefix):
            break
        end = row
        summary, _ = _first_row(client, row, prefix)
        if summary is not None and summary.row == row:
            found.append(summary)
    return found


def columns_from(client: Client, row: str, start: str = "", limit: int = COLUMNS_A_PAGE) -> ColumnPage:
    """The first `limit` columns of `row` at or above `start`."""
    found = _columns(row, client.get_row(row, limit=limit + 1, start=start, keys_only=True))
    first = found[0].column if found else start
    earlier = client.get_row(row, limit=1, end=first, reverse=True, keys_only=True) if first else {}
    return ColumnPage(
        tuple(found[:limit]), first if earlier else None, found[limit].column if len(found) > limit else None
    )


def columns_before(client: Client, row: str, before: str, limit: int = COLUMNS_A_PAGE) -> ColumnPage:
    """The last `limit` columns of `row` below `before`, in ascending order."""
    found = _columns(row, client.get_row(row, limit=limit + 1, end=before, reverse=True, keys_only=True))
    shown = tuple(reversed(found[:limit]))
    if not shown:
        return columns_from(client, row, "", limit)
    return ColumnPage(shown, shown[0].column if len(found) > limit else None, before)


def _columns(row: str, cells: dict[str, Cell]) -> list[ColumnSummary]:
    return [
        ColumnSummary(column, cell.size, (cell.version.epoch, cell.version.sequence), is_concealed(row, column))
        for column, cell in cells.items()
    ]


def open_cell(client: Client, row: str, column: str) -> Cell | None:
    """The cell with its value (up to 8 MiB), or None; `Concealed` if it holds a credential."""
    if is_concealed(row, column):
        raise Concealed("This cell holds a credential; the console does not show it.")
    return client.get(row, column)
