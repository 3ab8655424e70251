"""The only door to the disk.

Everything that the engine does to files goes through one `Files` object. Tests put another one in its place, which keeps the
files in memory, knows what was synced and what was not, and injects every fault (`tests/faults/disk.py`).

What the engine relies on, and nothing more:
- after `fdatasync(fd)` returned, all bytes written to the file before, and its size, survive a power cut;
- after `fsync_dir(path)` returned, all creations, renames and removals done in that folder before survive one;
- `rename` replaces its target in one step;
- before that, any part of what was written may be on disk, in any order, and any part may be missing.
Errors are the operating system's `OSError`s.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Protocol

from kvstore.mutation import Buffer
from kvstore.storage.kernelsync import KernelSync

TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
_MOST_BUFFERS = 1024
"""IOV_MAX on Linux: buffers in one writev."""
_ZEROS = memoryview(bytes(1 << 20))


class FileDoor(Protocol):
    """What `Files` and its stand-in in tests both do. Offsets and lengths are bytes; descriptors are small ints."""

    def open(self, path: str, create: bool = False) -> int:
        """Open an existing file for reading and writing, or make a new, empty one (which must not exist)."""

    def close(self, fd: int) -> None:
        """Close; what was not synced may still be lost in a power cut."""

    def size(self, fd: int) -> int:
        """The file's size."""

    def reserve(self, fd: int, length: int) -> None:
        """Make sure that the first `length` bytes have room on disk; makes the file that long."""

    def fill(self, fd: int, offset: int, length: int) -> None:
        """Write `length` zeros at `offset`. Syncs to blocks that were once written are cheaper than to reserved ones."""

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write all buffers, one after the other, from `offset`; how many bytes."""

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`: fewer only at the end of the file."""

    def fdatasync(self, fd: int) -> None:
        """Wait until everything written to the file is on disk. Never called again on a file for which it failed."""

    def kernel_sync(self) -> KernelSync | None:
        """A way to sync without waiting in the process (see `kvstore.storage.kernelsync`); None where there is none."""

    def forget(self, fd: int, offset: int = 0, length: int = 0) -> None:
        """Drop clean pages of these bytes from memory (length 0: to the end), so that the next read of them comes from disk."""

    def rename(self, old: str, new: str) -> None:
        """Give the file another name, replacing what had it."""

    def unlink(self, path: str) -> None:
        """Remove the name."""

    def listdir(self, path: str) -> list[str]:
        """The names in a folder."""

    def makedirs(self, path: str) -> None:
        """Make a folder, and those above it, durably; fine if it is there."""

    def exists(self, path: str) -> bool:
        """Whether the name exists."""

    def fsync_dir(self, path: str) -> None:
        """Wait until the folder's names are on disk."""

    def free_space(self, path: str) -> int:
        """Bytes that may still be written to the file system of `path`."""

    def lock(self, path: str) -> int | None:
        """Take the exclusive lock that the file `path` (made if need be) stands for; None if another process has it.

        It is held until the descriptor is closed or the process ends, however it ends.
        """


class Files:
    """The real disk."""

    def open(self, path: str, create: bool = False) -> int:
        """See `FileDoor.open`."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return os.open(path, flags, 0o600)

    def close(self, fd: int) -> None:
        """See `FileDoor.close`."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """See `FileDoor.size`."""
        return os.fstat(fd).st_size

    def reserve(self, fd: int, length: int) -> None:
        """See `FileDoor.reserve`."""
        os.posix_fallocate(fd, 0, length)

    def fill(self, fd: int, offset: int, length: int) -> None:
        """See `FileDoor.fill`."""
        end = offset + length
        while offset < end:
            offset += os.pwrite(fd, _ZEROS[: end - offset], offset)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """See `FileDoor.pwritev`."""
        total = 0
        for begin in range(0, len(buffers), _MOST_BUFFERS):
            part = list(buffers[begin : begin + _MOST_BUFFERS])
            wanted = sum(map(len, part))
            written = os.pwritev(fd, part, offset + total)
            while written < wanted:  # a signal, or a file system that took only a part
                rest = memoryview(b"".join(part))[written:]
                written += os.pwrite(fd, rest, offset + total + written)
            total += wanted
        return total

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """See `FileDoor.pread`."""
        data = os.pread(fd, length, offset)
        while 0 < len(data) < length:
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def fdatasync(self, fd: int) -> None:
        """See `FileDoor.fdatasync`."""
        os.fdatasync(fd)

    def kernel_sync(self) -> KernelSync | None:
        """A way to sync without waiting in the process; None where there is none."""
        try:
            return KernelSync()
        except OSError:
            return None

    def forget(self, fd: int, offset: int = 0, length: int = 0) -> None:
        """See `FileDoor.forget`."""
        begin = offset // mmap.PAGESIZE * mmap.PAGESIZE  # the kernel keeps a page of which only a part is named
        end = -(-(offset + length) // mmap.PAGESIZE) * mmap.PAGESIZE
        os.posix_fadvise(fd, begin, end - begin if length else 0, os.POSIX_FADV_DONTNEED)

    def rename(self, old: str, new: str) -> None:
        """See `FileDoor.rename`."""
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        """See `FileDoor.unlink`."""
        os.unlink(path)

    def listdir(self, path: str) -> list[str]:
        """See `FileDoor.listdir`."""
        return os.listdir(path)

    def makedirs(self, path: str) -> None:
        """See `FileDoor.makedirs`."""
        if os.path.isdir(path):
            return
        above = os.path.dirname(os.path.abspath(path))
        self.makedirs(above)
        try:
            os.mkdir(path)
        except FileExistsError as error:
            if not os.path.isdir(path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from error
        self.fsync_dir(above)

    def exists(self, path: str) -> bool:
        """See `FileDoor.exists`."""
        return os.path.exists(path)

    def fsync_dir(self, path: str) -> None:
        """See `FileDoor.fsync_dir`."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_space(self, path: str) -> int:
        """See `FileDoor.free_space`."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def lock(self, path: str) -> int | None:
        """See `FileDoor.lock`."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd


def replace_file(files: FileDoor, folder: str, name: str, buffers: Sequence[Buffer], *, durably: bool) -> None:
    """Let `folder` hold a file of that name with these bytes. Whoever reads it finds the former or this one; after a crash too
    if it was written `durably`, else perhaps one that is cut short."""
    path = f"{folder}/{name}"
    temporary = f"{path}.tmp"
    if files.exists(temporary):
        files.unlink(temporary)
    fd = files.open(temporary, create=True)
    try:
        files.pwritev(fd, buffers, 0)
        if durably:
            files.fdatasync(fd)
    finally:
        files.close(fd)
    files.rename(temporary, path)
    if durably:
        files.fsync_dir(folder)
