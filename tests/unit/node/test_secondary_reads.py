"""A secondary answers reads itself: nobody reads less than what was acknowledged before, and everybody gets one answer."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore import settings
from kvstore.messages import CellAnswer, CommitPoint, Get, Refused, ReplicaDamaged
from kvstore.node import effects, secondary
from kvstore.node.secondary import ANSWER_PATIENCE, CommitPointToken
from kvstore.questions import AskCommitPoint
from kvstore.storage.failures import TooManyFiles
from tests.unit.node.trio import TABLET, Trio, put, put_large

LARGE = b"L" * settings.BULK_VALUE


class AskingTrio(Trio):
    """A bench that counts what secondaries ask and pass on, and can hold the answers to their questions back."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, Any]] = []
        self.passed_on: list[Any] = []
        self.answers_late = False
        self.late: list[tuple[str, Any, Any]] = []
        """(who asked, token, answer), as the primary gave it when it was asked."""
        super().__init__()

    def _carry_out(self, name: str, effect: Any) -> None:
        if isinstance(effect, effects.Forward):
            self.passed_on.append(effect.token)
        super()._carry_out(name, effect)

    def _ask_primary(self, name: str, effect: effects.RequestPrimary) -> None:
        if not isinstance(effect.request, AskCommitPoint):
            super()._ask_primary(name, effect)
            return
        self.questions.append((name, effect.token))
        if effect.node not in self.nodes:
            return
        token = ("question", name, effect.token)
        self.nodes[effect.node].client_request(token, effect.request, self.now)
        for answered in self.nodes[effect.node].take_effects():
            self._carry_out(effect.node, answered)
        if token in self.answers:
            self.late.append((name, effect.token, self.answers[token]))
        if not self.answers_late:
            self.bring()

    def bring(self) -> None:
        """The answers that were held back arrive."""
        late, self.late = self.late, []
        for name, token, answer in late:
            self.nodes[name].primary_answered(token, answer, self.now)

    def acknowledged(self, row: str, value: bytes, number: int) -> None:
        """A write is done; the secondaries have it logged, and do not know yet that it is committed."""
        self.write("n1", ("w", number), put(row, value, number=number))
        self.settle()
        assert ("w", number) in self.answers

    def value_read(self, token: Any) -> bytes:
        answer = self.answers[token]
        assert isinstance(answer, CellAnswer), answer
        return bytes(answer.value)


def _serving() -> AskingTrio:
    trio = AskingTrio()
    trio.serving()
    trio.acknowledged("a", b"old", 1)
    trio.advance(0.1)
    return trio


def test_a_secondary_answers_with_what_was_acknowledged_before_the_read() -> None:
    trio = _serving()
    trio.acknowledged("a", b"new", 2)
    assert trio.value_at("n2", "a") == b"old"
    trio.read("n2", "r", "a")
    trio.settle()
    assert trio.value_read("r") == b"new"
    assert trio.passed_on == []


def test_a_small_cell_and_one_that_is_absent_are_answered_all_the_same() -> None:
    trio = _serving()
    trio.read("n2", "small", "a")
    trio.read("n3", "absent", "z")
    trio.settle()
    assert trio.value_read("small") == b"old"
    assert trio.answers["absent"] == CellAnswer(0, 0, b"")


def test_an_answer_to_a_question_from_before_the_read_arrived_does_not_serve_it() -> None:
    """The first read's question is answered before the write is committed; the second read begins after the write was
    acknowledged, and must not be answered with what that answer allows."""
    trio = _serving()
    trio.answers_late = True
    trio.read("n2", "first", "a")
    trio.settle()
    trio.acknowledged("a", b"new", 2)
    trio.read("n2", "second", "a")
    trio.settle()
    assert len(trio.questions) == 1
    trio.answers_late = False
    trio.bring()
    trio.settle()
    assert trio.value_read("first") == b"old"
    assert trio.value_read("second") == b"new"
    assert len(trio.questions) == 2


