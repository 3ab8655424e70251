"""The time after which the replicas of a node that is gone are rebuilt on another: seconds, or None for never.

Chosen when a cluster is made, changed by its operator at any time, kept by the coordinator.
"""

from __future__ import annotations

import math

from kvstore import settings
from kvstore.errors import BadRequest

NEVER = "never"


def parse(text: str) -> float | None:
    """What an operator wrote: a number of seconds, or `never`. `BadRequest`."""
    if text == NEVER:
        return None
    try:
        seconds = float(text)
    except ValueError:
        raise BadRequest(f"{text!r} is neither a number of seconds nor {NEVER!r}") from None
    check(seconds)
    return seconds


def check(seconds: float | None) -> None:
    """Raise `BadRequest` unless this is such a time."""
    least = settings.REBUILD_AFTER_LEAST
    if seconds is not None and not least <= seconds < math.inf:
        raise BadRequest(f"replicas are rebuilt after {least:g} seconds or more, or never; not after {seconds:g}")


def in_words(seconds: float | None) -> str:
    """For logs and tables."""
    return NEVER if seconds is None else f"after {seconds:g} s"
