"""Settings of a storage engine, and the counters of its background work."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvstore import settings
from kvstore.storage.segments import WalOptions


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
    longest_slice: float = 0.0
    """Seconds of event loop that the longest slice took; the server may reset it."""