def test_reads_that_arrive_together_share_one_question() -> None:
    trio = _serving()
    for number in range(20):
        trio.read("n2", number, "a")
    trio.settle()
    assert [trio.value_read(number) for number in range(20)] == [b"old"] * 20
    assert len(trio.questions) == 1


def test_a_primary_without_a_lease_tells_no_commit_point() -> None:
    trio = _serving()
    trio.held = {("n2", "n1"), ("n3", "n1")}
    trio.advance(settings.LEASE + 0.1)
    trio.read("n2", "r", "a")
    trio.advance(2 * ANSWER_PATIENCE)
    assert trio.late == []
    assert "r" not in trio.answers


def test_a_commit_point_says_until_when_it_may_leave() -> None:
    """The driver reads the clock after it: a primary that was paused in between tells nothing (trap 3)."""
    trio = _serving()
    trio.read("n2", "r", "a")
    trio.settle()
    (question,) = trio.questions
    assert trio.valid_until["question", *question] == trio.leader("n1").lease_until
    assert trio.leader("n1").lease_until <= trio.now + settings.LEASE


@pytest.mark.parametrize(
    "of", ["an older epoch", "another run", "a primary that refused", "a connection that was lost"]
)
def test_what_is_not_this_leaderships_commit_point_answers_nothing(of: str) -> None:
    trio = _serving()
    trio.answers_late = True
    trio.read("n2", "r", "a")
    trio.settle()
    ((name, token, answer),) = trio.late
    assert isinstance(answer, CommitPoint)
    instead: Any = {
        "an older epoch": CommitPoint(TABLET, answer.epoch - 1, answer.sender, answer.commit),
        "another run": CommitPoint(TABLET, answer.epoch, trio.member("n3"), answer.commit),
        "a primary that refused": Refused("NotPrimary", "…", None),
        "a connection that was lost": None,
    }[of]
    trio.nodes[name].primary_answered(token, instead, trio.now)
    trio.settle()
    assert trio.passed_on == ["r"]  # and so answered by the primary
    assert trio.value_read("r") == b"old"


def test_a_commit_point_that_this_replica_cannot_reach_answers_nothing() -> None:
    trio = _serving()
    trio.answers_late = True
    trio.read("n2", "r", "a")
    trio.settle()
    ((name, token, answer),) = trio.late
    further = CommitPoint(TABLET, answer.epoch, answer.sender, answer.commit + 1)
    trio.nodes[name].primary_answered(token, further, trio.now)
    trio.settle()
    assert trio.passed_on == ["r"]


def test_a_primary_that_does_not_answer_gets_the_read_itself_and_its_late_answer_none() -> None:
    trio = _serving()
    trio.answers_late = True
    trio.read("n2", "r", "a")
    trio.advance(ANSWER_PATIENCE + 0.1)
    assert trio.passed_on == ["r"]
    assert trio.value_read("r") == b"old"
    trio.bring()
    trio.settle()  # the bench asserts that nothing is answered twice
    trio.answers_late = False
    trio.read("n2", "next", "a")
    trio.settle()
    assert trio.value_read("next") == b"old"


def test_a_new_configuration_refuses_what_waits_with_itself() -> None:
    trio = _serving()
    trio.answers_late = True
    trio.read("n2", "asked", "a")
    trio.settle()
    trio.read("n2", "arrived", "a")
    configuration = trio.lead("n3", "n3 n2", to="n2")
    trio.settle()
    for token in ("asked", "arrived"):
        assert trio.answers[token].error == "NotPrimary"
        assert trio.answers[token].configuration == configuration
    trio.bring()
    trio.settle()
    assert trio.passed_on == []


def test_one_that_was_taken_out_of_the_set_answers_nothing_itself() -> None:
    trio = _serving()
    trio.lead("n1", "n1 n2", to="n1 n2 n3")
    trio.settle()
    trio.read("n3", "r", "a")
    trio.settle()
    assert trio.answers["r"].error == "NotPrimary"
    assert trio.questions == []


