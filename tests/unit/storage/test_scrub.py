"""The scrub: what lies still is read again, what is damaged is found, and nobody is blamed for what changed meanwhile."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from kvstore.storage import scrub as scrubbing
from kvstore.storage import scrubround
from kvstore.storage.compaction import compact
from kvstore.storage.engine import Engine
from kvstore.storage.replica import Learning
from kvstore.storage.scrub import scrub
from kvstore.storage.segment import segment_name
from kvstore.storage.upkeep import maintain, next_job, release, run_to_end
from tests.faults.disk import Crash, Faults, FaultyFiles
from tests.unit.storage.engines import contents, faults, log, write
from tests.unit.storage.entries import delete, put
from tests.unit.storage.scrubbed import (
    Clock,
    a_round,
    after_crash,
    an_engine,
    checkpoint_of,
    checkpointed,
    disk_of,
    flip,
    flip_value,
    large,
    place_of,
    with_values,
)
from tests.unit.storage.test_background import stepped
from tests.unit.storage.test_splitting import split

# ---------------------------------------------------------------- damage


def test_a_bit_that_flipped_in_a_value_that_nobody_reads_is_found() -> None:
    engine = with_values()
    engine.create_tablet(2, "z", None, 1)
    write(engine, [put("z", "c", large(9))], tablet=2)
    told: list[tuple[int, str]] = []
    engine.on_corrupt = lambda tablet, why: told.append((tablet, why))
    flip_value(engine, "row2")
    a_round(engine)
    assert engine.tablets[1].learning is Learning.DAMAGED
    assert engine.tablets[2].intact
    ((tablet, why),) = told
    assert tablet == 1
    assert "does not have its checksum" in why
    assert engine.figures.scrub_damages == 1
    engine.sync()
    assert not after_crash(engine).tablets[1].intact


def test_a_value_that_the_disk_cannot_read_is_damaged() -> None:
    engine = with_values()
    name = segment_name(place_of(engine, "row2").segment)
    faults(engine, lambda operation, path: errno.EIO if operation == "read" and path.endswith(name) else None)
    a_round(engine)
    assert engine.tablets[1].learning is Learning.DAMAGED
    assert "cannot be read" in engine.tablets[1].damage


def test_every_value_and_every_checkpoint_is_read_in_a_round_and_from_disk() -> None:
    """In memory a page may be whole that is not whole on disk."""
    engine = with_values()
    assert isinstance(engine.files, FaultyFiles)
    begin = len(engine.files.log)
    a_round(engine)
    done = engine.files.log[begin:]
    sizes = sum(len(value) for value in contents(engine).values()) + engine.tablets[1].checkpoint_bytes
    assert engine.figures.scrubbed_bytes == sizes
    reads = [number for number, (operation, path) in enumerate(done) if operation == "read" and path.endswith(".seg")]
    assert len(reads) == 12
    assert all(done[number - 1] == ("forget", done[number][1]) for number in reads)
    assert ("forget", checkpoint_of(engine)) in done


def test_what_a_learner_has_is_read_and_what_a_damaged_replica_has_is_not() -> None:
    engine = with_values()
    flip_value(engine, "row2")
    engine.begin_learning(1)
    engine.sync()
    a_round(engine)
    assert engine.tablets[1].learning is Learning.DAMAGED
    read = engine.figures.scrubbed_bytes
    a_round(engine)
    assert engine.figures.scrubbed_bytes == read


def test_a_damaged_checkpoint_is_written_anew_from_memory() -> None:
    engine = with_values()
    assert engine.tablets[1].dirty_from is None, "idle: no checkpoint would be written for long"
    expected, old = contents(engine), checkpoint_of(engine)
    told: list[str] = []
    engine.on_checkpoint_damaged = lambda damage: told.append(str(damage))
    flip(engine, old, 100)
    a_round(engine)
    assert [damage.file for damage in engine.damage] == [old.removeprefix("/data/")]
    assert len(told) == 1
    assert engine.tablets[1].intact
    maintain(engine)
    assert checkpoint_of(engine) != old
    assert old not in disk_of(engine).names
    again = after_crash(engine)
    assert (again.damage, contents(again)) == ([], expected)
    a_round(engine)
    assert engine.figures.scrub_damages == 1


@pytest.mark.parametrize("operation", ["open", "read", "gone"])
def test_a_checkpoint_that_the_disk_cannot_read_is_written_anew(operation: str) -> None:
    engine = with_values()
    expected, old = contents(engine), checkpoint_of(engine)
    if operation == "gone":
        engine.files.unlink(old)
    faults(engine, lambda op, path: errno.EIO if (op, path) == (operation, old) else None)
    a_round(engine)
    assert engine.figures.scrub_damages == 1
    maintain(engine)
    assert contents(after_crash(engine)) == expected


def test_a_crash_before_the_new_checkpoint_is_there_costs_no_more_than_the_replica_and_is_told() -> None:
    """At each operation: what opens is whole, or says that it is not; another tablet is whole in any case."""
    outcomes = set()
    for number in range(1, 200):
        engine = with_values()
        engine.create_tablet(2, "z", None, 1)
        write(engine, [put("z", "c", large(9))], tablet=2)
        engine.append_commit(2, 1)
        engine.sync()
        expected = contents(engine)
        flip(engine, checkpoint_of(engine), 100)
        a_round(engine)
        files = engine.files
        assert isinstance(files, FaultyFiles)
        files.operations, files.faults = 0, Faults(crash_at=number)
        try:
            maintain(engine)
        except Crash:
            pass
        else:
            break
        again = after_crash(engine, number)
        assert contents(again, 2) == {("z", "c"): large(9)}
        if again.tablets[1].intact:
            assert (again.damage, contents(again)) == ([], expected)
        else:
            assert again.damage
        outcomes.add(again.tablets[1].intact)
    assert outcomes == {True, False}


def test_a_checkpoint_that_cannot_be_written_yet_is_written_as_soon_as_it_can_be() -> None:
    engine = with_values()
    flip(engine, checkpoint_of(engine), 100)
    a_round(engine)
    engine.begin_learning(1)
    assert next_job(engine) is None
    engine.finish_learning(1, engine.new_results().encode(), 1, engine.tablets[1].commit)
    found = next_job(engine)
    assert found is not None
    assert found[0] == "checkpoint"


def test_damage_in_a_checkpoint_that_a_child_still_depends_on_has_the_childs_written_first() -> None:
    engine = with_values(clock=Clock())
    split(engine, "row3")
    expected = contents(engine, 1), contents(engine, 2)
    flip(engine, checkpoint_of(engine), 100)
    a_round(engine)
    maintain(engine)
    assert isinstance(engine.files, FaultyFiles)
    named = [path for operation, path in engine.files.log if operation == "rename" and path.endswith(".ckpt")]
    assert [int(path.split("/")[-1][:8]) for path in named] == [1, 2, 1]
    again = after_crash(engine)
    assert (contents(again, 1), contents(again, 2)) == expected


def test_a_child_that_is_split_off_after_the_damage_was_found_gets_its_checkpoint_too() -> None:
    engine = with_values()
    flip(engine, checkpoint_of(engine), 100)
    a_round(engine)
    split(engine, "row3")
    engine.drop_tablet(1)
    engine.sync()
    expected = contents(engine, 2)
    maintain(engine)
    assert contents(after_crash(engine), 2) == expected


def test_the_checkpoint_of_a_dropped_parent_is_read_as_long_as_a_child_depends_on_it() -> None:
    engine = with_values()
    split(engine, "row3")
    old = checkpoint_of(engine)
    engine.drop_tablet(1)
    engine.sync()
    expected = contents(engine, 2)
    flip(engine, old, 100)
    a_round(engine)
    assert engine.figures.scrub_damages == 1
    maintain(engine)
    assert old not in disk_of(engine).names
    again = after_crash(engine)
    assert (again.damage, contents(again, 2)) == ([], expected)


# ---------------------------------------------------------------- what changes between the look and the read


def meanwhile(engine: Engine, of: str, change: Callable[[], None]) -> None:
    """Scrub a round; when the value of row `of` is about to be read, something else happens first."""
    name = segment_name(place_of(engine, of).segment)
    done = False
    rounds = engine.figures.scrub_rounds
    while engine.figures.scrub_rounds == rounds:
        job = scrub(engine)
        for blocking in job:
            if not done and blocking is not None and name in str(getattr(blocking, "args", "")):
                change()
                done = True
            if blocking is not None:
                blocking()
    assert done


@pytest.fixture(autouse=True)
def one_value_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "AT_ONCE", 1)


def test_a_value_that_was_overwritten_meanwhile_is_no_damage() -> None:
    engine = with_values()

    def overwritten() -> None:
        flip_value(engine, "row2")
        write(engine, [put("row2", "c", large(12))])

    meanwhile(engine, "row2", overwritten)
    assert engine.tablets[1].intact
    assert engine.figures.scrub_damages == 0


def test_a_value_whose_segment_was_freed_and_written_over_meanwhile_is_no_damage() -> None:
    engine = with_values()
    path = f"/data/log/{segment_name(place_of(engine, 'row2').segment)}"

    def freed() -> None:
        write(engine, [delete(f"row{i}", c) for i in range(6) for c in ("c", "fill")])
        checkpointed(engine)
        run_to_end(engine, release(engine))
        assert path not in disk_of(engine).names
        for i in range(6):
            write(engine, [put("other", f"{i}", bytes([i]) * 3000)])
        assert engine.wal.folder.reused

    meanwhile(engine, "row2", freed)
    assert engine.damage == []
    assert engine.tablets[1].intact


def test_a_value_that_was_moved_meanwhile_is_no_damage() -> None:
    engine = with_values()
    ref = place_of(engine, "row2")

    def moved() -> None:
        run_to_end(engine, compact(engine, ref.segment))
        assert place_of(engine, "row2") != ref
        flip(engine, f"/data/log/{segment_name(ref.segment)}", ref.offset)

    meanwhile(engine, "row2", moved)
    assert engine.tablets[1].intact


@pytest.mark.parametrize("how", ["dropped", "cleared", "damaged"])
def test_a_tablet_that_was_dropped_or_begun_anew_meanwhile_is_not_blamed(how: str) -> None:
    engine = with_values()
    told: list[str] = []
    engine.on_corrupt = lambda tablet, why: told.append(why)

    def ended() -> None:
        flip_value(engine, "row2")
        if how == "dropped":
            engine.drop_tablet(1)
            return
        engine.mark_damaged(1, "for the test")
        if how == "cleared":
            engine.begin_learning(1)

    meanwhile(engine, "row2", ended)
    assert told == ([] if how == "dropped" else ["for the test"])
    if how == "cleared":
        assert engine.tablets[1].learning is Learning.HOLDING


def test_a_damaged_value_that_became_anothers_by_a_split_meanwhile_is_that_ones_damage() -> None:
    engine = with_values()
    name = segment_name(place_of(engine, "row4").segment)
    job = scrub(engine)
    blocking = next(job)
    while name not in str(getattr(blocking, "args", "")):
        if blocking is not None:
            blocking()
        blocking = next(job)
    flip_value(engine, "row4")
    split(engine, "row3")
    assert blocking is not None
    blocking()
    next(job)
    assert engine.tablets[1].intact
    assert engine.tablets[2].learning is Learning.DAMAGED


def test_a_checkpoint_that_was_replaced_meanwhile_is_no_damage() -> None:
    engine = with_values()
    job = scrub(engine)
    blocking = next(job)
    assert blocking is not None
    checkpointed(engine)  # the former one's file is gone
    blocking()
    run_to_end(engine, job)
    assert engine.figures.scrub_damages == 0
    assert not engine.tablets[1].checkpoint_damaged


@pytest.fixture
def in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice is one chunk, and a checkpoint has several."""
    monkeypatch.setattr(scrubround, "SLICE", 1)
    monkeypatch.setattr("kvstore.storage.checkpoint.CHUNK_BYTES", 100)


