"""Processes die, restart and are upgraded while callers work: what every caller saw is judged.

One store goes through it all; each test begins with every replica in sync.
"""

from __future__ import annotations

from typing import Any

import pytest

from kvstore.errors import Unavailable
from tests.cluster import StoreCluster
from tests.probe.histories import PATIENT, Histories, groups_of
from tests.processes import wait_for

pytestmark = pytest.mark.probe


def test_kill_minus_nine_of_a_primary_then_of_a_secondary(harmed: StoreCluster) -> None:
    """Nobody tells the coordinator: both are missed by their silence alone. Then one is left, and serves."""
    with Histories(harmed, "killed") as histories:
        histories.advance()
        primary = harmed.primary_of(histories.groups[0])
        harmed.kill(primary)
        histories.advance()
        successor = harmed.primary_of(histories.groups[0])
        (secondary,) = set(harmed.names[1:]) - {primary, successor}
        harmed.kill(secondary)
        histories.advance()
        status = harmed.status()
        assert all(tablet["in_sync"] == [successor] for tablet in status["tablets"])
        states = {node["id"]: node["state"] for node in status["nodes"]}
        assert states == {primary: "down", secondary: "down", successor: "up"}
        harmed.start()
        harmed.wait_until_whole()
        histories.advance()
        histories.judge()
        harmed.wait_until_alike()


def test_a_restart_faster_than_its_detection(harmed: StoreCluster) -> None:
    """A primary and a secondary are back before anybody missed them: a registration ends the roles of the run before."""
    before = {node["id"]: node["incarnation"] for node in harmed.status()["nodes"]}
    with Histories(harmed, "fast") as histories:
        primary = harmed.primary_of(histories.groups[0])
        victims = [primary, next(name for name in harmed.names[1:] if name != primary)]
        for victim in victims:
            harmed.kill(victim)
            harmed.start(victim)
            histories.advance()
            harmed.wait_until_whole()
        histories.judge()
        status = harmed.wait_until_alike()
    assert all(node["incarnation"] == before[node["id"]] + (node["id"] in victims) for node in status["nodes"])


def test_a_rolling_restart_of_everything_under_load_fails_no_request(harmed: StoreCluster) -> None:
    """Ended in order, a node hands over first; the coordinator's absence is not noticed at all."""
    pids = {name: harmed.pid(name) for name in harmed.names}
    with Histories(harmed, "rolling") as histories:
        for name in harmed.names:
            histories.advance()
            harmed.end(name)
            assert "Traceback" not in harmed.log(name)
            histories.advance()
            harmed.start(name)
            harmed.wait_until_whole()
        histories.advance()
        histories.judge()
        harmed.wait_until_alike()
    assert all(harmed.pid(name) != pid for name, pid in pids.items())


def test_a_power_cut_of_everything(harmed: StoreCluster) -> None:
    with Histories(harmed, "cut", timeout=PATIENT) as histories:
        histories.advance()
        harmed.kill_all()
        harmed.start()
        histories.advance()
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()


def is_up(cluster: StoreCluster, name: str) -> bool:
    """Whether the coordinator has heard the node's present run."""
    return any(
        node["id"] == name and node["state"] == "up" and node["pid"] == cluster.pid(name)
        for node in cluster.status()["nodes"]
    )


def test_without_coordinator_reads_and_writes_go_on(harmed: StoreCluster) -> None:
    before = harmed.status()
    with Histories(harmed, "alone") as histories:
        histories.advance()
        harmed.kill("coordinator")
        histories.advance(100)
        harmed.start("coordinator")
        harmed.wait_until_whole()
        histories.advance()
        histories.judge()
        after = harmed.wait_until_alike()
    epochs = {tablet["id"]: tablet["epoch"] for tablet in before["tablets"]}
    assert all(tablet["epoch"] >= epochs[tablet["id"]] for tablet in after["tablets"]), "it forgot a decision"
    assert [node["incarnation"] for node in after["nodes"]] == [node["incarnation"] for node in before["nodes"]]


@pytest.mark.parametrize("returns", [False, True], ids=["and stays away", "and is back first"])
def test_a_node_that_fails_while_the_coordinator_is_down(harmed: StoreCluster, returns: bool) -> None:
    """Its tablets wait for somebody who may decide; then they go on, and no caller heard of it."""
    with Histories(harmed, f"both-{returns}".lower(), timeout=PATIENT) as histories:
        histories.advance()
        victim = harmed.primary_of(histories.groups[0])
        harmed.kill("coordinator")
        harmed.kill(victim)
        if returns:
            harmed.start(victim)
        harmed.start("coordinator")
        histories.advance()
        harmed.start(victim)
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()


def test_a_copy_that_missed_writes_does_not_open_a_tablet_alone(harmed: StoreCluster) -> None:
    """The last in-sync set went down after it: the tablet waits for one of those, and says for whom."""
    row = groups_of("last")[0]
    with harmed.client() as client:
        client.put(row, "x", b"old")
        harmed.kill_and_tell("node3")
        client.put(row, "x", b"new")
        harmed.kill_all()
        harmed.start("coordinator", "node3")
        wait_for(lambda: is_up(harmed, "node3"), "the return of the one that missed a write", PATIENT)
        tablet = wait_for(lambda: waiting(harmed, row), "the tablet waiting", PATIENT)
        assert tablet is not None
        assert set(tablet["waiting_for"]) <= {"node1", "node2"}
        with pytest.raises(Unavailable):
            client.get(row, "x", timeout=0.5)
        harmed.start("node1")
        cell = client.get(row, "x", timeout=PATIENT)
        assert cell is not None
        assert cell.value == b"new"


def waiting(cluster: StoreCluster, row: str) -> dict[str, Any] | None:
    """The row's tablet, if it waits for somebody."""
    tablet = cluster.tablet_of(row)
    return tablet if tablet["waiting_for"] else None
