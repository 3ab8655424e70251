"""A node whose place another one has taken: when its copy goes, and what it may do afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvstore import settings
from kvstore.messages import ChangeKind, Configuration, Grant
from kvstore.node.replica import Role
from tests.unit.node.trio import TABLET, Trio, put


def written() -> Trio:
    """n1 leads, with n2 and n3 in sync, and has written a cell."""
    trio = Trio().serving()
    trio.write("n1", "w", put("row", b"value", number=1))
    trio.settle()
    trio.advance(0.1)
    return trio


def without_n3(trio: Trio, in_sync: str) -> Configuration:
    """The coordinator decides that n3 has no place in the tablet any more."""
    trio.configuration = replace(trio.configuration, replicas=("n1", "n2"))
    return trio.lead("n1", in_sync)


def test_the_replaced_nodes_copy_goes_when_the_set_is_full_without_it() -> None:
    trio = written()
    without_n3(trio, "n1 n2")
    trio.settle()
    assert TABLET not in trio.nodes["n3"]._replicas
    trio.crash("n3")
    assert TABLET not in trio.start("n3")._engine.tablets, "for good"


def test_it_stays_while_the_set_is_not_full() -> None:
    """The copy may be old; it is still better than none for whoever has lost everything else."""
    trio = written()
    without_n3(trio, "n1")
    trio.settle()
    trio.advance(1.0)
    assert trio.value_at("n3", "row") == b"value"
    without_n3(trio, "n1 n2")
    trio.settle()
    assert TABLET not in trio.nodes["n3"]._replicas


def test_who_belongs_to_the_tablet_keeps_its_copy_whatever_it_is_at_the_moment() -> None:
    trio = written()
    trio.lead("n1", "n1 n2")
    trio.settle()
    assert trio.replica("n3").role == Role.OUTSIDER
    assert trio.value_at("n3", "row") == b"value"


def test_an_older_configuration_that_comes_late_drops_nothing() -> None:
    """Passed on by a node that slept: n3 restarted, and knows nothing but what is on its disk."""
    trio = written()
    old = without_n3(trio, "n1 n2")
    trio = written()
    trio.lead("n1", "n1 n2 n3")
    trio.lead("n1", "n1 n2 n3")
    trio.settle()
    trio.crash("n3")
    node = trio.start("n3")
    node._configurations.clear()
    trio.replica("n3").configuration = None
    trio.tell(old, "n3")
    assert TABLET in node._replicas


def test_it_learns_from_nothing_when_it_is_named_again() -> None:
    trio = written()
    without_n3(trio, "n1 n2")
    trio.settle()
    trio.configuration = replace(trio.configuration, replicas=("n1", "n2", "n3"))
    trio.lead("n1", "n1 n2", "n3")
    trio.settle()
    trio.advance(1.0)
    assert trio.value_at("n3", "row") == b"value"
    assert {asked.member for asked in trio.changes_asked()} == {trio.member("n3")}


def test_its_promises_outlive_its_copy() -> None:
    """n3 promised n1 not to lead. It is replaced, named again and promoted before that has run out, n1 cut off."""
    trio = written()
    trio.advance(0.5)
    without_n3(trio, "n1 n2")
    trio.settle()
    assert TABLET not in trio.nodes["n3"]._replicas
    leases = trio.nodes["n3"]._host.leases
    assert leases.free_at(TABLET, trio.member("n3"), [trio.member("n1")]) > trio.now


def test_a_replaced_primary_that_wakes_finds_a_grant_for_what_it_no_longer_has() -> None:
    """n1 led, and hung until another node had its place. What lies in its connections comes in any order: that it is
    replaced first, then the grant that answers its last beacon."""
    trio = written()
    trio.held = {("n2", "n1"), ("n3", "n1")}
    trio.advance(settings.BEACON_INTERVAL)  # beacons go out
    trio.configuration = replace(trio.configuration, replicas=("n2", "n3"))
    trio.lead("n2", "n2 n3", to="n1")
    assert TABLET not in trio.nodes["n1"]._replicas
    assert any(isinstance(message, Grant) for message in trio.mail["n2", "n1"])
    trio.held = set()
    trio.settle()
    assert trio.nodes["n1"]._host.leases.held_until(TABLET, trio.member("n2")) < trio.now


def test_a_primary_that_missed_a_configuration_streams_anew_to_its_learners() -> None:
    """n3 has caught up, was out of the tablet for an epoch, and dropped what it had; n1 hears only of what came after, and
    must not ask to have it taken in for what it held before."""
    trio = written()
    trio.lead("n1", "n1 n2", "n3")
    trio.settle()
    trio.advance(0.2)
    trio.held = {("n3", "n1"), ("n1", "n3")}
    asked = len(trio.changes_asked())
    assert trio.changes_asked()[-1].kind == ChangeKind.ADD
    trio.configuration = replace(trio.configuration, replicas=("n1", "n2"))
    trio.lead("n1", "n1 n2", to="n2 n3")
    trio.settle()
    trio.configuration = replace(trio.configuration, replicas=("n1", "n2", "n3"))
    trio.lead("n1", "n1 n2", "n3")
    trio.settle()
    trio.advance(settings.SECONDARY_SILENT / 2)
    assert trio.changes_asked()[asked:] == []
    trio.held = set()
    trio.advance(3.0)
    assert trio.value_at("n3", "row") == b"value"
    assert trio.changes_asked()[-1].member == trio.member("n3")


def test_a_node_may_stop_when_nobody_waits_for_it_any_more() -> None:
    trio = written()
    assert [trio.nodes[name].idle for name in ("n1", "n2", "n3")] == [False, False, False]
    trio.lead("n1", "n1 n2", "n3")
    trio.settle()
    assert [trio.nodes[name].idle for name in ("n1", "n2", "n3")] == [False, False, True]


def test_an_answer_to_its_former_copy_is_not_taken_for_one_to_the_new() -> None:
    """A page of keys that was read before the copy was dropped, and comes only now, lacks what was written since."""
    trio = written()
    asked: list[Any] = []
    trio._ask_primary = lambda name, effect: asked.append(effect.token)  # type: ignore[method-assign]
    trio.lead("n1", "n1 n2", "n3")
    trio.settle()
    trio.advance(0.1)
    without_n3(trio, "n1 n2")
    trio.settle()
    trio.configuration = replace(trio.configuration, replicas=("n1", "n2", "n3"))
    trio.lead("n1", "n1 n2", "n3")
    trio.settle()
    trio.advance(0.1)
    assert len(asked) == 2
    assert asked[0] != asked[1]
