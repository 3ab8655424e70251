"""The rounds of the scrub: their pace, what comes before them, and where they go on after a restart."""

from __future__ import annotations

import errno
from argparse import ArgumentTypeError

import pytest

from kvstore.storage import scrub as scrubbing
from kvstore.storage import scrubround
from kvstore.storage.engine import Engine
from kvstore.storage.options import scrub_period
from kvstore.storage.scrub import scrub
from kvstore.storage.upkeep import maintain, next_job, run_to_end
from tests.faults.disk import FaultyFiles
from tests.unit.storage.engines import faults, write
from tests.unit.storage.entries import delete, put
from tests.unit.storage.scrubbed import (
    DAY,
    PERIOD,
    Clock,
    a_round,
    an_engine,
    checkpointed,
    disk_of,
    large,
    with_values,
)


@pytest.fixture(autouse=True)
def one_value_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "AT_ONCE", 1)


def played(clock: Clock, engine: Engine, seconds: float, step: float) -> list[float]:
    """Let time pass, and do what is due; when rounds ended."""
    ended, rounds, end = [], engine.figures.scrub_rounds, clock.now + seconds
    while clock.now < end:
        clock.now += step
        while (found := next_job(engine)) is not None:
            assert found[0] == "scrub"
            run_to_end(engine, found[1])
        if engine.figures.scrub_rounds > rounds:
            rounds = engine.figures.scrub_rounds
            ended.append(clock.now)
    return ended


def test_a_small_store_is_gone_through_seven_times_in_a_period_and_rests_in_between() -> None:
    clock = Clock()
    engine = with_values(clock=clock)
    ended = played(clock, engine, PERIOD, 0.25)
    assert 6 <= len(ended) <= 8
    assert engine.figures.scrubbed_bytes == len(ended) * engine.stored_bytes


def test_a_large_store_is_gone_through_within_the_period_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubround, "FLOOR", 1)
    monkeypatch.setattr(scrubround, "SLICE", 1000)
    clock = Clock()
    engine = with_values(12, clock=clock, checkpoint_log=1 << 20)
    half = played(clock, engine, PERIOD / 2, 0.25)
    assert half == []
    assert 0.4 < engine.metrics()["scrub_round"] < 0.7
    assert len(played(clock, engine, PERIOD / 2, 0.25)) == 1


def test_nothing_is_read_faster_than_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubround, "CEILING", 10)
    monkeypatch.setattr(scrubround, "SLICE", 1000)
    clock = Clock()
    engine = with_values(12, clock=clock)
    played(clock, engine, PERIOD, 0.25)
    assert 5000 < engine.figures.scrubbed_bytes < 10 * PERIOD + 2 * 3500


def test_the_pace_at_the_size_of_real_stores() -> None:
    a_week = scrubround.ScrubRound(7 * DAY, 0.0, scrubround.Place())

    def days(size: float) -> float:
        return size / a_week.bandwidth(int(size)) / DAY

    assert days(1e6) == pytest.approx(1)
    assert days(5e9) == pytest.approx(1)
    assert 3 < days(20e9) < 4
    assert days(1e12) == pytest.approx(6.3)
    assert a_week.bandwidth(int(1e14)) == 8 << 20


@pytest.mark.parametrize("text", ["a week", "", "nan", "inf", "0", "0.9", "-7"])
def test_a_period_that_makes_no_sense_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is not a number of seconds|is read again within 1 s or more"):
        scrub_period(text)
    assert scrub_period("86400") == DAY


def test_an_empty_store_is_never_gone_through() -> None:
    clock = Clock()
    engine = an_engine(clock=clock)
    assert played(clock, engine, PERIOD, 1.0) == []
    assert engine.metrics()["scrub_ended_s"] == -1


def test_a_store_of_which_nothing_can_be_read_now_is_not_gone_through_without_end() -> None:
    clock = Clock()
    engine = with_values(clock=clock)
    engine.mark_damaged(1, "for the test")
    engine.sync()
    ended = played(clock, engine, PERIOD, 0.25)
    assert len(ended) <= 8


def test_a_store_that_shrank_does_not_wait_for_what_it_was() -> None:
    clock = Clock()
    engine = with_values(clock=clock)
    a_round(engine)
    write(engine, [delete(f"row{i}", c) for i in range(6) for c in ("c", "fill")])
    write(engine, [put("row", "c", large(1))])
    maintain(engine)
    assert engine.figures.scrubbed_bytes > 10 * engine.stored_bytes
    assert len(played(clock, engine, PERIOD, 0.25)) >= 6


