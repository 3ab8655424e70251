"""A replica is parted in two: what each has, now, after a restart, and while checkpoints and compaction go on."""

from __future__ import annotations

import pytest

from kvstore.storage.replica import Learning
from kvstore.storage.results import Result, ResultTable
from tests.faults.disk import FaultyDisk
from tests.unit.storage.engines import contents, log, reopened, with_tablet, write
from tests.unit.storage.entries import put

LARGE = bytes(range(70))
BELOW = {("a", "c"): b"1", ("a", "bulk"): LARGE}
ABOVE = {("m", "c"): b"2", ("z", "bulk"): LARGE[::-1]}


def whole(disk: FaultyDisk | None = None, **others: object):
    """An engine whose tablet 1 has rows below and above "m"."""
    engine = with_tablet(disk or FaultyDisk(), **others)
    write(engine, *([put(row, column, value)] for (row, column), value in (BELOW | ABOVE).items()))
    return engine


def split(engine, at_row: str = "m", parent: int = 1, child: int = 2, durable: bool = True) -> None:
    replica = engine.tablets[parent]
    version = replica.range_version + 1
    engine.split_tablet(parent, child, at_row, replica.commit_epoch, replica.commit, version)
    if durable:
        engine.sync()


@pytest.mark.parametrize("restart", [False, True])
def test_each_side_has_its_rows_and_its_range(restart: bool) -> None:
    engine = whole()
    split(engine)
    if restart:
        engine = reopened(engine)
    parent, child = engine.tablets[1], engine.tablets[2]
    assert (contents(engine, 1), contents(engine, 2)) == (BELOW, ABOVE)
    assert (parent.range, child.range) == (("", "m", 2), ("m", None, 2))
    assert (parent.intact, child.intact) == (True, True)
    assert (child.commit_epoch, child.commit, child.last, child.epoch) == (1, 4, 4, 1)
    assert parent.tablet.bulk_bytes == child.tablet.bulk_bytes == {1: len(LARGE)}
    assert engine.damage == []


@pytest.mark.parametrize("restart", [False, True])
def test_both_sides_go_on_by_themselves(restart: bool) -> None:
    engine = whole()
    split(engine)
    write(engine, [put("a", "later", b"3")], tablet=1)
    write(engine, [put("z", "later", LARGE)], tablet=2)
    for tablet in (1, 2):
        engine.append_commit(tablet, 5)
    engine.sync()
    if restart:
        engine = reopened(engine)
    assert contents(engine, 1) == BELOW | {("a", "later"): b"3"}
    assert contents(engine, 2) == ABOVE | {("z", "later"): LARGE}


@pytest.mark.parametrize("restart", [False, True])
def test_both_sides_remember_the_results_of_before_and_each_its_own_of_later(restart: bool) -> None:
    engine = whole()
    split(engine)
    write(engine, [put("a", "later", b"3")], tablet=1)
    engine.append_commit(1, 5)
    engine.sync()
    if restart:
        engine = reopened(engine)
    parent, child = engine.tablets[1].results, engine.tablets[2].results
    assert parent.lookup(1, 4) == child.lookup(1, 4) == Result(0, 1, 4)
    assert (parent.lookup(1, 5), child.lookup(1, 5)) == (Result(0, 1, 5), None)


@pytest.mark.parametrize("restart", [False, True])
def test_what_is_logged_and_not_applied_is_applied_up_to_the_split_and_stays_with_the_parent_behind_it(
    restart: bool,
) -> None:
    engine = whole()
    log(engine, [put("z", "late", b"5")])
    log(engine, [put("a", "later", b"6")])
    engine.split_tablet(1, 2, "m", 1, 5, 2)
    engine.sync()
    if restart:
        engine = reopened(engine)
    assert contents(engine, 2) == ABOVE | {("z", "late"): b"5"}
    assert [entry.first for entry in engine.tablets[1].tail] == [6]
    assert engine.tablets[2].tail == []
    engine.apply(1, 6)
    assert contents(engine, 1) == BELOW | {("a", "later"): b"6"}


def test_a_power_cut_before_the_record_is_on_disk_leaves_one_tablet() -> None:
    engine = whole()
    engine.append_commit(1, 4)
    engine.sync()
    split(engine, durable=False)
    again = reopened(engine)
    assert list(again.tablets) == [1]
    assert (again.tablets[1].range, contents(again)) == (("", None, 1), BELOW | ABOVE)


@pytest.mark.parametrize(
    ("at_row", "sequence", "version"),
    [("", 4, 2), ("m", 3, 2), ("m", 4, 1)],
    ids=["start", "position", "range version"],
)
def test_a_split_that_makes_no_sense_is_refused(at_row: str, sequence: int, version: int) -> None:
    engine = whole()
    with pytest.raises(AssertionError):
        engine.split_tablet(1, 2, at_row, 1, sequence, version)


@pytest.mark.parametrize("restart", [False, True])
def test_a_narrowed_replica_has_lost_the_rows_behind_its_end_and_what_was_not_applied(restart: bool) -> None:
    engine = whole()
    log(engine, [put("z", "never known to be committed", b"x")])
    engine.narrow_tablet(1, "m", 2)
    engine.sync()
    if restart:
        engine = reopened(engine)
    replica = engine.tablets[1]
    assert (contents(engine), replica.range, replica.commit, replica.last) == (BELOW, ("", "m", 2), 4, 4)
    assert replica.intact


def test_what_was_applied_before_a_narrowing_is_still_there_after_a_restart() -> None:
    """No record before it says that the last entry is committed."""
    engine = whole()
    write(engine, [put("a", "last", b"5")])
    engine.narrow_tablet(1, "m", 2)
    engine.sync()
    assert contents(reopened(engine)) == BELOW | {("a", "last"): b"5"}


@pytest.mark.parametrize("restart", [False, True])
def test_a_learner_that_is_narrowed_has_to_begin_anew(restart: bool) -> None:
    """What it held back may bring rows that are cut off, and what it has not held back any more it must not believe to have."""
    engine = whole()
    engine.begin_learning(1)
    log(engine, [put("z", "held", b"x")])
    engine.narrow_tablet(1, "m", 2)
    engine.sync()
    if restart:
        engine = reopened(engine)
    replica = engine.tablets[1]
    assert (replica.learning, replica.tail, replica.range) == (Learning.HOLDING, [], ("", "m", 2))
    with pytest.raises(AssertionError):
        log(engine, [put("a", "c", b"y")])
    with pytest.raises(AssertionError):
        engine.install(1, [])
    with pytest.raises(AssertionError):
        engine.finish_learning(1, ResultTable().encode(), 1, 5)
    engine.begin_learning(1)
    engine.finish_learning(1, ResultTable().encode(), 1, 5)
    assert engine.tablets[1].intact
    assert contents(engine) == BELOW
