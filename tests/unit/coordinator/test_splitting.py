"""Splits as the coordinator decides them: one record, two tablets, one owner for each row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvstore import settings
from kvstore.control import Done, SetSplitAbove, SplitTablet, WasSplit
from kvstore.coordinator.decisions import configurations_record
from kvstore.coordinator.effects import Journal, Reply, SendNode
from kvstore.errors import BadRequest, Unavailable
from kvstore.messages import (
    Birth,
    ChangeKind,
    Configuration,
    Configure,
    Heartbeat,
    Member,
    ProposeSplit,
    Refused,
    SplitDeclined,
    SplitRequest,
)
from tests.unit.coordinator.control import CREATION, Control


def asked(control: Control, row: str = "m", tablet: int = 1, **changes: Any) -> list[Any]:
    """The primary asks for a split after its entry (2, 40); the effects."""
    now = control.tablet(tablet)
    assert now.primary is not None
    request = replace(SplitRequest(tablet, now.epoch, now.primary, row, 2, 40), **changes)
    before = len(control.effects)
    control.coordinator.from_node(request.sender.node, request, control.now)
    control.take()
    return control.effects[before:]


def proposals(effects: list[Any]) -> list[tuple[object, ProposeSplit]]:
    """What was proposed, and to whom."""
    sent = [effect for effect in effects if isinstance(effect, SendNode)]
    return [(effect.connection, effect.message) for effect in sent if isinstance(effect.message, ProposeSplit)]


def owners(control: Control) -> list[tuple[str, str | None]]:
    """The ranges of all tablets, in order."""
    return sorted((c.start, c.end) for c in control.coordinator._configurations.values())


def test_a_split_is_one_record_with_two_configurations() -> None:
    control = Control().formed()
    before = control.tablet()
    effects = asked(control)
    (record,) = [effect.record for effect in effects if isinstance(effect, Journal)]
    assert len(record["configurations"]) == 2  # type: ignore[arg-type]
    parent, child = control.tablet(1), control.tablet(2)
    assert parent == replace(before, end="m", range_version=2, epoch=before.epoch + 1)
    born = Birth(1, 2, 40, 2)
    assert child == replace(parent, tablet=2, start="m", end=None, since=parent.epoch, born=born)
    for effect in effects[effects.index(next(e for e in effects if isinstance(e, Journal))) + 1 :]:
        if isinstance(effect, SendNode) and isinstance(effect.message, Configure):
            assert effect.message.configurations == [parent, child], "nobody hears of one half alone"


def test_a_crash_on_either_side_of_the_record_leaves_one_owner_for_each_row() -> None:
    control = Control().formed()
    before = len(control.journal)
    asked(control)
    whole = control.journal
    assert len(whole) == before + 1
    control.journal = whole[:before]
    control.restart()
    assert owners(control) == [("", None)]
    control.journal = whole
    control.restart()
    assert owners(control) == [("", "m"), ("m", None)]
    control.restart(snapshot=True)
    assert owners(control) == [("", "m"), ("m", None)]
    assert control.tablet(2).born == Birth(1, 2, 40, 2)


def test_an_old_request_splits_nothing_and_is_told_how_things_are() -> None:
    control = Control().formed()
    old = control.tablet()
    asked(control)
    (answer,) = asked(control, epoch=old.epoch, row="c")
    assert isinstance(answer, SendNode)
    assert isinstance(answer.message, Configure)
    assert answer.message.configurations == [control.tablet(1), control.tablet(2)]
    assert owners(control) == [("", "m"), ("m", None)]


def test_only_the_run_that_leads_may_ask() -> None:
    control = Control().formed()
    asked(control, sender=control.member("n2"))
    asked(control, sender=Member("n1", 99))
    assert owners(control) == [("", None)]
    control.register("n1")  # a new run, which does not count yet: the old one may have asked just before it ended
    asked(control)
    assert owners(control) == [("", "m"), ("m", None)]


def test_what_cannot_be_granted_gets_a_higher_epoch_so_that_it_never_will_be() -> None:
    """The primary goes on under that one. Were it merely refused, the request repeated would be granted after all, at a
    position that is no longer the last."""
    control = Control(replace(CREATION, group_rule="[^:]*")).formed()
    before = control.tablet()
    asked(control, row="bob:mail")
    assert control.tablet() == replace(before, epoch=before.epoch + 1)
    asked(control, row="c", epoch=before.epoch)
    assert owners(control) == [("", None)]


def test_a_change_that_was_decided_first_wins_and_one_that_comes_after_fails() -> None:
    control = Control().formed()
    old = control.tablet()
    assert control.ask(ChangeKind.REMOVE, control.member("n3")).done
    asked(control, epoch=old.epoch)
    assert owners(control) == [("", None)]
    now = control.tablet()
    asked(control)
    assert not control.ask(ChangeKind.REMOVE, control.member("n2"), epoch=now.epoch).done
    assert control.set_of(2) == control.set_of(1)


def test_new_tablets_are_numbered_on_and_a_child_is_split_as_its_parent_was() -> None:
    control = Control().formed()
    asked(control, row="m")
    asked(control, row="t", tablet=2)
    asked(control, row="c", tablet=1)
    assert owners(control) == [("", "c"), ("c", "m"), ("m", "t"), ("t", None)]
    assert control.tablet(3).born == Birth(2, 2, 40, 3), "of the child, with the next of its range versions"
    assert control.tablet(4).born == Birth(1, 2, 40, 3)


# ---------------------------------------------------------------- who holds the new tablet


def test_a_member_counts_before_its_heartbeat_names_the_new_tablet() -> None:
    """Until it has split its replica, what it has of the parent is what it has of the child."""
    control = Control().formed()
    for name in ("n2", "n3"):
        control.ranges[name, 1] = 1
    asked(control)
    control.pass_time(3.0)
    assert control.set_of(2) == ["n1", "n2", "n3"]
    asked(control, row="t", tablet=2)
    control.pass_time(1.0)
    assert control.set_of(3) == ["n1", "n2", "n3"], "a child's child, likewise"


def test_who_has_split_and_does_not_name_the_new_tablet_has_lost_it() -> None:
    control = Control().formed()
    control.ranges["n3", 1] = 1
    asked(control)
    control.pass_time(1.0)
    coordinator: Any = control.coordinator
    reports = coordinator._membership.nodes["n3"].reports
    reports[1].range_version = 2
    coordinator.tick(control.now + 0.3)
    control.take()
    assert control.set_of(2) == ["n1", "n2"]
    assert control.set_of(1) == ["n1", "n2", "n3"]


def test_whose_replica_of_the_parent_is_damaged_has_none_of_the_child_either() -> None:
    control = Control().formed()
    control.ranges["n3", 1] = 1
    asked(control)
    control.damaged("n3")
    assert control.set_of(1) == control.set_of(2) == ["n1", "n2"]


def test_the_former_primary_of_the_parent_is_waited_for_at_the_child() -> None:
    """Whoever led the parent, and may still hold leases, may serve rows that are the child's."""
    control = Control().formed()
    first = control.member("n1")
    control.kill("n1")
    control.pass_time(settings.HEARTBEAT_DEAD + 0.5)
    asked(control)
    assert control.leader(2) == "n2"
    assert control.tablet(2).former == (first,)
    control.kill("n2")
    control.pass_time(settings.HEARTBEAT_DEAD + 0.5)
    assert set(control.tablet(2).former) == {first, control.member("n2")}


