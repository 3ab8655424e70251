"""Cells that were written before something is harmed, and must be there after it."""

from __future__ import annotations

from kvstore.client import Client


def check(client: Client, cells: dict[tuple[str, str], bytes]) -> None:
    """Everything is there."""
    for (row, column), value in cells.items():
        found = client.get(row, column)
        assert found is not None
        assert found.value == value
