"""A disk in memory that knows what was synced, crashes at any operation, and refuses service on demand.

`FaultyFiles` has the interface of `kvstore.storage.files.Files`. A write lies in its file at once, as in the page cache, and
becomes durable by `fdatasync`; a name by `fsync_dir`. `FaultyDisk.after_crash` is what a machine would find after
the power went: of what was not synced, any part of the writes (in sectors, or torn inside one) and any part of the names.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvstore.mutation import Buffer

SECTOR = 512


class Crash(BaseException):
    """The power went. A BaseException: nothing in the engine may catch it."""


@dataclass
class Inode:
    """A file's bytes: as the process sees them, as the disk has them, and the writes between the two."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    broken: bool = False
    """An fsync of it failed: the kernel dropped what it could not write."""
    syncs_after_failure: int = 0

    def sync(self) -> None:
        """All is on disk."""
        for offset, data in self.pending:
            _write(self.durable, offset, data)
        self.pending = []

    def crashed(self, chance: random.Random) -> Inode:
        """The file as it is found after the crash."""
        disk = bytearray(self.durable)
        how = chance.choice(("none", "all", "prefix", "sectors", "sectors"))
        pending = self.pending
        if how == "prefix":
            pending = pending[: chance.randint(0, len(pending))]
        elif how == "sectors":
            pending = [piece for write in pending for piece in _some_sectors(*write, chance)]
        if how != "none":
            for offset, data in pending:
                _write(disk, offset, data)
        return Inode(bytearray(disk), disk)


def _write(target: bytearray, offset: int, data: bytes) -> None:
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data


def _some_sectors(offset: int, data: bytes, chance: random.Random) -> list[tuple[int, bytes]]:
    """Some sectors of one write, one of them perhaps torn."""
    pieces = []
    share = chance.random()
    at = 0
    while at < len(data):
        end = min(len(data), at + SECTOR - (offset + at) % SECTOR)
        if chance.random() < share:
            if chance.random() < 0.05:
                end_of_piece = chance.randint(at, end)
                pieces.append((offset + at, data[at:end_of_piece]))
            else:
                pieces.append((offset + at, data[at:end]))
        at = end
    return pieces


class FaultyDisk:
    """All files of one machine."""

    def __init__(self) -> None:
        self.names: dict[str, Inode] = {}
        self.folders: set[str] = set()
        self.durable_names: dict[str, Inode] = {}
        self.name_changes: list[
            tuple[str, str | None, str | None, Inode]
        ] = []  # (kind, old, new, file), not yet synced
        self.capacity = 1 << 40
        self.locked: set[str] = set()

    @property
    def used(self) -> int:
        """Bytes that all files take."""
        return sum(len(inode.data) for inode in self.names.values())

    def after_crash(self, chance: random.Random) -> FaultyDisk:
        """A disk as the machine finds it when the power is back."""
        found = FaultyDisk()
        found.folders = set(self.folders)
        found.capacity = self.capacity
        names = dict(self.durable_names)
        for change in self._surviving_changes(chance):
            _apply_change(names, *change)
        inodes = {id(inode): inode.crashed(chance) for inode in names.values()}
        found.names = {path: inodes[id(inode)] for path, inode in names.items()}
        found.durable_names = dict(found.names)
        return found

    def after_kill(self) -> FaultyDisk:
        """The same disk when only the process ended: all that was written is there, and no more of it is durable than was."""
        self.locked = set()
        return self

    def _surviving_changes(self, chance: random.Random) -> list[tuple[str, str | None, str | None, Inode]]:
        changes = self.name_changes
        how = chance.choice(("none", "all", "prefix", "some"))
        if how == "none":
            return []
        if how == "prefix":
            return changes[: chance.randint(0, len(changes))]
        if how == "some":
            return [change for change in changes if chance.random() < 0.5]
        return changes

    def sync_names(self, folder: str) -> None:
        """All names in a folder are on disk."""
        left = []
        for change in self.name_changes:
            _, old, new, _ = change
            if os.path.dirname(new or old or "") == folder:
                _apply_change(self.durable_names, *change)
            else:
                left.append(change)
        self.name_changes = left


def _apply_change(names: dict[str, Inode], kind: str, old: str | None, new: str | None, inode: Inode) -> None:
    if kind == "create" and new is not None:
        names[new] = inode
    elif kind == "unlink" and old is not None:
        if names.get(old) is inode:
            del names[old]
    elif kind == "rename" and old is not None and new is not None:
        if names.get(old) is inode:
            del names[old]
        names[new] = inode


@dataclass
class Faults:
    """What goes wrong: each function is asked at each operation, with its name and path."""

    crash_at: int | None = None
    """The number of the operation at which the power goes."""
    error: Callable[[str, str], int | None] = lambda operation, path: None
    """An errno that the operation fails with."""


