"""Moving and splitting tablets from the console, on a real cluster of four nodes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest

from adminconsole import audit
from kvstore.admin import Admin
from penncloud_site.storage import store
from tests.cluster import StoreCluster
from tests.web.operators import cluster_to_harm, operator, page, page_when, status_when
from tests.web.visitors import Visitor


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    """A store of four nodes, so that each tablet has a node that it could move to."""
    with cluster_to_harm(tmp_path_factory.mktemp("placing"), nodes=4) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def harmed(own_cluster: StoreCluster) -> Iterator[StoreCluster]:
    """The cluster, with everything where it is to be, and nothing that moves by itself."""
    Admin(store()).spread(False)
    status_when(own_cluster, is_settled)
    yield own_cluster
    status_when(own_cluster, is_settled)


def is_settled(found: dict[str, Any]) -> bool:
    tablets = found["tablets"]
    return bool(tablets) and all(
        each["primary"] and not each["moving"] and sorted(each["in_sync"]) == sorted(each["replicas"])
        for each in tablets
    )


def tablet(found: dict[str, Any], number: int) -> dict[str, Any]:
    return next(each for each in found["tablets"] if each["id"] == number)


def seen(visitor: Visitor, address: str) -> str:
    """The fingerprint in the form that an operator would send."""
    return re.findall(r'name="seen" value="([0-9a-f]+)"', page(visitor, address))[0]


def ends(found: dict[str, Any], number: int) -> tuple[str, str]:
    """A node that has a replica of the tablet and does not lead it, and one that has none."""
    one = tablet(found, number)
    source = next(name for name in one["replicas"] if name != one["primary"])
    target = next(node["id"] for node in found["nodes"] if node["id"] not in one["replicas"])
    return source, target


def test_a_move_is_chosen_foreseen_confirmed_and_done(harmed: StoreCluster) -> None:
    visitor, name = operator()
    source, target = ends(harmed.status(), 1)
    assert "/console/tablets/1/move/" in page(visitor, "/console/tablets/1/")
    chosen = page(visitor, "/console/tablets/1/move/")
    assert f'<option value="{source}"' in chosen
    assert f'<option value="{target}"' in chosen
    assert 'name="seen"' not in chosen, "nothing to confirm before anything is chosen"

    address = f"/console/tablets/1/move/?from={source}&to={target}"
    assert f"{source} leaves and drops its copy" in html.unescape(page(visitor, address))
    assert tablet(harmed.status(), 1)["moving"] is None, "looking at the form does nothing"
    form = {"seen": seen(visitor, address), "from": source, "to": target}
    response = visitor.post("/console/tablets/1/move/", form)
    assert (response.status_code, response["Location"]) == (302, "/console/tablets/1/")
    moved = status_when(harmed, lambda now: source not in tablet(now, 1)["replicas"] and is_settled(now))
    assert target in tablet(moved, 1)["in_sync"]
    assert f"A replica of tablet 1 is moving from {source} to {target}." in page(visitor, "/console/tablets/1/")
    entry = next(entry for entry in audit.newest(store()).entries if entry.who == name)
    assert (entry.action, entry.target, entry.outcome) == ("move", f"tablet 1: {source} to {target}", "done")


def test_what_cannot_be_moved_is_said_and_not_offered(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    source, target = ends(harmed.status(), 2)
    for sends, reason in (
        ({"from": target, "to": target}, f"has no replica on {target}"),
        ({"from": source, "to": "node9"}, "There is no node node9."),
        ({"from": "<b>", "to": target}, "has no replica on <b>"),
    ):
        address = f"/console/tablets/2/move/?from={sends['from']}&to={sends['to']}"
        found = page(visitor, address)
        assert "<b>;" not in found
        assert reason in html.unescape(found)
        assert 'name="seen"' not in found
        assert visitor.post("/console/tablets/2/move/", {"seen": "0" * 16, **sends}).status_code == 409
    assert visitor.get("/console/tablets/999/move/").status_code == 404
    assert visitor.get("/console/tablets/2/merge/").status_code == 404


def test_an_unconfirmed_move_or_split_does_nothing(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    source, target = ends(harmed.status(), 2)
    before = harmed.status()["tablets"]
    for wish, form in (
        ("move", {"from": source, "to": target}),
        ("split", {"row": ""}),
        ("withdraw", {}),
        ("move", {}),
    ):
        assert visitor.post(f"/console/tablets/2/{wish}/", {"seen": "0" * 16, **form}).status_code == 409
    assert [(each["id"], each["replicas"]) for each in harmed.status()["tablets"]] == [
        (each["id"], each["replicas"]) for each in before
    ]


def test_a_move_that_waits_is_shown_and_withdrawn(harmed: StoreCluster) -> None:
    """The node that it goes to is stopped just then: nothing is copied, and nobody waits for it."""
    visitor, name = operator()
    source, target = ends(harmed.status(), 3)
    harmed.kill(target)
    try:
        Admin(store()).move(3, source, target)  # before its silence is noticed
        page_when(visitor, "/console/", f"A replica of tablet 3 is moving from {source} to {target}")
        found = html.unescape(page_when(visitor, "/console/tablets/3/", "Withdraw…"))
        assert f"from {source} to {target}: it can stay where it was" in found
        address = "/console/tablets/3/withdraw/"
        assert f"{source} keeps its replica" in html.unescape(page(visitor, address))
        assert visitor.post(address, {"seen": seen(visitor, address)}).status_code == 302
        assert tablet(harmed.status(), 3)["moving"] is None
        assert "is not moving" in page(visitor, address)
        entry = next(entry for entry in audit.newest(store()).entries if entry.who == name)
        assert (entry.action, entry.outcome) == ("withdraw", "done")
    finally:
        harmed.start(target)


def test_a_tablet_is_split_where_one_says(harmed: StoreCluster) -> None:
    visitor, name = operator()
    client = store()
    for letter in ("aa", "ab", "ac"):
        client.put(f"{letter}-split:mail", "c", b"value")
    number = harmed.tablet_of("ab-split:mail")["id"]
    address = f"/console/tablets/{number}/split/?row=ab-split:mail"
    assert "become a tablet of their own" in html.unescape(page(visitor, address))
    response = visitor.post(
        f"/console/tablets/{number}/split/", {"seen": seen(visitor, address), "row": "ab-split:mail"}
    )
    assert response.status_code == 302
    child = harmed.tablet_of("ab-split:mail")["id"]
    assert child != number
    assert response["Location"] == f"/console/tablets/{child}/"
    assert f"tablet {child} begins at “ab-split:mail”" in html.unescape(page(visitor, response["Location"]))
    for letter in ("aa", "ab", "ac"):
        found = client.get(f"{letter}-split:mail", "c")
        assert found is not None
        assert found.value == b"value"
    entry = next(entry for entry in audit.newest(store()).entries if entry.who == name)
    assert (entry.action, entry.target, entry.outcome) == ("split", f"tablet {number} at ab-split:mail", "done")


def test_two_operators_who_split_the_same_tablet_split_it_once(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    other, _ = operator()
    client = store()
    for number in range(8):
        client.put(f"ad{number}-twice:mail", "c", b"value")
    wished = harmed.tablet_of("ad0-twice:mail")
    number = wished["id"]
    address = f"/console/tablets/{number}/split/"
    # the next heartbeat tells that there is something to cut
    page_when(visitor, address, "become a tablet of their own")
    form = {"seen": seen(visitor, address), "row": ""}
    assert seen(other, address) == form["seen"]
    shown = visitor.post(address, form)
    assert shown.status_code == 302
    before = len(harmed.status()["tablets"])
    response = other.post(address, form)
    assert response.status_code == 409
    assert "The cluster has changed since you looked" in response.content.decode()
    made = Admin(store()).split(number, range_version=wished["range_version"])
    assert shown["Location"] == f"/console/tablets/{made.child}/", "sent in the same moment, it is the same split"
    assert len(harmed.status()["tablets"]) == before


def test_the_page_of_a_tablet_that_is_new_to_this_front_end_is_there(harmed: StoreCluster) -> None:
    """Another front end had it split, and the browser comes here."""
    visitor, _ = operator()
    for letter in ("ae", "af"):
        store().put(f"{letter}-new:mail", "c", b"value")
    number = harmed.tablet_of("af-new:mail")["id"]
    page(visitor, f"/console/tablets/{number}/")
    made = Admin(store()).split(number, "af-new:mail")
    page(visitor, f"/console/tablets/{made.child}/")


def test_a_row_within_a_group_or_outside_is_no_place_to_split(harmed: StoreCluster) -> None:
    visitor, _ = operator()
    for row, reason in (("ab-split:drive:UID_7", "not the first row of a group"), ("zzz", "does not lie inside")):
        number = harmed.tablet_of("aa")["id"]
        assert reason in html.unescape(page(visitor, f"/console/tablets/{number}/split/?row={row}"))


def test_what_the_cluster_does_by_itself_is_shown_and_changed(harmed: StoreCluster) -> None:
    visitor, name = operator()
    assert "/console/by-itself/" in page(visitor, "/console/")
    found = page(visitor, "/console/by-itself/")
    assert 'value="300"' in found
    assert 'value="512M"' in found
    for setting, value, kept in (
        ("rebuild-after", "never", ("rebuild_after_s", None)),
        ("rebuild-after", "900", ("rebuild_after_s", 900.0)),
        ("split-above", "1GiB", ("split_above", 1 << 30)),
        ("spread", "on", ("spread", True)),
        ("spread", "off", ("spread", False)),
    ):
        response = visitor.post("/console/by-itself/", {"setting": setting, "value": value})
        assert response.status_code == 302
        assert harmed.status()["cluster"][kept[0]] == kept[1]
    assert 'value="1G"' in page(visitor, "/console/by-itself/")
    entry = next(entry for entry in audit.newest(store()).entries if entry.who == name)
    assert (entry.action, entry.target, entry.outcome) == ("spread", "off", "done")


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("rebuild-after", "soon", "neither a number of seconds nor"),
        ("rebuild-after", "1", "2 seconds or more"),
        ("split-above", "much", "neither a number of bytes"),
        ("split-above", "1", "not above 1"),
        ("split-above", "9" * 5000, "neither a number of bytes"),
        ("spread", "perhaps", "cannot be 'perhaps'"),
        ("colour", "<b>", "'colour' cannot be '<b>'"),
    ],
)
def test_a_setting_that_cannot_be_says_why_and_changes_nothing(
    harmed: StoreCluster, setting: str, value: str, reason: str
) -> None:
    visitor, _ = operator()
    before = harmed.status()["cluster"]
    response = visitor.post("/console/by-itself/", {"setting": setting, "value": value})
    assert response.status_code == 400
    assert reason in html.unescape(response.content.decode())
    now = harmed.status()["cluster"]
    assert {key: now[key] for key in now if key != "uptime_s"} == {key: before[key] for key in now if key != "uptime_s"}
