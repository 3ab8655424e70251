"""What is said before a tablet is split or a replica moved."""

from __future__ import annotations

from typing import Any

import pytest

from adminconsole.health import Level, assess
from adminconsole.placing import Plan, foresee_move, foresee_split, foresee_withdrawal
from adminconsole.status import Status, Tablet, parse
from adminconsole.tables import tablet_line
from kvstore import settings
from tests.unit.adminconsole.clusters import cluster, named, raw_node, raw_status, raw_tablet


def four(
    states: str = "up up up up", *, spread: bool = False, in_sync: str = "1 2 3", **parts: Any
) -> tuple[Status, Tablet]:
    """Four nodes; the tablet is on the first three, and node1 leads it."""
    tablet = raw_tablet(1, "1", in_sync, **parts)
    status = cluster(states, [tablet], spread=spread, group_rule="[^:]*")
    return status, status.tablets[0]


def said(plan: Plan) -> str:
    return " ".join(line.text for line in plan.lines)


def test_a_move_says_what_is_copied_and_that_no_copy_is_missing_meanwhile() -> None:
    status, tablet = four()
    plan = foresee_move(status, tablet, "node2", "node4")
    assert plan.refusal == ""
    assert "node4 copies the tablet (1.0 MB, 10 cells) from node1, its primary, while it serves on." in said(plan)
    assert "node2 leaves and drops its copy. Until then there is one copy more, not less." in said(plan)
    assert "takes over" not in said(plan)
    assert plan.level is Level.NOTICE
    assert plan.target_in_words == "tablet 1: node2 to node4"


def test_moving_the_primarys_replica_says_that_another_takes_over() -> None:
    status, tablet = four()
    assert "node1 leads it: another replica takes over then." in said(foresee_move(status, tablet, "node1", "node4"))


@pytest.mark.parametrize(
    ("source", "target", "states", "parts", "reason"),
    [
        ("node4", "node4", "up up up up", {}, "has no replica on node4; it has them on node1, node2 and node3"),
        ("node1", "node2", "up up up up", {}, "has a replica on node2 already"),
        ("node1", "node9", "up up up up", {}, "There is no node node9"),
        ("node1", "node4", "up up up down", {}, "node4 is down"),
        ("node1", "node4", "up up up disabled", {}, "node4 is disabled"),
        ("node2", "node4", "down up up up", {}, "Nobody leads tablet 1 at the moment"),
        ("node2", "node4", "up up up up", {"bytes": 1 << 50}, "free on its disk"),
        ("node2", "node4", "up up up up", {"bytes": 100 * 1024**3 - settings.MOVE_LEAVES}, "must stay free"),
        (
            "node2",
            "node4",
            "up up up up",
            {"moving": {"from": "node3", "to": "node4"}},
            "moving already, from node3 to node4",
        ),
    ],
)
def test_what_cannot_be_moved_is_refused_with_the_reason(
    source: str, target: str, states: str, parts: dict[str, Any], reason: str
) -> None:
    status, tablet = four(states, **parts)
    plan = foresee_move(status, tablet, source, target)
    assert reason in plan.refusal
    assert plan.lines == ()


def test_what_would_hold_it_up_or_undo_it_is_a_warning() -> None:
    status, tablet = four("up up down suspect")
    plan = foresee_move(status, tablet, "node2", "node4")
    assert "It is short of replicas now: node2 keeps its copy" in said(plan)
    assert "node4 is late with its heartbeat" in said(plan)
    assert plan.level is Level.WARNING
    nodes = [raw_node(f"node{number}", replica_of=held) for number, held in enumerate((3, 3, 3, 3), start=1)]
    uneven = parse(raw_status(nodes, [raw_tablet(1, "1", "1 2 3")], spread=True))
    plan = foresee_move(uneven, uneven.tablets[0], "node2", "node4")
    assert "node4 would hold 4 replicas and node2 2. Data spreads by itself" in said(plan)
    assert "Data spreads" not in said(foresee_move(*four(), "node2", "node4"))


def test_a_confirmation_holds_for_the_warnings_that_were_read_and_for_no_others() -> None:
    status, tablet = four()
    plan = foresee_move(status, tablet, "node2", "node4")
    grown, bigger = four(bytes=2 * 1024**2, cells=20)
    assert foresee_move(grown, bigger, "node2", "node4").fingerprint == plan.fingerprint, (
        "amounts grow with every write"
    )
    assert foresee_move(status, tablet, "node3", "node4").fingerprint != plan.fingerprint
    short, shorter = four("up up down up")
    assert foresee_move(short, shorter, "node2", "node4").fingerprint != plan.fingerprint


