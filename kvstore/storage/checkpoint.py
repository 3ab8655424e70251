"""A tablet's checkpoint: a sorted image of it at one commit point, in a file of its own.

Files are `<tablet, 8 hex digits>-<number, 8 hex digits>.ckpt`; numbers only grow within a data folder. A checkpoint is written
as `….tmp`, synced, read back and verified, renamed, its folder synced; only then may the one before it, and the log that it
covers, be dropped.

File, little-endian:
    8s magic "PENNCKPT", u32 format version (1), u32 crc32c of these 12 bytes
    chunks, one after the other; each
        u32 crc32c of the 12 bytes that follow and the payload
        u32 length of the payload
        u32 kind
        u32 its index, from 0
        payload
Chunk kinds, in this order in the file:
    1 head     msgpack [store id, tablet, number, start, end or nil, range version, epoch, commit epoch, commit,
               log segment, log offset, cells, digest]. Replay of the tablet begins at that place of the log
    2 cells    msgpack [[key: bin, …], [packed cell: bin, …]], any number of such chunks, in key order
               (`kvstore.storage.cellkey`, `kvstore.storage.cell`; bulk cells point into the log)
    3 results  `kvstore.storage.results`, any number of such chunks
    4 foot     msgpack [number of chunks before it, crc32c of their crcs]

Writer and verifier are generators: each step is short (a chunk is at most about `CHUNK_BYTES`), and yields a blocking call (an
fsync) to be made before the next step, or None.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass

import msgpack

from kvstore import settings
from kvstore.errors import BadRequest
from kvstore.storage.crc import crc32c, extended
from kvstore.storage.failures import CorruptValue, FutureFormat
from kvstore.storage.files import FileDoor
from kvstore.storage.results import ResultSnapshot, ResultTable
from kvstore.storage.segment import Position
from kvstore.storage.snapshot import Snapshot
from kvstore.storage.tablet import Tablet

MAGIC = b"PENNCKPT"
FORMAT = 1
HEAD, CELLS, RESULTS, FOOT = 1, 2, 3, 4
CHUNK_BYTES = 256 * settings.KIB
SYNC_BYTES = 4 * settings.MIB
"""The file is synced each time after this many bytes, so that no other sync on the disk has to wait for much of it."""
VERIFIED_AT_ONCE = 16
"""Chunks that are read back in one call to the thread that does it."""

_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8,})\.ckpt")
_FILE = struct.Struct("<8sII")
_CHUNK = struct.Struct("<IIII")
_BODY = struct.Struct("<III")
assert _FILE.size == 16
assert _CHUNK.size == 16

Pause = Callable[[], None] | None


@dataclass(slots=True, frozen=True)
class Head:
    """What a checkpoint says of itself; see the module's docstring."""

    store: str
    tablet: int
    number: int
    start: str
    end: str | None
    range_version: int
    epoch: int
    commit_epoch: int
    commit: int
    log_segment: int
    log_offset: int
    cells: int
    digest: int

    @property
    def log_start(self) -> Position:
        """Where replay of the tablet begins."""
        return Position(self.log_segment, self.log_offset)


def checkpoint_name(tablet: int, number: int) -> str:
    """The file name of a checkpoint."""
    return f"{tablet:08x}-{number:08x}.ckpt"


def parse_name(name: str) -> tuple[int, int] | None:
    """(tablet, number) of a checkpoint's file name; None if it is not one."""
    found = _NAME.fullmatch(name)
    return None if found is None else (int(found[1], 16), int(found[2], 16))


class CheckpointWriter:
    """Writes one checkpoint file."""

    def __init__(self, files: FileDoor, path: str) -> None:
        """`path`: the temporary name."""
        self._files = files
        self._path = path
        self._at = 0
        self._unsynced = 0
        self._index = 0
        self._crcs = 0
        self.bytes = 0

    def steps(self, head: Head, snapshot: Snapshot, results: ResultSnapshot) -> Iterator[Pause]:
        """Write, sync, read back and verify. The caller renames. `OSError`, `CorruptValue` (what was read back differs)."""
        files = self._files
        if files.exists(self._path):
            files.unlink(self._path)
        fd = files.open(self._path, create=True)

        def sync() -> None:
            files.fdatasync(fd)

        try:
            magic = MAGIC + struct.pack("<I", FORMAT)
            self._put(fd, [magic, struct.pack("<I", crc32c(magic))])
            for kind, payload in self._payloads(head, snapshot, results):
                self._chunk(fd, kind, payload)
                yield sync if self._due() else None
            self._chunk(fd, FOOT, msgpack.packb([self._index, self._crcs]))
            yield sync
            yield lambda: files.forget(fd)  # to drop 200 MB from the page cache takes 20 ms
            yield from self._verify(fd)
        finally:
            files.close(fd)
        self.bytes = self._at

    def _verify(self, fd: int) -> Iterator[Pause]:
        """Read all of it back, from disk: `VERIFIED_AT_ONCE` chunks in each blocking call."""
        chunks = read_chunks(self._files, fd, self._path)
        ended: list[CorruptValue | None] = []

        def read() -> None:
            try:
                if sum(1 for _ in itertools.islice(chunks, VERIFIED_AT_ONCE)) < VERIFIED_AT_ONCE:
                    ended.append(None)
            except CorruptValue as error:
                ended.append(error)

        while not ended:
            yield read
        if ended[0] is not None:
            raise ended[0]

    @staticmethod
    def _payloads(head: Head, snapshot: Snapshot, results: ResultSnapshot) -> Iterator[tuple[int, bytes]]:
        yield HEAD, msgpack.packb(astuple(head))
        # each block is let go when it is written: to free all that were copied meanwhile in the end would take long
        snapshot.blocks.reverse()
        while snapshot.blocks:
            block = snapshot.blocks.pop()
            keys: list[bytes] = []
            packed: list[bytes] = []
            size = 0
            for key in block.ordered():
                cell = block.cells[key]
                keys.append(key)
                packed.append(cell)
                size += len(key) + len(cell)
                if size >= CHUNK_BYTES:
                    yield CELLS, msgpack.packb([keys, packed])
                    keys, packed, size = [], [], 0
            if keys:
                yield CELLS, msgpack.packb([keys, packed])
        for encoded in results.encoded_slices():
            yield RESULTS, encoded

    def _chunk(self, fd: int, kind: int, payload: bytes) -> None:
        body = _BODY.pack(len(payload), kind, self._index)
        crc = extended(crc32c(body), payload)
        self._crcs = extended(self._crcs, struct.pack("<I", crc))
        self._index += 1
        self._put(fd, [struct.pack("<I", crc) + body, payload])

    def _put(self, fd: int, buffers: list[bytes]) -> None:
        written = self._files.pwritev(fd, buffers, self._at)
        self._at += written
        self._unsynced += written

    def _due(self) -> bool:
        if self._unsynced < SYNC_BYTES:
            return False
        self._unsynced = 0
        return True


