"""A replica comes back: what it takes over, what it lets go, when it counts."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore import settings
from kvstore.messages import (
    ChangeKind,
    ReplicaDamaged,
    Scan,
)
from kvstore.mutation import Op
from kvstore.node import catchup, pace, reads
from kvstore.node.effects import RequestPrimary
from kvstore.questions import ReadChanges, ReadResults
from kvstore.storage.replica import Learning
from tests.simulation.disk import SimulatedEngine
from tests.unit.node.absence import back, equal, one_away
from tests.unit.node.trio import TABLET, Trio, delete, mutation, put, put_large


def test_what_was_changed_and_deleted_meanwhile_is_so_here_too() -> None:
    trio = one_away("a", "b", "c")
    trio.write("n1", 11, put("a", b"new", number=11))
    trio.write("n1", 12, delete("b", number=12))
    trio.write("n1", 13, put("d", b"new", number=13))
    trio.settle()
    back(trio)
    assert equal(trio)
    assert [trio.value_at("n3", row) for row in "abcd"] == [b"new", None, b"old", b"new"]
    # and at the first attempt: that the digests differ would have been noticed too, and everything sent anew
    assert [kind for kind, _, _ in trio.disks["n3"].records].count("learn") == 1


def test_only_what_differs_is_transferred() -> None:
    trio = one_away(*[f"r{index:03}" for index in range(100)])
    trio.write("n1", 200, put("r050", b"new", number=200))
    trio.settle()
    back(trio)
    installed = [cell for kind, _, what in trio.disks["n3"].records if kind == "install" for cell in what[0]]
    assert [(row, value) for row, _, _, value in installed] == [("r050", b"new")]
    assert equal(trio)


def _watched(trio: Trio) -> list[RequestPrimary]:
    """The questions that learners will ask."""
    asked: list[RequestPrimary] = []
    ask = trio._ask_primary

    def watch(name: str, effect: RequestPrimary) -> None:
        asked.append(effect)
        ask(name, effect)

    trio._ask_primary = watch  # type: ignore[method-assign]
    return asked


def test_where_nothing_was_deleted_no_keys_are_read() -> None:
    trio = one_away(*[f"r{index:04}" for index in range(900)])
    for number, row in enumerate(("r0000", "r0450", "r0899", "r9"), 2000):
        trio.write("n1", number, put(row, b"new", number=number))
    trio.settle()
    asked = _watched(trio)
    back(trio)
    assert [type(effect.request) for effect in asked] == [ReadChanges, ReadResults]
    assert equal(trio)


def test_what_was_deleted_costs_the_keys_of_its_neighbours_only() -> None:
    trio = one_away(*[f"r{index:04}" for index in range(900)])
    trio.write("n1", 2000, delete("r0450", number=2000))
    trio.settle()
    asked = _watched(trio)
    back(trio)
    scans = [effect.request for effect in asked if isinstance(effect.request, Scan)]
    assert [scan.keys_only for scan in scans] == [True]
    keys = trio.replica("n1").disk.tablet.scan(scans[0].start, scans[0].start_column, scans[0].end, scans[0].end_column)
    assert len(list(keys)) <= reads.FINE_CELLS
    assert equal(trio)


def test_a_learner_asks_no_more_until_the_next_tick_when_it_had_its_share_of_time() -> None:
    trio = one_away(*[f"r{index:04}" for index in range(20)])
    for number in range(10):
        trio.write("n1", number, put_large(f"big{number}", b"L" * settings.BULK_VALUE, number=100 + number))
    trio.settle()
    questions: list[RequestPrimary] = []
    ask = trio._ask_primary
    trio._ask_primary = lambda name, effect: questions.append(effect)  # type: ignore[method-assign]
    back(trio)
    node = trio.nodes["n3"]
    trio.now += catchup.WORK + 0.001
    ask("n3", questions[0])  # the answer comes late after the tick
    trio.settle()
    assert len(questions) == 1
    node.tick(trio.now)
    trio.settle()
    assert len(questions) == 1 + catchup.FETCHES_AT_ONCE
    trio._ask_primary = ask  # type: ignore[method-assign]
    for question in questions[1:]:
        ask("n3", question)
    trio.advance(1.0)
    assert equal(trio)


def test_a_learner_copies_no_faster_than_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    size = settings.BULK_VALUE
    monkeypatch.setattr(pace, "COPY_RATE", 10 * size)
    monkeypatch.setattr(pace, "COPY_BURST", size)
    trio = one_away()
    for index in range(20):
        trio.write("n1", index, put_large(f"r{index:02}", b"L" * size, number=index + 1))
    trio.settle()
    began = trio.now
    back(trio)
    learner = trio.replica("n3").catchup
    assert learner is not None
    while not learner.finished:
        copied = learner.progress["bytes_done"]
        # what it had asked for when the bucket was found empty still comes
        assert copied <= (1 + catchup.FETCHES_AT_ONCE) * size + (trio.now - began + 0.05) * pace.COPY_RATE
        trio.advance(0.05)
    assert trio.now - began > 1.0, "twenty values at ten a second"
    assert equal(trio)


def test_a_learner_that_holds_much_back_minds_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "COPY_RATE", 1)
    monkeypatch.setattr(pace, "COPY_BURST", 1)
    monkeypatch.setattr(catchup, "HELD_BACK_MOST", 10)
    trio = one_away()
    for index in range(20):
        trio.write("n1", index, put_large(f"r{index:02}", b"L" * settings.BULK_VALUE, number=index + 1))
    trio.settle()
    back(trio)
    learner = trio.replica("n3").catchup
    assert learner is not None
    for number in range(100, 110):
        trio.write("n1", number, put("small", b"s", number=number))
    trio.advance(5.0)
    assert not learner.finished
    trio.write("n1", 110, put("small", b"s", number=110))
    trio.advance(1.0)
    assert learner.finished
    assert equal(trio)


def test_what_was_held_back_is_applied_in_slices_and_not_called_caught_up_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Was once a bug: sixty thousand mutations were applied at once; the node was silent for so long that it lost its place
    in the set, and learnt anew."""
    monkeypatch.setattr(catchup, "SETTLED_AT_ONCE", 10)
    trio = one_away("a")
    questions: list[RequestPrimary] = []
    ask = trio._ask_primary
    trio._ask_primary = lambda name, effect: questions.append(effect)  # type: ignore[method-assign]
    back(trio)
    for number in range(95):
        trio.write("n1", number, put(f"r{number}", b"x", number=1000 + number))
        trio.settle()
    slices = _slices(trio)
    trio.stuck_disks = {"n3"}
    trio._ask_primary = ask  # type: ignore[method-assign]
    ask("n3", questions[0])
    trio.settle()
    for number in range(50):  # these come behind what the results speak of
        trio.write("n1", ("more", number), put(f"s{number}", b"x", number=2000 + number))
        trio.settle()
    trio.stuck_disks = set()
    while trio.replica("n3").disk.commit + 10 < trio.replica("n1").disk.commit:
        assert not [asked for asked in trio.changes_asked() if asked.kind == ChangeKind.ADD]
        trio.nodes["n3"].tick(trio.now)
        trio.settle()
    assert equal(trio)
    assert sum(slices) == 145
    assert max(slices) == 10
    assert [asked for asked in trio.changes_asked() if asked.kind == ChangeKind.ADD]


