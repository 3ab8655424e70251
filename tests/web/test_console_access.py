"""The console is there for operators; to everybody else there is no such page."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from django.urls import reverse

from adminconsole.urls import urlpatterns
from penncloud_site.accounts import schema
from penncloud_site.storage import store
from tests.web.operators import operator
from tests.web.visitors import Visitor, member

pytestmark = pytest.mark.usefixtures("real_store")

VALUES = {"node_id": "node1", "action": "kill", "tablet_id": 1, "wish": "split"}
NAMES = [pattern.name for pattern in urlpatterns]


def addresses() -> list[str]:
    """An address for every page that the console has: one that is added is tested here without a word."""
    return [
        reverse(f"console:{pattern.name}", kwargs={name: VALUES[name] for name in pattern.pattern.converters})
        for pattern in urlpatterns
    ]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("htmx", [False, True])
def test_neither_strangers_nor_members_get_anything(method: str, htmx: bool) -> None:
    headers = {"HX-Request": "true", "HX-Target": "live"} if htmx else {}
    inside, _ = member()
    for visitor in (Visitor(), inside):
        for address in addresses():
            response = getattr(visitor, method)(address, headers=headers)
            assert response.status_code == 404, address
            assert b"tablet" not in response.content.lower()


def test_operators_get_in() -> None:
    visitor, _ = operator()
    for name in ("overview", "nodes", "tablets", "by_itself", "front_ends", "rows", "activity", "latest_activity"):
        assert visitor.get(reverse(f"console:{name}")).status_code == 200, name


def test_one_who_is_no_operator_any_more_is_out_at_the_next_click() -> None:
    visitor, name = operator()
    assert visitor.get("/console/").status_code == 200
    store().delete(schema.user_row(name), schema.OPERATOR)
    assert visitor.get("/console/").status_code == 404


def test_pages_are_only_read_by_get() -> None:
    visitor, _ = operator()
    for name in set(NAMES) - {"act", "node", "tablet", "place", "by_itself"}:
        assert visitor.post(reverse(f"console:{name}")).status_code == 405, name


def test_nothing_is_done_without_the_token_of_the_form() -> None:
    visitor, _ = operator()
    visitor.handler.enforce_csrf_checks = True
    body = urlencode({"seen": "x"})
    response = visitor.generic("POST", "/console/nodes/node1/kill/", body, "application/x-www-form-urlencoded")
    assert response.status_code == 403