def test_a_member_that_does_not_agree_with_its_new_primary_yet_passes_reads_on() -> None:
    trio = _serving()
    trio.held = {("n2", "n3")}
    trio.crash("n1")
    trio.lead("n2", "n2 n3", to="n2 n3")
    trio.settle()
    trio.read("n3", "r", "a")
    trio.settle()
    assert trio.questions == []
    assert trio.passed_on == ["r"]


def test_a_read_that_was_passed_on_is_not_taken_by_a_secondary_again() -> None:
    trio = _serving()
    trio.nodes["n3"].client_request("r", Get(TABLET, 1, "a", "c"), trio.now, forwarded=True)
    trio.settle()
    assert trio.answers["r"].error == "NotPrimary"


def test_a_value_that_a_secondary_cannot_read_comes_from_the_primary_and_the_damage_is_told() -> None:
    trio = _serving()
    trio.write("n1", "w", put_large("big", LARGE, number=9))
    trio.settle()
    trio.advance(0.1)
    trio.replica("n2").host.engine.corrupt.add(trio.replica("n2").disk.tablet.get("big", "c").value)
    trio.read("n2", "r", "big")
    trio.read("n2", "other", "a")
    trio.settle()
    assert trio.value_read("r") == LARGE
    assert trio.value_read("other") == b"old"
    assert {told.sender.node for told in trio.asked if isinstance(told, ReplicaDamaged)} == {"n2"}


def test_a_value_that_a_secondary_has_no_descriptor_left_to_read_comes_from_the_primary() -> None:
    trio = _serving()
    trio.write("n1", "w", put_large("big", LARGE, number=9))
    trio.settle()
    trio.advance(0.1)

    def out_of_descriptors(cell: Any) -> bytes:
        raise TooManyFiles("00000001.seg cannot be opened: Too many open files")

    trio.replica("n2").host.engine.read = out_of_descriptors
    trio.read("n2", "r", "big")
    trio.read("n2", "other", "a")
    trio.settle()
    assert trio.value_read("r") == LARGE
    assert trio.value_read("other") == b"old"
    assert trio.passed_on == ["r"]
    assert not [told for told in trio.asked if isinstance(told, ReplicaDamaged)]
    assert trio.replica("n2").serves_secondary_reads


def _three_large_reads(trio: AskingTrio) -> None:
    trio.write("n1", "w", put_large("big", LARGE, number=9))
    trio.settle()
    trio.advance(0.1)
    for number in range(3):
        trio.read("n2", number, "big")


def test_large_values_leave_one_by_one() -> None:
    trio = _serving()
    _three_large_reads(trio)
    node = trio.nodes["n2"]
    node.flush(trio.now)
    (question,) = [each for each in node.take_effects() if isinstance(each, effects.RequestPrimary)]
    trio._ask_primary("n2", question)
    for left in (2, 1, 0):
        node.flush(trio.now)
        out = node.take_effects()
        values: list[Any] = [each.message for each in out if isinstance(each, effects.Reply)]
        assert [len(value.value) for value in values] == [len(LARGE)]
        assert any(isinstance(each, effects.FlushAgain) for each in out) == (left > 0)


def test_more_than_may_lie_in_memory_is_refused_and_not_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondary, "MOST_WAITING_BYTES", 2 * len(LARGE))
    trio = _serving()
    _three_large_reads(trio)
    trio.settle()
    assert [trio.value_read(number) for number in range(2)] == [LARGE] * 2
    assert trio.answers[2].error == "Overloaded"
    trio.read("n2", "later", "big")
    trio.settle()
    assert trio.value_read("later") == LARGE


def test_an_answer_to_another_question_than_the_last_is_ignored() -> None:
    trio = _serving()
    trio.answers_late = True
    trio.read("n2", "r", "a")
    trio.settle()
    ((name, token, answer),) = trio.late
    trio.nodes[name].primary_answered(CommitPointToken(TABLET, token.number - 1), answer, trio.now)
    trio.settle()
    assert "r" not in trio.answers
    assert trio.passed_on == []
