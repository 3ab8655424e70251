"""Who leads, who is in the set, and when nothing at all is decided."""

from __future__ import annotations

import pytest

from kvstore import settings
from kvstore.coordinator import placement
from kvstore.coordinator.creation import Creation
from kvstore.coordinator.effects import Journal, SendNode
from kvstore.coordinator.membership import Membership
from kvstore.errors import BadRequest
from kvstore.messages import ChangeKind, Configuration, Configure, Heartbeat, Member, Register, ReplicaReport
from tests.unit.coordinator.control import Control


def test_a_cluster_is_made_when_all_expected_nodes_are_there() -> None:
    control = Control(Creation("test", r"[^:]*", ["g", "p"], 3, 1, 3))
    control.boot("n2")
    control.boot("n1")
    assert control.coordinator._configurations == {}
    control.boot("n3")
    first = control.tablet(1)
    assert (first.start, first.end, first.epoch, first.primary, first.in_sync) == ("", "g", 1, None, ())
    assert [control.tablet(n).replicas[0] for n in (1, 2, 3)] == ["n1", "n2", "n3"]
    control.beat()  # now with the empty replicas
    assert [control.leader(n) for n in (1, 2, 3)] == ["n1", "n2", "n3"]
    assert control.tablet(3).end is None
    assert control.set_of(2) == ["n1", "n2", "n3"]


def test_a_tablet_is_formed_without_a_node_that_died_meanwhile() -> None:
    control = Control()
    for name in control.boots:
        control.boot(name)
    control.kill("n1")
    control.pass_time(settings.HEARTBEAT_DEAD + 0.5)
    assert (control.leader(), control.set_of()) == ("n2", ["n2", "n3"])


def test_a_silent_primary_is_followed_by_the_first_live_member_in_order() -> None:
    control = Control().formed()
    control.kill("n1")
    control.pass_time(settings.HEARTBEAT_DEAD - 0.3)
    assert control.leader() == "n1"
    control.pass_time(0.6)
    assert (control.leader(), control.set_of(), control.tablet().epoch) == ("n2", ["n2", "n3"], 3)
    assert control.tablet().since == 3
    assert control.tablet().former == (control.member("n1"),), "it may still think that it leads"


def test_a_reaped_primary_is_followed_at_once_and_nobody_need_wait_for_it() -> None:
    control = Control().formed()
    control.kill("n1", told=True)
    assert (control.leader(), control.tablet().former) == ("n2", ())


def test_a_word_about_another_process_changes_nothing() -> None:
    control = Control().formed()
    control.boots["n1"] += 1
    control.kill("n1", told=True)
    assert control.leader() == "n1"


def test_a_silent_secondary_leaves_the_set_and_the_lead_goes_on() -> None:
    control = Control().formed()
    control.kill("n3")
    control.pass_time(2.0)
    assert (control.leader(), control.set_of(), control.tablet().since) == ("n1", ["n1", "n2"], 2)


def test_a_restart_faster_than_detection_ends_the_old_roles() -> None:
    control = Control().formed()
    control.boot("n1")  # no time has passed, no heartbeat was missed
    assert (control.leader(), control.set_of(), control.tablet().epoch) == ("n2", ["n2", "n3"], 3)
    assert control.tablet().learners == (control.member("n1"),)
    assert control.tablet().former == (), "the folder was locked by the old run: it has ended"


def test_a_member_that_was_away_learns_even_if_it_never_stopped() -> None:
    control = Control().formed()
    control.kill("n3")
    control.pass_time(2.0)
    control.up.add("n3")
    control.pass_time(0.5)
    assert control.set_of() == ["n1", "n2"]
    assert control.tablet().learners == (control.member("n3"),)


def test_only_a_member_of_the_last_set_is_promoted_whoever_comes_back_first() -> None:
    control = Control().formed()
    control.kill("n3")
    control.pass_time(2.0)
    assert control.set_of() == ["n1", "n2"]
    for name in ("n1", "n2"):
        control.kill(name)
    control.pass_time(3.0)
    control.boot("n3")
    control.pass_time(10.0)
    assert control.set_of() == ["n1", "n2"], "n3 missed writes"
    (shown,) = control.status()["tablets"]
    assert (shown["primary"], shown["waiting_for"]) == (None, ["n1", "n2"])
    control.boot("n2")
    assert (control.leader(), control.set_of()) == ("n2", ["n2"])
    assert control.member("n3") in control.tablet().learners


def test_after_a_power_cut_those_of_the_last_set_that_are_back_lead() -> None:
    control = Control().formed()
    for name in list(control.up):
        control.kill(name)
    control.restart()
    control.pass_time(0.5)
    for name in ("n2", "n3"):
        control.boot(name)
    control.pass_time(settings.COORDINATOR_GRACE)
    assert (control.leader(), control.set_of()) == ("n2", ["n2", "n3"])
    assert control.tablet().in_sync == (control.member("n2"), control.member("n3")), "their new runs"


def test_one_that_never_restarted_goes_before_those_that_did() -> None:
    control = Control().formed()
    control.boot("n1")
    control.boot("n2")
    assert (control.leader(), control.set_of()) == ("n3", ["n3"])


