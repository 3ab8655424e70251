"""Damage in what two replicas share since one was split off the other: each is marked for what it needs, for nothing else."""

from __future__ import annotations

import functools

import pytest

from kvstore.errors import StorageFailure
from kvstore.storage.compaction import compact
from kvstore.storage.engine import Engine
from kvstore.storage.failures import CorruptValue
from kvstore.storage.records import Kind, encode_range
from kvstore.storage.segment import RECORD_HEADER, Position, segment_name
from kvstore.storage.upkeep import checkpoint, release, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles
from tests.unit.storage.engines import contents, log, opened, reopened, write
from tests.unit.storage.entries import put
from tests.unit.storage.test_damage import copied, files_of, used_bits
from tests.unit.storage.test_splitting import ABOVE, BELOW, split, whole

LARGE = bytes(range(70))


def damaged_at(engine: Engine, position: Position, byte: int = RECORD_HEADER + 20) -> None:
    """Flip a bit of the record there (`byte`: where in it)."""
    assert isinstance(engine.files, FaultyFiles)
    path = f"/data/log/{segment_name(position.segment)}"
    engine.files.disk.names[path].data[position.offset + byte] ^= 1


def checkpointed(engine: Engine, *tablets: int) -> None:
    for tablet in tablets:
        run_to_end(engine, checkpoint(engine, engine.tablets[tablet]))


def damaged(engine: Engine) -> list[int]:
    """The replicas that are not intact; each is reported."""
    found = sorted(replica.id for replica in engine.tablets.values() if not replica.intact)
    told = {damage.tablet for damage in engine.damage}
    assert None in told or set(found) <= told
    return found


def marked_for(engine: Engine) -> list[int]:
    """Which replicas are damaged when it is opened again, and stay so over another restart."""
    engine = reopened(engine)
    found = damaged(engine)
    engine.sync()
    again = reopened(engine)
    assert sorted(replica.id for replica in again.tablets.values() if not replica.intact) == found
    return found


# ---------------------------------------------------------------- log


@pytest.mark.parametrize("byte", [3, RECORD_HEADER + 20], ids=["header", "payload"])
def test_damage_in_the_parents_log_before_the_split_is_both_ones(byte: int) -> None:
    engine = whole()
    place = engine.wal.position
    write(engine, [put("a", "c", b"lost")])
    split(engine)
    write(engine, [put("a", "later", b"1")])
    damaged_at(engine, place, byte)
    assert marked_for(engine) == [1, 2]


def test_damage_that_leaves_no_gap_is_both_ones_too() -> None:
    """Of a record that says that entries were cut, the entries behind it tell nothing."""
    engine = whole()
    log(engine, [put("a", "never", b"was")])
    place = engine.wal.position
    engine.append_cut(1, 4)
    engine.sync()
    split(engine)
    damaged_at(engine, place, RECORD_HEADER - 12)
    assert marked_for(engine) == [1, 2]


def test_damage_in_a_grandparents_log_is_all_threes() -> None:
    engine = whole()
    write(engine, [put("a", "bulk", b"small"), put("z", "bulk", b"small")])
    place = engine.wal.position
    engine.append_epoch(1, 7)
    engine.sync()
    split(engine)
    split(engine, "z", parent=2, child=3)
    damaged_at(engine, place, 30)
    assert marked_for(engine) == [1, 2, 3]


def test_damage_in_the_parents_log_behind_the_split_is_the_parents_alone() -> None:
    engine = whole()
    split(engine)
    place = engine.wal.position
    write(engine, [put("a", "c", b"lost")])
    write(engine, [put("a", "c", b"after")])
    damaged_at(engine, place)
    assert marked_for(engine) == [1]


def test_damage_before_the_split_is_not_that_of_a_child_with_a_checkpoint() -> None:
    engine = whole()
    place = engine.wal.position
    write(engine, [put("a", "c", b"lost")])
    split(engine)
    checkpointed(engine, 2)
    damaged_at(engine, place)
    assert marked_for(engine) == [1]


