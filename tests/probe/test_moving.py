"""Replicas go from node to node while callers work, and processes die in between: what every caller saw is judged."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kvstore.client import Client
from tests.cluster import StoreCluster, running_store
from tests.probe.cells import check
from tests.probe.histories import PATIENT, Histories
from tests.processes import wait_for

pytestmark = [pytest.mark.probe, pytest.mark.timeout(300)]

LARGE = 3 << 20


@pytest.fixture
def three(tmp_path: Path) -> Iterator[StoreCluster]:
    with running_store(tmp_path) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    """Four nodes, so that every tablet has one that it could move to; nothing moves by itself."""
    with running_store(tmp_path_factory.mktemp("four"), nodes=4) as cluster:
        with closing(cluster.admin()) as admin:
            admin.spread(False)
        yield cluster


def fill(client: Client, group: str) -> dict[tuple[str, str], bytes]:
    """Cells beside the group, small and large: something to be copied."""
    row = group.replace(":mail", "-more:mail")
    cells = {(row, f"c{number}"): f"{number}".encode() for number in range(500)}
    cells |= {(row, f"large{number}"): bytes([number]) * LARGE for number in range(8)}
    for (row, column), value in cells.items():
        client.put(row, column, value)
    return cells


def nodes_of(cluster: StoreCluster, figure: str) -> dict[str, Any]:
    """A figure of every node."""
    return {node["id"]: node[figure] for node in cluster.status()["nodes"]}


def test_data_spreads_by_itself_to_a_node_that_joins_under_load(three: StoreCluster) -> None:
    with three.client() as client, Histories(three, "joins") as histories:
        cells = fill(client, histories.groups[0])
        assert nodes_of(three, "replica_of") == {"node1": 7, "node2": 7, "node3": 7}
        three.names.append("node4")
        three.start("node4")
        wait_for(lambda: nodes_of(three, "replica_of").get("node4") == 5, "node4 getting its share", 120)
        wait_for(lambda: not any(each["moving"] for each in three.status()["tablets"]), "every move being over", 60)
        histories.advance()
        three.wait_until_whole()
        assert sorted(nodes_of(three, "replica_of").values()) == [5, 5, 5, 6]
        wait_for(lambda: sorted(nodes_of(three, "primary_of").values()) == [1, 2, 2, 2], "leads being spread too", 60)
        histories.advance()
        histories.judge()
        check(client, cells)
        status = three.wait_until_alike()
    held = Counter(name for each in status["tablets"] for name in each["replicas"])
    words = three.log("coordinator")
    assert words.count(" moves to node4, which holds ") == held["node4"] == 5
    assert words.count(" has moved to node4") == 5
    assert "moves to node1" not in words


def ends(cluster: StoreCluster, row: str, *, leads: bool) -> tuple[int, str, str]:
    """The row's tablet, a node that has a replica of it (its primary, or another), and the one that has none."""
    tablet = cluster.tablet_of(row)
    (target,) = set(cluster.names[1:]) - set(tablet["replicas"])
    source = next(name for name in tablet["replicas"] if (name == tablet["primary"]) == leads)
    return tablet["id"], source, target


@pytest.mark.parametrize(
    ("victim", "leads"),
    [
        ("target", False),
        ("source", False),
        ("primary", False),
        ("primary", True),
        ("target", True),
        ("coordinator", True),
    ],
)
def test_kill_minus_nine_in_the_middle_of_a_move(four: StoreCluster, victim: str, leads: bool) -> None:
    """The node that it goes to is stopped while the move begins and somebody dies, so that it cannot be over before that."""
    four.start()
    four.wait_until_whole()
    name = f"{victim}{'led' if leads else ''}"
    with four.client() as client, Histories(four, name) as histories:
        group = histories.groups[0]
        cells = fill(client, group)
        histories.advance()
        tablet, source, target = ends(four, group, leads=leads)
        dies = {"target": target, "source": source, "primary": four.primary_of(group)}.get(victim, victim)
        four.kill(target, signal.SIGSTOP)
        with closing(four.admin()) as admin:
            admin.move(tablet, source, target)
        four.kill(dies)
        four.kill(target, signal.SIGCONT)
        histories.advance()
        four.start(dies)

        def moved() -> bool:
            now = four.tablet_of(group)
            return not now["moving"] and source not in now["replicas"] and target in now["in_sync"]

        wait_for(moved, f"the replica of tablet {tablet} having moved from {source} to {target}", PATIENT)
        four.wait_until_whole()
        histories.advance()
        histories.judge()
        check(client, cells)
        four.wait_until_alike()
    assert len(four.tablet_of(group)["replicas"]) == 3


def test_a_move_to_a_node_that_does_not_come_back_is_withdrawn_and_nothing_is_missed(four: StoreCluster) -> None:
    four.start()
    four.wait_until_whole()
    with closing(four.admin()) as admin, Histories(four, "never") as histories:
        histories.advance()
        tablet, source, target = ends(four, histories.groups[1], leads=False)
        four.kill(target, signal.SIGSTOP)
        admin.move(tablet, source, target)
        four.kill(target)
        histories.advance()
        admin.rebuild_after(3.0)  # for the other tablets too: what it held is rebuilt where there is a spare
        wait_for(lambda: not four.tablet_of(histories.groups[1])["moving"], "the move being withdrawn", PATIENT)
        assert source in four.tablet_of(histories.groups[1])["in_sync"]
        admin.rebuild_after(300.0)
        histories.advance()
        four.start(target)
        four.wait_until_whole()
        histories.judge()
    assert f"does not move to {target} after all: {target} has been gone for 3 s" in four.log("coordinator")
