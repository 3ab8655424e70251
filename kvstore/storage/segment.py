"""The log's file format: segments, and the records in them.

A log is a folder of segment files `<generation, 8 hex digits>.seg`. Generations only grow and are never used twice. A segment
is made at its full size before it gets its name, from a spare file (`spare-…`: a segment that was no longer needed, or one
filled with zeros in advance), so what lies behind its last record is anything: zeros, or records of an older generation.

Segment header, little-endian, at byte 0:
    8s  magic "PENNLOG\\0"
    u32 format version (2)
    u32 crc32c of the 28 other bytes of this header
    u64 log id: random, the same in all segments of one log
    u32 generation
    u32 capacity: the file's size
The first record begins at byte 4096.

Record, little-endian, at a multiple of 8:
    u32 crc32c of the 44 bytes that follow, computed over log id (u64) and those bytes
    u32 length of the payload
    u32 crc32c of the payload
    u32 generation of the segment
    u32 offset of this record in the segment
    u32 synced: all of this segment before this offset was on disk when the record was written
    u32 tablet
    u8  kind (0: end of segment, 1: mark; the others are the log's user's, see `kvstore.storage.records`)
    u8  0, u16 0
    u64 epoch
    u64 first sequence
    then the payload, then zeros up to the next multiple of 8

Log id, generation and offset are part of what the checksum covers, so neither a record of a recycled segment's former life nor
a value that happens to hold a copy of a log can be taken for a record.

What a reader concludes from a record that is not whole:
- In a segment that another one follows: every segment is closed with an end record, synced, before the next one is begun. So it
  is damage.
- In the last segment: it is damage if a whole record behind it says that its place had been synced. Otherwise nothing at this
  place was ever acknowledged: it is the torn tail of the last write, and is cut, with all that follows. (A mark record is
  written when the log falls idle, so that damage to the last acknowledged record is told from a torn tail too.)
- A record whose header is whole tells whose bytes were damaged; otherwise nobody can know.
A segment that was cut is closed there when the log is next opened, and never written again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from kvstore.storage.crc import crc32c, extended
from kvstore.storage.failures import Damage, FutureFormat
from kvstore.storage.files import FileDoor

MAGIC = b"PENNLOG\0"
FORMAT = 2
"""Of its records' payloads too: since 2, entries hold bundles (`kvstore.mutation`). Those of 1 are read all the same."""
FIRST_RECORD = 4096
END, MARK = 0, 1

SEGMENT_HEADER = struct.Struct("<8sIIQII")
_RECORD = struct.Struct("<IIIIIIIBBHQQ")
_RECORD_BODY = struct.Struct("<IIIIIIBBHQQ")
_LOG_ID = struct.Struct("<Q")
_U32 = struct.Struct("<I")
_PLACE = struct.Struct("<II")
RECORD_HEADER = _RECORD.size
assert SEGMENT_HEADER.size == 32
assert RECORD_HEADER == 48
assert _RECORD_BODY.size == RECORD_HEADER - 4

_READ_AHEAD = 1 << 20


class Position(NamedTuple):
    """A place in the log. Positions compare as the log was written."""

    segment: int
    offset: int


class Record(NamedTuple):
    """A record as it was read. `payload_offset`: where in the segment the payload begins."""

    kind: int
    tablet: int
    epoch: int
    first: int
    payload: bytes
    payload_offset: int


def segment_name(generation: int) -> str:
    """The file name of a segment."""
    return f"{generation:08x}.seg"


def padded(length: int) -> int:
    """Bytes that a record with a payload of this length takes."""
    return RECORD_HEADER + length + (-length % 8)


def encode_segment_header(log_id: int, generation: int, capacity: int) -> bytes:
    """The header, padded to the first record."""
    body = SEGMENT_HEADER.pack(MAGIC, FORMAT, 0, log_id, generation, capacity)
    crc = crc32c(body[:12] + body[16:])
    return SEGMENT_HEADER.pack(MAGIC, FORMAT, crc, log_id, generation, capacity).ljust(FIRST_RECORD, b"\0")


class SegmentHeader(NamedTuple):
    """What a segment says of itself."""

    log_id: int
    generation: int
    capacity: int


def decode_segment_header(data: bytes, path: str) -> SegmentHeader | None:
    """The header, None if it is damaged; `FutureFormat` if a later version wrote it."""
    if len(data) < SEGMENT_HEADER.size:
        return None
    magic, version, crc, log_id, generation, capacity = SEGMENT_HEADER.unpack_from(data)
    if magic != MAGIC or crc32c(data[:12] + data[16 : SEGMENT_HEADER.size]) != crc:
        return None
    if version > FORMAT:
        raise FutureFormat(f"{path} is in log format {version}; this version reads up to {FORMAT}")
    return SegmentHeader(log_id, generation, capacity)


def encode_record_header(
    log_seed: int,
    position: Position,
    synced: int,
    kind: int,
    tablet: int,
    epoch: int,
    first: int,
    length: int,
    payload_crc: int,
) -> bytes:
    """The header of the record at `position`; `log_seed` is `seed_of(log id)`."""
    generation, offset = position
    body = _RECORD_BODY.pack(length, payload_crc, generation, offset, synced, tablet, kind, 0, 0, epoch, first)
    return _U32.pack(extended(log_seed, body)) + body


def seed_of(log_id: int) -> int:
    """What checksums of record headers of this log start from."""
    return crc32c(_LOG_ID.pack(log_id))


class RecordHeader(NamedTuple):
    """A whole header of a record."""

    length: int
    payload_crc: int
    synced: int
    tablet: int
    kind: int
    epoch: int
    first: int


