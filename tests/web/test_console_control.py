"""Levers on a real cluster: what they say before, what they do, and what is written down."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from adminconsole import audit
from kvstore.admin import Admin
from penncloud_site.storage import store
from tests.cluster import StoreCluster, is_whole
from tests.web.operators import cluster_to_harm, operator, page, page_when, status_when
from tests.web.visitors import Visitor


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    """A store without a supervisor; tests leave it as they found it."""
    with cluster_to_harm(tmp_path_factory.mktemp("console")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def harmed(own_cluster: StoreCluster) -> Iterator[StoreCluster]:
    """The cluster, whole before and after each test."""
    status_when(own_cluster, is_well)
    yield own_cluster
    with closing(own_cluster.admin()) as admin:
        for node in admin.status()["nodes"]:
            if node["state"] in ("disabled", "draining"):
                admin.enable(node["id"])
    status_when(own_cluster, is_well)


def is_well(found: dict[str, Any]) -> bool:
    return is_whole(found, 3) and all(node["state"] == "up" for node in found["nodes"])


def state_of(found: dict[str, Any], name: str) -> str:
    return next(node["state"] for node in found["nodes"] if node["id"] == name)


def seen(visitor: Visitor, address: str) -> str:
    """The fingerprint in the form that an operator would send."""
    return re.findall(r'name="seen" value="([0-9a-f]+)"', page(visitor, address))[0]


def test_disable_says_what_it_does_then_does_it_and_enable_undoes_it(harmed: StoreCluster) -> None:
    visitor, name = operator()
    led = sum(1 for tablet in harmed.status()["tablets"] if tablet["primary"] == "node2")
    found = html.unescape(page(visitor, "/console/nodes/node2/disable/"))
    if led:
        assert f"node2 leads {led} tablet" in found
    assert f"{len(harmed.status()['tablets'])} tablets would have 2 of 3 replicas." in found
    assert state_of(harmed.status(), "node2") in ("up", "suspect"), "looking at the form does nothing"

    response = visitor.post("/console/nodes/node2/disable/", {"seen": seen(visitor, "/console/nodes/node2/disable/")})
    assert response.status_code == 302
    status_when(
        harmed,
        lambda now: state_of(now, "node2") == "disabled" and all(t["primary"] != "node2" for t in now["tablets"]),
    )
    found = html.unescape(page_when(visitor, "/console/", "are short of replicas"))
    assert "node2 is disabled" in found
    assert "node2 is disabled already" in page(visitor, "/console/nodes/node2/disable/")

    visitor.post("/console/nodes/node2/enable/", {"seen": seen(visitor, "/console/nodes/node2/enable/")})
    status_when(harmed, is_well)
    entries = [entry for entry in audit.newest(store()).entries if entry.who == name]
    assert [(entry.action, entry.target, entry.outcome) for entry in entries] == [
        ("enable", "node2", "done"),
        ("disable", "node2", "done"),
    ]
    assert name in page(visitor, "/console/activity/")
    assert name in page(visitor, "/console/activity/latest/")


def test_what_would_make_data_unavailable_asks_for_the_name_to_be_typed(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    for name in ("node2", "node3"):
        Admin(store()).disable(name)
    status_when(harmed, lambda now: all(tablet["in_sync"] == ["node1"] for tablet in now["tablets"]))
    address = "/console/nodes/node1/kill/"
    page_when(visitor, address, "could be neither read nor written")
    for typed in ("", "node2"):
        response = visitor.post(address, {"seen": seen(visitor, address), "typed": typed})
        assert response.status_code == 409
        assert "Type node1 to confirm" in response.content.decode()
    assert state_of(harmed.status(), "node1") in ("up", "suspect")


def test_a_confirmation_of_what_is_no_longer_true_is_not_carried_out(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    before = seen(visitor, "/console/nodes/node3/disable/")
    Admin(store()).disable("node2")
    status_when(harmed, lambda now: all("node2" not in tablet["in_sync"] for tablet in now["tablets"]))
    response = visitor.post("/console/nodes/node3/disable/", {"seen": before})
    assert response.status_code == 409
    assert "The cluster has changed since you looked" in response.content.decode()
    assert state_of(harmed.status(), "node3") in ("up", "suspect")


def test_an_action_that_fails_is_said_and_written_down(harmed: StoreCluster) -> None:
    visitor, name = operator()
    status_when(harmed, is_well)
    response = visitor.post("/console/nodes/node1/kill/", {"seen": seen(visitor, "/console/nodes/node1/kill/")})
    assert "did not work" in html.unescape(visitor.get(response["Location"]).content.decode())
    entry = audit.newest(store(), limit=1).entries[0]
    assert (entry.who, entry.action, entry.target, entry.failed) == (name, "kill", "node1", True)
    assert "No supervisor answers" in entry.outcome


def test_activity_is_paged_the_newest_first(harmed: StoreCluster) -> None:
    visitor, name = operator()
    for number in range(audit.ENTRIES_A_PAGE + 3):
        entry = audit.Entry(name, "restart", f"node{number}", "done", "192.0.2.1", audit.new_column())
        audit.write(store(), entry)
    first = page(visitor, "/console/activity/")
    assert first.index(f"node{audit.ENTRIES_A_PAGE + 2}") < first.index(f"node{audit.ENTRIES_A_PAGE + 1}")
    older = re.search(r'href="([^"]*before=[^"]*)"', first)
    assert older
    assert "restart node0" in page(visitor, html.unescape(older.group(1)))


def test_an_unconfirmed_post_does_nothing(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    for form in ({}, {"seen": ""}, {"seen": "0" * 16, "typed": "node1"}):
        assert visitor.post("/console/nodes/node1/disable/", form).status_code == 409
    assert state_of(harmed.status(), "node1") in ("up", "suspect")
