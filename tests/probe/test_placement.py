"""Where replicas and leads go, with real processes: planned hand-overs under traffic, nodes that join, nodes that stay away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.client import Client
from tests.bench.handover import Traffic, measure, rows_of
from tests.cluster import StoreCluster, WebCluster, running_store
from tests.probe.cells import check
from tests.processes import ROOT, wait_for

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

HELD_UP = 1000.0
"""Milliseconds that a request may take around a planned hand-over on a machine that is busy with much else. (Measured by
itself it is a few tens.)"""
LARGE = 3 << 20


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    with running_store(tmp_path) as made:
        yield made


def node(cluster: StoreCluster, name: str) -> dict[str, Any]:
    """What the status says of a node."""
    return next(each for each in cluster.status()["nodes"] if each["id"] == name)


def command(cluster: StoreCluster, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m kvstore` on the cluster, as an operator types it."""
    line = [
        sys.executable,
        "-m",
        "kvstore",
        "--coordinators",
        cluster.coordinators,
        "--key-file",
        str(cluster.key_file),
    ]
    return subprocess.run([*line, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


def fill(client: Client) -> dict[tuple[str, str], bytes]:
    """Cells in every tablet, some of them large."""
    cells = {
        (f"{letter}ob:mail", f"c{number}"): f"{letter}{number}".encode() for letter in "bgkps" for number in range(40)
    }
    cells |= {(f"{letter}ob:drive", "chunk"): bytes([number]) * LARGE for number, letter in enumerate("bgkp")}
    for (row, column), value in cells.items():
        client.put(row, column, value)
    return cells


def test_planned_hand_overs_fail_no_request_and_hold_none_up_for_long(cluster: StoreCluster) -> None:
    slowest, calls, errors = measure(cluster, rounds=1)
    assert errors == []
    assert calls > 1000
    assert set(slowest) == {"quiet", "disable", "enable", "stop", "start", "hand-back"}
    assert {kind: max(found) for kind, found in slowest.items() if max(found) > HELD_UP} == {}


def test_restarts_by_the_supervisor_fail_no_request(tmp_path: Path) -> None:
    web = WebCluster(tmp_path)
    try:
        web.start()
        web.wait_until_whole()
        with web.client() as client, Traffic(client, rows_of(web)) as traffic:
            for name in ("node1", "node2", "node3"):
                pid = web.pid(name)
                web.control.restart(name)
                web.wait_until_back(name, pid)
                web.wait_until_whole()
        assert traffic.errors == []
        assert max(call.ms for call in traffic.calls) < HELD_UP
    finally:
        web.destroy()


def test_a_node_that_joins_later_is_a_spare_and_gets_the_replicas_of_one_that_stays_away(cluster: StoreCluster) -> None:
    with cluster.client(timeout=30.0) as client:
        cells = fill(client)
        assert command(cluster, "spread", "off").returncode == 0
        cluster.names.append("node4")
        cluster.start("node4")
        wait_for(lambda: "node4" in {each["id"] for each in cluster.status()["nodes"]}, "the new node's registration")
        assert node(cluster, "node4")["replica_of"] == 0
        assert command(cluster, "rebuild-after", "3").returncode == 0
        cluster.kill("node3")
        cluster.kill("coordinator")  # it counts anew, and forgets nothing that was decided
        cluster.start("coordinator")

        def rebuilt(gone: str, spare: str) -> bool:
            tablets = cluster.status()["tablets"]
            return all(gone not in each["replicas"] and spare in each["in_sync"] for each in tablets)

        wait_for(lambda: rebuilt("node3", "node4"), "every replica of node3 being rebuilt on node4", 60)
        cluster.wait_until_alike()
        check(client, cells)
        assert "is rebuilt on node4" in cluster.log("coordinator")

        cluster.start("node3")
        wait_for(lambda: node(cluster, "node3")["state"] == "up", "node3 being back")
        wait_for(lambda: node(cluster, "node3")["cells"] == 0, "node3 having dropped its copies")
        assert node(cluster, "node3")["replica_of"] == 0
        check(client, cells)

        cluster.kill("node1")
        wait_for(lambda: rebuilt("node1", "node3"), "every replica of node1 being rebuilt on node3", 60)
        cluster.wait_until_alike()
        check(client, cells)


def test_the_command_line_says_what_is_wrong_with_a_grace(cluster: StoreCluster) -> None:
    for words in ("soon", "1"):
        refused = command(cluster, "rebuild-after", words)
        assert refused.returncode == 1
        assert "seconds" in refused.stderr
    assert command(cluster, "rebuild-after", "never").returncode == 0
    assert cluster.status()["cluster"]["rebuild_after_s"] is None
