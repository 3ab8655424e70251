"""A learner and its primary: the stream, when the learner counts, and attempts that get no answer."""

from __future__ import annotations

from dataclasses import replace

from kvstore import settings
from kvstore.messages import (
    Acknowledge,
    Append,
    CaughtUp,
    Join,
    JoinAccepted,
    PeerRefusal,
    Written,
)
from kvstore.storage.replica import Learning
from tests.unit.node.absence import back, equal, one_away
from tests.unit.node.trio import TABLET, delete, put


def test_the_stream_begins_with_what_was_on_its_way_when_the_learner_joined() -> None:
    """The snapshot is read from committed cells: it does not have an entry that is logged and commits later."""
    trio = one_away("a")
    trio.stuck_disks = {"n2"}
    trio.write("n1", "w", put("a", b"on its way", number=20))
    trio.settle()
    back(trio)
    assert "w" not in trio.answers
    trio.stuck_disks = set()
    trio.settle()
    assert isinstance(trio.answers["w"], Written)
    assert equal(trio)
    assert trio.value_at("n3", "a") == b"on its way"


def test_a_cell_of_the_snapshot_is_not_overwritten_by_an_older_one_of_the_stream() -> None:
    trio = one_away("a", "b")
    questions = []
    ask = trio._ask_primary
    trio._ask_primary = lambda name, effect: questions.append((name, effect))  # type: ignore[method-assign]
    back(trio)  # n3 has joined; its first question is not answered yet
    for number, token in enumerate(("one", "two", "three"), 30):
        trio.write("n1", token, put("a", token.encode(), number=number))
    trio.write("n1", "gone", delete("b", number=40))
    trio.settle()
    trio._ask_primary = ask  # type: ignore[method-assign]
    trio.held = {("n1", "n3")}  # the snapshot is read now, the stream comes later
    ask(*questions[0])
    trio.settle()
    trio.held = set()
    trio.advance(0.5)
    assert equal(trio)
    assert (trio.value_at("n3", "a"), trio.value_at("n3", "b")) == (b"three", None)


def test_it_is_not_finished_before_the_stream_has_brought_what_the_results_speak_of() -> None:
    trio = one_away("a")
    questions = []
    ask = trio._ask_primary
    trio._ask_primary = lambda name, effect: questions.append((name, effect))  # type: ignore[method-assign]
    back(trio)
    trio._ask_primary = ask  # type: ignore[method-assign]
    trio.held = {("n1", "n3")}
    trio.write("n1", "w", put("a", b"new", number=30))
    trio.settle()
    ask(*questions[0])
    trio.settle()
    assert isinstance(trio.answers["w"], Written)
    assert trio.replica("n3").disk.learning is Learning.HOLDING
    assert not [m for m in trio.mail["n3", "n1"] if isinstance(m, CaughtUp)]
    trio.held = set()
    trio.advance(0.2)
    assert trio.replica("n3").disk.learning is Learning.INTACT


def test_a_learner_counts_from_the_moment_that_the_primary_asks() -> None:
    """The answer may be lost and the coordinator may already promote it: what it lacks must not be acknowledged."""
    trio = one_away("a")
    back(trio)
    assert [asked.member for asked in trio.changes_asked()][:1] == [trio.member("n3")]
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("a", b"new", number=30))
    trio.settle()
    assert "w" not in trio.answers
    trio.stuck_disks = set()
    trio.settle()
    assert isinstance(trio.answers["w"], Written)


def test_its_lease_is_needed_from_then_on_too() -> None:
    trio = one_away("a")
    back(trio)
    trio.held = {("n3", "n1")}
    trio.advance(settings.LEASE + 0.1)
    trio.read("n1", "r", "a")
    trio.settle()
    assert "r" not in trio.answers


def test_a_learner_that_was_not_asked_for_is_not_waited_for() -> None:
    trio = one_away("a")
    trio.stuck_disks = {"n3"}
    back(trio)
    trio.write("n1", "w", put("a", b"new", number=30))
    trio.settle()
    assert isinstance(trio.answers["w"], Written)


def test_the_results_come_along_so_that_repeats_are_still_told() -> None:
    trio = one_away("a")
    trio.write("n1", 30, put("z", b"1", number=30))
    trio.settle()
    back(trio)
    trio.lead("n1", "n1 n2 n3")
    trio.settle()
    trio.lead("n3", "n3 n2")
    trio.advance(0.2)
    trio.write("n3", "again", put("z", b"1", number=30))
    trio.settle()
    assert trio.answers["again"] == trio.answers[30]


def test_a_join_that_got_no_answer_is_a_new_attempt() -> None:
    """Was once a bug: the primary took the repeated attempt for a straggler, and the learner waited for ever."""
    trio = one_away("a")
    for pair in trio.held:
        trio.mail[pair].clear()
    trio.held = {("n1", "n3")}
    trio.lead("n1", "n1 n2", "n3")
    trio.advance(0.05)
    assert [m for m in trio.mail["n1", "n3"] if isinstance(m, JoinAccepted)]
    trio.mail["n1", "n3"].clear()
    trio.held = set()
    trio.advance(1.0)
    assert trio.replica("n3").disk.intact
    assert equal(trio)