def test_a_split_says_which_rows_and_that_nothing_is_copied() -> None:
    status, tablet = four()
    plan = foresee_split(status, tablet, "k0001x")
    assert "The rows “k0001x” up to “k0002” become a tablet of their own, on the same nodes" in said(plan)
    assert "No data is copied." in said(plan)
    assert "Two tablets are not made one again." in said(plan)
    assert plan.target_in_words == "tablet 1 at k0001x"
    middle = foresee_split(status, tablet, "")
    assert "About half of its 1.0 MB" in said(middle)
    assert middle.fingerprint != plan.fingerprint
    again = foresee_split(*four(range_version=2), "")
    assert again.fingerprint != middle.fingerprint, "what is left of it is not split again by the same form"
    assert "another node may lead" in said(foresee_split(*four(spread=True), ""))


@pytest.mark.parametrize(
    ("row", "states", "reason"),
    [
        ("k0001", "up up up up", "does not lie inside the tablet, or is its first row"),
        ("k0002", "up up up up", "does not lie inside"),
        ("a", "up up up up", "does not lie inside"),
        ("k0001x:mail", "up up up up", "is not the first row of a group"),
        ("k0001" + "x" * 2000, "up up up up", "That cannot be a row"),
        ("", "down up up up", "Nobody leads tablet 1"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(row: str, states: str, reason: str) -> None:
    status, tablet = four(states)
    assert reason in foresee_split(status, tablet, row).refusal


def test_a_move_is_let_be_as_long_as_the_new_copy_does_not_count() -> None:
    plan = foresee_withdrawal(*four(moving={"from": "node2", "to": "node4"}, learners=["node4"]))
    assert "node2 keeps its replica: nothing changes for any request." in said(plan)
    whole = four(moving={"from": "node2", "to": "node4"}, in_sync="1 2 4")
    assert "node4 has everything by now" in foresee_withdrawal(*whole).refusal
    assert foresee_withdrawal(*four()).refusal == "Tablet 1 is not moving."


@pytest.mark.parametrize(("spread", "holds", "warned"), [(True, 1, True), (True, 2, False), (False, 1, False)])
def test_a_move_that_spread_data_would_be_begun_again(spread: bool, holds: int, warned: bool) -> None:
    """node4 holds so many replicas, the one that is on its way counted; all others hold two."""
    nodes = [raw_node(f"node{number}", replica_of=2) for number in (1, 2, 3)] + [raw_node("node4", replica_of=holds)]
    parts = {"moving": {"from": "node2", "to": "node4"}, "learners": ["node4"], "replicas": named("1 2 3 4")}
    status = parse(raw_status(nodes, [raw_tablet(1, "1", "1 2 3", **parts)], spread=spread))
    plan = foresee_withdrawal(status, status.tablets[0])
    assert ("node2 would hold 2 replicas and node4 0. Data spreads by itself" in said(plan)) is warned
    assert (plan.level is Level.WARNING) is warned


# ---------------------------------------------------------------- how one that moves looks


def moving(**parts: Any) -> tuple[Status, Tablet]:
    return four(
        moving={"from": "node2", "to": "node4"}, replicas=named("1 2 3 4"), learners=["node4"], wanted=3, **parts
    )


def test_a_tablet_that_moves_lacks_nothing_and_says_from_where_to_where() -> None:
    recovery = [{"node": "node4", "cells_done": 1, "cells_total": 4, "cells_copied": 1, "bytes_done": 9}]
    status, tablet = moving(recovery=recovery)
    health = assess(status)
    assert health.sentence == "The only tablet has 3 of 3 replicas."
    assert health.level is Level.NOTICE
    assert health.attention[0].title == "A replica of tablet 1 is moving from node2 to node4"
    assert health.attention[0].detail == "node4 is catching up (25 %). Nobody waits for it."
    line = tablet_line(status, tablet)
    assert line.words == "3 of 3, moving"
    assert {mark.node: mark.role for mark in line.replicas}["node4"] == "arriving"
    assert {mark.node: mark.role for mark in line.replicas}["node2"] == "in sync, leaving"


def test_one_that_is_whole_without_the_copy_that_leaves_says_so() -> None:
    status, tablet = four(
        moving={"from": "node2", "to": "node4"}, replicas=named("1 2 3 4"), in_sync="1 2 3 4", wanted=3
    )
    assert tablet_line(status, tablet).words == "3 of 3, moving"
    assert "node4 has everything; node2 leaves" in assess(status).attention[0].detail


def test_where_another_node_is_missed_it_is_that_one_that_is_named() -> None:
    tablet = raw_tablet(
        1, "1", "1 2", moving={"from": "node2", "to": "node4"}, replicas=named("1 2 3 4"), learners=["node4"], wanted=3
    )
    health = assess(cluster("up up down up", [tablet]))
    assert "node3 has been gone for 14 s" in health.sentence
    assert health.level is Level.DANGER
