"""What the console says while real processes die and come back: one node, two, the coordinator."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest

from tests.cluster import StoreCluster
from tests.web.operators import cluster_to_harm, operator, page, page_when

NODES = ("node1", "node2", "node3")


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    with cluster_to_harm(tmp_path_factory.mktemp("console")) as cluster:
        yield cluster


@pytest.fixture
def harmed(own_cluster: StoreCluster) -> Iterator[StoreCluster]:
    """The cluster, whole before the test; what it killed is started again."""
    own_cluster.wait_until_whole()
    yield own_cluster
    own_cluster.start()


def test_one_node_dies_then_a_second_and_both_come_back(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    page_when(visitor, "/console/", "tablets have 3 of 3 replicas.")

    harmed.kill("node2")
    found = page_when(visitor, "/console/", "short of replicas: node2 has been gone for")
    assert "nothing is lost, reads and writes go on" in found
    assert "node2 is down" in found
    assert "there is no process to kill" in page(visitor, "/console/nodes/node2/kill/")

    harmed.kill("node3")
    page_when(visitor, "/console/", "node3 has been gone for")
    page_when(visitor, "/console/tablets/?only=attention", "1 of 3, short")
    found = page_when(visitor, "/console/nodes/node1/kill/", "could be neither read nor written")
    assert "Type <strong>node1</strong>" in found

    harmed.start()
    page_when(visitor, "/console/", "tablets have 3 of 3 replicas.")
    assert "No tablet needs attention" in page(visitor, "/console/tablets/?only=attention")


def test_while_the_coordinator_is_away_it_says_how_old_its_knowledge_is_and_offers_nothing(
    harmed: StoreCluster,
) -> None:
    visitor, _ = operator()
    page_when(visitor, "/console/", "tablets have 3 of 3 replicas.")
    harmed.kill("coordinator")

    found = page_when(visitor, "/console/", "does not answer")
    assert re.search(
        r"The coordinator does not answer\. Last known state, [\d.]+ (s|min) old: all \d+ tablets have", found
    )
    assert "Reads and writes go on with the roles as they were." in found
    for name in NODES:
        assert f"/console/nodes/{name}/" in found
    asked = page(visitor, "/console/nodes/node1/disable/")
    assert "it is not offered here" in asked
    assert '<form method="post" action="/console/' not in asked
    assert visitor.post("/console/nodes/node1/disable/", {"seen": "x"}).status_code == 503
    assert visitor.post("/console/tablets/1/split/", {"seen": "x"}).status_code == 503
    assert "told nor changed" in page(visitor, "/console/by-itself/")
    assert visitor.post("/console/by-itself/", {"setting": "spread", "value": "off"}).status_code == 503
    assert "Rows that begin with" in html.unescape(page(visitor, "/console/data/")), "data needs no coordinator"

    harmed.start("coordinator")
    page_when(visitor, "/console/", "tablets have 3 of 3 replicas.")
    assert {node["state"] for node in harmed.status()["nodes"]}.isdisjoint({"disabled", "draining"})
    assert harmed.status()["cluster"]["spread"], "nothing of it is done later"
