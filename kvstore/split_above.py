"""The size above which a tablet is split by itself: bytes in memory, or None for never.

Chosen when a cluster is made, changed by its operator at any time, kept by the coordinator.
"""

from __future__ import annotations

import re

from kvstore import settings
from kvstore.errors import BadRequest

NEVER = "never"
_SHOWN = 40  # characters of what was written that an error repeats
_UNITS = {"": 1, "k": settings.KIB, "m": settings.MIB, "g": 1024 * settings.MIB}


def parse(text: str) -> int | None:
    """What an operator wrote: a number of bytes (`64M`, `1GiB`, `67108864`), or `never`. `BadRequest`."""
    if text == NEVER:
        return None
    # (nineteen digits are more than any size has; Python refuses to read thousands of them)
    found = re.fullmatch(r"(\d{1,19}) ?([kmg]?)(?:ib|b)?", text.lower())
    if found is None:
        raise BadRequest(f"{text[:_SHOWN]!r} is neither a number of bytes (as 64M, or 1GiB) nor {NEVER!r}")
    size = int(found[1]) * _UNITS[found[2]]
    check(size)
    return size


def check(size: int | None) -> None:
    """Raise `BadRequest` unless this is such a size."""
    least = settings.SPLIT_ABOVE_LEAST
    if size is not None and not least <= size < 1 << 62:
        raise BadRequest(f"tablets are split above {least} bytes or more, or never; not above {size}")


def in_words(size: int | None) -> str:
    """For logs and tables."""
    return NEVER if size is None else f"above {size / settings.MIB:g} MiB in memory"


def exceeded(size: int | None, bytes_: int, bulk_bytes: int) -> bool:
    """Whether a tablet of so many bytes, of which `bulk_bytes` are of values that are not in memory, is to be split."""
    return size is not None and bytes_ - bulk_bytes + bulk_bytes // settings.SPLIT_ABOVE_BULK > size
