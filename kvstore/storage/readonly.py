"""A door to the disk that shows a data folder as it is and changes nothing: for looking, verifying and backups.

An engine opened through it sees exactly what a node would find that is started now; what such a node would write (the end of a
torn segment, the removal of leftovers) is dropped. The folder may belong to a running node.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from kvstore.mutation import Buffer
from kvstore.storage.files import Files


class ReadOnlyFiles(Files):
    """See the module's docstring."""

    def open(self, path: str, create: bool = False) -> int:
        """Open for reading; nothing is made."""
        if create:
            raise OSError(errno.EROFS, "this folder is only looked at", path)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Drops what would be written."""
        return sum(map(len, buffers))

    def reserve(self, fd: int, length: int) -> None:
        """Does nothing."""

    def fill(self, fd: int, offset: int, length: int) -> None:
        """Does nothing."""

    def fdatasync(self, fd: int) -> None:
        """Does nothing."""

    def rename(self, old: str, new: str) -> None:
        """Does nothing."""

    def unlink(self, path: str) -> None:
        """Does nothing."""

    def makedirs(self, path: str) -> None:
        """Does nothing."""

    def fsync_dir(self, path: str) -> None:
        """Does nothing."""

    def lock(self, path: str) -> int | None:
        """Takes no lock: whoever works on the folder goes on."""
        return os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
