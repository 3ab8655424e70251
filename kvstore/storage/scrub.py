"""The scrub: what lies still is read again, so that a bit that flips in it is found while other replicas have it.

What is read: the values in the log that cells point to, and the checkpoints that replay relies on, from disk and not from the
page cache, each checked by its checksum. Not read: log that only replay would need, cells that lie in memory, what is not on
disk yet. How fast, and in which order: `kvstore.storage.scrubround`.

A job is one slice. Its reads are blocking calls of about `AT_ONCE` bytes; what they found counts only if the cell still points
there when they are back. Meanwhile the value may have been overwritten or moved, its segment freed and written over, its tablet
split, dropped or begun anew: generations of segments are never used twice, so a cell that points there still is one whose value
must be there. So it needs no `HOLD` either.

- A damaged value: its replica is damaged, as when somebody had read it (`Engine.value_damaged`), and learns from others.
- A damaged checkpoint: the cells are whole in memory, and are written into another one (`Engine.checkpoint_damaged`).
- That no file may be opened says nothing of what is in there: the slice ends, and the next one goes on at the same place.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator
from typing import NamedTuple

from kvstore import settings
from kvstore.errors import StorageFailure
from kvstore.storage import scrubround
from kvstore.storage.cell import BulkRef, StoredCell
from kvstore.storage.checkpoint import ChunkReader, Pause
from kvstore.storage.compaction import owner
from kvstore.storage.engine import NOT_ITS_CHECKSUM, Engine
from kvstore.storage.failures import Damage
from kvstore.storage.files import TOO_MANY_FILES, FileDoor
from kvstore.storage.replica import Learning
from kvstore.storage.scrubround import write_place
from kvstore.storage.segment import segment_name
from kvstore.storage.wal import lsn_of

AT_ONCE = settings.MIB
"""Bytes of one blocking call, about: what is synced meanwhile waits for no more of the disk."""


class Still(NamedTuple):
    """A value as a cell points to it."""

    key: bytes
    packed: bytes
    ref: BulkRef


def scrub_due(engine: Engine) -> bool:
    """Whether a slice is due."""
    return engine.scrub_round.is_due(engine.options.clock(), engine.stored_bytes)


def scrub(engine: Engine) -> Generator[Pause, None, None]:
    """Read one slice of what is stored again."""
    before = engine.figures.scrubbed_bytes
    try:
        yield from _slice(engine)
    except OSError as error:
        if error.errno not in TOO_MANY_FILES:
            raise
    finally:
        now = engine.options.clock()
        engine.scrub_round.slice_ended(now, engine.figures.scrubbed_bytes - before, engine.stored_bytes)
    if engine.scrub_round.is_to_be_saved(now):
        yield functools.partial(_save, engine)


def _slice(engine: Engine) -> Generator[Pause, None, None]:
    end = engine.figures.scrubbed_bytes + scrubround.SLICE
    while engine.figures.scrubbed_bytes < end:
        tablet = _next_tablet(engine)
        if tablet is None:
            engine.scrub_round.end(engine.options.time_of_day())
            engine.figures.scrub_rounds += 1
            return
        if engine.scrub_round.place.key is not None:
            yield from _read_values(engine, tablet, engine.scrub_round.place.key)
            continue
        yield from _read_checkpoint(engine, tablet)


def _next_tablet(engine: Engine) -> int | None:
    """The tablet to go on with; None at the end of a round."""
    place = engine.scrub_round.place
    # a dropped one's checkpoint may still be what others are made from
    there = itertools.chain(engine.tablets, (doomed.tablet for doomed in engine.doomed))
    tablet = min((number for number in there if number >= place.tablet), default=None)
    if tablet is not None and tablet != place.tablet:
        engine.scrub_round.go_on(tablet, None)
    return tablet


def _count(engine: Engine, size: int) -> None:
    engine.figures.scrubbed_bytes += size
    engine.scrub_round.passed(size)


def _save(engine: Engine) -> None:
    try:
        write_place(engine.files, engine.folder, engine.scrub_round.place)
    except OSError:
        return  # no room for it is no harm, and a disk that fails tells in what matters


# ---------------------------------------------------------------------- values


def _read_values(engine: Engine, tablet: int, low: bytes) -> Generator[Pause, None, None]:
    """Read some values of a tablet, from key `low` on."""
    replica = engine.tablets.get(tablet)
    if replica is None or replica.learning is Learning.DAMAGED:  # whose cells are worth nothing
        engine.scrub_round.go_on(tablet + 1, None)
        return
    cells, following = replica.tablet.bulk_cells(low, AT_ONCE)
    still = [_still(key, packed) for key, packed in cells]
    still = [s for s in still if lsn_of(s.ref.segment, s.ref.offset + s.ref.length) <= engine.wal.synced]
    still.sort(key=lambda s: s.ref)
    found: list[tuple[Still, str]] = []
    for segment, its in itertools.groupby(still, lambda s: s.ref.segment):
        path = f"{engine.wal.folder.folder}/{segment_name(segment)}"
        yield functools.partial(_read_again, engine.files, path, list(its), found)
    if not still:
        yield None
    _count(engine, sum(s.ref.length for s in still))
    for value, what in found:
        whose = owner(engine, tablet, value.ref.segment, value.key, value.packed)
        if whose is not None and whose.learning is not Learning.DAMAGED:
            engine.figures.scrub_damages += 1
            engine.value_damaged(value.ref, what)
            yield None
    if following is None:
        engine.scrub_round.go_on(tablet + 1, None)
    else:
        engine.scrub_round.go_on(tablet, following)


def _still(key: bytes, packed: bytes) -> Still:
    ref = StoredCell((packed,)).value
    assert isinstance(ref, BulkRef)
    return Still(key, packed, ref)


def _read_again(files: FileDoor, path: str, values: list[Still], found: list[tuple[Still, str]]) -> None:
    """Read values of one segment, and say what is wrong with which. Runs in a thread.

    With a descriptor of its own: the log's for reads may be closed meanwhile, and its number given to another file.
    """
    try:
        fd = files.open(path)
    except OSError as error:
        if error.errno in TOO_MANY_FILES:
            raise
        found += [(value, f"cannot be read: {error}") for value in values]
        return
    try:
        for value in values:
            what = _what_is_wrong(files, fd, value.ref)
            if what is not None:
                found.append((value, what))
    finally:
        files.close(fd)


def _what_is_wrong(files: FileDoor, fd: int, ref: BulkRef) -> str | None:
    try:
        files.forget(fd, ref.offset, ref.length)
        data = files.pread(fd, ref.length, ref.offset)
    except OSError as error:
        return f"cannot be read: {error}"
    return None if ref.fits(data) else NOT_ITS_CHECKSUM


# ---------------------------------------------------------------------- checkpoints


def _read_checkpoint(engine: Engine, tablet: int) -> Generator[Pause, None, None]:
    """Read some chunks of the checkpoint of a tablet."""
    path = _relied_on(engine, tablet)
    reader = engine.scrub_round.reader
    if path is None or (reader is not None and reader.path != path):
        # Written since this one was begun: it was read back then. To begin it anew would be to stay here for ever, where
        # checkpoints are written more often than one can be read.
        engine.scrub_round.go_on(tablet, b"")
        return
    if reader is None:
        reader = engine.scrub_round.reader = ChunkReader(engine.files, path, from_disk=True)
    begin = reader.at
    found: list[tuple[int, str]] = []
    yield functools.partial(_read_on, engine.files, reader, found)
    _count(engine, reader.at - begin)
    if found and _relied_on(engine, tablet) == path:
        engine.figures.scrub_damages += 1
        offset, what = found[0]
        engine.checkpoint_damaged(Damage(path.removeprefix(f"{engine.folder}/"), offset, tablet, what))
    if found or reader.ended:
        engine.scrub_round.go_on(tablet, b"")


def _relied_on(engine: Engine, tablet: int) -> str | None:
    """The path of the checkpoint from which replay would make the tablet, or what was split off it; None if there is none, or
    another has to be written anyway."""
    replica = engine.tablets.get(tablet)
    if replica is None:
        needed = any(not other.checkpoint_damaged for other in engine.split_off(tablet))
        return next((d.path for d in engine.doomed if d.tablet == tablet), None) if needed else None
    if replica.checkpoint is None or replica.checkpoint_damaged or replica.learning is Learning.DAMAGED:
        return None
    return engine.checkpoint_path(tablet, replica.checkpoint.number)


def _read_on(files: FileDoor, reader: ChunkReader, found: list[tuple[int, str]]) -> None:
    """Read chunks, and say what is wrong where. Runs in a thread."""
    end = reader.at + AT_ONCE
    try:
        fd = files.open(reader.path)
        try:
            for _ in reader.chunks(fd):
                if reader.at >= end:
                    return
        finally:
            files.close(fd)
    except OSError as error:
        if error.errno in TOO_MANY_FILES:
            raise
        found.append((reader.at, f"cannot be read: {error}"))
    except StorageFailure as error:
        found.append((reader.at, str(error)))
