"""The write-ahead log: append, sync, replay. Its files are described in `kvstore.storage.segment`.

`append` only assigns a place and remembers the buffers; it does no I/O. `sync` writes everything appended so far and waits
for the disk: one write and one fdatasync for all, however many records (group commit). It falls into three steps, so that the
second may run in a thread: `take` (what to write), `write` (all the I/O), `written` (what is now durable).

    wal = Wal.open(files, folder)
    for position, record in wal.replay(): …          # to the end, always; `wal.damage` and `wal.cut` tell what was found
    lsn = wal.append(kind, tablet, epoch, first, [payload])
    assert wal.sync() >= lsn

An lsn is a place in the log as one int (generation << 32 | end offset): it grows. A segment is released by its user (`retire`)
when nothing in it is needed, and becomes a spare.

After a failed write or fsync the log refuses everything (`DiskFailed`), with one exception: when there is no room for another
segment, `sync` raises `NoSpace`, nothing is lost, and a later `sync` carries on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from kvstore.errors import NoSpace
from kvstore.mutation import Buffer
from kvstore.storage.crc import combined, crc32c
from kvstore.storage.failures import Damage, DiskFailed
from kvstore.storage.files import FileDoor
from kvstore.storage.segment import (
    END,
    FIRST_RECORD,
    MARK,
    RECORD_HEADER,
    Position,
    Record,
    SegmentReader,
    encode_record_header,
    padded,
    seed_of,
    segment_name,
)
from kvstore.storage.segments import NO_ROOM, Segment, SegmentFolder, WalOptions

_new = tuple.__new__
_PADDING = [b"\0" * n for n in range(8)]
_EMPTY_CRC = crc32c(b"")


class _Waiting(NamedTuple):
    """A record that has a place and is not on disk."""

    position: Position
    kind: int
    tablet: int
    epoch: int
    first: int
    parts: Sequence[Buffer]
    length: int
    crc: int
    end: int
    """Where it ends in the segment."""


class Run(NamedTuple):
    """Neighbouring bytes to write: where, and the buffers. `capacity` is the segment's."""

    position: Position
    capacity: int
    buffers: list[Buffer]


@dataclass(slots=True)
class Batch:
    """What one sync writes. `lsn`: everything up to it is durable afterwards. `done`: so many runs are on disk already."""

    runs: list[Run]
    records: list[_Waiting]
    lsn: int
    bytes: int
    done: int = 0


@dataclass(slots=True)
class WalFigures:
    """Counters since the log was opened."""

    syncs: int = 0
    bytes: int = 0
    records: int = 0


def lsn_of(segment: int, offset: int) -> int:
    """A place in the log as one number."""
    return segment << 32 | offset