def test_what_is_under_way_is_under_way_in_both_halves() -> None:
    control = Control().formed()
    control.kill("n3")
    control.pass_time(settings.HEARTBEAT_DEAD + 0.5)
    control.boot("n3")
    assert control.tablet().learners == (control.member("n3"),)
    asked(control)
    assert control.tablet(2).learners == (control.member("n3"),)


# ---------------------------------------------------------------- operators


def wanted(control: Control, row: str | None = "m", version: int = 1, tablet: int = 1) -> list[Any]:
    """An operator asks; what was answered since."""
    before = len(control.answers)
    control.coordinator.request("operator", SplitTablet(tablet, version, row), control.now)
    control.take()
    return control.answers[before:]


def test_an_operator_is_answered_when_it_has_come_about() -> None:
    control = Control().formed()
    assert wanted(control) == []
    now = control.tablet()
    assert proposals(control.effects) == [("n1", ProposeSplit(1, now.epoch, "m"))]
    effects = asked(control)
    assert Reply("operator", WasSplit(2, "m")) in effects


def test_it_is_proposed_again_while_he_waits_and_to_whoever_leads() -> None:
    control = Control().formed()
    wanted(control)
    control.kill("n1")
    control.pass_time(settings.HEARTBEAT_DEAD + 0.5)
    assert proposals(control.effects)[-1] == ("n2", ProposeSplit(1, control.tablet().epoch, "m"))


def test_he_hears_why_not() -> None:
    control = Control().formed()
    wanted(control, row=None)
    now = control.tablet()
    assert now.primary is not None
    declined = SplitDeclined(1, now.epoch, now.primary, None, "the tablet is empty")
    control.coordinator.from_node("n1", declined, control.now)
    control.take()
    assert control.answers[-1] == Refused(BadRequest.__name__, "tablet 1 is not split: the tablet is empty")


