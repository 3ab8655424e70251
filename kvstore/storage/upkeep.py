"""Background work on an engine: checkpoints, dropping of log, spare segments. Compaction is in
`kvstore.storage.compaction`, the scrub in `kvstore.storage.scrub`.

Each job is a generator: a step is a few milliseconds at most, and yields a blocking call (a sync) to be made before the next
step, or None. What that call raises is thrown into the generator. `next_job` names what is most worth doing. Nothing here knows
greenlets: `kvstore.storage.maintenance` runs the jobs in a server, `run_to_end` at once in tests and tools.

The order that keeps log and checkpoints safe:
1. a checkpoint is written beside the old one, synced, read back, renamed, and the folder synced;
2. the old one is removed;
3. the manifest says, durably, where replay now begins;
4. segments before that place in which no value lives, neither in memory nor in a checkpoint, are given up.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from kvstore.storage.checkpoint import CheckpointWriter, Head, Pause
from kvstore.storage.compaction import compact, compaction_due
from kvstore.storage.engine import HOLD, Doomed, Engine
from kvstore.storage.failures import CorruptValue, DiskFailed
from kvstore.storage.files import TOO_MANY_FILES
from kvstore.storage.manifest import Manifest, write_manifest
from kvstore.storage.replica import DiskReplica
from kvstore.storage.scrub import scrub, scrub_due
from kvstore.storage.segment import FIRST_RECORD, Position
from kvstore.storage.segments import NO_ROOM

Job = Generator[Pause, None, None]

REPLAY_WORTH = 4
"""A checkpoint is worth writing when it spares the replay of so many times its own size in log."""
START_BEHIND = 4
"""Segments after which it is noted that replay may begin later, though none of them can go."""


def next_job(engine: Engine) -> tuple[str, Job] | None:
    """What is most worth doing now, and its name; None when there is nothing."""
    for replica in (*engine.tablets.values(), *engine.dropped):
        if replica.tablet.has_dropped:
            return "free", _free(replica)
    engine.dropped.clear()
    if not _is_held(engine):
        if _removable(engine):
            return "remove", _holding(engine, _remove_doomed(engine))
        if _releasable(engine) or _start_is_behind(engine):
            return "release", _holding(engine, release(engine))
        due = _checkpoint_due(engine)
        if due is not None:
            return "checkpoint", _holding(engine, checkpoint(engine, due))
    if _spare_due(engine):
        return "spare", engine.wal.folder.prepare_spare()
    # not into the room that is left for closing the log: it gives none back before a checkpoint, which has to wait too
    victim = None if engine.is_full else compaction_due(engine)
    if victim is not None:
        return "compaction", compact(engine, victim)
    if scrub_due(engine):
        return "scrub", scrub(engine)
    return None


def run_to_end(engine: Engine, job: Job) -> None:
    """Carry out a job at once, syncing the log when it waits for that."""
    error: OSError | None = None
    while True:
        try:
            blocking = next(job) if error is None else job.throw(error)
        except StopIteration:
            return
        error = None
        try:
            if blocking is not None:
                blocking()
        except OSError as raised:
            error = raised
        if engine.wal.waiting:
            engine.sync()


def maintain(engine: Engine) -> None:
    """Carry out everything that is worth doing now."""
    while (found := next_job(engine)) is not None:
        run_to_end(engine, found[1])


def _is_held(engine: Engine) -> bool:
    lock = engine.files.lock(f"{engine.folder}/{HOLD}")
    if lock is None:
        return True
    engine.files.close(lock)
    return False


def _holding(engine: Engine, job: Job) -> Job:
    """The job, which removes files, while nobody else holds the folder."""
    lock = engine.files.lock(f"{engine.folder}/{HOLD}")
    if lock is None:
        return
    try:
        yield from job
    finally:
        engine.files.close(lock)


# ---------------------------------------------------------------------- checkpoints


def checkpoint(engine: Engine, replica: DiskReplica) -> Job:
    """Write a checkpoint of an intact replica as it is now. Given up when the replica ends, learns or is damaged meanwhile."""
    assert may_checkpoint(engine, replica)
    number = engine.next_checkpoint
    engine.next_checkpoint += 1
    path = engine.checkpoint_path(replica.id, number)
    snapshot, results = replica.tablet.snapshot(), replica.results.snapshot()
    head = _head(engine, replica, number)
    segments = frozenset(snapshot.bulk_bytes)
    logged = replica.bytes_since_checkpoint
    replica.snapshot_taken()
    needs_log = engine.wal.appended
    writer = CheckpointWriter(engine.files, f"{path}.tmp")
    try:
        for pause in writer.steps(head, snapshot, results):
            yield pause
            if engine.tablets.get(replica.id) is not replica or not replica.intact:
                engine.files.unlink(f"{path}.tmp")
                return
        # The snapshot may hold what is logged and not yet synced (values moved by compaction, a learner's entries): a
        # checkpoint that points to log which a crash took away would be worse than none.
        while engine.wal.synced < needs_log:
            yield None
        engine.files.rename(f"{path}.tmp", path)
        yield lambda: engine.files.fsync_dir(f"{engine.folder}/checkpoints")
    except (OSError, CorruptValue) as error:
        _checkpoint_failed(engine, path, error)
        return
    finally:
        snapshot.release()
        results.release()
    if engine.tablets.get(replica.id) is not replica:
        # It was dropped while the folder was being synced, knowing nothing of this one: the record of that must outlive it.
        engine.doomed.append(Doomed(engine.wal.appended, head.log_segment, path, replica.id))
        return
    old = None if replica.checkpoint_file is None else engine.checkpoint_path(replica.id, replica.checkpoint_file)
    replica.checkpoint_done(head, writer.bytes, segments, logged)
    engine.figures.checkpoints += 1
    engine.figures.checkpoint_bytes += writer.bytes
    if old is not None and engine.files.exists(old):  # one that was found damaged may be gone altogether
        yield lambda: engine.files.unlink(old)


def may_checkpoint(engine: Engine, replica: DiskReplica) -> bool:
    """Whether a checkpoint may be made: nothing in its state, nor in that of others, needs the one before."""
    return replica.may_checkpoint and not engine.split_off(replica.id)


def _first_to_do(engine: Engine, replica: DiskReplica) -> DiskReplica | None:
    """Whose checkpoint comes first if this one's is due: of what was split off it, and has none; None: it has to wait."""
    waited_for = engine.split_off(replica.id)
    if not waited_for:
        return replica if replica.may_checkpoint else None
    return next(filter(None, (_first_to_do(engine, other) for other in waited_for)), None)


