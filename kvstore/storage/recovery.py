"""What happens to a data folder when it is opened: checkpoints are loaded, the log is replayed, damage is judged.

Replay feeds every record to the same methods of `DiskReplica` that were called when it was appended. A record that lies before
the place that a tablet's checkpoint names is skipped. Entries are applied up to the commit point that the log knows of; the
rest is the tail, for replication to decide on.

Damage: bytes that are known to be one tablet's make that replica damaged; others make every replica damaged whose log reaches
back that far. A gap in a tablet's sequence, a checkpoint that cannot be read, and a bulk value whose segment is gone do so too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from kvstore.errors import BadRequest
from kvstore.mutation import decode_entry
from kvstore.storage.cell import Place
from kvstore.storage.checkpoint import load_checkpoint, parse_name
from kvstore.storage.engine import Doomed
from kvstore.storage.failures import CorruptValue, Damage, FutureFormat
from kvstore.storage.records import U64, Kind, decode_cells, decode_range
from kvstore.storage.replica import DiskReplica, Learning
from kvstore.storage.segment import Position, Record, segment_name

if TYPE_CHECKING:
    from kvstore.storage.engine import Engine


_KINDS = frozenset(Kind)


class Stretch(NamedTuple):
    """Part of a tablet's log: from `begin` to before `end`."""

    tablet: int
    begin: Position
    end: Position


@dataclass(slots=True)
class Replay:
    """What is noted while the log is replayed, by tablet."""

    gaps: dict[int, Damage] = field(default_factory=dict)
    """Where an entry did not follow the one before it."""
    inherited: dict[int, list[Stretch]] = field(default_factory=dict)
    """Of a replica that was split off others in this replay: the parts of their logs that made it."""


def recover(engine: Engine) -> None:
    """Bring a just opened engine to what its disk holds."""
    _load_checkpoints(engine)
    start = engine.log_start
    replay = Replay()
    for position, record in engine.wal.replay(start):
        try:
            _replay(engine, position, record, replay)
        except (BadRequest, struct.error, IndexError) as error:  # its checksum is right, and yet it is none of ours
            _nonsense(engine, position, record, str(error))
    for tablet_id, gap in replay.gaps.items():
        replica = engine.tablets.get(tablet_id)
        if replica is not None and replica.damage == gap.what:
            _damaged(engine, replica, gap)
    if start > Position(engine.wal.synced >> 32, engine.wal.synced & 0xFFFFFFFF):
        engine.wal.damage.append(
            Damage(segment_name(start.segment), start.offset, None, "the log ends before this place")
        )
    for damage in engine.wal.damage:
        _judge(engine, damage, replay)
    for replica in engine.tablets.values():
        missing = sorted(g for g in replica.tablet.bulk_bytes if g not in engine.wal.folder.segments)
        if missing and replica.learning is not Learning.DAMAGED:
            _damaged(
                engine, replica, Damage(f"log/{segment_name(missing[0])}", 0, replica.id, "the segment is missing")
            )
    for replica in engine.tablets.values():
        if replica.learning is Learning.DAMAGED:
            engine.log_damage(replica)
    engine.look_at_space()


def _load_checkpoints(engine: Engine) -> None:
    folder = f"{engine.folder}/checkpoints"
    engine.files.makedirs(folder)
    newest: dict[int, int] = {}
    names = sorted(engine.files.listdir(folder))
    # A process that was killed may have left a new name that the disk does not know yet. What the name replaces must not go
    # before that: a power cut could take the one and not bring back the other.
    engine.files.fsync_dir(folder)
    for name in names:
        parsed = parse_name(name)
        if parsed is None:
            if parse_name(name.removesuffix(".tmp")) is not None:
                engine.files.unlink(f"{folder}/{name}")  # it was being written when the process ended
            continue  # somebody else's file
        newest[parsed[0]] = max(newest.get(parsed[0], 0), parsed[1])
        engine.next_checkpoint = max(engine.next_checkpoint, parsed[1] + 1)
    for tablet_id, number in newest.items():
        engine.tablets[tablet_id] = _load(engine, tablet_id, number)
    for name in names:
        parsed = parse_name(name)
        if parsed is not None and parsed[1] < newest[parsed[0]]:
            # the newer one was renamed to its name after it had been synced and read back, so this one is not needed
            engine.files.unlink(f"{folder}/{name}")