def _slices(trio: Trio) -> list[int]:
    """How many entries n3 will apply at a time."""
    engine: Any = trio.nodes["n3"]._engine
    apply = engine.apply
    slices: list[int] = []

    def watch(tablet: int, upto: int, most: int | None = None) -> Any:
        done = apply(tablet, upto, most)
        slices.append(len(done))
        return done

    engine.apply = watch
    return slices


def test_one_that_begins_to_learn_again_while_it_settles_stands_where_replay_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Replay applies all that was held back at once. What the process had not applied it would not look for at its primary,
    where it was deleted meanwhile: the cell would come back with the next crash."""
    monkeypatch.setattr(catchup, "SETTLED_AT_ONCE", 1)
    trio = one_away("a")
    questions: list[RequestPrimary] = []
    ask = trio._ask_primary
    trio._ask_primary = lambda name, effect: questions.append(effect)  # type: ignore[method-assign]
    back(trio)
    ask("n3", questions[0])
    trio.settle()
    assert isinstance(questions[1].request, ReadResults)  # all is compared
    for number in range(20):
        trio.write("n1", number, put(f"r{number:02}", b"x", number=1000 + number))
        trio.settle()
    trio._ask_primary = ask  # type: ignore[method-assign]
    ask("n3", questions[1])
    trio.settle()
    assert trio.replica("n3").disk.learning is Learning.SETTLING
    trio.held = {("n1", "n3")}
    trio.write("n1", "gone", delete("r19", number=2000))
    trio.settle()
    trio.mail["n1", "n3"].clear()  # lost: n3 learns anew
    trio.held = set()
    trio.write("n1", "next", put("z", b"x", number=2001))
    trio.advance(2.0)
    assert equal(trio)
    assert [kind for kind, _, _ in trio.disks["n3"].records].count("learn") == 2
    trio.crash("n3")
    replayed = SimulatedEngine(trio.disks["n3"]).tablets[TABLET]
    assert replayed.tablet.get("r19", "c") is None


def test_one_that_finds_damage_after_it_had_caught_up_is_not_asked_for_before_it_has_learnt_anew() -> None:
    """The coordinator heard of the damage before it was asked to add the learner, and moved the epoch on. The primary must not
    ask again for what the learner held then: it would be a member, and might be promoted, holding nothing."""
    trio = one_away("a", "b")
    back(trio)
    assert trio.changes_asked()[-1].kind == ChangeKind.ADD
    trio.replica("n3").report_damage("a value could not be read")
    trio.settle()
    trio.asked.clear()
    trio.stuck_disks = {"n3"}  # so that it does not come to join anew
    trio.lead("n1", "n1 n2", "n3")
    trio.advance(0.5)
    assert trio.changes_asked() == []
    trio.stuck_disks = set()
    trio.advance(1.0)
    assert [kind for kind, _, _ in trio.disks["n3"].records].count("learn") == 2
    assert {asked.kind for asked in trio.changes_asked()} == {ChangeKind.ADD}
    assert equal(trio)


def test_one_who_left_learns_even_if_it_missed_nothing() -> None:
    trio = one_away("a")
    back(trio)
    assert [kind for kind, _, _ in trio.disks["n3"].records].count("learn") == 1
    assert {asked.kind for asked in trio.changes_asked()} == {ChangeKind.ADD}


def test_a_torn_write_of_its_own_is_cut() -> None:
    """n3 alone logged an entry of a primary that died: nobody acknowledged it, and n2 writes something else there."""
    trio = Trio().serving()
    trio.held = {("n1", "n2")}
    trio.write("n1", "torn", put("a", b"torn", number=1))
    trio.settle()
    trio.crash("n1")
    trio.lead("n2", "n2", "n3")
    trio.held = set()
    trio.advance(2.0)
    trio.write("n2", "w", put("b", b"kept", number=2))
    trio.settle()
    trio.advance(0.2)
    assert (trio.value_at("n3", "a"), trio.value_at("n3", "b")) == (None, b"kept")


def test_large_values_and_long_tablets_come_in_pages() -> None:
    trio = one_away()
    large = b"L" * settings.BULK_VALUE
    for index in range(1200):
        trio.write("n1", index, put(f"r{index:04}", b"v%d" % index, number=index + 1))
    trio.write("n1", "large", put_large("r0600+", large, number=5000))
    trio.settle()
    back(trio)
    trio.advance(1.0)
    assert trio.value_at("n3", "r0600+") == large
    assert equal(trio)
    assert trio.replica("n3").disk.tablet.cells == 1201


class _LaggingDisk(Trio):
    """A cluster whose n3 brings to its disk, each time, what had been written when it was last asked: so what it writes
    in between waits for a sync that begins later."""

    begun = 0

    def sync(self, name: str, *, anyway: bool = False) -> bool:
        disk = self.disks[name]
        if name != "n3" or disk.durable == len(disk.records):
            return super().sync(name, anyway=anyway)
        upto, self.begun = max(disk.durable, self.begun), len(disk.records)
        disk.durable = upto
        self.nodes[name].synced(upto, self.now)
        return True


def test_a_sync_that_came_before_the_newest_values_is_not_the_last_one_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more is fetched while much is not on disk. A sync arrived that covered a part of it; the learner was then held
    for done with the log, never heard of the next sync, and waited for ever (found with a file of 60 MB)."""
    monkeypatch.setattr(catchup, "UNSYNCED_BYTES", 2 * settings.BULK_VALUE)
    large = b"L" * settings.BULK_VALUE
    trio = one_away(trio=_LaggingDisk())
    for index in range(20):
        trio.write("n1", index, put_large(f"r{index:02}", large, number=index + 1))
    trio.settle()
    back(trio)
    trio.advance(3.0)
    assert equal(trio)
    assert ChangeKind.ADD in {asked.kind for asked in trio.changes_asked()}


