"""The record of what operators did: one row of the store, one column for each action, in the order of time.

Row `system:audit`; column `<microseconds since 1970, 16 digits>:<8 hex digits>`, so that columns sort by time and two
front ends never write the same one; value JSON: who, action, target, outcome, address.

An action is written down as `asked` before it is carried out and gets its outcome after, so that a front end that dies
in between leaves a trace. Every entry goes to the server log first: when the store cannot take it (which may be the very
reason to act) the action goes on, and the operator is told.
"""

from __future__ import annotations

import datetime
import json
import logging
import secrets
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from adminconsole.wording import readable_key

if TYPE_CHECKING:
    from kvstore.client import Client

ROW = "system:audit"
ENTRIES_A_PAGE = 50

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One action. `outcome`: `asked`, `done`, or `failed: …` with the reason."""

    who: str
    action: str
    target: str
    outcome: str
    address: str = ""
    column: str = ""

    @property
    def at(self) -> datetime.datetime:
        """When it was asked for, UTC, by the front end's clock."""
        return datetime.datetime.fromtimestamp(int(self.column.partition(":")[0]) / 1e6, tz=datetime.UTC)

    @property
    def failed(self) -> bool:
        """Whether it was tried and did not work."""
        return self.outcome.startswith("failed")


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the newest first; `older` is the column to page on from, None at the end."""

    entries: tuple[Entry, ...]
    older: str | None


def new_column(now_s: float | None = None) -> str:
    """The column of an action asked for now."""
    return f"{int((time.time() if now_s is None else now_s) * 1e6):016d}:{secrets.token_hex(4)}"


def write(client: Client, entry: Entry) -> None:
    """Write `entry` to the server log, then to the store, over the one of the same column; raises `StoreError`."""
    words = (entry.who, entry.action, entry.target, entry.outcome, entry.address)
    log.warning("operator %s: %s %s: %s (from %s)", *map(readable_key, words))
    value = {name: text for name, text in asdict(entry).items() if name != "column"}
    client.put(ROW, entry.column, json.dumps(value, ensure_ascii=False).encode())


def newest(client: Client, before: str | None = None, limit: int = ENTRIES_A_PAGE) -> Page:
    """The newest `limit` entries, or those before the column `before`."""
    cells = client.get_row(ROW, limit=limit + 1, end=before, reverse=True)
    entries = tuple(_read(column, cell.value) for column, cell in list(cells.items())[:limit])
    return Page(entries, entries[-1].column if len(cells) > limit else None)


def _read(column: str, value: bytes) -> Entry:
    fields = json.loads(value)
    return Entry(
        **{name: str(fields.get(name, "")) for name in ("who", "action", "target", "outcome", "address")}, column=column
    )