@pytest.mark.usefixtures("in_small_steps")
def test_every_chunk_of_a_checkpoint_is_read_from_disk() -> None:
    engine = with_values()
    checkpointed(engine)
    assert isinstance(engine.files, FaultyFiles)
    begin = len(engine.files.log)
    a_round(engine)
    done = [each for each in engine.files.log[begin:] if each[1] == checkpoint_of(engine)]
    reads = [number for number, (operation, _) in enumerate(done) if operation == "read"]
    assert len(reads) > 6
    assert all(done[number - 1][0] == "forget" for number in reads)


def test_a_stretch_of_damage_is_one_replicas_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """To tell whose a value is costs a walk over all cells: it is made once, not for each of them."""
    monkeypatch.setattr(scrubbing, "AT_ONCE", 1 << 20)
    engine = with_values()
    for number in range(6):
        flip_value(engine, f"row{number}")
    a_round(engine)
    assert engine.figures.scrub_damages == 1
    assert len(engine.damage) == 1


@pytest.mark.usefixtures("in_small_steps")
def test_checkpoints_that_are_written_more_often_than_one_can_be_read_do_not_hold_up_the_rest() -> None:
    engine = with_values()
    flip_value(engine, "row2")
    for _ in range(30):
        if engine.tablets[1].intact:
            checkpointed(engine)  # each is read back when it is written
            run_to_end(engine, scrub(engine))
    assert engine.tablets[1].learning is Learning.DAMAGED


