"""Replicas of nodes that stay away, and the spares that get them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvstore import settings
from kvstore.control import Done, SetRebuildAfter
from kvstore.coordinator.creation import Creation
from kvstore.coordinator.effects import Journal
from kvstore.errors import BadRequest
from kvstore.messages import ChangeKind, Configuration, Refused
from tests.unit.coordinator.control import CREATION, Control

GRACE = 60.0
LARGE = 10 * 1024 * settings.MIB
DETECTED = settings.HEARTBEAT_DEAD + 0.5


def with_spare(nodes: str = "n1 n2 n3 n4", *, tablets: int = 1, after: float | None = GRACE) -> Control:
    """A cluster on the first three nodes; the others join later, and are spares."""
    splits = [chr(ord("b") + number) for number in range(tablets - 1)]
    control = Control(replace(CREATION, splits=splits, rebuild_after=after), nodes="n1 n2 n3").formed()
    for name in nodes.split()[3:]:
        control.join(name)
    control.pass_time(2.0)
    return control


def learnt(control: Control, name: str, tablet: int = 1) -> None:
    """The primary has the learner taken in."""
    answer = control.ask(ChangeKind.ADD, control.member(name), tablet=tablet)
    assert answer.done, answer


def places(control: Control) -> dict[int, tuple[str, ...]]:
    """Where each tablet belongs."""
    return {tablet: c.replicas for tablet, c in control.coordinator._configurations.items()}


def test_a_replica_whose_node_stays_away_is_rebuilt_on_the_spare() -> None:
    control = with_spare()
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    now = control.tablet()
    assert now.replicas == ("n1", "n2", "n4"), "in the same place of the order"
    assert now.learners == (control.member("n4"),)
    assert (control.leader(), control.set_of()) == ("n1", ["n1", "n2"]), "who leads and who counts is as before"
    assert now.since == 2, "the same leadership: nobody waits for anything"
    learnt(control, "n4")
    assert control.set_of() == ["n1", "n2", "n4"]


def test_not_before_the_grace_has_passed() -> None:
    control = with_spare()
    control.kill("n3")
    control.pass_time(GRACE)
    assert control.tablet().replicas == ("n1", "n2", "n3")
    control.up.add("n3")
    control.pass_time(1.0)
    control.kill("n3")
    control.pass_time(GRACE)
    assert control.tablet().replicas == ("n1", "n2", "n3"), "it was back meanwhile"


def test_a_restarted_coordinator_counts_the_grace_anew() -> None:
    """It knows when it heard nobody, not when nobody was there."""
    control = with_spare()
    control.kill("n3")
    control.pass_time(GRACE - 5.0)
    control.restart()
    control.pass_time(GRACE - 5.0)
    assert control.tablet().replicas == ("n1", "n2", "n3")
    control.pass_time(10.0)
    assert control.tablet().replicas == ("n1", "n2", "n4")


def test_time_in_which_the_coordinator_itself_was_paused_does_not_count() -> None:
    """Its machine sleeps for an hour: what it did not hear meanwhile says nothing about anybody."""
    control = with_spare()
    control.now += 3600.0
    control.beat("n1 n2 n4")
    control.coordinator.tick(control.now)
    control.take()
    control.pass_time(1.0)
    assert control.tablet().replicas == ("n1", "n2", "n3")


def test_a_node_that_an_operator_disabled_is_not_gone() -> None:
    control = with_spare()
    control.disable("n3")
    control.pass_time(2 * GRACE)
    control.kill("n3", told=True)  # and now its machine is opened
    control.pass_time(2 * GRACE)
    assert control.tablet().replicas == ("n1", "n2", "n3")
    control.disable("n3", False)  # it will not come back after all
    control.pass_time(GRACE + DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n4")


def test_the_grace_of_a_node_that_is_enabled_begins_then() -> None:
    """Its machine was opened for a day. Whoever enables it, and then starts it, must not find its place given away."""
    control = with_spare()
    control.disable("n3")
    control.kill("n3", told=True)
    control.pass_time(10 * GRACE)
    control.disable("n3", False)
    control.pass_time(GRACE)
    assert control.tablet().replicas == ("n1", "n2", "n3")
    control.pass_time(DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n4")


def test_nobody_in_the_set_is_ever_replaced() -> None:
    """n1 alone holds everything: until it is back the tablet waits, however long, and whoever else is there."""
    control = with_spare()
    for name in ("n2", "n3"):
        control.kill(name, told=True)
    assert control.set_of() == ["n1"]
    control.kill("n1")
    before = control.tablet()
    control.pass_time(3 * GRACE)
    assert control.tablet().replicas == ("n1", "n2", "n3"), "nor anybody else's place: nobody is there to learn from"
    assert control.tablet().in_sync == before.in_sync
    control.boot("n1")
    control.pass_time(2.0)
    assert (control.leader(), control.set_of()) == ("n1", ["n1"])
    assert "n4" in control.tablet().replicas


def test_a_member_that_is_gone_stays_one_if_the_one_that_is_there_is_damaged() -> None:
    """While the coordinator was down n2 went, and n1 found its replica damaged: n2 alone holds everything."""
    control = with_spare()
    control.kill("n3")
    control.pass_time(DETECTED)
    control.kill("n2")
    control.intact["n1"] = False
    control.restart()
    control.pass_time(3 * GRACE)
    assert control.set_of() == ["n1", "n2"]
    assert "n2" in control.tablet().replicas
    control.boot("n2")
    control.pass_time(2.0)
    assert (control.leader(), control.set_of()) == ("n2", ["n2"])


def test_the_spare_with_fewest_replicas_gets_it_and_of_equals_the_first() -> None:
    control = with_spare("n1 n2 n3 n10 n4", tablets=3)
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    assert places(control)[1] == ("n1", "n2", "n4"), "n4 comes before n10"
    assert places(control)[2] == ("n2", "n10", "n1")
    assert places(control)[3] == ("n4", "n1", "n2")


def test_a_node_that_cannot_work_gets_nothing() -> None:
    for trouble in ("disabled", "stalled", "silent"):
        control = with_spare()
        if trouble == "disabled":
            control.disable("n4")
        elif trouble == "stalled":
            control.disk_age["n4"] = settings.DISK_STALL + 1.0
        else:
            control.kill("n4")
        control.kill("n3")
        control.pass_time(GRACE + DETECTED)
        assert control.tablet().replicas == ("n1", "n2", "n3"), trouble


@pytest.mark.parametrize(("trouble", "words"), [("full", "is full"), ("stalled", "stalls")])
def test_a_node_that_lives_on_and_whose_disk_takes_nothing_is_missing_as_well(trouble: str, words: str) -> None:
    """Its heartbeats come in time; what it belongs to is one copy short all the same."""
    control = with_spare()

    def ails(ill: bool) -> None:
        if trouble == "full":
            control.full = {"n3"} if ill else set()
        else:
            control.disk_age["n3"] = settings.DISK_STALL + 1.0 if ill else 0.0

    ails(True)
    control.pass_time(GRACE)
    assert (control.set_of(), control.tablet().replicas) == (["n1", "n2"], ("n1", "n2", "n3"))
    assert control.status()["nodes"][2]["rebuilt_in_s"] == pytest.approx(settings.HEARTBEAT_DEAD, abs=1.0)
    ails(False)
    control.pass_time(1.0)
    learnt(control, "n3")
    ails(True)
    control.pass_time(GRACE)
    assert control.tablet().replicas == ("n1", "n2", "n3"), "it was well meanwhile"
    control.pass_time(DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n4")
    assert control.tablet().learners == (control.member("n4"),)
    assert control.journal[-1]["because"] == [
        f"tablet 1: the replica of n3 is rebuilt on n4: n3 has been of no use for 60 s: its disk {words}"
    ]
    learnt(control, "n4")
    ails(False)
    control.pass_time(1.0)
    assert (control.set_of(), control.tablet().learners) == (["n1", "n2", "n4"], ()), "it is an outsider from then on"


def test_where_all_disks_are_full_the_last_member_stays_what_it_is_and_the_spare_learns_from_it() -> None:
    control = with_spare()
    control.full = {"n1", "n2", "n3"}
    control.pass_time(3 * GRACE)
    assert (control.leader(), control.set_of()) == ("n3", ["n3"]), "the others' disks were heard to be full before"
    assert control.tablet().replicas == ("n4", "n2", "n3")
    learnt(control, "n4")
    control.pass_time(3 * GRACE)
    assert control.set_of() == ["n4"], "it has room, and all that there is"
    assert control.tablet().replicas == ("n4", "n2", "n3"), "there is no other spare"


def test_a_spare_without_room_gets_nothing() -> None:
    """What is rebuilt there would fill its disk, and cost it its part in all that it holds."""
    control = with_spare("n1 n2 n3 n4 n5")
    control.bytes[1] = LARGE
    control.disk_free["n4"] = float(LARGE) + settings.MOVE_LEAVES
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n5")
    control = with_spare()
    control.bytes[1] = LARGE
    control.disk_free["n4"] = float(LARGE) + settings.MOVE_LEAVES
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n3")
    control.disk_free["n4"] += 1.0
    control.pass_time(2.0)
    assert control.tablet().replicas == ("n1", "n2", "n4"), "it has room by now"


def test_room_is_counted_for_all_that_a_spare_is_getting() -> None:
    control = with_spare(tablets=2)
    control.bytes |= {1: LARGE, 2: LARGE}
    control.disk_free["n4"] = float(2 * LARGE) + settings.MOVE_LEAVES
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    assert sum("n4" in replicas for replicas in places(control).values()) == 1, "for one there is room, and a byte"
    control.disk_free["n4"] += 1.0
    control.pass_time(2.0)
    assert sum("n4" in replicas for replicas in places(control).values()) == 2


def test_a_full_disk_counts_neither_while_the_coordinator_pauses_nor_while_the_node_is_disabled() -> None:
    control = with_spare()
    control.full = {"n3"}
    control.pass_time(GRACE - 10.0)
    control.restart()
    control.pass_time(GRACE - 10.0)
    assert control.tablet().replicas == ("n1", "n2", "n3"), "a coordinator that starts counts anew"
    control.disable("n3")
    control.pass_time(3 * GRACE)
    assert control.tablet().replicas == ("n1", "n2", "n3"), "somebody is at work on it"


def test_one_node_is_given_only_so_many_tablets_at_a_time() -> None:
    control = with_spare(tablets=5)
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    rebuilt = [tablet for tablet, replicas in places(control).items() if "n4" in replicas]
    assert rebuilt == [1, 2]
    control.pass_time(30.0)
    assert [tablet for tablet, replicas in places(control).items() if "n4" in replicas] == [1, 2]
    learnt(control, "n4", 2)
    control.pass_time(0.5)
    assert [tablet for tablet, replicas in places(control).items() if "n4" in replicas] == [1, 2, 3]


def test_a_replacement_is_one_record_and_a_crash_on_either_side_leaves_one_owner() -> None:
    control = with_spare()
    control.kill("n3")
    control.pass_time(GRACE)
    control.effects.clear()
    before = control.tablet()
    control.pass_time(DETECTED)
    records = [e.record for e in control.effects if isinstance(e, Journal)]
    assert len(records) == 1
    assert records[0]["because"] == ["tablet 1: the replica of n3 is rebuilt on n4: n3 has been gone for 60 s"]
    after = control.tablet()
    assert (after.primary, after.in_sync, after.since) == (before.primary, before.in_sync, before.since)
    assert (after.epoch, after.range_version) == (before.epoch + 1, before.range_version)
    without = control.journal[:-1]
    for journal, expected in ((without, before), (control.journal, after)):
        control.journal = journal
        control.restart()
        assert control.tablet() == expected
        control.restart(snapshot=True)
        assert control.tablet() == expected


def test_the_replaced_node_has_no_part_when_it_returns() -> None:
    control = with_spare()
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    control.boot("n3")
    control.pass_time(1.0)
    assert control.tablet().replicas == ("n1", "n2", "n4")
    assert control.tablet().learners == (control.member("n4"),)
    assert control.ask(ChangeKind.ADD, control.member("n3")).done is False


def test_a_learner_that_was_asked_for_before_it_was_replaced_is_not_added_after() -> None:
    control = with_spare()
    control.ask(ChangeKind.REMOVE, control.member("n3"))
    epoch = control.tablet().epoch
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    assert "n3" not in control.tablet().replicas
    assert control.ask(ChangeKind.ADD, control.member("n3"), epoch=epoch).done is False
    assert control.set_of() == ["n1", "n2"]


def test_a_spare_that_goes_as_well_is_replaced_in_its_turn() -> None:
    control = with_spare("n1 n2 n3 n4 n5")
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n4")
    control.kill("n4")
    control.pass_time(GRACE + DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n5")


def test_without_a_spare_nothing_moves_and_one_that_joins_later_is_used() -> None:
    control = with_spare("n1 n2 n3")
    control.kill("n3")
    control.pass_time(GRACE + DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n3")
    control.join("n4")
    control.pass_time(0.5)
    assert control.tablet().replicas == ("n1", "n2", "n4")


def test_an_operator_changes_the_grace_and_that_is_durable() -> None:
    control = with_spare(after=None)
    control.kill("n3")
    control.pass_time(1000.0)
    assert control.tablet().replicas == ("n1", "n2", "n3"), "never"
    assert control.status()["cluster"]["rebuild_after_s"] is None
    assert isinstance(control.request(SetRebuildAfter(20.0)), Done)
    control.restart(snapshot=True)
    assert control.status()["cluster"]["rebuild_after_s"] == 20.0
    control.pass_time(20.0 + DETECTED)
    assert control.tablet().replicas == ("n1", "n2", "n4")


def test_a_grace_that_a_restart_would_exceed_is_refused() -> None:
    control = with_spare()
    answer = control.request(SetRebuildAfter(1.0))
    assert isinstance(answer, Refused)
    assert "2 seconds or more" in answer.message
    assert control.status()["cluster"]["rebuild_after_s"] == GRACE
    with pytest.raises(BadRequest, match="2 seconds or more"):
        Control(Creation("test", r"[^:]*", [], 3, 1, 3, 0.5))


def test_a_cluster_from_before_there_was_a_grace_has_the_usual_one() -> None:
    control = with_spare("n1 n2 n3")
    for record in control.journal:
        record.pop("rebuild_after", None)
    control.restart()
    assert control.status()["cluster"]["rebuild_after_s"] == settings.REBUILD_AFTER


def test_the_status_says_who_is_spare_and_when_who_is_gone_will_be_replaced() -> None:
    control = with_spare()
    control.kill("n3")
    control.pass_time(settings.HEARTBEAT_DEAD + 10.0)
    nodes: dict[str, Any] = {node["id"]: node for node in control.status()["nodes"]}
    assert [nodes[name]["replica_of"] for name in ("n1", "n3", "n4")] == [1, 1, 0]
    assert nodes["n3"]["rebuilt_in_s"] == pytest.approx(GRACE - 10.0, abs=1.0)
    assert nodes["n1"]["rebuilt_in_s"] is None
    control.pass_time(GRACE)
    nodes = {node["id"]: node for node in control.status()["nodes"]}
    assert (nodes["n3"]["replica_of"], nodes["n3"]["rebuilt_in_s"]) == (0, None)
    assert (nodes["n4"]["replica_of"], nodes["n4"]["learner_of"]) == (1, 1)


def test_nobody_is_told_that_a_replica_will_be_rebuilt_which_the_tablet_waits_for() -> None:
    control = with_spare()
    for name in ("n2", "n3"):
        control.kill(name, told=True)
    control.kill("n1")
    control.pass_time(3 * GRACE)
    nodes: dict[str, Any] = {node["id"]: node for node in control.status()["nodes"]}
    assert [nodes[name]["rebuilt_in_s"] for name in ("n1", "n2", "n3")] == [None, None, None]


def test_the_status_says_that_a_node_is_disabled_also_when_it_is_down() -> None:
    control = with_spare()
    control.disable("n3")
    control.kill("n3", told=True)
    control.pass_time(1.0)
    nodes: dict[str, Any] = {node["id"]: node for node in control.status()["nodes"]}
    assert [(nodes[name]["state"], nodes[name]["disabled"]) for name in ("n1", "n3")] == [("up", False), ("down", True)]


def test_never_two_replicas_of_a_tablet_on_one_node() -> None:
    control = with_spare("n1 n2 n3 n4 n5", tablets=6)
    for name in ("n3", "n2"):
        control.kill(name)
        for _ in range(12):
            control.pass_time(GRACE / 4)
            for tablet in control.coordinator._configurations:
                for learner in control.tablet(tablet).learners:
                    learnt(control, learner.node, tablet)
    configurations: list[Configuration] = list(control.coordinator._configurations.values())
    assert all(len(set(c.replicas)) == 3 and set(control.set_of(c.tablet)) == set(c.replicas) for c in configurations)
    assert all({"n2", "n3"}.isdisjoint(c.replicas) for c in configurations)