def _is_whole(header: RecordHeader, payload: bytes) -> bool:
    return len(payload) == header.length and crc32c(payload) == header.payload_crc


class SegmentReader:
    """Reads one segment's records in order, and judges what is not whole."""

    def __init__(self, files: FileDoor, fd: int, header: SegmentHeader, name: str, last: bool) -> None:
        """`last`: no segment follows this one. `name` is for reports."""
        self._files = files
        self._fd = fd
        self._header = header
        self._seed = seed_of(header.log_id)
        self._size = files.size(fd)
        self._name = name
        self._last = last
        self._window = b""
        self._window_at = 0
        self.end = FIRST_RECORD
        """Where the segment's records end, once `records` is exhausted."""
        self.damage: list[Damage] = []
        self.cut: int | None = None
        """Where a torn tail was found, if one was."""

    def records(self, offset: int = FIRST_RECORD, payloads: bool = True) -> Iterator[tuple[int, RecordHeader, bytes]]:
        """(offset, header, payload) of every whole record from `offset` on; without payloads they are not checked."""
        while True:
            found = self._read_header(offset)
            if found is None:
                following = self._after_bad(offset)
            elif found.kind == END:
                following = None
            else:
                payload = self._read(offset + RECORD_HEADER, found.length) if payloads else b""
                following = offset + padded(found.length)
                if not payloads or _is_whole(found, payload):
                    yield offset, found, payload
                else:
                    following = self._after_bad_payload(offset, found)
            if following is None:
                self.end = offset
                return
            offset = following

    def _after_bad_payload(self, offset: int, found: RecordHeader) -> int | None:
        """Where to go on behind a record whose payload is not whole; None: nowhere."""
        missing = offset + RECORD_HEADER + found.length > self._size
        if self._last and not missing:
            if not self._was_synced(offset):
                self.cut = offset
                return None
            if self._is_whole_by_now(offset):
                return offset
        # a segment has its full size before it has its name: one that ends inside a record was cut by something else
        end = offset + padded(found.length)
        what = "the segment ends here" if missing else "a payload does not have its checksum"
        self.damage.append(Damage(self._name, offset, found.tablet, what, end))
        return None if missing else end

    def _after_bad(self, offset: int) -> int | None:
        """Where to go on behind something at `offset` that is no record header; None: nowhere."""
        if self._last:
            if not self._was_synced(offset):
                if self._size < self._header.capacity and offset + RECORD_HEADER > self._size:
                    self._report(offset, "the segment was cut short here")
                if self._looks_torn(offset):
                    self.cut = offset
                return None
            if self._is_whole_by_now(offset):
                return offset
            self._report(offset, "no record where one had been synced")
        else:
            self._report(offset, "no record, and no end of the segment")
        return next((at for at, _ in self._whole_headers(offset + 8)), None)

    def _is_whole_by_now(self, offset: int) -> bool:
        """Whether the record at `offset`, which was not whole and had been synced, is whole when it is read again.

        Whoever looks at the folder of a running node may have read this place before the record was written, and what says
        that it had been synced after that: no damage, but a log that goes on.
        """
        self._window, self._window_at = b"", 0
        found = self._read_header(offset)
        return found is not None and _is_whole(found, self._read(offset + RECORD_HEADER, found.length))

    def _looks_torn(self, offset: int) -> bool:
        """Whether something was once written at `offset`, or behind it: else the log simply ends here."""
        data = self._read(offset, RECORD_HEADER)
        own = _PLACE.pack(self._header.generation, offset)
        if data[12:20] == own or self._parse(data[:12] + own + data[20:], offset) is not None:
            return True
        return next(self._whole_headers(offset + 8), None) is not None

    def _was_synced(self, offset: int) -> bool:
        return any(header.synced > offset for _, header in self._whole_headers(offset + 8))

    def _whole_headers(self, offset: int) -> Iterator[tuple[int, RecordHeader]]:
        """Every whole header at or after `offset`, by looking for the generation with its own offset behind it."""
        needle = _U32.pack(self._header.generation)
        data = self._files.pread(self._fd, self._size - offset, offset) if offset < self._size else b""
        at = data.find(needle)
        while at >= 0:
            begin = at - 12
            if begin >= 0 and begin % 8 == 0 and data[at + 4 : at + 8] == _U32.pack(offset + begin):
                header = self._parse(data[begin : begin + RECORD_HEADER], offset + begin)
                if header is not None:
                    yield offset + begin, header
            at = data.find(needle, at + 1)

    def _read_header(self, offset: int) -> RecordHeader | None:
        if offset + RECORD_HEADER > self._size:
            return None
        return self._parse(self._read(offset, RECORD_HEADER), offset)

    def _parse(self, data: bytes, offset: int) -> RecordHeader | None:
        if len(data) < RECORD_HEADER:
            return None
        crc, length, payload_crc, generation, own, synced, tablet, kind, _, _, epoch, first = _RECORD.unpack(data)
        if generation != self._header.generation or own != offset or extended(self._seed, data[4:]) != crc:
            return None
        return RecordHeader(length, payload_crc, synced, tablet, kind, epoch, first)

    def _read(self, offset: int, length: int) -> bytes:
        at = offset - self._window_at
        if at < 0 or at + length > len(self._window):
            if length >= _READ_AHEAD:
                return self._files.pread(self._fd, length, offset)
            self._window = self._files.pread(self._fd, _READ_AHEAD, offset)
            self._window_at, at = offset, 0
        return self._window[at : at + length]

    def _report(self, offset: int, what: str) -> None:
        self.damage.append(Damage(self._name, offset, None, what))
