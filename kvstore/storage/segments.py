"""The folder that holds a log's segment files: finding, making, reusing and removing them.

Spares are segment files that nothing needs: former segments, or files filled with zeros in advance. Writing over blocks that
were written before is what makes the log's syncs fast, and spares are room on disk that the log already owns.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import re
import secrets
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from kvstore import settings
from kvstore.storage.failures import Damage
from kvstore.storage.files import FileDoor
from kvstore.storage.segment import (
    FIRST_RECORD,
    SegmentHeader,
    SegmentReader,
    decode_segment_header,
    encode_segment_header,
    segment_name,
)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SEGMENT_NAME = re.compile(r"[0-9a-f]{8}\.seg")
_SPARE_NAME = re.compile(r"spare-[0-9a-f]{8,}|new-([0-9a-f]{8,}|spare)")
"""Other names in the folder are not the log's: somebody else's files are left alone."""
FILL_AHEAD = 4 * settings.MIB
"""A new segment is filled with zeros so far ahead of its records."""
FILL_BELOW = settings.MIB
"""Writes of this size and more go to new blocks as they are: filling ahead of them would only double what is written."""


@dataclass(slots=True, frozen=True)
class WalOptions:
    """Of one log. `segment_size`: bytes; `most_spares`: unneeded segments kept for reuse; `most_open`: files open for reads."""

    segment_size: int = 64 * settings.MIB
    most_spares: int = 8
    most_open: int = 256


@dataclass(slots=True)
class Segment:
    """A segment on disk. `end`: where its records end; None while unknown (an old one that was not replayed)."""

    generation: int
    capacity: int
    end: int | None = None
    whole: bool = True


class SegmentFolder:
    """The segment files of one log."""

    def __init__(self, files: FileDoor, folder: str, options: WalOptions) -> None:
        """Find out what is there. The folder is made if need be."""
        files.makedirs(folder)
        self.files = files
        self.folder = folder
        self.options = options
        self.segments: dict[int, Segment] = {}
        self.damage: list[Damage] = []
        self.log_id = 0
        self.made = 0
        self.reused = 0
        self._spares: list[str] = []
        self._spare_number = 0
        self._names_unsynced = False
        self._fds: dict[int, int] = {}
        self._active: tuple[int, int] | None = None  # (generation, descriptor) that is written to
        self._capacity = 0  # the active one's
        self._filled = 0  # how far its blocks have been written at some time
        for name in sorted(files.listdir(folder)):
            if _SEGMENT_NAME.fullmatch(name):
                self._found_segment(name)
            elif _SPARE_NAME.fullmatch(name):
                self._found_spare(name)
        if not self.log_id:
            self.log_id = secrets.randbits(63) + 1

    def _found_segment(self, name: str) -> None:
        path = f"{self.folder}/{name}"
        fd = self.files.open(path)
        size = self.files.size(fd)
        try:
            header = decode_segment_header(self.files.pread(fd, FIRST_RECORD, 0), path)
        finally:
            self.files.close(fd)
        generation = int(name.removesuffix(".seg"), 16)
        whole = header is not None and header.generation == generation
        if header is not None and whole:
            self.log_id = header.log_id
        else:
            self.damage.append(Damage(name, 0, None, "the segment's header is damaged"))
        self.segments[generation] = Segment(generation, header.capacity if header and whole else size, whole=whole)

    def _found_spare(self, name: str) -> None:
        path = f"{self.folder}/{name}"
        try:
            fd = self.files.open(path)
        except FileNotFoundError:  # a running node, whose folder is only looked at, has just put it to use
            return
        size = self.files.size(fd)
        self.files.close(fd)
        unfit = name.startswith("new-") or size != self.options.segment_size
        if unfit or len(self._spares) >= self.options.most_spares:
            self.files.unlink(path)
            return
        self._spares.append(path)
        self._spare_number = max(self._spare_number, int(name.removeprefix("spare-"), 16))

    @property
    def last(self) -> int:
        """The newest generation on disk, 0 if there is none."""
        return max(self.segments, default=0)

    @property
    def spares(self) -> int:
        """Segments that are ready for use."""
        return len(self._spares)

    @contextlib.contextmanager
    def reader(self, generation: int, last: bool = False) -> Iterator[SegmentReader]:
        """A reader of one segment's records; `last` as `SegmentReader` takes it.

        It has a descriptor of its own: to read a segment may take long, and `descriptor` closes what was not asked for lately.
        The number would then be another file's.
        """
        segment = self.segments[generation]
        header = SegmentHeader(self.log_id, generation, segment.capacity)
        fd = self.files.open(f"{self.folder}/{segment_name(generation)}")
        try:
            yield SegmentReader(self.files, fd, header, segment_name(generation), last)
        finally:
            self.files.close(fd)

    def descriptor(self, generation: int) -> int:
        """An open descriptor of the segment, for reading; valid until others were asked for `most_open` times."""
        fd = self._fds.pop(generation, None)
        if fd is None:
            fd = self.files.open(f"{self.folder}/{segment_name(generation)}")
            if len(self._fds) >= self.options.most_open:
                self.files.close(self._fds.pop(next(iter(self._fds))))
        self._fds[generation] = fd
        return fd

    # ------------------------------------------------------------------ writing

    def begin(
        self, generation: int, capacity: int, fdatasync: Callable[[int], None], sync_names: Callable[[], None]
    ) -> int:
        """The descriptor of the segment to write to, making it first if it is new.

        Its header is on disk before it has its name, and its name before any record is written: a segment that is found has
        a whole header, or is damaged.
        """
        if self._active is not None and self._active[0] == generation:
            return self._active[1]
        begun = 0 if self._active is None else self._active[0]
        assert generation > begun, "a segment is begun once: to begin it again would replace it"
        # This may run in a thread, and segments be retired meanwhile: the spare is one whose new name the sync covers.
        spare = self._spares.pop() if self._spares and capacity == self.options.segment_size else None
        if self._names_unsynced:
            # a spare may still be a segment as far as the disk knows: it would come back with the header of another
            self._names_unsynced = False
            sync_names()
        fd, path = (self.files.open(spare), spare) if spare is not None else self._new_file(generation, capacity)
        try:
            self.files.pwritev(fd, [encode_segment_header(self.log_id, generation, capacity)], 0)
            fdatasync(fd)
            self.files.rename(path, f"{self.folder}/{segment_name(generation)}")
            sync_names()
        except OSError:
            self.files.close(fd)
            if spare is not None:
                self._spares.append(spare)
            raise
        if self._active is not None:
            self.files.close(self._active[1])
        self._active = (generation, fd)
        self._capacity = capacity
        self._filled = FIRST_RECORD if spare is None else capacity
        self.reused += spare is not None
        return fd

    def fill_ahead(self, begin: int, end: int) -> None:
        """Records were written over [begin, end) of the active segment: see to it that the next ones meet used blocks.

        To be followed by the sync of the records. A block that was only reserved becomes a used one by a change of the file
        system's records, which every sync of small writes would otherwise wait for, and share with all who use the disk.
        """
        if end <= self._filled or self._active is None:
            return
        self._filled = end
        if end - begin < FILL_BELOW:
            self._filled = min(self._capacity, end + FILL_AHEAD)
            self.files.fill(self._active[1], end, self._filled - end)

    def _new_file(self, generation: int, capacity: int) -> tuple[int, str]:
        path = f"{self.folder}/new-{generation:08x}"
        if self.files.exists(path):
            self.files.unlink(path)
        fd = self.files.open(path, create=True)
        try:
            self.files.reserve(fd, capacity)
        except OSError:
            self.files.close(fd)
            self.files.unlink(path)
            raise
        self.made += 1
        return fd, path

    # ------------------------------------------------------------------ room

    def retire(self, generation: int) -> Callable[[], None] | None:
        """Nothing in the segment is needed any more: keep it as a spare, or give back how to remove it (it takes a while).

        Durable at the next folder sync. Never the newest: its generation would be given out again after a restart, and its
        former records with it.
        """
        assert generation < self.last, "the newest segment stays"
        segment = self.segments.pop(generation)
        fd = self._fds.pop(generation, None)
        if fd is not None:
            self.files.close(fd)
        path = f"{self.folder}/{segment_name(generation)}"
        reusable = segment.whole and segment.capacity == self.options.segment_size
        if reusable and len(self._spares) < self.options.most_spares:
            spare = self._new_spare_path()
            self.files.rename(path, spare)
            self._names_unsynced = True  # before it may be taken
            self._spares.append(spare)
            return None
        return functools.partial(self.files.unlink, path)

    def prepare_spare(self, slice_bytes: int = settings.MIB) -> Generator[Callable[[], None] | None, None, None]:
        """Make one spare segment, filled with zeros, in slices; each yields a blocking call to be made before going on."""
        path = f"{self.folder}/new-spare"
        if self.files.exists(path):
            self.files.unlink(path)
        fd = self.files.open(path, create=True)
        size = self.options.segment_size

        def fill(offset: int) -> None:
            self.files.fill(fd, offset, min(slice_bytes, size - offset))
            self.files.fdatasync(fd)

        try:
            yield lambda: self.files.reserve(fd, size)
            for offset in range(0, size, slice_bytes):
                yield functools.partial(fill, offset)
        except OSError:
            self.files.unlink(path)
            raise
        finally:
            self.files.close(fd)
        spare = self._new_spare_path()
        self.files.rename(path, spare)
        self._spares.append(spare)

    def _new_spare_path(self) -> str:
        self._spare_number += 1
        return f"{self.folder}/spare-{self._spare_number:08x}"

    def close(self) -> None:
        """Close all files."""
        for fd in self._fds.values():
            self.files.close(fd)
        if self._active is not None:
            self.files.close(self._active[1])
        self._fds = {}
        self._active = None
