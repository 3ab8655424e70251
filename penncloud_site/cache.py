"""Django's cache on the store: shared by all front ends, with an `incr` that loses no count.

Made for small things that all front ends must agree on, such as the failures of a log-in; not for speed.

Row `cache:<digest>`, column `entry`: a JSON object of `key` (as Django makes it, for a person who looks), `value`
(anything JSON can hold; another raises `TypeError`) and `expires` (seconds since 1970, or null: never). The digest is
the first 40 hexadecimal digits of the key's SHA-256, so that a key cannot form another row and entries spread.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from kvstore.client import Batch
from kvstore.errors import RequirementFailed
from penncloud_site.storage import store

ROWS = "cache:"
COLUMN = "entry"
LARGEST_ENTRY = 15 * 1024  # bytes; a compare-and-put takes an expected value under 16 KiB


class StoreCache(BaseCache):
    """A cache whose entries are cells of the store."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        cell = store().get(self._row(key, version), COLUMN)
        entry = _live(cell.value if cell else None)
        return default if entry is None else entry["value"]

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        store().put(self._row(key, version), COLUMN, self._entry(key, version, value, timeout))

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        row = self._row(key, version)
        entry = self._entry(key, version, value, timeout)
        while True:
            cell = store().get(row, COLUMN)
            if _live(cell.value if cell else None) is not None:
                return False
            # An expired entry is replaced on the condition that it is still the same: two adds, one winner.
            if store().cput(row, COLUMN, cell.value if cell else None, entry):
                return True

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        expires = self.get_backend_timeout(timeout)
        return self._change(key, version, lambda entry: entry | {"expires": expires}) is not None

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Add `delta` and return the sum; `ValueError` if there is no entry. Its expiry stays."""
        entry = self._change(key, version, lambda entry: entry | {"value": entry["value"] + delta})
        if entry is None:
            raise ValueError(f"Key {key!r} not found")
        return entry["value"]

    def delete(self, key: str, version: int | None = None) -> bool:
        row = self._row(key, version)
        existed = store().get(row, COLUMN) is not None
        if existed:
            store().delete_row(row)
        return existed

    def has_key(self, key: str, version: int | None = None) -> bool:
        cell = store().get(self._row(key, version), COLUMN)
        return _live(cell.value if cell else None) is not None

    def clear(self) -> None:
        for row, _column, _cell in store().scan(prefix=ROWS, keys_only=True):
            store().delete_row(row)

    def _change(self, key: str, version: int | None, change: Any) -> dict[str, Any] | None:
        """Replace a live entry by `change(entry)`, again and again until nobody came between; None if there is none."""
        row = self._row(key, version)
        while True:
            cell = store().get(row, COLUMN)
            entry = _live(cell.value if cell else None)
            if cell is None or entry is None:
                return None
            changed = change(entry)
            if store().cput(row, COLUMN, cell.value, json.dumps(changed).encode()):
                return changed

    def _row(self, key: str, version: int | None) -> str:
        return ROWS + hashlib.sha256(self.make_key(key, version=version).encode()).hexdigest()[:40]

    def _entry(self, key: str, version: int | None, value: Any, timeout: Any) -> bytes:
        entry = {
            "key": self.make_key(key, version=version),
            "value": value,
            "expires": self.get_backend_timeout(timeout),
        }
        encoded = json.dumps(entry).encode()
        if len(encoded) > LARGEST_ENTRY:
            raise ValueError(f"the cache entry {key!r} is {len(encoded)} bytes; the limit is {LARGEST_ENTRY}")
        return encoded


def _live(encoded: bytes | None) -> dict[str, Any] | None:
    """The entry that was stored, unless it has expired."""
    if encoded is None:
        return None
    entry = json.loads(encoded)
    return None if entry["expires"] is not None and entry["expires"] <= time.time() else entry


def clear_expired() -> int:
    """Remove the entries that have expired; returns how many."""
    removed = 0
    for row, column, cell in store().scan(prefix=ROWS):
        if column != COLUMN or _live(cell.value) is not None:
            continue
        try:
            store().apply(Batch().require_version(row, column, cell.version).delete_row(row))
        except RequirementFailed:
            continue  # written anew since we read it
        removed += 1
    return removed