def _head(engine: Engine, replica: DiskReplica, number: int) -> Head:
    # Replay begins at the first entry that is not applied; with none, at what is logged next: all before is in the snapshot.
    place = replica.logged[0].position if replica.logged else engine.wal.position
    return Head(
        engine.store_id,
        replica.id,
        number,
        replica.start,
        replica.end,
        replica.range_version,
        replica.epoch,
        replica.commit_epoch,
        replica.commit,
        *place,
        replica.tablet.cells,
        replica.tablet.digest,
    )


def _checkpoint_failed(engine: Engine, path: str, error: OSError | CorruptValue) -> None:
    """No room is no harm: the log stays, and a later attempt may find room. After anything else the disk is not trusted.

    That no file may be opened says nothing of the disk either.
    """
    engine.figures.checkpoints_failed += 1
    for name in (f"{path}.tmp", path):
        if engine.files.exists(name):
            engine.files.unlink(name)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        engine.no_room()
        return
    if isinstance(error, OSError) and error.errno in TOO_MANY_FILES:
        return
    raise DiskFailed(f"writing a checkpoint failed: {error}") from error


def _checkpoint_due(engine: Engine) -> DiskReplica | None:
    if engine.is_full:
        return None
    return next(filter(None, (_first_to_do(engine, replica) for replica in _worth_a_checkpoint(engine))), None)


def _worth_a_checkpoint(engine: Engine) -> Iterator[DiskReplica]:
    options = engine.options
    yield from (replica for replica in engine.tablets.values() if replica.checkpoint_damaged)
    intact = [r for r in engine.tablets.values() if r.may_checkpoint and r.dirty_from is not None]
    for replica in intact:
        if replica.bytes_since_checkpoint >= max(options.checkpoint_log, replica.checkpoint_bytes):
            yield replica
    for replica in sorted(intact, key=_dirty_from):
        bound = min(options.replay_most, max(options.replay_fair, REPLAY_WORTH * replica.checkpoint_bytes))
        if _log_since(engine, replica) > bound and _would_advance(engine, replica):
            yield replica
    for replica in intact:
        # segments in which no value lives any more, but which the last checkpoint still points into
        held = [g for g in replica.checkpoint_segments if g not in replica.tablet.bulk_bytes]
        if len(held) * options.wal.segment_size >= max(4 * options.wal.segment_size, 2 * replica.checkpoint_bytes):
            yield replica