def test_a_learner_whose_stream_broke_starts_over() -> None:
    trio = one_away("a")
    for pair in trio.held:
        trio.mail[pair].clear()
    trio.held = set()
    questions = []
    ask = trio._ask_primary
    trio._ask_primary = lambda name, effect: questions.append((name, effect))  # type: ignore[method-assign]
    trio.lead("n1", "n1 n2", "n3")
    trio.advance(0.05)
    trio.held = {("n1", "n3")}
    trio.write("n1", 1, put("b", b"1", number=50))
    trio.settle()
    assert [m for m in trio.mail["n1", "n3"] if isinstance(m, Append)]
    trio.mail["n1", "n3"].clear()  # lost with its connection
    trio.held = set()
    trio._ask_primary = ask  # type: ignore[method-assign]
    trio.write("n1", 2, put("c", b"1", number=51))
    trio.advance(1.0)
    assert equal(trio)
    assert trio.replica("n3").disk.intact


def test_a_learner_that_the_primary_no_longer_streams_to_notices() -> None:
    """Was once a bug: taken out and in again while it was paused, it waited for a stream that had ended."""
    trio = one_away("a")
    for pair in trio.held:
        trio.mail[pair].clear()
    trio.held = set()
    questions = []
    ask = trio._ask_primary
    trio._ask_primary = lambda name, effect: questions.append((name, effect))  # type: ignore[method-assign]
    trio.lead("n1", "n1 n2", "n3")
    trio.advance(0.05)
    trio.lead("n1", "n1 n2", to="n1 n2")
    trio.settle()
    trio.mail["n1", "n3"].clear()
    trio.lead("n1", "n1 n2", "n3")
    trio.write("n1", 1, put("b", b"1", number=50))
    trio.settle()
    trio._ask_primary = ask  # type: ignore[method-assign]
    ask(*questions[0])
    trio.advance(3.0)
    assert trio.replica("n3").disk.intact
    assert equal(trio)


def test_what_a_learner_acknowledged_of_an_earlier_stream_does_not_count_for_this_one() -> None:
    trio = one_away("a")
    trio.held.add(("n1", "n3"))
    back(trio)
    trio.advance(0.1)
    follower = trio.leader("n1").followers[trio.member("n3")]
    follower.attempt = 7  # streamed to, whatever it has of it by now
    held = follower.acked
    epoch = trio.configuration.epoch
    late = Acknowledge(TABLET, epoch, trio.member("n3"), held + 5, 0, held + 5, attempt=6)
    trio.nodes["n1"].from_peer(late, trio.now)
    assert follower.acked == held
    trio.nodes["n1"].from_peer(replace(late, attempt=7), trio.now)
    assert follower.acked == held + 5


def test_a_late_join_of_an_earlier_attempt_changes_nothing() -> None:
    """Taken for a new one it would have its stream, and its acknowledgements, begin where the learner never was."""
    trio = one_away("a")
    for pair in trio.held:
        trio.mail[pair].clear()
    trio.held = {("n1", "n3")}
    trio.lead("n1", "n1 n2", "n3")
    trio.advance(0.05)
    trio.mail["n1", "n3"].clear()  # the first attempt's acceptance is lost
    trio.held = set()
    trio._ask_primary = lambda name, effect: None  # type: ignore[method-assign]
    trio.advance(1.0)
    follower = trio.leader("n1").followers[trio.member("n3")]
    assert follower.attempt > 1
    before = (follower.attempt, follower.acked)
    trio.write("n1", "w", put("b", b"1", number=60))
    trio.stuck_disks = {"n3"}
    trio.settle()
    trio.nodes["n1"].from_peer(Join(TABLET, trio.configuration.epoch, trio.member("n3"), 1), trio.now)
    trio.settle()
    assert (follower.attempt, follower.acked) == before


def test_a_late_refusal_out_of_the_learners_former_log_does_not_end_its_stream() -> None:
    """Was once a bug: it named a sequence in the midst of an entry, from which the primary then waited to go on for ever."""
    trio = one_away("a")
    back(trio)
    before, epoch = trio.replica("n1").last, trio.configuration.epoch
    trio.stuck_disks = {"n2"}
    trio.held = {("n3", "n1")}
    for number in (50, 51, 52):
        trio.write("n1", number, put("b", b"1", number=number))
    trio.settle()
    assert [entry.last for entry in trio.replica("n1").disk.tail] == [before + 3]
    late = PeerRefusal(TABLET, epoch, trio.member("n3"), "another epoch", epoch - 1, before + 1)
    trio.nodes["n1"].from_peer(late, trio.now)
    trio.held, trio.stuck_disks = set(), set()
    trio.advance(0.5)
    trio.write("n1", "later", put("b", b"2", number=53))
    trio.advance(0.5)
    assert isinstance(trio.answers["later"], Written)
    assert equal(trio)
