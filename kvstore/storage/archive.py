"""A backup: every cell of some tablets, with its value and version, in one folder that needs nothing else.

    index.json               {"format": 1, "made": UTC, ISO 8601, "tablets": [{"file", "tablet", "start", "end", "epoch",
                             "sequence", "cells", "bytes"}]}; written last: a folder without it is no backup
    <tablet, 8 hex>.cells    the cells of one tablet at that (epoch, sequence)

A cells file, little-endian: 8s magic "PENNCELL", u32 format version (1), u32 crc32c of these 12 bytes; then chunks
    u32 crc32c of the 8 bytes that follow and the payload, u32 length of the payload, u32 its index from 0, payload
A chunk's payload is msgpack [[row, column, epoch, sequence, value: bin], …] in key order; the last one is msgpack nil. A file
without cells has that last chunk alone.
"""

from __future__ import annotations

import datetime
import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import IO

import msgpack

from kvstore.errors import StorageFailure
from kvstore.storage.crc import crc32c, extended
from kvstore.storage.failures import CorruptValue, FutureFormat

MAGIC = b"PENNCELL"
FORMAT = 1
CHUNK_BYTES = 1 << 20
_FILE = struct.Struct("<8sII")
_CHUNK = struct.Struct("<III")
_BODY = struct.Struct("<II")
assert _FILE.size == 16
assert _CHUNK.size == 12

ArchivedCell = tuple[str, str, int, int, bytes]
"""(row, column, epoch, sequence, value)."""


@dataclass(slots=True, frozen=True)
class ArchivedTablet:
    """A tablet in an archive: the file's name, the range, where in its history it was taken, how much there is."""

    file: str
    tablet: int
    start: str
    end: str | None
    epoch: int
    sequence: int
    cells: int
    bytes: int


def write_cells(path: str, cells: Iterable[ArchivedCell]) -> tuple[int, int]:
    """Write and sync a cells file, which must not exist; how many cells, and bytes of values."""
    count = size = index = 0
    with open(path, "xb") as file:
        magic = MAGIC + struct.pack("<I", FORMAT)
        file.write(magic + struct.pack("<I", crc32c(magic)))
        chunk: list[ArchivedCell] = []
        waiting = 0
        for cell in cells:
            chunk.append(cell)
            waiting += len(cell[4]) + 64
            count, size = count + 1, size + len(cell[4])
            if waiting >= CHUNK_BYTES:
                _write_chunk(file, msgpack.packb(chunk), index)
                chunk, waiting, index = [], 0, index + 1
        if chunk:
            _write_chunk(file, msgpack.packb(chunk), index)
            index += 1
        _write_chunk(file, msgpack.packb(None), index)
        file.flush()
        os.fsync(file.fileno())
    return count, size


def _write_chunk(file: IO[bytes], payload: bytes, index: int) -> None:
    body = _BODY.pack(len(payload), index)
    file.write(struct.pack("<I", extended(crc32c(body), payload)) + body)
    file.write(payload)


def read_cells(path: str) -> Iterator[ArchivedCell]:
    """Every cell of a cells file, verified; `CorruptValue` with the place, `FutureFormat`."""
    with open(path, "rb") as file:
        start = file.read(_FILE.size)
        if len(start) < _FILE.size or start[:8] != MAGIC or crc32c(start[:12]) != _FILE.unpack(start)[2]:
            raise CorruptValue(path, 0, "not a file of archived cells, or its beginning is damaged")
        if (version := _FILE.unpack(start)[1]) > FORMAT:
            raise FutureFormat(f"{path} is in archive format {version}; this version reads up to {FORMAT}")
        index = 0
        while True:
            at = file.tell()
            header = file.read(_CHUNK.size)
            if len(header) < _CHUNK.size:
                raise CorruptValue(path, at, "the file ends early")
            crc, length, number = _CHUNK.unpack(header)
            payload = file.read(length)
            if len(payload) < length or number != index or extended(crc32c(header[4:]), payload) != crc:
                raise CorruptValue(path, at, "a chunk does not have its checksum")
            cells = _cells(payload, path, at)
            if cells is None:
                return
            yield from cells
            index += 1


def _cells(payload: bytes, path: str, at: int) -> list[ArchivedCell] | None:
    try:
        cells = msgpack.unpackb(payload)
        if cells is None:
            return None
        listed: list[ArchivedCell] = [tuple(cell) for cell in cells]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptValue(path, at, f"a chunk has its checksum and makes no sense: {error}") from error
    if any(tuple(map(type, cell)) != (str, str, int, int, bytes) for cell in listed):
        raise CorruptValue(path, at, "a chunk has its checksum and holds something else than cells")
    return listed


def write_index(folder: str, tablets: list[ArchivedTablet]) -> None:
    """Complete an archive: write and sync its index."""
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with open(f"{folder}/index.json", "x", encoding="utf-8") as file:
        json.dump({"format": FORMAT, "made": made, "tablets": [asdict(t) for t in tablets]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def read_index(folder: str) -> list[ArchivedTablet]:
    """The tablets of an archive; `StorageFailure` if the folder is none, or not complete."""
    try:
        with open(f"{folder}/index.json", encoding="utf-8") as file:
            index = json.load(file)
        if index["format"] > FORMAT:
            raise FutureFormat(f"{folder} is in archive format {index['format']}; this version reads up to {FORMAT}")
        return [ArchivedTablet(**tablet) for tablet in index["tablets"]]
    except FileNotFoundError as error:
        raise StorageFailure(f"{folder} is no complete backup: it has no index.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageFailure(f"{folder}/index.json is damaged: {error}") from error
