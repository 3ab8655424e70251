"""Compaction: live values are copied out of segments that are mostly dead, so that these can be freed.

A segment before the place where replay begins is needed only for the bulk values in it. When the bytes in such segments that
nothing needs exceed `dead_most` of the live ones, the segment with the least live bytes is read record by record, each value
that a cell still points to is appended to the log again (a MOVED record) and the cell is pointed there. The old one is freed
once the tablet's next checkpoint does not point into it either.

The idea is that of log-structured stores since Rosenblum and Ousterhout's (1992), with the greedy choice of victim.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator

from kvstore import settings
from kvstore.mutation import Op, decode_entry
from kvstore.storage.cell import BulkRef, StoredCell, pack_bulk
from kvstore.storage.cellkey import cell_key
from kvstore.storage.checkpoint import Pause
from kvstore.storage.engine import Engine
from kvstore.storage.records import U64, Kind, decode_cells
from kvstore.storage.replica import DiskReplica
from kvstore.storage.segment import FIRST_RECORD, RECORD_HEADER, RecordHeader


def live_bytes(engine: Engine) -> dict[int, int]:
    """Bytes of values that cells point to, by segment."""
    live: dict[int, int] = {}
    for replica in engine.tablets.values():
        for generation, size in replica.tablet.bulk_bytes.items():
            live[generation] = live.get(generation, 0) + size
    return live


def compaction_due(engine: Engine) -> int | None:
    """The segment that is most worth compacting; None when dead bytes are few."""
    live = live_bytes(engine)
    segments = engine.wal.folder.segments
    old = [g for g in live if g < engine.log_start.segment and g in segments and g not in engine.stuck]
    dead = sum(segments[g].capacity - live[g] for g in old)
    if not old or dead <= engine.options.dead_most * sum(live.values()):
        return None
    if not _fit_into_fewer(sorted(live[g] for g in old), engine.options.wal.segment_size):
        return None
    victim = min(old, key=lambda g: live[g] / segments[g].capacity)
    # a segment that is nearly all live gives back less than it costs to move
    return victim if live[victim] < segments[victim].capacity * 0.9 else None


def _fit_into_fewer(live: list[int], segment_size: int) -> bool:
    """Whether the values of some segments, whose live bytes these are, the least first, surely fit into fewer of them.

    A segment takes no value that it has not room for, so up to one value's length stays empty at its end, and each record has
    a header: that is not dead, and to move the values would only make the like again, for ever.
    """
    usable = segment_size - FIRST_RECORD
    filled = (usable - min(settings.MAX_VALUE, usable // 2)) * 15 // 16
    return any(total <= number * filled for number, total in enumerate(itertools.accumulate(live)))


def compact(engine: Engine, generation: int) -> Generator[Pause, None, None]:
    """Copy what lives in a segment to the end of the log, record by record; each is read, and checked, in a blocking call."""
    found: list[tuple[int, RecordHeader, bytes]] = []
    with engine.wal.folder.reader(generation) as reader:
        records = reader.records()
        while True:
            yield lambda: found.extend(itertools.islice(records, 1))
            if not found:
                break
            offset, header, payload = found.pop()
            yield from _move(engine, generation, offset, header, payload)
    for damage in reader.damage:
        engine.damage_in_segment(generation, damage)
    if generation in live_bytes(engine):
        engine.stuck.add(generation)  # until who points there has learnt from others: another try would move nothing


def _move(
    engine: Engine, generation: int, offset: int, header: RecordHeader, payload: bytes
) -> Generator[Pause, None, None]:
    """Move what lives in one record."""
    for key, packed, value in _values(header, payload, generation, offset + RECORD_HEADER):
        replica = owner(engine, header.tablet, generation, key, packed)
        if replica is None:
            continue
        _, placed = engine.log_cells(Kind.MOVED, replica.id, [(key, packed)], [value])
        moved = placed[0][1]
        assert moved is not None
        replica.tablet.relocate(key, moved)
        engine.figures.compacted_bytes += len(value)
        yield None


def owner(engine: Engine, written_by: int, generation: int, key: bytes, packed: bytes) -> DiskReplica | None:
    """Whose cell this is: that of the tablet which wrote it, or of one that was split off since; None: nobody's any more."""
    first = engine.tablets.get(written_by)
    if first is not None and first.tablet.packed(key) == packed:
        return first
    others = (r for r in engine.tablets.values() if generation in r.tablet.bulk_bytes)
    return next((replica for replica in others if replica.tablet.packed(key) == packed), None)


def _values(
    header: RecordHeader, payload: bytes, segment: int, start: int
) -> Iterator[tuple[bytes, bytes, memoryview]]:
    """(key, the packed cell that it made, value) of every bulk value of a record whose payload lies at (segment, start)."""
    view = memoryview(payload)
    if header.kind == Kind.ENTRY:
        entry = decode_entry(header.epoch, header.first, view[U64.size :])
        at = U64.size + entry.bulk_start
        for sequence, mutation in enumerate(entry.mutations, entry.first):
            for operation in mutation.operations:
                if operation[0] == Op.PUT_BULK:
                    _, row, column, length, crc = operation
                    ref = BulkRef(segment, start + at, length, crc)
                    yield cell_key(row, column), pack_bulk(entry.epoch, sequence, ref), view[at : at + length]
                    at += length
    elif header.kind in (Kind.INSTALL, Kind.MOVED):
        for key, packed in decode_cells(payload, segment, start):
            ref_or_value = StoredCell((packed,)).value if packed is not None else b""
            if packed is not None and isinstance(ref_or_value, BulkRef):
                at = ref_or_value.offset - start
                yield key, packed, view[at : at + ref_or_value.length]