class FaultyFiles:
    """The door to a `FaultyDisk`."""

    def __init__(self, disk: FaultyDisk, faults: Faults | None = None, chance: random.Random | None = None) -> None:
        self.disk = disk
        self.faults = faults or Faults()
        self.operations = 0
        self.log: list[tuple[str, str]] = []
        self._chance = chance or random.Random(0)
        self._fds: dict[int, tuple[str, Inode]] = {}
        self._next = 100
        self._crashed = False

    def _enter(self, operation: str, path: str) -> Callable[[], None]:
        """Count an operation; fail as asked. What it returns is called when the operation is done."""
        if self._crashed:
            raise Crash
        self.operations += 1
        self.log.append((operation, path))
        due = self.faults.crash_at is not None and self.operations >= self.faults.crash_at
        if due and self._chance.random() < 0.5:
            self._crashed = True
            raise Crash
        number = self.faults.error(operation, path)
        if number is not None:
            self._failed(operation, path)
            raise OSError(number, os.strerror(number), path)
        return self._crash if due else _go_on

    def _crash(self) -> None:
        self._crashed = True
        raise Crash

    def _failed(self, operation: str, path: str) -> None:
        inode = self.disk.names.get(path)
        if operation == "fdatasync" and inode is not None:
            inode.broken = True
            inode.pending = []  # marked clean by the kernel, though it never reached the disk

    def _inode(self, fd: int) -> Inode:
        return self._fds[fd][1]

    def _path(self, fd: int) -> str:
        return self._fds[fd][0]

    def _need_room(self, inode: Inode, end: int, path: str) -> None:
        grown = end - len(inode.data)
        if grown > 0 and self.disk.used + grown > self.disk.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    # ---------------------------------------------------------------- the interface

    def open(self, path: str, create: bool = False) -> int:
        done = self._enter("create" if create else "open", path)
        if create:
            if path in self.disk.names:
                raise OSError(errno.EEXIST, "exists", path)
            inode = self.disk.names[path] = Inode()
            self.disk.name_changes.append(("create", None, path, inode))
        elif path not in self.disk.names:
            raise OSError(errno.ENOENT, "no such file", path)
        self._next += 1
        self._fds[self._next] = (path, self.disk.names[path])
        done()
        return self._next

    def close(self, fd: int) -> None:
        path, _ = self._fds.pop(fd)
        self.disk.locked.discard(path)

    def size(self, fd: int) -> int:
        return len(self._inode(fd).data)

    def reserve(self, fd: int, length: int) -> None:
        done = self._enter("reserve", self._path(fd))
        inode = self._inode(fd)
        self._need_room(inode, length, self._path(fd))
        if len(inode.data) < length:
            self._store(inode, len(inode.data), bytes(length - len(inode.data)))
        done()

    def fill(self, fd: int, offset: int, length: int) -> None:
        self.pwritev(fd, [bytes(length)], offset)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        done = self._enter("write", self._path(fd))
        inode = self._inode(fd)
        data = b"".join(bytes(b) for b in buffers)
        self._need_room(inode, offset + len(data), self._path(fd))
        self._store(inode, offset, data)
        done()
        return len(data)

    @staticmethod
    def _store(inode: Inode, offset: int, data: bytes) -> None:
        _write(inode.data, offset, data)
        inode.pending.append((offset, data))

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self._enter("read", self._path(fd))()
        return bytes(self._inode(fd).data[offset : offset + length])

    def fdatasync(self, fd: int) -> None:
        inode = self._inode(fd)
        if inode.broken:
            inode.syncs_after_failure += 1
        done = self._enter("fdatasync", self._path(fd))
        inode.sync()
        done()

    def kernel_sync(self) -> None:
        """This disk is not the kernel's."""

    def forget(self, fd: int, offset: int = 0, length: int = 0) -> None:
        self._enter("forget", self._path(fd))()

    def rename(self, old: str, new: str) -> None:
        done = self._enter("rename", new)
        inode = self.disk.names.pop(old)
        self.disk.names[new] = inode
        self.disk.name_changes.append(("rename", old, new, inode))
        for fd, (path, opened) in self._fds.items():
            if opened is inode and path == old:
                self._fds[fd] = (new, inode)
        done()

    def unlink(self, path: str) -> None:
        done = self._enter("unlink", path)
        inode = self.disk.names.pop(path, None)
        if inode is None:
            raise OSError(errno.ENOENT, "no such file", path)
        self.disk.name_changes.append(("unlink", path, None, inode))
        done()

    def listdir(self, path: str) -> list[str]:
        self._enter("listdir", path)()
        return [os.path.basename(name) for name in self.disk.names if os.path.dirname(name) == path]

    def makedirs(self, path: str) -> None:
        self._enter("makedirs", path)()
        self.disk.folders.add(path)

    def exists(self, path: str) -> bool:
        return path in self.disk.names

    def fsync_dir(self, path: str) -> None:
        done = self._enter("fsync_dir", path)
        self.disk.sync_names(path)
        done()

    def free_space(self, path: str) -> int:
        return self.disk.capacity - self.disk.used

    def lock(self, path: str) -> int | None:
        self._enter("lock", path)()
        if path in self.disk.locked:
            return None
        if path not in self.disk.names:
            inode = self.disk.names[path] = self.disk.durable_names[path] = Inode()
        inode = self.disk.names[path]
        self.disk.locked.add(path)
        self._next += 1
        self._fds[self._next] = (path, inode)
        return self._next


def _go_on() -> None:
    """The operation is done, and nothing happens."""