def _load(engine: Engine, tablet_id: int, number: int) -> DiskReplica:
    replica = engine.new_replica(tablet_id)
    replica.checkpoint_file = number
    path = engine.checkpoint_path(tablet_id, number)
    try:
        head, tablet, size = load_checkpoint(engine.files, path, replica.results)
    except CorruptValue as error:
        replica.log_start = engine.log_start
        name = path.removeprefix(f"{engine.folder}/")
        engine.damage.append(Damage(name, error.offset, tablet_id, str(error)))
        replica.mark_damaged(str(error))
        return replica
    tablet.debts = replica.tablet.debts
    replica.tablet = tablet
    replica.start, replica.end, replica.range_version = head.start, head.end, head.range_version
    replica.epoch, replica.commit, replica.commit_epoch = head.epoch, head.commit, head.commit_epoch
    replica.log_start = max(head.log_start, engine.log_start)
    replica.checkpoint, replica.checkpoint_bytes = head, size
    replica.checkpoint_segments = frozenset(tablet.bulk_bytes)
    return replica


def _replay(engine: Engine, position: Position, record: Record, replay: Replay) -> None:
    if record.kind not in _KINDS:
        place = f"{engine.folder}/log/{segment_name(position.segment)} at byte {position.offset}"
        raise FutureFormat(f"{place}: a record of kind {record.kind}, which this version does not know")
    kind = Kind(record.kind)
    replica = engine.tablets.get(record.tablet)
    if replica is None and kind in (Kind.CREATE, Kind.DAMAGED, Kind.LEARN):
        replica = engine.new_replica(record.tablet)
        replica.start, replica.end, replica.range_version, _ = decode_range(record.payload)
        replica.log_start = position
        engine.tablets[record.tablet] = replica
        if kind is not Kind.CREATE:
            # one that begins with no cells, or is damaged, builds upon nothing; any other would lack what it built upon
            _gap(replica, "the log of its beginning is gone", position, replay)
    if replica is None or position < replica.log_start:
        return
    replica.touched(position)
    if kind is Kind.DROP:
        del engine.tablets[record.tablet]
        replay.inherited.pop(record.tablet, None)
        if replica.checkpoint_file is not None:
            path = engine.checkpoint_path(record.tablet, replica.checkpoint_file)
            engine.doomed.append(Doomed(0, position.segment, path, record.tablet))
    elif kind is Kind.LEARN:
        _replay_learning(replica, position, record, replay)
    elif kind is Kind.DAMAGED:
        replay.inherited.pop(record.tablet, None)
        replica.mark_damaged(_take_range(replica, record)[0])
    elif kind is Kind.SPLIT:
        _replay_split(engine, replica, position, record, replay)
    elif kind is Kind.NARROW:
        _replay_narrowing(replica, record)
    elif replica.learning is not Learning.DAMAGED:
        _replay_into(engine, replica, kind, position, record, replay)


def _replay_learning(replica: DiskReplica, position: Position, record: Record, replay: Replay) -> None:
    empty = _take_range(replica, record) == [True]
    if empty:
        replay.inherited.pop(record.tablet, None)
        replica.log_start = position  # damage before this place is no longer this replica's
    elif replica.learning is Learning.DAMAGED:
        return  # it built upon what it had, and was not sent that again: what is damaged now stays so
    else:
        replica.apply(record.first)  # what was applied then stays: the learner did not install it again
    replica.begin_learning(empty)


def _take_range(replica: DiskReplica, record: Record) -> list[Any]:
    """Give the replica the range that a LEARN or DAMAGED states; what else that states.

    It is a narrower one if the record that narrowed it was dropped: nothing of the replica was worth keeping.
    """
    start, end, range_version, more = decode_range(record.payload)
    if range_version > replica.range_version:
        replica.start, replica.end, replica.range_version = start, end, range_version
    return more


def _replay_narrowing(replica: DiskReplica, record: Record) -> None:
    _, end, range_version, _ = decode_range(record.payload)
    if end is None or not _lies_inside(replica, end):
        raise BadRequest("not a narrowing: its end does not lie in the tablet's range")
    if replica.range_version == 0:
        return  # its range went with its checkpoint: to know the end alone is of no use
    if replica.intact:
        replica.apply(record.first)
    replica.narrow(end, range_version)


def _replay_split(engine: Engine, replica: DiskReplica, position: Position, record: Record, replay: Replay) -> None:
    """One of the two may have a checkpoint of later: then the other alone changes. Both have one only where replay begins early
    for the sake of a tail, or of others."""
    start, end, range_version, more = decode_range(record.payload)
    if len(more) != 1 or type(more[0]) is not int or not 0 <= more[0] < 1 << 32:
        raise BadRequest("not a split: it names no other tablet")
    child = engine.new_replica(more[0])
    present = engine.tablets.get(child.id)
    if present is not None and present.learning is not Learning.DAMAGED and present.log_start <= position:
        raise BadRequest(f"not a split: tablet {child.id} exists already")
    if replica.range_version < range_version and not _lies_inside(replica, start):
        raise BadRequest("not a split: its place does not lie in the tablet's range")
    _part(replica, child, (start, end, range_version), position, record, replay)
    if present is None:
        child.log_start = position
        child.inherit(replica)
        engine.tablets[child.id] = child
        own = Stretch(replica.id, replica.log_start, position)
        replay.inherited[child.id] = [own, *replay.inherited.get(replica.id, [])]


