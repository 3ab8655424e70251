"""Settings of a storage engine, and the counters of its background work."""

from __future__ import annotations

import math
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, field

from kvstore import clock, settings
from kvstore.storage.segments import WalOptions


def scrub_period(text: str) -> float:
    """What an operator wrote: a number of seconds; a `type=` function for `argparse`."""
    least = settings.SCRUB_PERIOD_LEAST
    try:
        seconds = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not least <= seconds < math.inf:
        raise ArgumentTypeError(f"everything is read again within {least:g} s or more, not within {text}")
    return seconds


@dataclass(slots=True, frozen=True)
class EngineOptions:
    """Settings of one engine; sizes in bytes."""

    wal: WalOptions = field(default_factory=WalOptions)
    bulk_value: int = settings.BULK_VALUE
    reserve: int = settings.DISK_RESERVE
    """Writes are refused when less than this is free on disk."""
    checkpoint_log: int = 64 * settings.MIB
    """A tablet is checkpointed when it logged this many bytes (without bulk values), and as many as its last checkpoint has."""
    replay_most: int = 1024 * settings.MIB
    """The tablet that needs the oldest log is checkpointed when the log to replay exceeds this, at the latest."""
    replay_fair: int = 256 * settings.MIB
    """It is checkpointed already at this, if that is also `REPLAY_WORTH` times what its last checkpoint took. Where values are
    large, checkpoints are small, and the sooner a segment of dead values comes free, the sooner it is written over: blocks
    that were written before take data several times as fast as new ones."""
    spares: int = 2
    """Segments made ready in advance."""
    dead_most: float = 0.4
    """Compaction begins when bytes that nothing needs exceed this share of the live ones."""
    scrub_period: float = settings.SCRUB_PERIOD
    """Seconds within which every large value and every checkpoint is read again."""
    clock: Callable[[], float] = clock.now
    """What the scrub's pace is measured by."""
    time_of_day: Callable[[], float] = time.time
    """Seconds since 1970, to tell when a round of the scrub ended; nothing is decided by it."""
    results_per_client: int = settings.RESULTS_PER_CLIENT
    clients_remembered: int = settings.CLIENTS_REMEMBERED


@dataclass(slots=True)
class UpkeepFigures:
    """Counters of background work since the engine was opened."""

    checkpoints: int = 0
    checkpoint_bytes: int = 0
    checkpoints_failed: int = 0
    segments_freed: int = 0
    compacted_bytes: int = 0
    scrubbed_bytes: int = 0
    scrub_rounds: int = 0
    scrub_damages: int = 0
    """Values and checkpoints that the scrub found damaged."""
    longest_slice: float = 0.0
    """Seconds of event loop that the longest slice took; the server may reset it."""