@pytest.mark.usefixtures("in_small_steps")
def test_a_tablet_that_is_dropped_while_its_checkpoint_is_read_costs_the_next_one_nothing() -> None:
    engine = with_values()
    engine.create_tablet(2, "z", None, 1)
    write(engine, [put("zz", "c", b"small")], tablet=2)
    checkpointed(engine, 2)
    run_to_end(engine, scrub(engine))
    assert engine.scrub_round.reader is not None, "one of several chunks was read"
    engine.drop_tablet(1)
    engine.sync()
    maintain(engine)
    flip(engine, checkpoint_of(engine, 2), engine.tablets[2].checkpoint_bytes - 40)
    while engine.figures.scrub_rounds == 0:
        run_to_end(engine, scrub(engine))
    assert engine.figures.scrub_damages == 1


def test_a_value_that_is_not_on_disk_yet_is_not_looked_for_there() -> None:
    engine = with_values()
    log(engine, [put("row9", "c", large(9))])
    engine.apply(1, 7)
    stepped(scrub(engine), 100)
    assert engine.figures.scrub_rounds == 1
    assert engine.wal.waiting
    assert engine.damage == []


@pytest.mark.parametrize("kind", [".seg", ".ckpt"])
def test_that_no_more_files_may_be_opened_is_no_damage_and_the_place_is_kept(kind: str) -> None:
    engine = with_values()
    a_round(engine)
    read = engine.figures.scrubbed_bytes
    faults(engine, lambda operation, path: errno.EMFILE if operation == "open" and path.endswith(kind) else None)
    for _ in range(3):
        run_to_end(engine, scrub(engine))
    assert engine.damage == []
    assert engine.figures.scrub_rounds == 1
    faults(engine, lambda operation, path: None)
    a_round(engine)
    assert engine.figures.scrubbed_bytes == 2 * read