def test_a_restarted_coordinator_promotes_nobody_before_it_has_listened() -> None:
    control = Control().formed()
    control.restart()
    control.coordinator.tick(control.now)
    control.now += settings.COORDINATOR_GRACE - 0.1
    control.beat("n2 n3")
    control.coordinator.tick(control.now)
    control.take()
    assert control.leader() == "n1", "n1 was not heard, but nobody has listened for long"
    control.pass_time(0.2)
    control.up.discard("n1")
    control.pass_time(2.0)
    assert control.leader() == "n2"


def test_a_restarted_coordinator_leaves_everything_as_it_was() -> None:
    control = Control().formed()
    control.disable("n3")
    before = control.tablet()
    for snapshot in (False, True):
        control.restart(snapshot=snapshot)
        for name in control.boots:
            control.register(name, same_process=True)
        control.pass_time(4.0)
        assert control.tablet() == before
        assert control.incarnations == {"n1": 1, "n2": 1, "n3": 1}


def test_a_registration_read_late_displaces_nobody() -> None:
    """The last word of a process that died: it registered, and never sent a heartbeat."""
    control = Control().formed()
    late = Register("n1", control.stores["n1"], "n1-long-dead", 0, "n1:1", 77, [])
    control.coordinator.from_node("old connection", late, control.now)
    control.take()
    control.incarnations["n1"] = 1
    control.pass_time(3.0)
    assert (control.leader(), control.tablet().epoch) == ("n1", 2)
    assert not control.coordinator._membership.has_ended(Member("n1", 1))


def test_a_heartbeat_of_a_displaced_run_does_not_count() -> None:
    control = Control().formed()
    control.boot("n1")
    old = Heartbeat(Member("n1", 1), 0.0, [], {})
    control.kill("n1")
    for _ in range(12):
        control.now += 0.25
        control.coordinator.from_node("n1", old, control.now)
        control.beat("n2 n3")
        control.coordinator.tick(control.now)
        control.take()
    assert not control.coordinator._membership.alive("n1")


def test_an_emptied_disk_holds_nothing_and_ends_nobodys_lease() -> None:
    control = Control().formed()
    control.kill("n2")
    control.kill("n3")
    control.pass_time(2.0)
    assert control.set_of() == ["n1"]
    control.kill("n1")
    control.stores["n1"] = "a new folder"
    control.boot("n1")
    control.pass_time(5.0)
    assert control.tablet().in_sync == (Member("n1", 1),), "the tablet waits for the old folder"
    assert not control.coordinator._membership.has_ended(Member("n1", 1)), "that run may go on elsewhere, cut off"
    control.stores["n1"] = "n1-store"  # the right disk is put back
    control.boot("n1")
    assert control.tablet().in_sync == (Member("n1", 3),)


def test_a_member_with_a_damaged_replica_is_not_promoted() -> None:
    control = Control().formed()
    control.intact["n2"] = False
    control.beat()
    assert control.set_of() == ["n1", "n3"]
    control.kill("n1", told=True)
    assert control.leader() == "n3"


def test_damage_is_acted_on_at_once() -> None:
    control = Control().formed()
    control.damaged("n1")
    assert (control.leader(), control.set_of()) == ("n2", ["n2", "n3"])
    assert control.tablet().learners == (control.member("n1"),)


def test_a_node_that_is_about_to_stop_is_relieved_by_its_next_heartbeat() -> None:
    control = Control().formed()
    control.leave("n1")
    assert (control.leader(), control.set_of()) == ("n2", ["n2", "n3"])


def test_a_stalled_disk_costs_lead_and_membership_until_it_recovers() -> None:
    control = Control().formed()
    control.disk_age["n1"] = settings.DISK_STALL + 0.1
    control.beat()
    assert (control.leader(), control.set_of(), control.tablet().learners) == ("n2", ["n2", "n3"], ())
    control.disk_age["n1"] = 0.0
    control.beat()
    assert control.tablet().learners == (control.member("n1"),)


def test_the_only_member_stays_whatever_its_disk_does() -> None:
    control = Control().formed()
    control.kill("n2", told=True)
    control.kill("n3", told=True)
    control.disk_age["n1"] = 60.0
    control.pass_time(1.0)
    assert (control.leader(), control.set_of()) == ("n1", ["n1"])


def test_a_disabled_node_hands_over_in_one_step() -> None:
    control = Control().formed()
    control.disable("n1")
    assert (control.leader(), control.set_of(), control.tablet().epoch) == ("n2", ["n2", "n3"], 3)
    assert control.tablet().learners == ()
    control.disable("n1", False)
    assert control.tablet().learners == (control.member("n1"),)


def test_the_last_copy_is_not_taken_out_of_service() -> None:
    control = Control().formed()
    control.kill("n2", told=True)
    control.kill("n3", told=True)
    control.disable("n1")
    assert control.leader() == "n1"
    (node,) = [node for node in control.status()["nodes"] if node["id"] == "n1"]
    assert node["state"] == "draining"


