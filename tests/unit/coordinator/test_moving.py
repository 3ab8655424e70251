"""A replica goes from one node to another, and whatever may happen in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvstore import settings
from kvstore.coordinator.effects import Journal
from kvstore.messages import ChangeKind, Heartbeat, ReplicaReport
from tests.unit.coordinator.control import CREATION, Control
from tests.unit.coordinator.moves import DETECTED, GRACE, learnt, move, moving, owner, with_spare


def on_either_side_of_the_last_record(control: Control) -> list[Any]:
    """What a coordinator makes of the journal without its last record, and with it; from a snapshot it is the same."""
    found = []
    for journal in (control.journal[:-1], control.journal):
        other = Control(control.creation, nodes="n1 n2 n3")
        other.journal, other.now = journal, control.now
        other.restart()
        found.append(other.tablet())
        other.restart(snapshot=True)
        assert other.tablet() == found[-1]
    return found


def reasons(control: Control) -> list[str]:
    """What was decided since the effects were cleared, in words."""
    records: list[dict[str, Any]] = [effect.record for effect in control.effects if isinstance(effect, Journal)]
    return [word for record in records for word in record.get("because", ())]


# ---------------------------------------------------------------- as it should go


def test_a_replica_moves_in_two_records_and_the_set_is_never_smaller_than_before() -> None:
    control = with_spare()
    before = owner(control)
    control.effects.clear()
    move(control, "n2", "n4")
    now = control.tablet()
    assert (now.replicas, now.leaving, now.learners) == (("n1", "n2", "n3", "n4"), "n2", (control.member("n4"),))
    assert owner(control) == before, "who leads and who counts is as before"
    control.pass_time(30.0)
    assert control.tablet() == now, "it takes as long as it takes"
    learnt(control, "n4")
    assert control.set_of() == ["n1", "n2", "n3", "n4"]
    control.pass_time(0.5)
    now = control.tablet()
    assert (now.replicas, now.leaving) == (("n1", "n4", "n3"), ""), "in the same place of the order"
    assert owner(control) == ("n1", ["n1", "n3", "n4"], before[2]), "the same leadership: nobody waits for anything"
    words = reasons(control)
    assert words == [
        "tablet 1: its replica on n2 moves to n4, as an operator asked",
        "tablet 1: its replica on n2 has moved to n4",
    ]


def test_the_beginning_is_one_record_and_a_crash_on_either_side_leaves_one_owner() -> None:
    control = with_spare()
    before = control.tablet()
    records = len(control.journal)
    move(control, "n2", "n4")
    assert len(control.journal) == records + 1
    after = control.tablet()
    assert on_either_side_of_the_last_record(control) == [before, after]
    assert (after.primary, after.in_sync, after.since) == (before.primary, before.in_sync, before.since)
    assert (after.epoch, after.range_version) == (before.epoch + 1, before.range_version)


def test_the_end_is_one_record_and_a_crash_on_either_side_leaves_one_owner() -> None:
    control = moving("n1")  # which leads
    learnt(control, "n4")
    before = control.tablet()
    control.pass_time(0.5)
    after = control.tablet()
    assert on_either_side_of_the_last_record(control) == [before, after]
    assert (before.primary, after.primary) == (control.member("n1"), control.member("n4"))
    assert after.since == after.epoch == before.epoch + 1
    assert "n1" not in {member.node for member in after.in_sync}
    assert after.former == (control.member("n1"),), (
        "what was granted to it is waited for until it says that it stepped down"
    )


def test_a_coordinator_that_starts_anew_goes_on_with_what_is_under_way() -> None:
    control = moving()
    control.restart()
    control.beat()
    learnt(control, "n4")
    control.restart(snapshot=True)
    control.pass_time(settings.COORDINATOR_GRACE + 1.0)
    assert control.tablet().replicas == ("n1", "n4", "n3")


def test_a_primary_that_leaves_hands_over_in_the_same_record_to_the_first_of_the_new_order() -> None:
    control = moving("n1")
    learnt(control, "n4")
    assert control.leader() == "n1", "until then it leads on"
    control.pass_time(0.5)
    assert owner(control)[:2] == ("n4", ["n2", "n3", "n4"])
    control.pass_time(30.0)
    assert owner(control)[:2] == ("n4", ["n2", "n3", "n4"])


def test_it_hands_over_to_none_that_would_have_to_wait() -> None:
    """All the others have just started: whoever was made primary would serve nothing for a second."""
    control = moving("n1")
    learnt(control, "n4")
    for name in ("n2", "n3", "n4"):
        control.boot(name)
    for name in ("n2", "n3", "n4"):
        learnt(control, name)
    control.pass_time(0.5)
    assert control.leader() == "n1"
    assert "n1" in control.tablet().replicas
    control.pass_time(settings.SEASONED)
    assert control.leader() == "n4"
    assert "n1" not in control.tablet().replicas


def test_a_move_that_was_asked_for_is_no_fault_of_the_node() -> None:
    control = moving("n1")
    learnt(control, "n4")
    control.pass_time(1.0)
    assert control.coordinator._membership.nodes["n1"].faults == []


def test_the_order_of_one_who_leaves_from_the_end() -> None:
    control = moving("n3")
    learnt(control, "n4")
    control.pass_time(0.5)
    assert control.tablet().replicas == ("n1", "n2", "n4")


def test_a_tablet_of_one_replica_moves_too() -> None:
    control = Control(replace(CREATION, replication=1, nodes_expected=1), nodes="n1").formed()
    control.join("n2")
    control.pass_time(2.0)
    move(control, "n1", "n2")
    learnt(control, "n2")
    control.pass_time(0.5)
    assert (control.tablet().replicas, owner(control)[:2]) == (("n2",), ("n2", ["n2"]))


# ---------------------------------------------------------------- what may happen in between


def test_the_node_that_it_goes_to_dies_and_is_back() -> None:
    control = moving()
    control.kill("n4", told=True)
    control.pass_time(10.0)
    assert (control.tablet().leaving, control.set_of()) == ("n2", ["n1", "n2", "n3"])
    assert control.tablet().learners == ()
    control.boot("n4")
    assert control.tablet().learners == (control.member("n4"),)
    learnt(control, "n4")
    control.pass_time(0.5)
    assert control.tablet().replicas == ("n1", "n4", "n3")


def test_the_node_that_it_goes_to_dies_when_it_had_just_been_taken_in() -> None:
    control = moving()
    learnt(control, "n4")
    control.kill("n4", told=True)
    control.pass_time(1.0)
    assert (control.tablet().leaving, control.set_of()) == ("n2", ["n1", "n2", "n3"])


@pytest.mark.parametrize("after", [GRACE, None])
def test_a_move_to_a_node_that_stays_away_is_withdrawn(after: float | None) -> None:
    control = moving(after=after)
    patience = GRACE if after else settings.REBUILD_AFTER
    control.kill("n4")
    control.pass_time(patience)
    assert control.tablet().leaving == "n2"
    control.effects.clear()
    control.pass_time(DETECTED)
    assert (control.tablet().leaving, control.tablet().replicas) == ("", ("n1", "n2", "n3"))
    words = reasons(control)
    assert words == [
        f"tablet 1: its replica on n2 does not move to n4 after all: n4 has been gone for {patience:g} s",
    ]
    control.boot("n4")
    control.pass_time(1.0)
    assert control.tablet().learners == ()


@pytest.mark.parametrize(("trouble", "words"), [("full", "is full"), ("stalled", "stalls")])
def test_a_move_to_a_node_whose_disk_takes_nothing_for_long_is_withdrawn(trouble: str, words: str) -> None:
    control = moving()
    if trouble == "full":
        control.full = {"n4"}
    else:
        control.disk_age["n4"] = settings.DISK_STALL + 1.0
    control.pass_time(GRACE)
    assert control.tablet().leaving == "n2"
    control.effects.clear()
    control.pass_time(DETECTED)
    assert (control.tablet().leaving, control.tablet().replicas) == ("", ("n1", "n2", "n3"))
    assert reasons(control) == [
        f"tablet 1: its replica on n2 does not move to n4 after all: n4 has been of no use for 60 s: its disk {words}",
    ]


def test_a_disabled_node_gets_nothing_and_what_was_on_its_way_stays() -> None:
    control = moving()
    control.disable("n4")
    control.pass_time(0.5)
    assert (control.tablet().leaving, control.tablet().replicas) == ("", ("n1", "n2", "n3"))
    assert control.set_of() == ["n1", "n2", "n3"]


def test_the_node_that_it_comes_from_dies_and_the_move_ends_without_it() -> None:
    control = moving()
    control.kill("n2", told=True)
    control.pass_time(2 * GRACE)
    assert (control.tablet().leaving, control.set_of()) == ("n2", ["n1", "n3"]), "nor is it rebuilt elsewhere meanwhile"
    learnt(control, "n4")
    control.pass_time(0.5)
    assert (control.tablet().replicas, control.set_of()) == (("n1", "n4", "n3"), ["n1", "n3", "n4"])


def test_the_node_that_it_comes_from_is_disabled_and_the_move_ends_without_it() -> None:
    control = moving("n1")
    control.disable("n1")
    assert owner(control)[:2] == ("n2", ["n2", "n3"])
    learnt(control, "n4")
    control.pass_time(0.5)
    assert (control.tablet().replicas, control.leader()) == (("n4", "n2", "n3"), "n2")


def test_the_primary_dies_and_another_of_the_set_leads_on_with_the_move() -> None:
    control = moving("n2")
    control.kill("n1", told=True)
    assert owner(control)[:2] == ("n2", ["n2", "n3"]), "the one that is to leave may lead until then"
    assert control.tablet().learners == (control.member("n4"),)
    control.boot("n1")
    control.pass_time(2.0)
    learnt(control, "n1")
    learnt(control, "n4")
    control.pass_time(0.5)
    assert control.tablet().replicas == ("n1", "n4", "n3")
    assert owner(control)[:2] == ("n1", ["n1", "n3", "n4"])


def test_a_learner_is_never_promoted_whoever_dies() -> None:
    control = moving()
    for name in ("n1", "n2", "n3"):
        control.kill(name, told=True)
    control.pass_time(3 * GRACE)
    assert control.set_of() == ["n3"], "the last that was left: for it the tablet waits"
    assert control.status()["tablets"][0]["waiting_for"] == ["n3"]


def test_while_another_member_is_away_the_copy_that_is_to_leave_stays() -> None:
    control = moving()
    control.kill("n3", told=True)
    learnt(control, "n4")
    control.pass_time(GRACE / 2)
    assert (control.tablet().leaving, control.set_of()) == ("n2", ["n1", "n2", "n4"])
    control.boot("n3")
    control.pass_time(1.0)
    learnt(control, "n3")
    control.pass_time(0.5)
    assert (control.tablet().replicas, control.set_of()) == (("n1", "n4", "n3"), ["n1", "n3", "n4"])


def test_a_copy_is_not_let_go_while_the_heartbeat_of_another_is_late() -> None:
    control = moving()
    learnt(control, "n4")
    control.up.discard("n3")
    control.now += settings.HEARTBEAT_SUSPECT + 0.1
    control.beat()
    control.coordinator.tick(control.now)
    control.take()
    assert control.set_of() == ["n1", "n2", "n3", "n4"]
    assert control.tablet().leaving == "n2"


def test_a_copy_is_not_let_go_for_one_whose_process_has_started_anew() -> None:
    """Its set still names the former run, for a coordinator that has just started decides nothing before all were heard."""
    control = moving()
    learnt(control, "n4")
    control.restart()
    control.up.discard("n2")
    control.boot("n4")
    control.pass_time(settings.COORDINATOR_GRACE - 0.5)
    assert (control.tablet().leaving, control.set_of()) == ("n2", ["n1", "n2", "n3", "n4"])
    control.pass_time(1.0)
    assert (control.tablet().leaving, control.tablet().learners) == ("n2", (control.member("n4"),)), "it learns anew"


def test_a_copy_is_not_let_go_for_one_that_was_found_damaged() -> None:
    control = moving()
    learnt(control, "n4")
    control.damaged("n4")
    control.pass_time(5.0)
    assert (control.tablet().leaving, control.set_of()) == ("n2", ["n1", "n2", "n3"])


@pytest.mark.parametrize("taken_in", [True, False])
def test_if_a_third_node_stays_away_the_copy_that_is_being_made_takes_its_place(taken_in: bool) -> None:
    control = moving()
    control.kill("n3")
    control.pass_time(DETECTED)
    if taken_in:
        learnt(control, "n4")
    control.pass_time(GRACE)
    now = control.tablet()
    assert (now.replicas, now.leaving) == (("n1", "n2", "n4"), ""), "and nobody leaves"
    assert control.set_of() == (["n1", "n2", "n4"] if taken_in else ["n1", "n2"])
    if not taken_in:
        learnt(control, "n4")
    assert control.set_of() == ["n1", "n2", "n4"]


def test_if_both_a_third_node_and_the_one_that_it_goes_to_stay_away_a_spare_is_used() -> None:
    control = moving(nodes="n1 n2 n3 n4 n5")
    control.kill("n3")
    control.kill("n4")
    control.pass_time(GRACE + DETECTED)
    now = control.tablet()
    assert (now.replicas, now.leaving) == (("n1", "n2", "n5"), "")


@pytest.mark.parametrize("trouble", ["away", "full"])
def test_if_the_node_that_it_goes_to_is_missing_a_third_ones_replica_is_rebuilt_on_a_spare_and_the_move_waits(
    trouble: str,
) -> None:
    control = moving(nodes="n1 n2 n3 n4 n5")
    control.kill("n3")
    control.pass_time(GRACE - 10.0)
    if trouble == "away":
        control.kill("n4")
    else:
        control.full = {"n4"}
    control.pass_time(10.0 + DETECTED)
    now = control.tablet()
    assert (now.replicas, now.leaving) == (("n1", "n2", "n5", "n4"), "n2")
    control.pass_time(GRACE)
    now = control.tablet()
    assert (now.replicas, now.leaving) == (("n1", "n2", "n5"), "")


def test_who_alone_holds_everything_keeps_its_place_though_it_is_disabled() -> None:
    """n4 was taken in, then all the others went: whatever becomes of the move, its copy is the one that counts."""
    control = moving()
    control.kill("n3", told=True)
    learnt(control, "n4")
    for name in ("n1", "n2"):
        control.kill(name, told=True)
    control.disable("n4")
    control.pass_time(2.0)
    assert owner(control)[:2] == ("n4", ["n4"])
    assert "n4" in control.tablet().replicas


def test_if_both_ends_of_a_move_stay_away_it_is_withdrawn_and_the_replica_rebuilt() -> None:
    control = moving(nodes="n1 n2 n3 n4 n5")
    control.kill("n2")
    control.kill("n4")
    control.pass_time(GRACE + DETECTED)
    now = control.tablet()
    assert (now.replicas, now.leaving) == (("n1", "n5", "n3"), "")


def test_everything_restarts_together_in_the_middle() -> None:
    control = moving()
    for name in ("n1", "n2", "n3", "n4"):
        control.kill(name)
    control.restart()
    control.pass_time(0.5)
    for name in ("n4", "n3", "n2", "n1"):
        control.boot(name)
    control.pass_time(3.0)
    assert (control.set_of(), control.tablet().leaving) == (["n1", "n2", "n3"], "n2")
    assert control.tablet().learners == (control.member("n4"),)


def test_fewer_are_never_in_sync_than_writes_need() -> None:
    control = moving("n1", min_in_sync=3)
    for _ in range(2):
        assert len(control.set_of()) >= 3
        learnt(control, "n4") if "n4" not in control.set_of() else None
        control.pass_time(1.0)
    assert owner(control)[:2] == ("n4", ["n2", "n3", "n4"])


def test_a_primary_that_sleeps_through_the_end_changes_nothing_when_it_wakes() -> None:
    control = moving("n1")
    learnt(control, "n4")
    epoch, n1 = control.tablet().epoch, control.member("n1")
    control.pass_time(0.5)
    after = control.tablet()
    answer = control.ask(ChangeKind.REMOVE, control.member("n4"), epoch=epoch, sender=n1)
    assert (answer.done, answer.configuration) == (False, after), "it is told who leads instead"


def test_a_report_from_before_it_was_taken_in_does_not_stand_in_the_way() -> None:
    """n4's heartbeat, sent while it learnt, arrives after its primary vouched for it."""
    control = moving()
    known = control.tablet().epoch
    learnt(control, "n4")
    late = ReplicaReport(1, False, "learner", 0, 0, 0, known_epoch=known)
    control.now += 0.05
    control.coordinator.from_node("n4", Heartbeat(control.member("n4"), 0.0, [late], {}), control.now)
    control.coordinator.tick(control.now)
    control.take()
    assert control.tablet().replicas == ("n1", "n4", "n3")
