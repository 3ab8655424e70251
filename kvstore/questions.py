"""What one node asks another about a tablet, as a client asks: requests with an id, answered by its primary as reads are.

A learner asks `ReadChanges` (answered with `Changes`) and `ReadResults` (answered with `Results`), and `Get` and `Scan` of
`kvstore.messages`; a secondary asks `AskCommitPoint` (answered with `kvstore.messages.CommitPoint`).

Keys here are cell keys (`kvstore.storage.cellkey`), cells are packed as in memory (`kvstore.storage.cell`), a large one without
the place of its value: what is the same on every replica.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class AskCommitPoint:
    """How far must a replica have applied, to answer reads that came before this question? Refused when the primary's epoch
    is not `epoch`; told under a lease as any read."""

    tablet: int
    epoch: int


@dataclass(slots=True)
class ReadChanges:
    """Which cells with keys in [start, end) are newer than version (since_epoch, since_sequence), and what are digests of the
    others: of some hundreds of cells each or, if `fine`, of a few?"""

    tablet: int
    range_version: int
    start: bytes
    end: bytes | None
    since_epoch: int
    since_sequence: int
    fine: bool


@dataclass(slots=True)
class Changes:
    """The answer about the first part of the range, up to below the last mark.

    `cells`: (key, packed cell) of those that are newer, in order. `marks`: (end, digest): the digest of the other cells below
    `end` and from the mark before on; the last `end` is that of the question when there is no more. `examined`: how many cells
    all marks together are about.
    """

    cells: list[tuple[bytes, bytes]]
    marks: list[tuple[bytes | None, int]]
    examined: int


@dataclass(slots=True)
class ReadResults:
    """The table of remembered results (see `kvstore.storage.results`)? Refused when the primary's epoch is not `epoch`."""

    tablet: int
    epoch: int


@dataclass(slots=True)
class Results:
    """The remembered results as of `commit`, in the table's own encoding, and the tablet's digest there."""

    commit: int
    commit_epoch: int
    encoded: bytes
    digest: int