def test_one_that_starts_over_while_much_is_not_on_disk_goes_on_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync that it waited for came between the two attempts, and nobody writes any more: no further one will come."""
    monkeypatch.setattr(catchup, "UNSYNCED_BYTES", 2 * settings.BULK_VALUE)
    trio = one_away()
    for index in range(20):
        trio.write("n1", index, put_large(f"r{index:02}", b"L" * settings.BULK_VALUE, number=index + 1))
    trio.settle()

    def learns(name: str) -> bool:
        """The disk of n3 is stuck from the first values on."""
        return name == "n3" and any(kind == "install" for kind, _, _ in trio.disks["n3"].records)

    sync = trio.sync
    trio.sync = lambda name, *, anyway=False: not learns(name) and sync(name, anyway=anyway)  # type: ignore[method-assign]
    back(trio)
    learner = trio.replica("n3").catchup
    assert learner is not None
    assert learner.progress["bytes_done"] >= catchup.UNSYNCED_BYTES
    learner.start_over()
    trio.sync = sync  # type: ignore[method-assign]
    trio.advance(5.0)
    assert equal(trio)
    assert ChangeKind.ADD in {asked.kind for asked in trio.changes_asked()}


def test_a_large_range_that_was_deleted_meanwhile_goes_in_slices() -> None:
    trio = one_away()
    rows = [f"r{index:05}" for index in range(2500)]
    puts = [[Op.PUT, row, "c", b"x"] for row in rows]
    trio = Trio().serving()
    for start in range(0, 2500, 1):
        trio.write("n1", start, mutation(start + 1, 7, [], [puts[start]]))
    trio.settle()
    trio.advance(0.2)
    trio.lead("n1", "n1 n2", to="n1 n2")
    trio.settle()
    for index, row in enumerate(rows[:-1]):
        trio.write("n1", ("delete", index), delete(row, number=10_000 + index))
    trio.settle()
    back(trio)
    trio.advance(1.0)
    assert equal(trio)
    assert trio.replica("n3").disk.tablet.cells == 1


def test_replay_stands_where_the_process_stood_when_it_began_to_learn() -> None:
    """Was once a bug: n3 had applied an entry whose commit point no later record told, compared its cells with that, and
    lost it in replay, as the log's tail is cut where learning begins."""
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.advance(0.1)  # the commit point came by itself
    assert trio.value_at("n3", "a") == b"1"
    trio.lead("n1", "n1 n2", "n3")
    trio.advance(0.5)
    assert trio.replica("n3").disk.intact
    replayed = SimulatedEngine(trio.disks["n3"]).tablets[TABLET]
    assert replayed.tablet.digest == trio.replica("n1").disk.tablet.digest