@pytest.mark.parametrize("byte", [3, RECORD_HEADER + 20], ids=["header", "payload"])
def test_damage_in_log_that_the_parents_checkpoint_covers_is_nobodys_who_has_no_value_there(byte: int) -> None:
    """Replay begins before it for the sake of another tablet."""
    engine = whole()
    engine.create_tablet(9, "x", None, 1)
    place = engine.wal.position
    write(engine, [put("x", "c", b"1")], tablet=9)
    engine.append_commit(9, 1)
    for key in ("a", "z"):
        write(engine, [put(key, "bulk", b"small")])
    checkpointed(engine, 1)
    split(engine)
    damaged_at(engine, place, byte)
    assert marked_for(engine) == [9]


def test_damage_in_the_record_of_the_split_leaves_no_child_and_says_so() -> None:
    engine = whole()
    place = engine.wal.position
    split(engine)
    write(engine, [put("z", "later", b"1")], tablet=2)
    damaged_at(engine, place, RECORD_HEADER + 2)
    again = reopened(engine)
    assert (list(again.tablets), damaged(again)) == ([1], [1])


@pytest.mark.parametrize("byte", [3, RECORD_HEADER + 2], ids=["header", "payload"])
def test_a_child_that_learned_what_it_lacked_is_missed_when_the_record_of_the_split_is_damaged(byte: int) -> None:
    """What it was sent is in the log behind; what it had from the split was not sent again."""
    engine = whole()
    place = engine.wal.position
    split(engine)
    engine.begin_learning(2)
    engine.finish_learning(2, engine.new_results().encode(), 1, 4)
    assert engine.tablets[2].intact
    engine.sync()
    damaged_at(engine, place, byte)
    assert marked_for(engine) == [1, 2]


def test_damage_before_the_split_is_not_that_of_a_child_that_learned_anew() -> None:
    engine = whole()
    place = engine.wal.position
    write(engine, [put("a", "c", b"lost")])
    split(engine)
    engine.mark_damaged(2, "for the test")
    engine.begin_learning(2)
    engine.finish_learning(2, engine.new_results().encode(), 1, 5)
    engine.sync()
    damaged_at(engine, place)
    assert marked_for(engine) == [1]


# ---------------------------------------------------------------- checkpoints


def test_damage_in_the_checkpoint_of_before_is_both_ones() -> None:
    disk = FaultyDisk()
    engine = whole(disk)
    checkpointed(engine, 1)
    split(engine)
    disk.names[engine.checkpoint_path(1, 1)].data[100] ^= 1
    assert marked_for(engine) == [1, 2]


def test_damage_in_the_childs_checkpoint_is_the_childs() -> None:
    disk = FaultyDisk()
    engine = whole(disk)
    split(engine)
    checkpointed(engine, 2)
    disk.names[engine.checkpoint_path(2, 1)].data[100] ^= 1
    assert marked_for(engine) == [2]


# ---------------------------------------------------------------- large values


def with_values_of_both() -> tuple[Engine, Position]:
    """Both have a value in one segment that replay does not read; the place of the record with the child's."""
    engine = whole(segment_size=8192)
    place = engine.wal.position
    write(engine, [put("z", "childs", LARGE)])
    split(engine)
    write(engine, [put("a", "later", bytes(6000))])
    write(engine, [put("z", "later", bytes(6000))], tablet=2)
    checkpointed(engine, 2, 1)
    run_to_end(engine, release(engine))
    assert engine.log_start.segment > place.segment
    return engine, place


def test_a_damaged_value_in_a_record_of_the_parents_is_found_by_reading_and_marks_its_owner() -> None:
    engine, place = with_values_of_both()
    damaged_at(engine, place, RECORD_HEADER + 120)
    cell = engine.tablets[2].tablet.get("z", "childs")
    assert cell is not None
    with pytest.raises(CorruptValue):
        engine.read(cell)
    assert damaged(engine) == [2]


def test_a_damaged_value_in_a_record_of_the_parents_is_found_by_compaction_and_marks_its_owner() -> None:
    engine, place = with_values_of_both()
    engine.tablets[1].tablet.delete_range(b"", None)  # else it is taken for one that may have a value there
    damaged_at(engine, place, RECORD_HEADER + 120)
    run_to_end(engine, compact(engine, place.segment))
    assert damaged(engine) == [2]


def test_a_damaged_value_that_replay_reads_marks_its_owner_also_when_that_has_a_checkpoint() -> None:
    engine = whole()
    place = engine.wal.position
    write(engine, [put("z", "childs", LARGE)])
    split(engine)
    checkpointed(engine, 2)
    damaged_at(engine, place, RECORD_HEADER + 120)
    assert marked_for(engine) == [1, 2]