# ---------------------------------------------------------------- what primaries ask


def test_a_change_is_made_only_under_the_epoch_that_the_primary_names() -> None:
    control = Control().formed()
    assert control.ask(ChangeKind.REMOVE, control.member("n3"), epoch=1).done is False
    answer = control.ask(ChangeKind.REMOVE, control.member("n3"))
    assert (answer.done, control.set_of(), answer.configuration) == (True, ["n1", "n2"], control.tablet())
    again = control.ask(ChangeKind.REMOVE, control.member("n3"), epoch=2)
    assert (again.done, again.configuration.epoch) == (False, 3), "a repeat is told how things stand"


def test_only_the_primary_may_ask_and_not_for_its_own_removal() -> None:
    control = Control().formed()
    assert control.ask(ChangeKind.REMOVE, control.member("n3"), sender=control.member("n2")).done is False
    assert control.ask(ChangeKind.REMOVE, control.member("n1")).done is False
    assert control.set_of() == ["n1", "n2", "n3"]


def test_a_learner_is_added_only_in_the_run_that_learned_and_only_if_fit() -> None:
    control = Control().formed()
    control.ask(ChangeKind.REMOVE, control.member("n3"))
    learned = control.member("n3")
    assert control.tablet().learners == (learned,)
    control.disk_age["n3"] = 5.0
    control.beat("n1 n2")
    control.coordinator.from_node("n3", Heartbeat(learned, 5.0, [], {}), control.now)
    control.take()
    assert control.ask(ChangeKind.ADD, learned).done is False
    control.disk_age["n3"] = 0.0
    control.boot("n3")
    assert control.ask(ChangeKind.ADD, learned).done is False, "that run is over"
    assert control.ask(ChangeKind.ADD, control.member("n3")).done is True
    assert control.set_of() == ["n1", "n2", "n3"]


def test_reports_sent_before_a_learner_was_added_do_not_throw_it_out_again() -> None:
    control = Control().formed()
    control.intact["n3"] = False
    control.beat()
    epoch = control.tablet().epoch
    assert control.ask(ChangeKind.ADD, control.member("n3")).done is True
    stale = Heartbeat(control.member("n3"), 0.0, [ReplicaReport(1, False, "", 0, 0, 0, known_epoch=epoch)], {})
    control.coordinator.from_node("n3", stale, control.now)
    control.take()
    assert control.set_of() == ["n1", "n2", "n3"]
    control.beat("n3")  # and now it says so under the epoch that it was added in
    assert control.set_of() == ["n1", "n2"]


def test_a_learner_that_was_added_before_any_heartbeat_named_its_replica_stays() -> None:
    control = Control().formed()
    control.kill("n3")
    control.pass_time(settings.HEARTBEAT_DEAD + 0.5)
    control.register("n3")
    control.up.add("n3")
    empty = Heartbeat(control.member("n3"), 0.0, [], {})
    control.coordinator.from_node("n3", empty, control.now)
    control.take()
    assert control.ask(ChangeKind.ADD, control.member("n3")).done is True
    control.coordinator.from_node("n3", empty, control.now)
    control.take()
    assert control.set_of() == ["n1", "n2", "n3"]


def test_every_decision_is_durable_before_anybody_hears_of_it() -> None:
    control = Control().formed()
    control.effects.clear()
    control.kill("n1", told=True)
    kinds = [type(effect) for effect in control.effects]
    told = [i for i, e in enumerate(control.effects) if isinstance(e, SendNode) and isinstance(e.message, Configure)]
    journalled = [
        i for i, e in enumerate(control.effects) if isinstance(e, Journal) and e.record["kind"] == "configurations"
    ]
    assert journalled
    assert told
    assert journalled[0] < told[0], kinds


def test_a_creation_that_cannot_be_is_refused_with_what_is_wrong() -> None:
    good: dict[str, object] = {
        "group_rule": r"[^:]*",
        "splits": ["g"],
        "replication": 3,
        "min_in_sync": 1,
        "nodes_expected": 3,
    }
    changes: list[tuple[dict[str, object], str]] = [
        ({"group_rule": "("}, "regular expression"),
        ({"splits": ["g:x"]}, "first row of a group"),
        ({"splits": ["p", "g"]}, "in order"),
        ({"min_in_sync": 4}, "min_in_sync"),
        ({"nodes_expected": 2}, "2 nodes"),
    ]
    for change, said in changes:
        with pytest.raises(BadRequest, match=said):
            Control(Creation("test", **{**good, **change}))  # type: ignore[arg-type]


def test_while_nothing_changes_no_tablet_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control().formed()
    looked: list[int] = []
    decide = placement.decide

    def counted(now: Configuration, nodes: Membership) -> Configuration | None:
        looked.append(now.tablet)
        return decide(now, nodes)

    monkeypatch.setattr(placement, "decide", counted)
    control.coordinator.tick(control.now)
    looked.clear()
    for _ in range(5):
        control.now += 0.02
        control.coordinator.tick(control.now)
    assert looked == []
    control.disk_age["n1"] = 99.0
    control.beat()
    assert looked, "a heartbeat that says something new"
