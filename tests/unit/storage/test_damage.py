"""Every flipped bit and every truncation in a file of the data folder is harmless or reported; never a wrong value."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from kvstore.errors import StorageFailure
from kvstore.storage.failures import CorruptValue
from kvstore.storage.records import U64
from kvstore.storage.replica import Learning
from kvstore.storage.segment import FIRST_RECORD, RECORD_HEADER, segment_name
from kvstore.storage.upkeep import checkpoint, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles, Inode
from tests.unit.storage.engines import contents, opened, reopened, with_tablet, write
from tests.unit.storage.entries import delete, put

SMALL, LARGE = b"a small value", bytes(range(200))


def sample() -> FaultyDisk:
    """A folder with a checkpoint, log behind it and a value in each, closed in order."""
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=8192)
    write(engine, [put("row", "inline", SMALL)], [put("row", "bulk", LARGE)])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    write(engine, [put("row", "later", SMALL)], [put("row", "later bulk", LARGE)], [delete("row", "nothing")])
    engine.append_commit(1, engine.tablets[1].commit)
    engine.close()
    return disk


EXPECTED = {
    ("row", "inline"): SMALL,
    ("row", "bulk"): LARGE,
    ("row", "later"): SMALL,
    ("row", "later bulk"): LARGE,
}


def copied(disk: FaultyDisk, path: str, data: bytearray) -> FaultyDisk:
    """The same disk with other bytes in one file."""
    twin = FaultyDisk()
    twin.folders = set(disk.folders)
    twin.names = {name: Inode(bytearray(i.data), bytearray(i.data)) for name, i in disk.names.items()}
    twin.names[path].data = twin.names[path].durable = data
    twin.durable_names = dict(twin.names)
    return twin


CHECKPOINTED = {("row", "inline"), ("row", "bulk")}


def judge(disk: FaultyDisk, what: str, torn: bool = False) -> str:
    """Open the folder and read everything: "refused", "reported" or "harmless"; anything else is a failure.

    `torn`: the log's end may look as if it had never been synced, so what is only there may be gone.
    """
    try:
        engine = opened(disk, segment_size=8192)
    except StorageFailure:
        return "refused"
    try:
        replica = engine.tablets.get(1)
        if replica is None or not replica.intact:
            assert engine.damage, f"{what}: damage that nobody is told of"
            return "reported"
        try:
            found = contents(engine)
        except CorruptValue:
            assert replica.learning is Learning.DAMAGED
            return "reported"
        if torn:
            assert found.items() <= EXPECTED.items(), f"{what}: wrong contents"
            assert found.keys() >= CHECKPOINTED, f"{what}: contents are lost"
        else:
            assert found == EXPECTED, f"{what}: wrong contents"
        return "reported" if engine.damage else "harmless"
    finally:
        engine.abandon()


def files_of(disk: FaultyDisk) -> list[str]:
    return [name for name in disk.names if name.endswith((".seg", ".ckpt", "/store"))]


def used_bits(path: str, data: bytearray) -> Iterator[int]:
    """Every bit of what is written in the file; of zeros nobody reads, a few."""
    end = len(data.rstrip(b"\0")) + 8
    for byte in range(min(end, len(data))):
        if path.endswith(".seg") and 40 < byte < FIRST_RECORD - 8:
            continue
        yield from range(byte * 8, byte * 8 + 8)


@pytest.mark.parametrize("path", files_of(sample()))
def test_every_flipped_bit_is_harmless_or_reported(path: str) -> None:
    disk = sample()
    data = disk.names[path].data
    counts: dict[str, int] = {}
    for bit in used_bits(path, data):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        outcome = judge(copied(disk, path, broken), f"{path} bit {bit}")
        counts[outcome] = counts.get(outcome, 0) + 1
    assert counts.get("reported", 0) + counts.get("refused", 0) > 0


def killed(marked: bool) -> tuple[FaultyDisk, int, int]:
    """A folder whose process was killed after its last write was acknowledged; where that write's record begins and ends.

    `marked`: some 50 ms later, when the idle log had been marked (`kvstore.storage.commit`).
    """
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=8192)
    write(engine, [put("row", "first", SMALL)])
    engine.append_commit(1, 1)
    engine.sync()
    last = engine.wal.position.offset
    new = write(engine, [put("row", "last", SMALL), put("row", "last bulk", LARGE)])
    if marked:
        engine.wal.mark()
        engine.sync()
    return disk.after_kill(), last, last + RECORD_HEADER + U64.size + sum(map(len, new.payload_parts))


@pytest.mark.parametrize("marked", [True, False])
def test_every_flipped_bit_in_the_last_acknowledged_write_of_a_killed_process(marked: bool) -> None:
    """Behind it nothing may say that it had been synced: then it cannot be told from a torn tail, and goes as a whole."""
    disk, last, end = killed(marked)
    path = "/data/log/00000001.seg"
    data = disk.names[path].data
    whole = opened(copied(disk, path, bytearray(data)), segment_size=8192)
    assert whole.tablets[1].last == 2
    for bit in range(last * 8, end * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        engine = opened(copied(disk, path, broken), segment_size=8192)
        replica = engine.tablets[1]
        if marked:
            assert not replica.intact, f"bit {bit}: damage that nobody is told of"
            assert last <= engine.damage[0].offset <= bit // 8
        else:
            assert engine.wal.cut == (1, last), f"bit {bit}: a torn tail is cut where it begins"
            assert (replica.intact, replica.last, contents(engine)) == (True, 1, {("row", "first"): SMALL})


@pytest.mark.parametrize("path", files_of(sample()))
def test_every_truncation_is_harmless_or_reported(path: str) -> None:
    disk = sample()
    data = disk.names[path].data
    end = len(data.rstrip(b"\0")) + 100
    lengths = [*range(0, 64), *range(FIRST_RECORD, min(end, len(data))), len(data) - 1]
    for length in lengths if path.endswith(".seg") else range(len(data)):
        judge(copied(disk, path, data[:length]), f"{path} cut to {length}")


def test_damage_says_which_file_and_where() -> None:
    disk = sample()
    path = next(name for name in disk.names if name.endswith(".ckpt"))
    data = bytearray(disk.names[path].data)
    data[100] ^= 1
    engine = opened(copied(disk, path, data), segment_size=8192)
    assert engine.damage[0].file == path.removeprefix("/data/")
    assert engine.damage[0].tablet == 1
    assert 16 < engine.damage[0].offset <= 100, "the beginning of the chunk"


def test_a_damaged_tablet_stays_damaged_over_restarts_until_it_has_learned_anew() -> None:
    disk = sample()
    path = next(name for name in disk.names if name.endswith(".ckpt"))
    disk.names[path].data[100] ^= 1
    engine = opened(disk, segment_size=8192)
    engine.sync()
    engine = reopened(engine, segment_size=8192)
    assert not engine.tablets[1].intact
    engine.begin_learning(1)
    engine.finish_learning(1, engine.new_results().encode(), 2, 10)
    engine.sync()
    engine = reopened(engine, segment_size=8192)
    assert engine.tablets[1].intact
    assert contents(engine) == {}


def test_a_checkpoint_that_a_learner_built_upon_is_missed_after_it_learned() -> None:
    """It was not sent what it had: of that, the log behind the checkpoint says nothing."""
    disk = FaultyDisk()
    engine = with_tablet(disk)
    write(engine, [put("a", "c", b"1")])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    engine.begin_learning(1)
    engine.finish_learning(1, engine.new_results().encode(), 1, 1)
    assert engine.tablets[1].intact
    engine.sync()
    disk.names[engine.checkpoint_path(1, 1)].data[100] ^= 1
    for _ in range(2):
        engine = reopened(engine)
        assert not engine.tablets[1].intact
        engine.sync()


def test_damage_in_log_from_before_a_tablet_learned_anew_is_not_held_against_it_again() -> None:
    """While that log is kept for others' sake, each restart would cost a copy of everything, and perhaps the last one."""
    engine = with_tablet(FaultyDisk())
    place = engine.wal.position
    write(engine, [put("a", "c", b"lost")])
    write(engine, [put("a", "d", b"known to be on disk")])
    assert isinstance(engine.files, FaultyFiles)
    engine.files.disk.names[f"/data/log/{segment_name(place.segment)}"].data[place.offset + 60] ^= 1
    engine = reopened(engine)
    assert not engine.tablets[1].intact
    engine.begin_learning(1)
    engine.finish_learning(1, engine.new_results().encode(), 2, 10)
    engine.sync()
    again = reopened(engine)
    assert (again.tablets[1].intact, [damage.offset for damage in again.damage]) == (True, [place.offset])