def test_he_is_told_when_it_takes_too_long() -> None:
    control = Control().formed()
    wanted(control)
    control.pass_time(settings.SPLIT_ANSWER + 0.5)
    assert control.answers[-1].error == Unavailable.__name__
    made = len(proposals(control.effects))
    control.pass_time(5.0)
    assert len(proposals(control.effects)) == made, "nobody wants it any more"


def test_asked_again_after_the_answer_was_lost_he_hears_what_the_first_brought() -> None:
    control = Control().formed()
    wanted(control)
    asked(control)
    assert wanted(control) == [WasSplit(2, "m")]
    assert owners(control) == [("", "m"), ("m", None)]


@pytest.mark.parametrize(
    ("row", "version", "tablet"), [("bob:mail", 1, 1), ("", 1, 1), ("a", 1, 2), ("m", 7, 1), ("b", 1, 1), ("m", 1, 9)]
)
def test_what_can_never_be_is_refused_at_once(row: str, version: int, tablet: int) -> None:
    control = Control(replace(CREATION, splits=["b"])).formed()
    (answer,) = wanted(control, row, version, tablet)
    assert answer.error == BadRequest.__name__
    assert proposals(control.effects) == []


# ---------------------------------------------------------------- by size


ABOVE = settings.SPLIT_ABOVE_LEAST


def too_large(**changes: Any) -> Control:
    """A cluster with a tablet that is too large."""
    control = Control(replace(CREATION, split_above=ABOVE, **changes)).formed()
    control.bytes[1] = ABOVE + 1
    return control


def test_a_tablet_that_is_too_large_is_to_be_split() -> None:
    control = too_large()
    control.pass_time(1.0)
    assert proposals(control.effects) == [("n1", ProposeSplit(1, control.tablet().epoch, None))]
    control.pass_time(settings.SPLIT_AGAIN - 2.0)
    assert len(proposals(control.effects)) == 1, "once in a while, if nothing comes of it"
    control.pass_time(3.0)
    assert len(proposals(control.effects)) == 2


def test_not_while_it_is_short_of_replicas() -> None:
    control = too_large()
    control.kill("n3")
    control.pass_time(settings.HEARTBEAT_DEAD + 1.0)
    found = len(proposals(control.effects))
    control.pass_time(2 * settings.SPLIT_AGAIN)
    assert len(proposals(control.effects)) == found


def test_nor_by_a_size_that_was_told_before_the_last_split() -> None:
    control = too_large()
    control.pass_time(1.0)
    control.ranges["n1", 1] = 1
    asked(control)
    control.pass_time(2 * settings.SPLIT_AGAIN)
    assert len(proposals(control.effects)) == 1


def test_values_that_are_not_in_memory_count_less() -> None:
    control = too_large()
    coordinator: Any = control.coordinator
    reports = coordinator._membership.nodes["n1"].reports
    reports[1].bytes, reports[1].bulk_bytes = 20 * ABOVE, 20 * ABOVE
    coordinator.tick(control.now + 0.01)
    control.take()
    assert proposals(control.effects) == []


def test_an_operator_changes_the_size_and_that_is_durable() -> None:
    control = too_large()
    assert control.request(SetSplitAbove(None)) == Done()
    control.restart()
    for name in control.boots:
        control.register(name, same_process=True)
    control.pass_time(2 * settings.SPLIT_AGAIN)
    assert proposals(control.effects) == []
    assert control.request(SetSplitAbove(ABOVE)) == Done()
    control.pass_time(1.0)
    assert len(proposals(control.effects)) == 1
    assert control.request(SetSplitAbove(5)).error == BadRequest.__name__


def test_a_journal_of_an_older_version_is_read() -> None:
    control = Control().formed()
    older = [
        {**record, "configurations": [fields[:12] for fields in record["configurations"]]}
        if "configurations" in record
        else record
        for record in control.journal
    ]
    now: Configuration = control.tablet()
    control.journal = older
    control.restart()
    assert control.tablet() == now


def test_a_tablet_whose_last_half_was_split_a_thousand_times() -> None:
    """Rows that come in order: each tablet was born of the one before. A node comes back with nothing of any of them."""
    control = Control().formed()
    now = control.tablet()
    chain = [
        replace(now, tablet=number, start=f"m{number:04d}", born=Birth(number - 1, 2, number, 2))
        for number in range(2, 1500)
    ]
    control.journal.append(configurations_record(chain))
    control.restart()
    control.beat("n1 n3")
    control.coordinator.from_node("n2", Heartbeat(control.member("n2"), 0.0, [], {}), control.now)
    control.take()
    assert control.set_of(1) == control.set_of(1499) == ["n1", "n3"]