def _dirty_from(replica: DiskReplica) -> Position:
    assert replica.dirty_from is not None
    return replica.dirty_from


def _would_advance(engine: Engine, replica: DiskReplica) -> bool:
    """Whether a checkpoint would let a segment go: not while the oldest log that the replica needs is its own tail."""
    after = replica.logged[0].position if replica.logged else engine.wal.position
    return after.segment > _dirty_from(replica).segment


def _log_since(engine: Engine, replica: DiskReplica) -> int:
    """Bytes of log from what `replica` needs first, about."""
    begin, end = _dirty_from(replica), engine.wal.position
    return (end.segment - begin.segment) * engine.options.wal.segment_size + end.offset - begin.offset


# ---------------------------------------------------------------------- dropping log


def needed_log_start(engine: Engine) -> Position:
    """Where replay must begin: the first record that some replica's checkpoint does not cover."""
    synced = Position(engine.wal.synced >> 32, engine.wal.synced & 0xFFFFFFFF)
    needed = [r.dirty_from for r in engine.tablets.values() if r.dirty_from is not None]
    # the record that dropped a tablet stays until the tablet's checkpoint is gone, or the tablet would come back
    needed += [Position(doomed.segment, FIRST_RECORD) for doomed in engine.doomed]
    return min([synced, *needed])


def _free_segments(engine: Engine, start: Position) -> list[int]:
    live: set[int] = set()
    for replica in engine.tablets.values():
        live.update(replica.tablet.bulk_bytes)
        live.update(replica.checkpoint_segments)
    last = engine.wal.folder.last
    return [g for g in engine.wal.folder.segments if g < start.segment and g < last and g not in live]


def _releasable(engine: Engine) -> bool:
    return bool(_free_segments(engine, needed_log_start(engine)))


def _start_is_behind(engine: Engine) -> bool:
    """Whether replay would begin well before the log that it needs: so it is where all values are large, live and old, and no
    segment goes. A node with 20 GB of them then read all of those when it started."""
    return needed_log_start(engine).segment - engine.log_start.segment >= START_BEHIND


def release(engine: Engine) -> Job:
    """Let go of the log that nothing needs."""
    start = needed_log_start(engine)
    free = _free_segments(engine, start)
    # What is needed was judged by records of which some may not be on disk (a tablet was dropped, a replica began anew, a value
    # was deleted): if a crash took those away, the log that they made needless would be needed again.
    needs_log = engine.wal.appended
    while engine.wal.synced < needs_log:
        yield None
    if start > engine.log_start:
        manifest = Manifest(engine.store_id, start)
        yield lambda: write_manifest(engine.files, engine.folder, manifest)
        engine.log_start = start
    for generation in free:
        engine.figures.segments_freed += 1
        yield engine.wal.begin_retiring(generation)


def _removable(engine: Engine) -> list[Doomed]:
    """Checkpoints of dropped tablets that nobody needs: their dropping is durable, and so is all that was split off them."""
    return [d for d in engine.doomed if d.lsn <= engine.wal.synced and not engine.split_off(d.tablet)]


def _remove_doomed(engine: Engine) -> Job:
    """Remove the checkpoints of tablets that were dropped, now that the dropping is durable."""
    gone = _removable(engine)
    # That nobody needs them may be due to a record that is not on disk: what was split off was dropped as well, or is damaged.
    needs_log = engine.wal.appended
    while engine.wal.synced < needs_log:
        yield None
    for doomed in gone:
        if engine.files.exists(doomed.path):
            engine.files.unlink(doomed.path)
        yield None
    yield lambda: engine.files.fsync_dir(f"{engine.folder}/checkpoints")
    engine.doomed = [d for d in engine.doomed if d not in gone]


def _free(replica: DiskReplica) -> Job:
    while replica.tablet.release_dropped():
        yield None


def _spare_due(engine: Engine) -> bool:
    folder, size = engine.wal.folder, engine.options.wal.segment_size
    begun = len(folder.segments) > 1 or engine.wal.position.offset > size // 4
    return begun and folder.spares < engine.options.spares and engine.look_at_space() > engine.options.reserve + size
