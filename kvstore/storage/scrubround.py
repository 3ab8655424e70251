"""A round of the scrub: where it is, when its next slice is due, and the file that keeps the place over restarts.

Tablets are gone through in the order of their ids, of each its checkpoint first, then its large values in the order of keys.
The work is `kvstore.storage.scrub`'s; nothing here reads what is checked, or looks at a clock.

Pace. A round is to take nine tenths of the period: then each byte is read again within the period, though rounds are not quite
alike. What is small goes round more often, up to `MORE_OFTEN` times in a period, as long as that costs no more than `FLOOR`.
Nothing is read faster than `CEILING`, which more than 4 TB would need at a period of a week: such a round takes longer.

File `scrub` in the data folder, little-endian:
    8s magic "PENNSCRB", u32 format version (1), u32 length, u32 crc32c of what follows,
    then msgpack [tablet, key: bin, or nil when the tablet's checkpoint is next, bytes read in this round,
    when the last round ended (seconds since 1970) or nil]
It is replaced as a whole, now and then, and never synced. To lose it costs a part of a round, so one that is damaged, or was
written by a later version, counts as lost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgpack

from kvstore import settings
from kvstore.storage.checkpoint import ChunkReader
from kvstore.storage.crc import crc32c
from kvstore.storage.files import FileDoor, replace_file

SLICE = 4 * settings.MIB
"""Bytes after which the scrub gives way to other work, and waits as long as they are worth."""
FLOOR = 64 * settings.KIB
CEILING = 8 * settings.MIB
"""Bytes a second."""
MORE_OFTEN = 7
START = 60.0
"""Seconds after its start in which a node has better things to do."""
SAVED_EVERY = 60.0
"""Seconds between two writings of the place."""

MAGIC = b"PENNSCRB"
FORMAT = 1
NAME = "scrub"
_HEAD = struct.Struct("<8sIII")
assert _HEAD.size == 20
_MOST = 64 * settings.KIB


@dataclass(slots=True)
class Place:
    """Where a round goes on: in the tablet, or the first one behind it; `key`: None when its checkpoint is next.

    `passed`: bytes read in this round. `ended`: when the last round did, in seconds since 1970.
    """

    tablet: int = 0
    key: bytes | None = None
    passed: int = 0
    ended: float | None = None


class ScrubRound:
    """The round under way. Times are seconds: of the engine's clock, or of the day where it says so."""

    def __init__(self, period: float, now: float, place: Place) -> None:
        """Goes on at `place`."""
        assert period >= settings.SCRUB_PERIOD_LEAST, period
        self.place = place
        self.reader: ChunkReader | None = None
        """Of the checkpoint that is being read, if one is."""
        self._period = period
        self._since = now
        self._owed = 0
        self._begins = now + min(START, period / MORE_OFTEN)
        self._saved = now

    def bandwidth(self, total: int) -> float:
        """Bytes a second at which a round of `total` bytes goes on."""
        needed = total / (0.9 * self._period)
        return min(CEILING, max(needed, min(FLOOR, total * MORE_OFTEN / self._period)))

    def is_due(self, now: float, total: int) -> bool:
        """Whether the next slice is, where `total` bytes are stored."""
        if total == 0 or now < self._begins:
            return False
        # what was read before most of it was deleted must not be waited for at the pace of the little that is left
        return (now - self._since) * self.bandwidth(total) >= min(self._owed, total)

    def slice_ended(self, now: float, size: int, total: int) -> None:
        """A slice read `size` bytes. One that found less to read than it might have counts as a whole one: a store with
        nothing that can be read now must not be gone through without end."""
        self._since = now
        self._owed = max(size, min(SLICE, total))

    def go_on(self, tablet: int, key: bytes | None) -> None:
        """What comes before this place is done."""
        if key is not None or tablet != self.place.tablet:
            self.reader = None
        self.place.tablet, self.place.key = tablet, key

    def passed(self, size: int) -> None:
        """So many bytes more were read in this round."""
        self.place.passed += size

    def end(self, time_of_day: float) -> None:
        """All was read; the next round begins with the first tablet."""
        self.place = Place(ended=time_of_day)

    def progress(self, total: int) -> float:
        """How far the round is, from 0 to 1."""
        return min(1.0, self.place.passed / total) if total else 0.0

    def since_ended(self, time_of_day: float) -> float:
        """Seconds since the last round ended; -1 if none has."""
        return -1.0 if self.place.ended is None else max(0.0, time_of_day - self.place.ended)

    def is_to_be_saved(self, now: float) -> bool:
        """Whether the place is to be written; if so, not again for a while."""
        due = now - self._saved >= min(SAVED_EVERY, self._period / 100)
        if due:
            self._saved = now
        return due


def write_place(files: FileDoor, folder: str, place: Place) -> None:
    """Replace the folder's file; nothing is synced."""
    body = msgpack.packb([place.tablet, place.key, place.passed, place.ended])
    head = _HEAD.pack(MAGIC, FORMAT, len(body), crc32c(body))
    replace_file(files, folder, NAME, [head, body], durably=False)


def read_place(files: FileDoor, folder: str) -> Place:
    """The place in the folder's file, the beginning of a round if there is none that can be made use of."""
    path = f"{folder}/{NAME}"
    if not files.exists(path):
        return Place()
    try:
        fd = files.open(path)
        try:
            data = files.pread(fd, _MOST, 0)
        finally:
            files.close(fd)
        magic, version, length, crc = _HEAD.unpack_from(data)
        body = data[_HEAD.size : _HEAD.size + length]
        if (magic, version, len(body), crc32c(body)) != (MAGIC, FORMAT, length, crc):
            return Place()
        tablet, key, passed, ended = msgpack.unpackb(body)
    except (OSError, ValueError, TypeError, struct.error, msgpack.UnpackException):
        return Place()
    wrong = (type(tablet), type(passed)) != (int, int) or type(key) not in (bytes, type(None))
    return Place() if wrong or type(ended) not in (float, type(None)) else Place(tablet, key, passed, ended)