# ---------------------------------------------------------------- slices


def test_a_slice_is_bounded_and_so_is_each_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubround, "SLICE", 2000)
    monkeypatch.setattr(scrubbing, "AT_ONCE", 600)
    engine = an_engine(segment_size=65536)
    for i in range(100):
        write(engine, [put(f"row{i:02}", "c", large(i))])
    checkpointed(engine)
    slices, rounds = [], engine.figures.scrub_rounds
    while engine.figures.scrub_rounds == rounds:
        before = engine.figures.scrubbed_bytes
        for blocking in scrub(engine):
            seen = engine.files.log.copy()  # type: ignore[attr-defined]
            if blocking is not None:
                blocking()
            read = [path for operation, path in engine.files.log[len(seen) :] if operation == "read"]  # type: ignore[attr-defined]
            assert sum(path.endswith(".seg") for path in read) <= 3
        slices.append(engine.figures.scrubbed_bytes - before)
    assert sum(slices) == engine.stored_bytes
    assert len(slices) > 8
    assert len(slices) - sum(size <= 2600 for size in slices) <= 2, "two chunks of the checkpoint are larger"


def test_cells_without_large_values_are_passed_over_and_nothing_of_the_walk_is_kept() -> None:
    engine = an_engine()
    for i in range(20):
        write(engine, [put(f"row{i:02}{j:04}", "c", b"small") for j in range(500)])
    write(engine, [put("row100250", "x", large(1)), put("row19", "x", large(2))])
    for block in engine.tablets[1].tablet.snapshot().blocks:
        block.order = None
    found, low = [], b""
    while low is not None:
        cells, low = engine.tablets[1].tablet.bulk_cells(low, 1)  # type: ignore[assignment]
        found += [key for key, _ in cells]
    assert found == [b"row100250\0\0x", b"row19\0\0x"]
    assert all(block.order is None for block in engine.tablets[1].tablet.snapshot().blocks)


def test_so_many_blocks_are_passed_over_in_one_call_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.storage.tablet.BLOCKS_AT_ONCE", 3)
    engine = an_engine()
    for i in range(10):
        write(engine, [put(f"row{i:02}{j:04}", "c", b"small") for j in range(500)])
    firsts = [block.ordered()[0] for block in engine.tablets[1].tablet.snapshot().blocks]
    assert engine.tablets[1].tablet.bulk_cells(b"", 1) == ([], firsts[3])


def test_a_walk_in_pieces_gives_every_large_value_once_and_in_order() -> None:
    chance = random.Random(3)
    engine = an_engine(segment_size=1 << 20)
    for _ in range(30):
        written = {f"row{chance.randrange(3000):04}": chance.choice((b"small", bytes(100))) for _ in range(100)}
        write(engine, [put(row, "c", value) for row, value in written.items()])
    tablet = engine.tablets[1].tablet
    expected = [(key, packed) for key, packed in tablet.walk(b"", None) if packed[16]]
    for most in (1, 150, 1000, 1 << 30):
        found: list[tuple[bytes, bytes]] = []
        low: bytes | None = b""
        while low is not None:
            cells, low = tablet.bulk_cells(low, most)
            assert len(cells) <= max(1, most // 100)
            found += cells
        assert found == expected