def test_replay_is_not_further_than_the_process_was_when_it_began_to_learn_again() -> None:
    """Was once a bug: the log told commit points that were known and not yet applied, so replay applied more before the
    second learning than the process had, and what that one had compared with was not what replay had."""
    trio = one_away("a")
    ask = trio._ask_primary

    def ask_and_then_be_slow(name: str, effect: RequestPrimary) -> None:
        if isinstance(effect.request, ReadResults):
            trio.stuck_disks = {"n3"}  # the end of learning does not reach the disk
        ask(name, effect)

    trio._ask_primary = ask_and_then_be_slow  # type: ignore[method-assign]
    back(trio)
    trio._ask_primary = ask  # type: ignore[method-assign]
    assert "finish" in [kind for kind, _, _ in trio.disks["n3"].records]
    for number in (40, 41, 42):
        trio.write("n1", number, put("x" if number == 40 else "y", b"%d" % number, number=number))
        trio.settle()  # n3 logs x, and hears that it is committed
    trio.held = {("n1", "n3")}
    trio.write("n1", 43, delete("x", number=43))
    trio.settle()
    trio.mail["n1", "n3"].clear()  # lost: n3 learns anew, and finds no x at the primary, nor here
    trio.held = set()
    trio.write("n1", 44, put("y", b"44", number=44))
    trio.settle()
    trio.stuck_disks = set()
    trio.advance(1.0)
    assert equal(trio)
    assert [kind for kind, _, _ in trio.disks["n3"].records].count("learn") == 2
    trio.crash("n3")
    replayed = SimulatedEngine(trio.disks["n3"]).tablets[TABLET]
    assert replayed.tablet.get("x", "c") is None