def _lies_inside(replica: DiskReplica, row: str) -> bool:
    return replica.start < row and (replica.end is None or row < replica.end)


def _part(
    replica: DiskReplica,
    child: DiskReplica,
    ranges: tuple[str, str | None, int],
    position: Position,
    record: Record,
    replay: Replay,
) -> None:
    """Give `child` what a SPLIT says it has; it is damaged if `replica` is, or holds it no longer."""
    start, _, range_version = ranges
    whole = replica.range_version < range_version
    if whole and replica.intact:
        replica.apply(record.first)
        if (replica.commit_epoch, replica.commit) == (record.epoch, record.first):
            replica.split(child, start, range_version)
            return
        _gap(replica, f"a gap in the log: split at {record.first} after {replica.last}", position, replay)
    if whole and replica.range_version:
        replica.narrow(start, range_version)
    child.start, child.end, child.range_version = ranges
    _gap(child, replica.damage or "what was split off is nowhere", position, replay)


def _gap(replica: DiskReplica, what: str, position: Position, replay: Replay) -> None:
    # Not reported yet: log before a record that says that the replica is damaged may have been dropped, and then so may the
    # entries between its checkpoint and this one.
    replica.mark_damaged(what)
    replay.gaps[replica.id] = Damage(f"log/{segment_name(position.segment)}", position.offset, replica.id, what)


def _replay_into(
    engine: Engine, replica: DiskReplica, kind: Kind, position: Position, record: Record, replay: Replay
) -> None:
    if kind is Kind.ENTRY:
        _replay_entry(replica, position, record, replay)
    elif kind is Kind.COMMIT:
        replica.apply(record.first)
    elif kind is Kind.EPOCH:
        replica.epoch = max(replica.epoch, record.epoch)
    elif kind is Kind.CUT:
        replica.cut(record.first)
    elif kind is Kind.INSTALL:
        for key, packed in decode_cells(record.payload, position.segment, record.payload_offset):
            replica.tablet.set_packed(key, packed)
    elif kind is Kind.FINISH:
        (begin,) = U64.unpack_from(record.payload)
        results = engine.new_results()
        results.add_encoded(record.payload[U64.size :])
        replica.finish_learning(begin, record.first, record.epoch, results)
        replica.apply(record.first)
    elif kind is Kind.MOVED:
        for key, packed in decode_cells(record.payload, position.segment, record.payload_offset):
            assert packed is not None
            replica.tablet.relocate(key, packed)


def _replay_entry(replica: DiskReplica, position: Position, record: Record, replay: Replay) -> None:
    (commit,) = U64.unpack_from(record.payload)
    view = memoryview(record.payload)[U64.size :]
    entry = decode_entry(record.epoch, record.first, view)
    if entry.last <= replica.commit and replica.learning is not Learning.HOLDING:
        return  # in the checkpoint
    if not replica.follows(entry):
        _gap(replica, f"a gap in the log: entry {entry.first} after {replica.last}", position, replay)
        return
    payload = Position(position.segment, record.payload_offset + U64.size)
    replica.add(entry, Place(position.segment, payload.offset + entry.bulk_start), position, payload)
    replica.apply(commit)


def _nonsense(engine: Engine, position: Position, record: Record, what: str) -> None:
    """A record whose payload is not what its kind promises: nothing that follows in its tablet can be trusted."""
    damage = Damage(f"log/{segment_name(position.segment)}", position.offset, record.tablet, what)
    replica = engine.tablets.get(record.tablet)
    if replica is None:
        engine.damage.append(damage)
    else:
        _damaged(engine, replica, damage)


def _judge(engine: Engine, damage: Damage, replay: Replay) -> None:
    """Damage in the log, after replay."""
    named = replace(damage, file=f"log/{damage.file}")
    segment = int(damage.file.removesuffix(".seg"), 16)
    place = Position(segment, damage.offset)
    hit = [
        replica
        for replica in engine.tablets.values()
        if (damage.tablet in (None, replica.id) and replica.log_start <= place)
        or any(
            s.begin <= place < s.end and damage.tablet in (None, s.tablet) for s in replay.inherited.get(replica.id, [])
        )
        or replica.may_have_values_in(segment, damage)
    ]
    for replica in hit:
        _damaged(engine, replica, named.of(replica.id))
    if not hit:
        engine.damage.append(named)


def _damaged(engine: Engine, replica: DiskReplica, damage: Damage) -> None:
    engine.damage.append(damage)
    replica.mark_damaged(str(damage))
