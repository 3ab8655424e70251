"""What can go wrong with a data folder, and what follows from it.

All are `StorageFailure`s: a node's own disk, not a caller's request. `DiskFailed` ends the process's service for good;
`CorruptValue` and damage found in the log end one replica, which is then rebuilt from another; the rest are said at
start-up, in a sentence that names the path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvstore.errors import StorageFailure, TryAgain


class FutureFormat(StorageFailure):
    """A file was written by a later version of the store than this one."""


class FolderLocked(StorageFailure):
    """Another process works on this data folder."""


class FolderDamaged(StorageFailure):
    """The file that identifies the data folder cannot be read, so nothing in it can be trusted."""


class DiskFailed(StorageFailure):
    """A write or an fsync of the log failed. Nothing more is written: after a failed fsync nobody knows what is on disk."""


class CorruptValue(StorageFailure):
    """Bytes read back do not have their checksum. `file` is relative to the data folder, `offset` in bytes."""

    def __init__(self, file: str, offset: int, what: str = "the checksum does not match") -> None:
        super().__init__(f"{file} at byte {offset}: {what}")
        self.file = file
        self.offset = offset


class ValueMoved(TryAgain):
    """The value was read from a cell looked up too long ago: its segment has been freed since. Look the cell up again."""


class TooManyFiles(TryAgain):
    """The process, or the machine, has no descriptor left to open a segment with. It says nothing of what is in there."""


@dataclass(slots=True, frozen=True)
class Damage:
    """A place where a file does not hold what was written. `tablet` is None when nothing tells whose bytes they were.

    `end`: where the damaged record ends, if that is known; else 0. Its values may have become another tablet's by a split.
    """

    file: str
    offset: int
    tablet: int | None
    what: str
    end: int = 0

    def of(self, tablet: int) -> Damage:
        """The same as this tablet is told of it, which needs those bytes though they name another; if they name any."""
        return self if self.tablet is None else replace(self, tablet=tablet)

    def __str__(self) -> str:
        whose = "unknown tablet" if self.tablet is None else f"tablet {self.tablet}"
        return f"{self.file} at byte {self.offset}: {self.what} ({whose})"