# ---------------------------------------------------------------- every bit


@functools.cache
def shared(child_has_checkpoint: bool) -> FaultyDisk:
    """A folder of two that were one, with a checkpoint of before the split, a value in each part; closed in order."""
    disk = FaultyDisk()
    engine = whole(disk, segment_size=8192)
    checkpointed(engine, 1)
    write(engine, [put("a", "behind", b"1")], [put("z", "behind", LARGE)])
    split(engine)
    if child_has_checkpoint:
        checkpointed(engine, 2)
    write(engine, [put("z", "later", LARGE)], tablet=2)
    write(engine, [put("a", "later", b"2")])
    for tablet in (1, 2):
        engine.append_commit(tablet, engine.tablets[tablet].commit)
    engine.close()
    return disk


EXPECTED = {
    1: BELOW | {("a", "behind"): b"1", ("a", "later"): b"2"},
    2: ABOVE | {("z", "behind"): LARGE, ("z", "later"): LARGE},
}


BOTH = EXPECTED[1] | EXPECTED[2]


def judge(disk: FaultyDisk, what: str, torn: bool = False) -> None:
    """Open the folder and read everything: each replica is right, or something says what is wrong.

    `torn`: the log's end may look as if it had never been synced, so what is only there may be gone, the split itself too.
    """
    try:
        engine = opened(disk, segment_size=8192)
    except StorageFailure:
        return
    for tablet, expected in EXPECTED.items():
        replica = engine.tablets.get(tablet)
        if replica is None or not replica.intact:
            assert engine.damage or (torn and replica is None), f"{what}: damage that nobody is told of"
            continue
        try:
            found = contents(engine, tablet)
        except CorruptValue:
            assert not replica.intact
            continue
        if torn:
            assert found.items() <= BOTH.items(), f"{what}: wrong contents of tablet {tablet}"
            start, end, _ = replica.range
            assert found.keys() >= {key for key in BELOW | ABOVE if start <= key[0] and (end is None or key[0] < end)}
        else:
            assert found == expected, f"{what}: wrong contents of tablet {tablet}"
    engine.abandon()


@pytest.mark.parametrize("child_has_checkpoint", [False, True])
def test_every_flipped_bit_in_what_two_share_is_harmless_or_reported(child_has_checkpoint: bool) -> None:
    disk = shared(child_has_checkpoint)
    for path in files_of(disk):
        data = disk.names[path].data
        for bit in used_bits(path, data):
            broken = bytearray(data)
            broken[bit // 8] ^= 1 << bit % 8
            judge(copied(disk, path, broken), f"{path} bit {bit}")


# ---------------------------------------------------------------- records that make no sense


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.SPLIT, encode_range("m", None, 2)),
        (Kind.SPLIT, encode_range("m", None, 2, "two")),
        (Kind.SPLIT, encode_range("m", None, 2, 9)),
        (Kind.SPLIT, encode_range("m", None, 2, 1)),
        (Kind.SPLIT, encode_range("m", None, 2, -1)),
        (Kind.SPLIT, encode_range("", None, 2, 2)),
        (Kind.SPLIT, b"\xc1"),
        (Kind.NARROW, encode_range("", None, 2)),
        (Kind.NARROW, encode_range("", "", 2)),
        (Kind.NARROW, b""),
    ],
    ids=["none", "no number", "exists", "itself", "negative", "at the start", "no range", "no end", "empty", "nothing"],
)
def test_a_record_that_makes_no_sense_ends_its_replica_alone(kind: Kind, payload: bytes) -> None:
    engine = whole()
    engine.create_tablet(9, "x", None, 1)
    engine.append_commit(1, 4)
    engine.wal.append(kind, 1, 1, 4, [payload])
    engine.sync()
    again = reopened(engine)
    assert (sorted(again.tablets), damaged(again)) == ([1, 9], [1])


def test_a_split_at_a_place_that_the_log_has_not_reached_leaves_two_that_are_damaged() -> None:
    engine = whole()
    engine.wal.append(Kind.SPLIT, 1, 1, 9, [encode_range("m", None, 2, 2)])
    engine.sync()
    assert marked_for(engine) == [1, 2]
