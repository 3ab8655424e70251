"""Configurations as the journal has them: one record for all that were decided together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvstore.codec import reader, writer
from kvstore.messages import Configuration

_write_configuration = writer(Configuration)
_read_configuration = reader(Configuration)
_DEFAULTS = _write_configuration(Configuration(0, "", None, 0, 0, None, ()))
"""What the fields that an older version did not write mean."""


def configurations_in(record: dict[str, Any]) -> list[Configuration]:
    """The configurations that a journal record holds; none in most kinds. What an older version wrote has fewer fields."""
    written = record.get("configurations", [])
    return [_read_configuration([*fields, *_DEFAULTS[len(fields) :]]) for fields in written]


def configurations_record(configurations: Iterable[Configuration]) -> dict[str, Any]:
    """The journal record of configurations that are decided together."""
    return {"kind": "configurations", "configurations": [_write_configuration(c) for c in configurations]}