class ChunkReader:
    """Reads a checkpoint's chunks in order, and may be left between two of them and taken up again with another descriptor."""

    def __init__(self, files: FileDoor, path: str, from_disk: bool = False) -> None:
        """`path` is for reports. `from_disk`: what the system keeps in memory of the file is no substitute."""
        self.path = path
        self.at = 0
        """Where in the file it is."""
        self.ended = False
        """Whether all was read, and the file is whole."""
        self._files = files
        self._from_disk = from_disk
        self._index = 0
        self._crcs = 0

    def chunks(self, fd: int) -> Iterator[tuple[int, bytes]]:
        """(kind, payload) of the chunks that follow, each verified, and the file as a whole; `CorruptValue`, `FutureFormat`."""
        if self.at == 0:
            self._read_beginning(fd)
        files, path = self._files, self.path
        while True:
            at = self.at
            header = self._pread(fd, _CHUNK.size, at)
            if len(header) < _CHUNK.size:
                raise CorruptValue(path, at, "the checkpoint ends early")
            crc, length, kind, number = _CHUNK.unpack(header)
            payload = self._pread(fd, length, at + _CHUNK.size) if length <= files.size(fd) else b""
            if len(payload) < length or extended(crc32c(header[4:]), payload) != crc or number != self._index:
                raise CorruptValue(path, at, "a chunk of the checkpoint does not have its checksum")
            if kind == FOOT and payload != msgpack.packb([self._index, self._crcs]):
                raise CorruptValue(path, at, "the checkpoint is not the sum of its chunks")
            self.at += _CHUNK.size + length
            if kind == FOOT:
                self.ended = True
                return
            self._crcs = extended(self._crcs, header[:4])
            self._index += 1
            yield kind, payload

    def _pread(self, fd: int, length: int, offset: int) -> bytes:
        if self._from_disk:
            self._files.forget(fd, offset, length)
        return self._files.pread(fd, length, offset)

    def _read_beginning(self, fd: int) -> None:
        start = self._pread(fd, _FILE.size, 0)
        if len(start) < _FILE.size or crc32c(start[:12]) != _FILE.unpack(start)[2] or start[:8] != MAGIC:
            raise CorruptValue(self.path, 0, "not a checkpoint, or its beginning is damaged")
        if (version := _FILE.unpack(start)[1]) > FORMAT:
            raise FutureFormat(f"{self.path} is in checkpoint format {version}; this version reads up to {FORMAT}")
        self.at = _FILE.size


def read_chunks(files: FileDoor, fd: int, path: str) -> Iterator[tuple[int, bytes]]:
    """(kind, payload) of every chunk, each verified, and the file as a whole; `CorruptValue`, `FutureFormat`."""
    return ChunkReader(files, path).chunks(fd)


def load_checkpoint(files: FileDoor, path: str, results: ResultTable) -> tuple[Head, Tablet, int]:
    """The head and the cells of a checkpoint, and its size in bytes; its results go into `results`.

    `CorruptValue` with the place of the damage, `FutureFormat`.
    """
    fd = files.open(path)
    head: Head | None = None
    tablet = Tablet()
    try:
        for kind, payload in read_chunks(files, fd, path):
            if kind == HEAD:
                head = Head(*msgpack.unpackb(payload))
            elif kind == CELLS:
                tablet.load(*msgpack.unpackb(payload))
            elif kind == RESULTS:
                results.add_encoded(payload)
        size = files.size(fd)
    except (ValueError, TypeError, struct.error, msgpack.UnpackException, BadRequest) as error:
        raise CorruptValue(path, 0, f"a chunk has its checksum and makes no sense: {error}") from error
    finally:
        files.close(fd)
    if head is None or (tablet.cells, tablet.digest) != (head.cells, head.digest):
        raise CorruptValue(path, 0, "the cells of the checkpoint do not have the digest that it states")
    return head, tablet, size
