"""The sentence about health and what needs attention: told as an operator would meet them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from adminconsole.health import Condition, Level, assess, assess_stale, condition, front_end_items
from adminconsole.status import Status, parse
from adminconsole.tables import node_line
from tests.unit.adminconsole.clusters import cluster, healthy, named, raw_node, raw_status, raw_tablet, statuses


def test_a_whole_cluster_is_one_short_sentence_and_nothing_to_attend_to() -> None:
    health = assess(healthy())
    assert health.sentence == "All 7 tablets have 3 of 3 replicas."
    assert health.level is Level.GOOD
    assert health.attention == ()


def test_a_single_tablet_is_not_called_all_tablets() -> None:
    assert assess(healthy(1)).sentence == "The only tablet has 3 of 3 replicas."


def test_a_dead_secondary_leaves_tablets_short_and_says_since_when_and_that_nothing_is_lost() -> None:
    tablets = [
        raw_tablet(1, "1", "1 3"),
        raw_tablet(2, "3", "1 3"),
        *(raw_tablet(n, "1", "1 3 4") for n in range(3, 8)),
    ]
    for tablet in tablets[2:]:
        tablet["replicas"] = named("1 3 4")
    health = assess(cluster("up down up up", tablets))
    assert health.sentence == (
        "2 of 7 tablets are short of replicas: node2 has been gone for 14 s; nothing is lost, reads and writes go on."
    )
    assert health.level is Level.DANGER
    assert [item.title for item in health.attention] == [
        "2 tablets short of replicas (2 of 3 at the least)",
        "node2 is down",
    ]


def test_a_dead_node_that_is_still_in_the_set_does_not_count_as_a_replica() -> None:
    status = cluster("up down up", [raw_tablet(1, "1", "1 2 3")])
    assert condition(status, status.tablets[0]) is Condition.SHORT


def test_two_dead_nodes_are_both_named() -> None:
    health = assess(cluster("up down down", [raw_tablet(1, "1", "1"), raw_tablet(2, "1", "1")]))
    assert "node2 has been gone for 14 s and node3 has been gone for 14 s" in health.sentence
    assert health.sentence.startswith("All 2 tablets are short of replicas")


def test_a_returning_node_shows_how_far_it_has_come_over_all_its_tablets() -> None:
    def learning(number: int, done: int, total: int) -> dict[str, object]:
        recovery = [{"node": "node2", "cells_done": done, "cells_total": total, "bytes_done": 1}]
        return raw_tablet(number, "1", "1 3", learners=["node2"], recovery=recovery)

    health = assess(cluster("up up up", [learning(1, 100, 100), learning(2, 20, 100)]))
    assert "All 2 tablets are short of replicas: node2 is catching up (60 %); nothing is lost" in health.sentence
    assert health.attention[0].title == "2 tablets short of replicas, catching up (2 of 3 at the least)"


def test_short_and_catching_up_tablets_are_counted_together_in_the_sentence() -> None:
    tablets = [raw_tablet(1, "1", "1 3"), raw_tablet(2, "1", "1 3", learners=["node2"]), raw_tablet(3, "1", "1 2 3")]
    assert assess(cluster("up up up", tablets)).sentence.startswith("2 of 3 tablets are short of replicas: ")


def test_a_primary_that_is_down_means_that_reads_and_writes_wait_a_moment() -> None:
    health = assess(cluster("up down up", [raw_tablet(1, "2", "1 2 3"), raw_tablet(2, "1", "1 3")]))
    assert health.sentence == (
        "1 of 2 tablets is choosing a new primary: node2 has been gone for 14 s;"
        " its reads and writes wait a moment, nothing is lost. 1 more tablet is short of replicas."
    )


def test_below_min_in_sync_writes_are_refused_and_reads_go_on() -> None:
    health = assess(cluster("up down down", [raw_tablet(1, "1", "1")], min_in_sync=2))
    assert "refuses writes, having fewer than 2 replicas in sync" in health.sentence
    assert "reads go on, nothing is lost" in health.sentence


@pytest.mark.parametrize("in_sync", ["1 2 3", "1"])
def test_where_whoever_leads_has_no_room_writes_are_refused_however_many_are_in_sync(in_sync: str) -> None:
    nodes = [raw_node("node1", disk_full=True, primary_of=1), raw_node("node2"), raw_node("node3")]
    health = assess(parse(raw_status(nodes, [raw_tablet(1, "1", in_sync)])))
    assert health.level is Level.DANGER
    assert health.sentence.startswith(
        "The only tablet refuses writes: the disk of node1 is full; reads go on, nothing is lost."
    )
    assert "when node1 has room. Reads go on." in health.attention[0].detail
    detail = next(item.detail for item in health.attention if item.title == "node1's disk is full")
    assert detail == "Nobody with room could take its part in 1 tablet: writes there are refused."


@pytest.mark.parametrize("trouble", [{"disk_full": True}, {"disk_age_s": 5.0}, {"state": "suspect"}])
def test_a_node_that_can_take_nothing_is_no_spare_and_nothing_is_said_to_be_rebuilt_there(
    trouble: dict[str, Any],
) -> None:
    gone = raw_node("node2", "down", rebuilt_in_s=240.0)
    nodes = [raw_node("node1"), gone, raw_node("node3"), raw_node("node4", replica_of=0, **trouble)]
    status = parse(raw_status(nodes, [raw_tablet(1, "1", "1 3")]))
    assert not status.nodes[3].is_spare
    assert status.could_take_over("node2") == ()


def test_a_stopped_tablet_says_for_whom_it_waits_and_does_not_say_that_things_go_on() -> None:
    tablets = [raw_tablet(1, None, "2", waiting_for=["node2"]), *(raw_tablet(n, "1", "1 3") for n in range(2, 5))]
    health = assess(cluster("up down up", tablets))
    assert health.sentence == (
        "1 of 4 tablets cannot be read or written: it waits for node2 (node2 has been gone for 14 s),"
        " whose disk has all that was acknowledged. 3 more tablets are short of replicas."
    )
    assert health.attention[0].title == "1 tablet unavailable"
    assert health.attention[0].tablet == 1
    assert "go on" not in health.attention[0].detail
    assert "Only node2 may open them again" in health.attention[0].detail
    assert health.attention[1].detail.startswith("They fill up by themselves when node2 is back.")


def test_any_member_of_the_last_set_will_do() -> None:
    health = assess(cluster("up down down", [raw_tablet(1, None, "2 3", waiting_for=["node2", "node3"])]))
    assert "it waits for node2 or node3" in health.sentence


def test_while_a_live_member_is_left_a_dead_primary_is_no_reason_to_wait_for_it() -> None:
    status = cluster("up down up", [raw_tablet(1, None, "1 2 3", waiting_for=["node2"])])
    assert condition(status, status.tablets[0]) is Condition.ELECTING


def test_replicas_that_differ_at_the_same_sequence_are_told_and_those_that_lag_are_not() -> None:
    def copies(*parts: tuple[str, int, str]) -> list[dict[str, object]]:
        return [
            {"node": f"node{name}", "sequence": 9, "commit": commit, "digest": digest} for name, commit, digest in parts
        ]

    lagging = raw_tablet(1, "1", "1 2 3", copies=copies(("1", 9, "aa"), ("2", 8, "bb"), ("3", 9, "aa")))
    differing = raw_tablet(2, "1", "1 2 3", copies=copies(("1", 9, "aa"), ("2", 9, "bb"), ("3", 9, "aa")))
    health = assess(cluster("up up up", [lagging, differing]))
    assert [(item.title, item.tablet) for item in health.attention] == [("Replicas of tablet 2 differ", 2)]
    assert health.attention[0].detail == "At sequence 9 node2 and node1, the primary, differ."
    assert health.level is Level.DANGER


def test_a_node_late_with_its_heartbeat_is_a_warning_though_all_replicas_are_there() -> None:
    health = assess(cluster("up suspect up", [raw_tablet(1, "1", "1 2 3")]))
    assert health.sentence == "The only tablet has 3 of 3 replicas; node2 is late with its heartbeat."
    assert health.level is Level.WARNING


def test_a_dead_node_without_any_replica_is_still_mentioned() -> None:
    health = assess(cluster("up up up down", [raw_tablet(1, "1", "1 2 3")]))
    assert health.sentence == "The only tablet has 3 of 3 replicas; node4 has been gone for 14 s."


def test_too_few_nodes_is_the_reason_when_nobody_is_missed() -> None:
    health = assess(cluster("up", [raw_tablet(1, "1", "1", replicas=["node1"])]))
    assert "there are not enough nodes (1) to hold another replica" in health.sentence


def test_a_disabled_and_a_draining_node_are_reasons_and_notes() -> None:
    health = assess(cluster("up disabled draining", [raw_tablet(1, "1", "1")]))
    assert "node2 is disabled and node3 is being drained" in health.sentence
    assert [item.level for item in health.attention] == [Level.DANGER, Level.NOTICE, Level.NOTICE]
    assert health.attention[0].detail.startswith("They fill up by themselves when node2 and node3 are enabled.")


def test_a_slow_and_a_full_disk_need_attention_before_the_store_refuses_anything() -> None:
    nodes = [raw_node("node1", disk_age_s=2.5), raw_node("node2", disk_free=1024**3), raw_node("node3")]
    health = assess(parse(raw_status(nodes, [raw_tablet(1, "1", "1 2 3")])))
    assert [item.title for item in health.attention] == ["node1's disk is slow", "node2's disk is filling up"]
    assert health.level is Level.WARNING
    assert health.sentence.startswith("The only tablet has 3 of 3 replicas")


def test_a_front_end_that_gets_no_requests_needs_attention() -> None:
    items = front_end_items([("127.0.0.1:7481", True), ("127.0.0.1:7482", False)])
    assert [item.title for item in items] == ["Front end 127.0.0.1:7482 gets no requests"]


def test_a_cluster_without_tablets_is_not_called_well() -> None:
    health = assess(cluster("up up up", []))
    assert health.level is Level.WARNING
    assert "nothing can be stored" in health.sentence


def test_an_old_status_is_called_old_before_anything_else() -> None:
    health = assess_stale(healthy(), 14.0, "Unavailable: connection refused")
    assert health.sentence == (
        "The coordinator does not answer. Last known state, 14 s old: all 7 tablets have 3 of 3 replicas."
    )
    assert health.level is Level.DANGER
    assert "Reads and writes go on" in health.attention[0].detail
    assert "connection refused" in health.attention[0].detail


def test_a_front_end_that_never_saw_the_cluster_claims_nothing_about_it() -> None:
    health = assess_stale(None, 3.0, "")
    assert "has not seen the cluster" in health.sentence
    assert len(health.attention) == 1


@given(statuses())
def test_whatever_the_status_it_never_sounds_better_than_it_is(status: Status) -> None:
    health = assess(status)
    live = [len(status.live(tablet.in_sync)) for tablet in status.tablets]
    if any(number == 0 for number in live):
        assert "cannot be read or written" in health.sentence
    if any(number < tablet.wanted for number, tablet in zip(live, status.tablets, strict=True)):
        assert health.level is Level.DANGER
        assert health.attention
    if health.level is Level.GOOD:
        assert all(number >= tablet.wanted for number, tablet in zip(live, status.tablets, strict=True))
    assert list(health.attention) == sorted(health.attention, key=lambda item: -item.level)
    assert assess_stale(status, 5.0, "").sentence.startswith("The coordinator does not answer")


def test_of_a_node_that_was_disabled_and_stopped_it_says_both() -> None:
    nodes = [raw_node("node1"), raw_node("node2", "down", disabled=True), raw_node("node3"), raw_node("node4")]
    status = parse(raw_status(nodes, [raw_tablet(1, "1", "1 3")]))
    details = {item.title: item.detail for item in assess(status).attention}
    assert details["node2 is down"].endswith("its replicas are not rebuilt elsewhere unless it is enabled.")
    assert any("when node2 is back and node2 is enabled" in detail for detail in details.values()), details
    assert node_line(status, status.nodes[1]).words == "down, disabled"


def test_of_a_node_that_is_gone_it_says_when_and_where_its_replicas_are_rebuilt() -> None:
    def detail(rebuilt_in: float | None, *others: dict[str, object]) -> str:
        gone = raw_node("node2", "down", rebuilt_in_s=rebuilt_in)
        nodes = [raw_node("node1"), gone, raw_node("node3"), *others]
        status = parse(raw_status(nodes, [raw_tablet(1, "1", "1 3")]))
        return next(item.detail for item in assess(status).attention if item.title == "node2 is down")

    spare = raw_node("node4", replica_of=0)
    assert detail(240.0, spare).endswith("If it is not back in 4 min, its replicas are rebuilt on node4.")
    assert detail(0.0, spare).endswith("Its replicas are being rebuilt on node4.")
    none = "There is no spare node with room, on which its replicas could be rebuilt."
    assert detail(240.0).endswith(none)
    assert detail(240.0, raw_node("node4", replica_of=0, disk_free=2 * 1024**2)).endswith(none)
    assert detail(240.0, raw_node("node4", "disabled")).endswith("could be rebuilt.")
    assert "rebuilt" not in detail(None, spare)


@pytest.mark.parametrize(
    ("figures", "title", "clause"),
    [
        ({"disk_full": True, "disk_free": 0}, "is full", "node2's disk is full"),
        ({"disk_age_s": 20.0}, "is slow", "node2's disk takes nothing"),
    ],
)
def test_of_a_node_whose_disk_takes_nothing_it_says_so_and_when_and_where_its_replicas_are_rebuilt(
    figures: dict[str, Any], title: str, clause: str
) -> None:
    ill = raw_node("node2", rebuilt_in_s=240.0, **figures)
    nodes = [raw_node("node1"), ill, raw_node("node3"), raw_node("node4", replica_of=0)]
    status = parse(raw_status(nodes, [raw_tablet(1, "1", "1 3")]))
    health = assess(status)
    detail = next(item.detail for item in health.attention if item.title == f"node2's disk {title}")
    assert detail.endswith("If that goes on for another 4 min, its replicas are rebuilt on node4.")
    assert health.sentence.startswith(f"The only tablet is short of replicas: {clause};"), health.sentence
