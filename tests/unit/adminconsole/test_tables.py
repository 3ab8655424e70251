"""The lines of the console's tables."""

from __future__ import annotations

from dataclasses import replace

from adminconsole.health import Condition, Level
from adminconsole.status import NodeState, parse
from adminconsole.tables import condition_counts, figures, node_line, tablet_line, tablet_page
from tests.unit.adminconsole.clusters import cluster, healthy, raw_node, raw_status, raw_tablet


def test_the_primary_comes_first_and_each_replica_has_its_role_in_words() -> None:
    recovery = [{"node": "node2", "cells_done": 1, "cells_total": 4, "bytes_done": 9}]
    status = cluster("up up up", [raw_tablet(1, "3", "1 3", learners=["node2"], recovery=recovery)])
    line = tablet_line(status, status.tablets[0])
    assert [(mark.node, mark.role) for mark in line.replicas] == [
        ("node3", "primary"),
        ("node1", "in sync"),
        ("node2", "catching up"),
    ]
    assert line.replicas[2].recovery is not None
    assert line.replicas[2].recovery.percent == 25
    assert line.words == "2 of 3, catching up"


def test_a_replica_on_a_dead_node_says_whether_it_has_the_latest() -> None:
    status = cluster("up down down", [raw_tablet(1, None, "2", waiting_for=["node2"])])
    line = tablet_line(status, status.tablets[0])
    roles = {mark.node: mark.role for mark in line.replicas}
    assert roles == {"node2": "gone, was in sync", "node1": "not in sync", "node3": "gone"}
    assert line.words == "0 of 3, waits for a node"


def test_a_learning_node_is_up_and_says_how_far_it_is() -> None:
    recovery = [{"node": "node2", "cells_done": 1, "cells_total": 2, "bytes_done": 9}]
    status = cluster("up up", [raw_tablet(1, "1", "1", learners=["node2"], recovery=recovery)])
    line = node_line(status, status.nodes[1])
    assert (line.words, line.level, line.percent) == ("up, catching up", Level.NOTICE, 50)
    assert node_line(status, status.nodes[0]).percent is None


def test_tablets_come_fifty_a_page_and_a_page_beyond_the_end_is_the_last() -> None:
    status = healthy(120)
    first, last, beyond = (tablet_page(status, page=page) for page in (1, 3, 99))
    assert (len(first.lines), first.total, first.pages) == (50, 120, 3)
    assert len(last.lines) == 20
    assert beyond == last
    assert tablet_page(status, page=-4) == first


def test_the_filters() -> None:
    status = cluster("up up up", [raw_tablet(1, "1", "1 2 3"), raw_tablet(2, "1", "1 3"), raw_tablet(3, "1", "1 2 3")])
    assert [line.tablet.id for line in tablet_page(status, only_attention=True).lines] == [2]
    assert tablet_page(status, node="node9").total == 0
    assert tablet_page(status, node="node9").pages == 1


def test_figures_count_data_once_and_disks_as_often_as_it_is_stored() -> None:
    numbers = figures(healthy(2))
    assert (numbers.cells, numbers.bytes, numbers.stored_bytes) == (20, 2 * 1024**2, 30_000)
    assert (numbers.nodes_up, numbers.nodes, numbers.tablets_full, numbers.tablets) == (3, 3, 2, 2)
    assert numbers.least_disk_free == 100 * 1024**3
    assert figures(cluster("down", [])).least_disk_free is None


def test_conditions_are_counted_the_worst_first() -> None:
    status = cluster("up up up", [raw_tablet(1, "1", "1 2 3"), raw_tablet(2, "1", "1 3"), raw_tablet(3, "1", "1 2 3")])
    counts = condition_counts(status)
    assert [(one.condition, one.tablets) for one in counts] == [(Condition.SHORT, 1), (Condition.FULL, 2)]
    assert counts[0].words == "1 tablet: short of replicas"


def test_a_node_that_holds_no_replica_is_a_spare() -> None:
    spare = raw_node("node4", replica_of=0)
    nodes = [*(raw_node(f"node{number}", replica_of=1) for number in (1, 2, 3)), spare]
    status = parse(raw_status(nodes, [raw_tablet(1, "1", "1 2 3")], rebuild_after_s=300.0))
    assert [node_line(status, node).words for node in status.nodes] == ["up", "up", "up", "up, spare"]
    assert (figures(status).spares, figures(status).rebuild_after_s) == (1, 300.0)
    assert node_line(status, replace(status.nodes[3], state=NodeState.DOWN)).words == "down"
