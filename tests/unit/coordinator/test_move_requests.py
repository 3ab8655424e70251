"""What an operator is told who wants a replica moved, or does not want it any more."""

from __future__ import annotations

import pytest

from kvstore import settings
from kvstore.control import Done, WithdrawMove
from kvstore.messages import ChangeKind, Refused
from tests.unit.coordinator.moves import DETECTED, learnt, move, moving, owner, with_spare


def test_the_same_request_again_changes_nothing() -> None:
    control = moving()
    now = control.tablet()
    assert isinstance(move(control, "n2", "n4"), Done)
    assert control.tablet() == now
    learnt(control, "n4")
    control.pass_time(0.5)
    now = control.tablet()
    assert isinstance(move(control, "n2", "n4"), Done), "its answer was lost, and it has moved meanwhile"
    assert control.tablet() == now


@pytest.mark.parametrize(
    ("tablet", "source", "target", "words"),
    [
        (7, "n1", "n4", "there is no tablet 7"),
        (1, "n1", "n9", "there is no node 'n9'"),
        (1, "n9", "n4", "there is no node 'n9'"),
        (1, "n9", "n2", "there is no node 'n9'"),
        (1, "n5", "n4", "tablet 1 has no replica on n5; it has them on n1, n2, n3"),
        (1, "n1", "n2", "tablet 1 has a replica on n2 already"),
        (1, "n1", "n1", "tablet 1 has a replica on n1 already"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(tablet: int, source: str, target: str, words: str) -> None:
    control = with_spare("n1 n2 n3 n4 n5")
    before = control.tablet()
    assert move(control, source, target, tablet) == Refused("BadRequest", words)
    assert control.tablet() == before


def test_one_that_moves_is_not_moved_elsewhere() -> None:
    control = moving(nodes="n1 n2 n3 n4 n5")
    assert move(control, "n2", "n5") == Refused("BadRequest", "tablet 1 is moving already, from n2 to n4")
    assert move(control, "n1", "n5") == Refused("BadRequest", "tablet 1 is moving already, from n2 to n4")


def test_a_node_that_cannot_work_takes_nothing() -> None:
    for trouble in ("disabled", "stalled", "silent", "stopping"):
        control = with_spare()
        if trouble == "disabled":
            control.disable("n4")
        elif trouble == "stalled":
            control.disk_age["n4"] = settings.DISK_STALL + 1.0
        elif trouble == "silent":
            control.kill("n4")
        else:
            control.leave("n4")
        control.pass_time(DETECTED)
        answer = move(control, "n2", "n4")
        assert isinstance(answer, Refused), trouble
        assert "n4 cannot take a replica" in answer.message


def test_nor_one_without_room() -> None:
    control = with_spare()
    control.bytes[1], control.disk_free["n4"] = 5_000_000, 5_000_000.0 + settings.MOVE_LEAVES
    control.pass_time(1.0)
    answer = move(control, "n2", "n4")
    assert isinstance(answer, Refused)
    assert answer.message == (
        "n4 has no room on its disk for tablet 1, which has 5,000,000 bytes, and 1,024 MiB besides"
    )
    control.disk_free["n4"] += 1.0
    control.pass_time(1.0)
    assert isinstance(move(control, "n2", "n4"), Done)


def test_nothing_moves_where_nobody_leads() -> None:
    control = with_spare()
    for name in ("n1", "n2", "n3"):
        control.kill(name)
    control.pass_time(DETECTED)
    answer = move(control, "n2", "n4")
    assert isinstance(answer, Refused)
    assert "nobody leads tablet 1" in answer.message


def test_a_move_is_withdrawn_by_an_operator() -> None:
    control = moving()
    assert isinstance(control.request(WithdrawMove(1, "n2", "n4")), Done)
    now = control.tablet()
    assert (now.replicas, now.leaving, now.learners) == (("n1", "n2", "n3"), "", ())
    assert owner(control)[:2] == ("n1", ["n1", "n2", "n3"])
    assert control.request(WithdrawMove(2, "n2", "n4")) == Refused("BadRequest", "there is no tablet 2")
    assert control.ask(ChangeKind.ADD, control.member("n4")).done is False


def test_a_withdrawal_that_is_asked_again_touches_no_other_move() -> None:
    """Its answer was lost."""
    control = moving()
    assert isinstance(control.request(WithdrawMove(1, "n2", "n4")), Done)
    epoch = control.tablet().epoch
    assert isinstance(control.request(WithdrawMove(1, "n2", "n4")), Done)
    assert control.tablet().epoch == epoch
    assert isinstance(move(control, "n3", "n4"), Done)
    assert control.request(WithdrawMove(1, "n2", "n4")) == Refused(
        "BadRequest", "no replica of tablet 1 is moving from n2 to n4"
    )
    assert control.tablet().leaving == "n3"


def test_it_is_too_late_to_withdraw_when_the_new_copy_counts() -> None:
    """n3 is away: without n4 the set would be smaller, and without n2 nothing is missing."""
    control = moving()
    control.kill("n3", told=True)
    learnt(control, "n4")
    answer = control.request(WithdrawMove(1, "n2", "n4"))
    assert isinstance(answer, Refused)
    assert "n4 holds all of tablet 1 by now" in answer.message
    assert control.set_of() == ["n1", "n2", "n4"]


def test_the_status_says_what_moves_and_counts_it_once() -> None:
    control = moving()
    (tablet,) = control.status()["tablets"]
    assert tablet["moving"] == {"from": "n2", "to": "n4"}
    assert (tablet["wanted"], tablet["in_sync"]) == (3, ["n1", "n2", "n3"])
    learnt(control, "n4")
    control.pass_time(0.5)
    (tablet,) = control.status()["tablets"]
    assert (tablet["moving"], tablet["wanted"], tablet["in_sync"]) == (None, 3, ["n1", "n3", "n4"])


def test_a_journal_from_before_there_were_moves_is_read() -> None:
    control = with_spare()
    before = control.tablet()
    for record in control.journal:
        for written in record.get("configurations", ()):
            del written[12:]  # what came after `since`
    control.restart()
    assert control.tablet() == before
    control.beat()
    assert isinstance(move(control, "n2", "n4"), Done)


def test_of_a_replica_that_moves_nobody_is_told_that_it_will_be_rebuilt() -> None:
    """The node that it comes from is gone: the copy that is being made is the one that replaces it."""
    control = moving()
    control.kill("n2", told=True)
    control.pass_time(5.0)
    assert "n2" not in control.set_of()
    assert [node["rebuilt_in_s"] for node in control.status()["nodes"]] == [None] * 4