def test_a_node_that_starts_has_better_things_to_do() -> None:
    clock = Clock()
    engine = with_values(clock=clock)
    clock.now += 59
    assert next_job(engine) is None
    clock.now += 1
    assert next_job(engine) is not None


def test_everything_else_comes_first() -> None:
    clock = Clock()
    engine = with_values(clock=clock, checkpoint_log=100)
    clock.now += PERIOD
    write(engine, [put("row", f"{i}", b"small" * 5) for i in range(200)])
    found = next_job(engine)
    assert found is not None
    assert found[0] == "checkpoint"
    run_to_end(engine, found[1])
    names = []
    while (found := next_job(engine)) is not None:
        names.append(found[0])
        run_to_end(engine, found[1])
    assert names[-1] == "scrub"
    assert names.count("scrub") == 1


def test_compaction_comes_first_too() -> None:
    clock = Clock()
    engine = an_engine(clock=clock, checkpoint_log=100)
    for i in range(36):
        write(engine, [put("row", f"{i}", bytes([i]) * 1000)])
    write(engine, [delete("row", f"{i}") for i in range(36) if i % 3])
    checkpointed(engine)
    clock.now += PERIOD
    names = []
    while (found := next_job(engine)) is not None:
        names.append(found[0])
        run_to_end(engine, found[1])
    assert "compaction" in names
    assert names.index("scrub") == len(names) - 1


def test_the_figures_tell_how_far_it_is() -> None:
    clock = Clock()
    engine = with_values(clock=clock)
    assert engine.metrics()["scrub_ended_s"] == -1
    a_round(engine)
    clock.now += 30
    figures = engine.metrics()
    assert figures["scrub_ended_s"] == 30
    assert figures["scrubbed_bytes"] == engine.stored_bytes
    assert (figures["scrub_round"], figures["scrub_damages"]) == (0, 0)


# ---------------------------------------------------------------- the place


def stopped_in_the_middle(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Engine:
    """An engine that is somewhere in its second round, and has written its place."""
    monkeypatch.setattr(scrubround, "SLICE", 6000)
    engine = with_values(clock=clock)
    a_round(engine)
    clock.now += 100
    run_to_end(engine, scrub(engine))
    assert 0 < engine.scrub_round.place.passed < engine.stored_bytes
    assert "/data/scrub" in disk_of(engine).names
    return engine


def test_a_round_goes_on_where_it_was_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    engine = stopped_in_the_middle(monkeypatch, clock)
    place, read = engine.scrub_round.place, engine.figures.scrubbed_bytes
    engine.abandon()
    again = an_engine(disk_of(engine).after_kill(), clock)
    assert again.scrub_round.place == place
    a_round(again)
    assert read + again.figures.scrubbed_bytes == 2 * again.stored_bytes
    assert again.metrics()["scrub_ended_s"] == 0


def test_a_place_that_is_damaged_or_cut_or_of_a_later_version_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = stopped_in_the_middle(monkeypatch, Clock())
    data = disk_of(engine).names["/data/scrub"].data
    whole = bytes(data)
    broken: list[bytes | bytearray] = [whole[:length] for length in range(len(whole))]
    for bit in range(len(whole) * 8):
        broken.append(bytearray(whole))
        broken[-1][bit // 8] ^= 1 << bit % 8  # type: ignore[index]
    for each in broken:
        data[:] = each
        assert scrubround.read_place(engine.files, "/data") == scrubround.Place()
    data[:] = whole
    assert scrubround.read_place(engine.files, "/data") == engine.scrub_round.place
    faults(engine, lambda operation, path: errno.EIO if path == "/data/scrub" else None)
    assert scrubround.read_place(engine.files, "/data") == scrubround.Place()


@pytest.mark.parametrize("operation", ["create", "write", "rename"])
def test_that_the_place_cannot_be_written_is_no_harm(operation: str) -> None:
    clock = Clock()
    engine = with_values(clock=clock)
    clock.now += 100
    faults(engine, lambda op, path: errno.ENOSPC if op == operation and path.startswith("/data/scrub") else None)
    a_round(engine)
    a_round(engine)
    assert engine.damage == []


def test_the_place_is_written_now_and_then_and_never_synced() -> None:
    clock = Clock()
    engine = with_values(clock=clock)
    assert isinstance(engine.files, FaultyFiles)
    played(clock, engine, PERIOD, 0.25)
    of_place = [operation for operation, path in engine.files.log if path.startswith("/data/scrub")]
    assert of_place.count("rename") == engine.figures.scrub_rounds
    assert "fdatasync" not in of_place