class Wal:
    """One log in one folder. Made by `open`; `replay` comes first and must be exhausted."""

    def __init__(self, folder: SegmentFolder) -> None:
        """See `open`."""
        self.folder = folder
        self.damage: list[Damage] = list(folder.damage)
        self.cut: Position | None = None
        """Where a torn tail was cut off when the log was opened."""
        self.figures = WalFigures()
        self.payload_at = Position(0, 0)
        """Where the payload of the record appended last will lie."""
        self._files = folder.files
        self._seed = seed_of(folder.log_id)
        self._replayed = False
        self._failure: DiskFailed | None = None
        self._generation = 0  # where the next record goes
        self._offset = FIRST_RECORD
        self._capacity = 0
        self._capacities: dict[int, int] = {}
        self._waiting: list[_Waiting] = []
        self._in_flight: Batch | None = None
        self._synced = 0
        self._appended = 0

    # ------------------------------------------------------------------ opening

    @classmethod
    def open(cls, files: FileDoor, folder: str, options: WalOptions | None = None) -> Wal:
        """The log in `folder` (made if need be). Reads every segment's header; `replay` reads the records."""
        return cls(SegmentFolder(files, folder, options or WalOptions()))

    def replay(self, start: Position | None = None) -> Iterator[tuple[Position, Record]]:
        """Every record from `start` (a record's position) on, in the order appended; what is damaged goes into `damage`.

        Segments before `start` are not read. Exhausting the iterator readies the log for `append`.
        """
        assert not self._replayed
        segments, last = self.folder.segments, self.folder.last
        wanted = [g for g in sorted(segments) if start is None or g >= start.segment]
        expected = range(start.segment if start is not None else min(wanted, default=last), last)
        missing = [g for g in expected if g not in segments and g > 0]  # generations begin at 1
        self.damage += [Damage(segment_name(g), 0, None, "the segment is missing") for g in missing]
        end = None
        for generation in wanted:
            if not segments[generation].whole:
                continue
            offset = start.offset if start is not None and start.segment == generation else FIRST_RECORD
            with self.folder.reader(generation, last=generation == last) as reader:
                for at, header, payload in reader.records(offset):
                    if header.kind != MARK:
                        place = at + RECORD_HEADER
                        record = Record(header.kind, header.tablet, header.epoch, header.first, payload, place)
                        yield Position(generation, at), record
            self._was_read(segments[generation], reader)
            end = reader.end if generation == last else None
        self._ready_to_append(end)

    def _was_read(self, segment: Segment, reader: SegmentReader) -> None:
        self.damage += reader.damage
        segment.end = reader.end
        if reader.cut is not None:
            self.cut = Position(segment.generation, reader.cut)

    def _ready_to_append(self, end: int | None) -> None:
        """Close the last segment where its records end: what lies behind may be the torn tail of the last write.

        An `end` of None: the last segment cannot be read, or lies before all that was asked for and is closed already.
        """
        last = self.folder.last
        self._replayed = True
        self._generation = last + 1
        self._capacity = self.folder.options.segment_size
        self._synced = self._appended = lsn_of(last, FIRST_RECORD if end is None else end)
        if end is not None and end + RECORD_HEADER <= self.folder.segments[last].capacity:
            fd = self.folder.descriptor(last)
            closing = encode_record_header(self._seed, Position(last, end), end, END, 0, 0, 0, 0, _EMPTY_CRC)
            self._files.pwritev(fd, [closing], end)
            self._files.fdatasync(fd)
        # files may have been made, renamed or removed just before a crash that did not make it durable
        self._files.fsync_dir(self.folder.folder)

    # ------------------------------------------------------------------ appending

    def append(
        self, kind: int, tablet: int, epoch: int, first: int, parts: Sequence[Buffer], crc: int | None = None
    ) -> int:
        """Add a record; its lsn. The buffers must not change until it is synced. `crc`: the payload's, if it is known."""
        assert self._replayed, "replay the log to its end first"
        if self._failure is not None:
            raise self._failure
        length = sum(map(len, parts))
        if crc is None:
            crc = 0
            for part in parts:
                crc = combined(crc, crc32c(part), len(part))
        size = padded(length)
        if self._offset + size + RECORD_HEADER > self._capacity:
            self._turn_over(size)
        generation, offset = self._generation, self._offset
        end = offset + size
        position = _new(Position, (generation, offset))
        self._waiting.append(_new(_Waiting, (position, kind, tablet, epoch, first, parts, length, crc, end)))
        self._capacities[generation] = self._capacity
        self._offset = end
        self.payload_at = _new(Position, (generation, offset + RECORD_HEADER))
        self.figures.records += 1
        self._appended = lsn = generation << 32 | end
        return lsn

    def _turn_over(self, size: int) -> None:
        """Go on in a new segment that can hold a record of `size` bytes. Room for the end record was always left."""
        if self._offset > FIRST_RECORD:
            position = Position(self._generation, self._offset)
            end = self._offset + RECORD_HEADER
            self._waiting.append(_Waiting(position, END, 0, 0, 0, (), 0, _EMPTY_CRC, end))
            self._capacities[self._generation] = self._capacity
            self._generation += 1
        self._offset = FIRST_RECORD
        needed = FIRST_RECORD + size + RECORD_HEADER
        self._capacity = max(self.folder.options.segment_size, (needed + 4095) // 4096 * 4096)

    def mark(self) -> int:
        """Append a record that says that all before it is durable: when the log falls idle, or is closed."""
        return self.append(MARK, 0, 0, 0, ())

    @property
    def position(self) -> Position:
        """Where the next record goes, at the earliest."""
        return Position(self._generation, self._offset)

    @property
    def appended(self) -> int:
        """The lsn of what was appended last; `synced` reaches it."""
        return self._appended

    @property
    def synced(self) -> int:
        """Everything up to this lsn is on disk."""
        return self._synced

    @property
    def waiting(self) -> bool:
        """Whether anything was appended that is not on disk."""
        return bool(self._waiting) or self._in_flight is not None

    @property
    def failure(self) -> DiskFailed | None:
        """Why the log refuses everything, if it does."""
        return self._failure

    # ------------------------------------------------------------------ syncing

    def sync(self) -> int:
        """Make everything appended so far durable; the lsn up to which it is."""
        while self.waiting:
            batch = self.take()
            self.write(batch)
            self.written(batch)
        return self._synced

    def take(self) -> Batch:
        """Everything appended so far as one batch, or again the one that found no room. One is taken at a time."""
        if self._failure is not None:
            raise self._failure
        if self._in_flight is not None:
            return self._in_flight
        records, self._waiting = self._waiting, []
        runs: list[Run] = []
        buffers: list[Buffer] = []
        total = synced = 0
        segment = -1
        synced_segment, synced_offset = self._synced >> 32, self._synced & 0xFFFFFFFF
        for r in records:
            position, kind, tablet, epoch, first, parts, length, crc, end = r
            if position[0] != segment:
                segment = position[0]
                buffers = []
                runs.append(Run(position, self._capacities.pop(segment), buffers))
                synced = synced_offset if segment == synced_segment else FIRST_RECORD
            buffers.append(encode_record_header(self._seed, position, synced, kind, tablet, epoch, first, length, crc))
            buffers += parts
            if length % 8:
                buffers.append(_PADDING[-length % 8])
            total += end - position[1]
        self._in_flight = Batch(runs, records, lsn_of(segment, end), total)
        return self._in_flight

    def write(self, batch: Batch) -> None:
        """Write a batch and wait for the disk. Touches nothing that `append`, `take` and `read` do: it may run in a thread."""
        for fd in self.writing(batch):
            self._fdatasync(fd)

    def writing(self, batch: Batch) -> Generator[int, None, None]:
        """Write a batch, and yield each descriptor that must be synced before going on; `sync_failed` if that failed.

        Each segment is synced before the next is begun: a reader takes what is not whole before that for damage. A batch that
        found no room half-way goes on with the run that it stopped at: to begin a segment again that another one has followed
        would put a new file in its place, and all that it held would be gone.
        """
        try:
            for run in batch.runs[batch.done :]:
                fd = self.folder.begin(run.position.segment, run.capacity, self._fdatasync, self._fsync_folder)
                offset = run.position.offset
                written = self._files.pwritev(fd, run.buffers, offset)
                self.folder.fill_ahead(offset, offset + written)
                yield fd
                batch.done += 1
        except OSError as error:
            if error.errno in NO_ROOM:
                raise NoSpace(f"no room for the log in {self.folder.folder}: {error.strerror}") from error
            self._fail(f"writing the log in {self.folder.folder} failed", error)

    def _fdatasync(self, fd: int) -> None:
        """Sync once. A failure is final: the kernel may have dropped what it could not write, and a second call succeed."""
        try:
            self._files.fdatasync(fd)
        except OSError as error:
            self.sync_failed(error)

    def sync_failed(self, error: OSError) -> NoReturn:
        """A sync of the log failed: refuse everything from here on. Raises `DiskFailed`."""
        self._fail(f"fsync of the log in {self.folder.folder} failed", error)

    def _fsync_folder(self) -> None:
        try:
            self._files.fsync_dir(self.folder.folder)
        except OSError as error:
            self._fail(f"fsync of the folder {self.folder.folder} failed", error)

    def _fail(self, what: str, error: OSError) -> NoReturn:
        self._failure = DiskFailed(f"{what}: {error}")
        raise self._failure from error

    def written(self, batch: Batch) -> int:
        """The batch is on disk; everything up to the returned lsn is."""
        assert batch is self._in_flight
        segments = self.folder.segments
        for run in batch.runs:
            if run.position.segment not in segments:
                segments[run.position.segment] = Segment(run.position.segment, run.capacity)
        for record in batch.records:
            segments[record.position.segment].end = record.end
        self._in_flight = None
        self._synced = batch.lsn
        self.figures.syncs += 1
        self.figures.bytes += batch.bytes
        return self._synced

    # ------------------------------------------------------------------ reading

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """Bytes of a payload, on disk or still waiting to be written; fewer if the file ends before them."""
        if lsn_of(segment, offset + length) > self._synced:
            found = self._read_waiting(segment, offset, length)
            if found is not None:
                return found
        return self._files.pread(self.folder.descriptor(segment), length, offset)

    def _read_waiting(self, segment: int, offset: int, length: int) -> bytes | None:
        in_flight = self._in_flight.records if self._in_flight is not None else []
        for records in (self._waiting, in_flight):
            for r in records:
                begin = r.position.offset + RECORD_HEADER
                if r.position.segment != segment or not begin <= offset <= begin + r.length - length:
                    continue
                at = begin
                for part in r.parts:
                    if at <= offset <= at + len(part) - length:  # a value is one part, or inside one
                        return bytes(memoryview(part)[offset - at : offset - at + length])
                    at += len(part)
                return b"".join(bytes(part) for part in r.parts)[offset - begin : offset - begin + length]
        return None

    def retire(self, generation: int) -> None:
        """Nothing in the segment is needed any more."""
        remove = self.begin_retiring(generation)
        if remove is not None:
            remove()

    def begin_retiring(self, generation: int) -> Callable[[], None] | None:
        """As `retire`; what takes a while is given back, to be called."""
        assert lsn_of(generation, 0) < self._synced
        return self.folder.retire(generation)

    def close(self) -> None:
        """Close all files. What was not synced is not written."""
        self.folder.close()
