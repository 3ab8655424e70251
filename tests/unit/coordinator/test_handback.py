"""Leads that go back after failures, and planned hand-overs that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from kvstore import settings
from kvstore.messages import ChangeKind
from tests.unit.coordinator.control import CREATION, Control

PAST = settings.LEAD_STEADY + 0.5


def cluster(tablets: int = 1) -> Control:
    """Three nodes, each the first in the order of every third tablet."""
    return Control(replace(CREATION, splits=[chr(ord("b") + n) for n in range(tablets - 1)])).formed()


def leaders(control: Control) -> list[str | None]:
    """Who leads each tablet."""
    return [control.leader(tablet) for tablet in sorted(control.coordinator._configurations)]


def learnt(control: Control, name: str) -> None:
    """The primaries have the node taken in wherever it learns."""
    for tablet, configuration in list(control.coordinator._configurations.items()):
        if control.member(name) in configuration.learners:
            assert control.ask(ChangeKind.ADD, control.member(name), tablet=tablet).done


def back(control: Control, name: str) -> None:
    """A node's process died; it is started again, and catches up."""
    control.kill(name, told=True)
    control.boot(name)
    learnt(control, name)


def test_a_lead_goes_back_to_the_first_in_order_when_all_is_well_again() -> None:
    control = cluster()
    back(control, "n1")
    before = control.tablet()
    assert control.leader() == "n2"
    control.pass_time(PAST)
    now = control.tablet()
    assert (control.leader(), now.epoch, now.in_sync) == ("n1", before.epoch + 1, before.in_sync)
    assert now.since == now.epoch
    assert now.former == (control.member("n2"),), "it may still think that it leads"
    assert control.journal[-1]["because"] == ["tablet 1: the lead goes back to n1, the first in its order"]


def test_not_before_the_set_was_full_and_unchanged_for_a_while() -> None:
    control = cluster()
    back(control, "n1")
    control.pass_time(settings.LEAD_STEADY - 1.0)
    control.ask(ChangeKind.REMOVE, control.member("n3"))
    control.pass_time(PAST)
    assert control.leader() == "n2", "n3 is missing"
    learnt(control, "n3")
    control.pass_time(settings.LEAD_STEADY - 1.0)
    assert control.leader() == "n2"
    control.pass_time(1.5)
    assert control.leader() == "n1"


def test_not_while_anybody_in_the_set_is_late() -> None:
    control = cluster()
    back(control, "n1")
    control.pass_time(settings.LEAD_STEADY - 1.0)
    control.up.discard("n3")
    control.pass_time(settings.HEARTBEAT_DEAD - 0.1)
    assert (control.leader(), control.set_of()) == ("n2", ["n1", "n2", "n3"])


def test_not_to_a_node_whose_disk_is_in_trouble_or_whose_replica_is_damaged() -> None:
    def stalled(control: Control) -> None:
        control.disk_age["n3"] = settings.DISK_STALL + 0.1

    def damaged(control: Control) -> None:
        control.intact["n1"] = False

    troubles: list[Callable[[Control], None]] = [stalled, damaged]
    for trouble in troubles:
        control = cluster()
        back(control, "n1")
        trouble(control)
        control.pass_time(PAST)
        assert control.leader() == "n2", trouble


def test_one_tablet_after_another() -> None:
    control = cluster(9)
    back(control, "n1")
    assert leaders(control) == ["n2", "n2", "n3"] * 3
    came_back: list[float] = []
    for _ in range(80):
        before = leaders(control).count("n1")
        control.pass_time(0.25)
        came_back += [control.now] * (leaders(control).count("n1") - before)
    assert leaders(control) == ["n1", "n2", "n3"] * 3
    assert all(later - sooner >= settings.HAND_BACK_PAUSE for sooner, later in pairwise(came_back)), came_back


def test_then_it_stays_so() -> None:
    control = cluster(6)
    back(control, "n1")
    control.pass_time(PAST + 20.0)
    epochs = [control.tablet(tablet).epoch for tablet in range(1, 7)]
    control.pass_time(600.0)
    assert [control.tablet(tablet).epoch for tablet in range(1, 7)] == epochs


def test_a_node_that_comes_and_goes_gets_its_leads_later_each_time() -> None:
    control = cluster()
    waited = []
    for _ in range(4):
        back(control, "n1")
        start = control.now
        while control.leader() != "n1":
            control.pass_time(0.25)
        waited.append(round((control.now - start) / settings.LEAD_STEADY))
    assert waited == [1, 2, 4, 8]


def test_faults_of_long_ago_are_forgotten() -> None:
    control = cluster()
    for _ in range(4):
        back(control, "n1")
    control.pass_time(settings.FAULT_REMEMBERED)
    back(control, "n1")
    control.pass_time(PAST)
    assert control.leader() == "n1"


def test_to_be_restarted_in_order_is_no_fault() -> None:
    control = cluster()
    for _ in range(4):
        control.leave("n1")
        back(control, "n1")
        control.pass_time(PAST)
    control.leave("n1")
    back(control, "n1")
    control.pass_time(PAST)
    assert control.leader() == "n1"


def test_a_restarted_coordinator_watches_for_a_while_first() -> None:
    control = cluster()
    back(control, "n1")
    control.pass_time(settings.LEAD_STEADY - 1.0)
    control.restart()
    control.pass_time(settings.LEAD_STEADY - 1.0)
    assert control.leader() == "n2"
    control.pass_time(1.5)
    assert control.leader() == "n1"


# ---------------------------------------------------------------- planned hand-overs


def test_of_those_who_may_lead_the_first_that_need_not_wait_does() -> None:
    """n1 has just been restarted: it may have promised something in its former life, and leads nothing for a while."""
    control = cluster()
    control.leave("n1")
    back(control, "n1")
    assert (control.leader(), control.set_of()) == ("n2", ["n1", "n2", "n3"])
    control.leave("n2")
    assert (control.leader(), control.set_of()) == ("n3", ["n1", "n3"])


def test_a_primary_that_is_asked_to_go_stays_until_somebody_can_take_over_at_once() -> None:
    for ask in (Control.leave, Control.disable):
        control = Control(replace(CREATION, replication=2, nodes_expected=2), nodes="n1 n2").formed()
        back(control, "n1")
        assert (control.leader(), control.set_of()) == ("n2", ["n1", "n2"])
        ask(control, "n2")
        control.pass_time(settings.SEASONED - 0.2)
        assert (control.leader(), control.set_of()) == ("n2", ["n1", "n2"])
        control.pass_time(0.5)
        assert (control.leader(), control.set_of()) == ("n1", ["n1"])


def test_one_that_died_is_followed_by_a_young_process_if_there_is_no_other() -> None:
    control = Control(replace(CREATION, replication=2, nodes_expected=2), nodes="n1 n2").formed()
    back(control, "n1")
    control.kill("n2", told=True)
    assert (control.leader(), control.set_of()) == ("n1", ["n1"])
