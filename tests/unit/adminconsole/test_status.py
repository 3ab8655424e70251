"""Reading the coordinator's status: what must be there, and what may be missing."""

from __future__ import annotations

import pytest

from adminconsole.status import MalformedStatus, NodeState, parse
from tests.unit.adminconsole.clusters import cluster, raw_node, raw_status, raw_tablet


def test_nodes_are_in_the_order_of_their_numbers_and_tablets_in_the_order_of_their_ranges() -> None:
    nodes = [raw_node("node10"), raw_node("node9"), raw_node("node1")]
    tablets = [raw_tablet(2, "1", "1"), raw_tablet(1, "1", "1")]
    status = parse(raw_status(nodes, tablets))
    assert [node.id for node in status.nodes] == ["node1", "node9", "node10"]
    assert [tablet.id for tablet in status.tablets] == [1, 2]


def test_a_node_that_was_never_heard_has_no_age_and_no_figures() -> None:
    raw = {"id": "node1", "state": "down", "last_heartbeat_s": None, "disk_free": None}
    node = parse(raw_status([raw], [])).nodes[0]
    assert node.last_heartbeat_s is None
    assert node.disk_free is None
    assert (node.pid, node.cells) == (0, 0)
    assert node.state is NodeState.DOWN
    assert node.longest_pause_ms is None


def test_a_nodes_longest_pause_is_among_its_figures() -> None:
    raw = raw_node("node1", figures={"longest_pause_ms": 31.4, "recent_pause_ms": 2.0})
    assert parse(raw_status([raw], [])).nodes[0].longest_pause_ms == 31.4


def test_how_far_the_scrub_is_is_among_a_nodes_figures() -> None:
    raw = raw_node("node1", figures={"scrub_round": 0.426, "scrub_ended_s": 90.0, "scrub_damages": 1.0})
    node = parse(raw_status([raw], [])).nodes[0]
    assert (node.scrub_percent, node.scrub_ended_s, node.scrub_damages) == (42, 90.0, 1)
    raw["figures"]["scrub_ended_s"] = -1.0
    assert parse(raw_status([raw], [])).nodes[0].scrub_ended_s is None, "never yet"
    node = parse(raw_status([raw_node("node1")], [])).nodes[0]
    assert (node.scrub_percent, node.scrub_ended_s, node.scrub_damages) == (None, None, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.pop("cluster"),
        lambda raw: raw["cluster"].pop("min_in_sync"),
        lambda raw: raw["nodes"][0].pop("id"),
        lambda raw: raw["nodes"][0].update(state="sleepy"),
        lambda raw: raw["tablets"][0].pop("in_sync"),
        lambda raw: raw["tablets"][0].update(in_sync="node1"),
        lambda raw: raw["tablets"][0].update(epoch="five"),
        lambda raw: raw.update(nodes=None),
    ],
)
def test_a_status_that_lacks_what_it_must_have_is_an_error_and_not_an_empty_cluster(spoil) -> None:
    raw = raw_status([raw_node("node1")], [raw_tablet(1, "1", "1")])
    spoil(raw)
    with pytest.raises(MalformedStatus):
        parse(raw)


def test_a_recovery_is_never_called_complete_before_the_coordinator_says_so() -> None:
    recovery = [{"node": "node2", "cells_done": 500, "cells_total": 500, "bytes_done": 9}]
    status = cluster("up up", [raw_tablet(1, "1", "1", learners=["node2"], recovery=recovery)])
    assert status.tablets[0].recovery[0].percent == 99
    assert (
        parse(raw_status([], [raw_tablet(1, None, "", recovery=[{"node": "node2"}])])).tablets[0].recovery[0].percent
        == 0
    )


def test_the_time_that_a_recovery_will_take_is_unknown_until_it_is_told() -> None:
    told = {"node": "node2", "cells_done": 5, "cells_total": 9, "cells_copied": 2, "bytes_done": 9}
    for left, shown in ((12, 12), (0, 0), (-1, None)):
        recovery = [{**told, "seconds_left": left}]
        status = cluster("up up", [raw_tablet(1, "1", "1", learners=["node2"], recovery=recovery)])
        assert status.tablets[0].recovery[0].seconds_left == shown
