"""The data folder's identity card: the file `store`.

    8s magic "PENNDATA", u32 format version (1), u32 length, u32 crc32c of what follows,
    then msgpack [store id: text, replay begins in log segment, at byte]

The format version covers the whole folder. The file is replaced as a whole (written beside, synced, renamed, folder synced),
each time just before log is dropped: log before the place it names may be gone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgpack

from kvstore.storage.crc import crc32c
from kvstore.storage.failures import FolderDamaged, FutureFormat
from kvstore.storage.files import FileDoor, replace_file
from kvstore.storage.segment import Position

MAGIC = b"PENNDATA"
FORMAT = 1
NAME = "store"
_HEAD = struct.Struct("<8sIII")
assert _HEAD.size == 20
_MOST = 4096


@dataclass(slots=True, frozen=True)
class Manifest:
    """`store_id`: random, made with the folder. `log_start`: where replay begins."""

    store_id: str
    log_start: Position


def write_manifest(files: FileDoor, folder: str, manifest: Manifest) -> None:
    """Replace the folder's manifest, durably."""
    body = msgpack.packb([manifest.store_id, *manifest.log_start])
    head = _HEAD.pack(MAGIC, FORMAT, len(body), crc32c(body))
    replace_file(files, folder, NAME, [head, body], durably=True)


def read_manifest(files: FileDoor, folder: str) -> Manifest | None:
    """The folder's manifest, None if it has none (it is new); `FutureFormat`, `FolderDamaged`."""
    path = f"{folder}/{NAME}"
    if not files.exists(path):
        return None
    fd = files.open(path)
    try:
        data = files.pread(fd, _MOST, 0)
    finally:
        files.close(fd)
    # a process that was killed may have left this name where the disk does not know it yet; log may be dropped on its word
    files.fsync_dir(folder)
    if len(data) < _HEAD.size or data[:8] != MAGIC:
        raise FolderDamaged(f"{path} is damaged at byte 0: it is not the identity of a data folder")
    _, version, length, crc = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    if version > FORMAT:
        raise FutureFormat(f"{path} is in format {version}; this version reads up to {FORMAT}")
    if len(body) != length or crc32c(body) != crc:
        raise FolderDamaged(f"{path} is damaged at byte {_HEAD.size}: its checksum does not match")
    try:
        store_id, segment, offset = msgpack.unpackb(body)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FolderDamaged(f"{path} makes no sense: {error}") from error
    if (type(store_id), type(segment), type(offset)) != (str, int, int):
        raise FolderDamaged(f"{path} makes no sense: its members are of other types")
    return Manifest(store_id, Position(segment, offset))