def test_one_whose_digest_differs_at_the_same_sequence_says_so_and_learns_with_nothing() -> None:
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.advance(0.1)
    trio.replica("n3").disk.tablet.set_packed(b"bad\0\0c", bytes(17) + b"?")  # memory gone wrong
    trio.write("n1", "w2", put("b", b"2", number=2))
    trio.settle()
    trio.advance(0.1)
    damaged = [asked for asked in trio.asked if isinstance(asked, ReplicaDamaged)]
    assert {report.sender.node for report in damaged} == {"n3"}
    assert not trio.replica("n3").intact
    trio.lead("n1", "n1 n2", "n3")
    trio.advance(1.0)
    assert equal(trio)
    assert trio.replica("n3").intact


def test_a_new_primary_compares_digests_before_anybody_reads_from_it() -> None:
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.advance(0.1)
    trio.replica("n3").disk.tablet.set_packed(b"bad\0\0c", bytes(17) + b"?")
    trio.lead("n2", "n2 n3")
    trio.settle()
    assert [asked.sender.node for asked in trio.asked if isinstance(asked, ReplicaDamaged)] == ["n3"]


def test_a_learner_that_differs_after_learning_begins_with_nothing() -> None:
    trio = one_away("a")
    trio.replica("n3").disk.tablet.set_packed(b"a\0\0c", trio.replica("n3").disk.tablet.get("a", "c")[0] + b"?")
    back(trio)  # the version is the same, so it is not fetched; the digest tells
    trio.advance(1.0)
    assert trio.value_at("n3", "a") == b"old"
    assert equal(trio)


def test_a_damaged_primary_stops_serving_at_once() -> None:
    trio = Trio().serving()
    large = b"L" * settings.BULK_VALUE
    trio.write("n1", "w", put_large("a", large, number=1))
    trio.settle()
    engine = trio.replica("n1").host.engine
    engine.corrupt.add(trio.replica("n1").disk.tablet.get("a", "c").value)
    trio.read("n1", "r", "a")
    trio.settle()
    assert trio.answers["r"].error == "Unavailable"
    assert trio.replica("n1").leadership is None
    trio.lead("n2", "n2 n3", "n1")
    trio.read("n2", "again", "a")
    trio.advance(1.0)
    assert trio.answers["again"].value == large
    assert equal(trio)