def test_a_corrupt_value_is_never_returned_and_marks_its_tablet() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk)
    engine.create_tablet(2, "other", None, 1)
    write(engine, [put("row", "bulk", LARGE)])
    write(engine, [put("row", "bulk", LARGE)], tablet=2)
    cell = engine.tablets[1].tablet.get("row", "bulk")
    assert cell is not None
    segment, offset = cell.value[0], cell.value[1]
    disk.names[f"/data/log/{segment:08x}.seg"].data[offset + 3] ^= 1
    told: list[tuple[int, str]] = []
    engine.on_corrupt = lambda tablet, why: told.append((tablet, why))
    with pytest.raises(CorruptValue) as raised:
        engine.read(cell)
    assert (raised.value.file, raised.value.offset) == (f"log/{segment:08x}.seg", offset)
    assert [tablet for tablet, _ in told] == [1]
    assert (engine.tablets[1].intact, engine.tablets[2].intact) == (False, True)
    engine.sync()
    assert not reopened(engine).tablets[1].intact


def test_damage_in_one_tablets_entry_leaves_the_others_intact() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk)
    engine.create_tablet(2, "other", None, 1)
    first = engine.wal.position
    write(engine, [put("row", "bulk", LARGE)])
    write(engine, [put("row", "bulk", LARGE)], tablet=2)
    write(engine, [put("row", "more", LARGE)], tablet=2)
    disk.names["/data/log/00000001.seg"].data[first.offset + 200] ^= 1
    engine = reopened(engine)
    assert (engine.tablets[1].intact, engine.tablets[2].intact) == (False, True)


def test_a_value_whose_segment_is_gone_makes_its_tablet_damaged() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=8192)
    for i in range(6):
        write(engine, [put("row", f"{i}", random.Random(i).randbytes(3000))])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    from kvstore.storage.upkeep import maintain

    maintain(engine)
    write(engine, [put("row", "last", LARGE)])
    engine.abandon()
    del disk.names["/data/log/00000001.seg"]
    again = opened(disk, segment_size=8192)
    assert not again.tablets[1].intact
    assert "segment is missing" in str(again.damage[0])


def test_a_log_that_ends_before_the_place_where_replay_begins_is_damage() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk, segment_size=8192)
    for i in range(6):
        write(engine, [put("row", f"{i}", bytes(3000))])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    from kvstore.storage.upkeep import maintain

    maintain(engine)
    last = max(name for name in disk.names if name.endswith(".seg"))
    engine.abandon()
    del disk.names[last]
    again = opened(disk, segment_size=8192)
    assert again.damage
