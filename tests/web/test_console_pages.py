"""What an operator sees of a whole cluster, and what the pages say when something cannot be asked."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from pytest_django import Settings

from adminconsole.observation import observer
from kvstore.admin import Admin
from penncloud_site.storage import store
from tests.processes import wait_for
from tests.web.operators import operator, page
from tests.web.visitors import Visitor

pytestmark = pytest.mark.usefixtures("real_store")


@pytest.fixture(autouse=True)
def _observed(real_store: object) -> None:
    """The process's observer has seen this cluster: what it knew before may be of one that another test harmed."""
    processes = {node["pid"] for node in Admin(store()).status()["nodes"]}

    def seen() -> bool:
        observer.expire()
        status = observer.observe(5.0).status
        return status is not None and {node.pid for node in status.nodes} == processes

    wait_for(seen, "the observer seeing this cluster", 30.0)


@pytest.fixture
def visitor() -> Visitor:
    return operator()[0]


def live_part(visitor: Visitor, address: str) -> str:
    """What htmx gets when it refreshes the page."""
    response = visitor.get(address, headers={"HX-Request": "true", "HX-Target": "live"})
    assert response.status_code == 200
    return response.content.decode()


def test_the_overview_begins_with_one_sentence_about_health(visitor: Visitor) -> None:
    tablets = len(Admin(store()).status()["tablets"])
    assert f"All {tablets} tablets have 3 of 3 replicas." in page(visitor, "/console/")


def test_every_node_and_every_tablet_has_its_page(visitor: Visitor) -> None:
    status = Admin(store()).status()
    nodes, tablets = page(visitor, "/console/nodes/"), page(visitor, "/console/tablets/")
    for node in status["nodes"]:
        assert f"/console/nodes/{node['id']}/" in nodes
        found = page(visitor, f"/console/nodes/{node['id']}/")
        assert str(node["pid"]) in found
        assert f"/console/nodes/{node['id']}/disable/" in found
        assert "of its event loop" in found, "the node tells its longest pause"
        assert "of what is stored; " in found, "and how far it has read again what it stores"
    for tablet in status["tablets"]:
        assert f"/console/tablets/{tablet['id']}/" in tablets
        found = page(visitor, f"/console/tablets/{tablet['id']}/")
        for name in tablet["in_sync"]:
            assert f"/console/nodes/{name}/" in found


@pytest.mark.parametrize("address", ["/console/", "/console/nodes/", "/console/tablets/", "/console/nodes/node1/"])
def test_a_refresh_brings_the_live_part_alone(visitor: Visitor, address: str) -> None:
    part = live_part(visitor, address)
    assert 'id="health-sentence"' in part
    assert "<html" not in part
    assert 'id="live"' not in part
    assert "<form" not in part, "a field must not be swapped while it is being used"


def test_a_click_inside_the_shell_brings_content_and_rail(visitor: Visitor) -> None:
    response = visitor.get("/console/nodes/", headers={"HX-Request": "true", "HX-Target": "content"})
    part = response.content.decode()
    assert "<html" not in part
    assert 'id="live"' in part
    assert 'id="rail-product"' in part


@pytest.mark.parametrize(
    "address", ["/console/nodes/node99/", "/console/nodes/node99/kill/", "/console/tablets/999999/"]
)
def test_what_does_not_exist_is_not_found(visitor: Visitor, address: str) -> None:
    page(visitor, address, 404)


def test_an_unknown_action_is_not_found(visitor: Visitor) -> None:
    page(visitor, "/console/nodes/node1/explode/", 404)


@pytest.mark.parametrize(
    "query", ["page=0", "page=-3", "page=x", "page=٣", "page=99999999999999999999", "only=<b>", "node=<b>"]
)
def test_nonsense_in_the_address_does_no_harm(visitor: Visitor, query: str) -> None:
    assert "<b>" not in page(visitor, f"/console/tablets/?{query}")


def test_no_tablet_needs_attention_is_said_and_not_left_empty(visitor: Visitor) -> None:
    assert "No tablet needs attention" in page(visitor, "/console/tablets/?only=attention")


def test_without_a_supervisor_restart_and_kill_are_not_offered(
    visitor: Visitor, settings: Settings, tmp_path: Path
) -> None:
    settings.PENNCLOUD = settings.PENNCLOUD | {"DATA_DIR": tmp_path}
    found = page(visitor, "/console/nodes/node1/")
    assert "No supervisor answers" in found
    assert "/console/nodes/node1/kill/" not in found
    assert "/console/nodes/node1/disable/" in found


def test_without_a_balancer_the_overview_still_stands(visitor: Visitor, settings: Settings) -> None:
    settings.PENNCLOUD = settings.PENNCLOUD | {"BALANCER_STATUS": ""}
    assert "No load balancer is configured" in page(visitor, "/console/")
    assert "No load balancer is configured" in page(visitor, "/console/frontends/")


class _Words(HTMLParser):
    """Collects classes of styles and handlers that the content security policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refused += [f"{tag} {name}" for name, _ in attrs if name == "style" or name.startswith(("on", "hx-on"))]


def test_nothing_inline_that_the_security_policy_refuses(visitor: Visitor) -> None:
    words = _Words()
    for address in (
        "/console/",
        "/console/nodes/node1/",
        "/console/tablets/1/",
        "/console/data/",
        "/console/activity/",
    ):
        words.feed(visitor.get(address).content.decode())
    assert words.refused == []


def test_the_observer_of_the_process_sees_the_cluster() -> None:
    assert observer.observe(10).status is not None
