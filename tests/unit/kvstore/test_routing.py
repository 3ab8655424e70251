"""When a client's keeper looks, and whom it asks for the map. Routers and links are the real ones; their connections lead
nowhere, and the test is the keeper's clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from kvstore import clock, settings
from kvstore.control import GetStatus
from kvstore.errors import Unavailable
from kvstore.handshake import Role
from kvstore.link import Link
from kvstore.messages import TabletMap
from kvstore.mutation import Buffer
from kvstore.routing import Router
from kvstore.threads import Threads
from tests.processes import wait_for
from tests.unit.kvstore.test_tabletmap import configuration

COORDINATOR, NODES = "127.0.0.1:1", {"node1": "127.0.0.1:2", "node2": "127.0.0.1:3"}
LEISURE = 2.0


class Nowhere:
    """A connection on which nothing ever comes."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed = False
        self._over = threading.Event()

    def send(self, parts: Sequence[Buffer], soon: bool = False) -> None:
        self.sent += 1

    def read(self) -> list[tuple[list[Any], bytes]]:
        self._over.wait()
        raise EOFError

    def close(self) -> None:
        self.closed = True
        self._over.set()


class Callers(Threads):
    """Plain threads, but nobody keeps: the test looks instead."""

    def __init__(self) -> None:
        self.channels: dict[str, Nowhere] = {}

    def dial(self, address: tuple[str, int], key: bytes, role: Role, name: str, expected: str | None) -> Any:
        return self.channels.setdefault(f"{address[0]}:{address[1]}", Nowhere())

    def spawn(self, name: str, function: Callable[..., None], *arguments: Any) -> None:
        if name.startswith("link"):
            super().spawn(name, function, *arguments)

    def sent(self) -> dict[str, int]:
        """How many frames went to each address."""
        return {address: channel.sent for address, channel in self.channels.items()}

    def will_have_sent(self, expected: dict[str, int]) -> None:
        wait_for(lambda: self.sent() == expected, f"{expected} frames, not {self.sent()}")


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> Callers:
    """It is later than whatever the tests are about: who was answered does not try again."""
    monkeypatch.setattr(clock, "now", lambda: 1000.0)
    return Callers()


@pytest.fixture
def router(callers: Callers) -> Iterator[Router]:
    made = Router(callers, COORDINATOR, b"key", "a client")
    made.learn([configuration(1, "", None)], NODES, "whole")
    yield made
    made.close()


def all_asked(router: Router, callers: Callers) -> None:
    """Everybody is connected, and was asked once."""
    router._look(100.0)
    callers.will_have_sent(dict.fromkeys([COORDINATOR, *NODES.values()], 1))


def answered(router: Router) -> None:
    router.map_answered(TabletMap([], NODES, "whole"))


def test_who_is_not_connected_is_asked_so_that_he_will_be(router: Router, callers: Callers) -> None:
    all_asked(router, callers)


def test_at_leisure_the_coordinator_alone_is_asked(router: Router, callers: Callers) -> None:
    all_asked(router, callers)
    answered(router)
    router._look(100.0 + LEISURE)
    callers.will_have_sent({COORDINATOR: 2} | dict.fromkeys(NODES.values(), 1))


def test_when_the_coordinator_does_not_answer_everybody_is_asked(router: Router, callers: Callers) -> None:
    all_asked(router, callers)
    answered(router)
    router._look(100.0 + LEISURE)
    router._look(100.0 + 2 * LEISURE)
    callers.will_have_sent({COORDINATOR: 3} | dict.fromkeys(NODES.values(), 2))


def test_in_haste_everybody_is_asked(router: Router, callers: Callers) -> None:
    all_asked(router, callers)
    answered(router)
    router._want_map(100.2)
    assert router._look(100.1) <= 0.05
    callers.will_have_sent(dict.fromkeys([COORDINATOR, *NODES.values()], 2))


def test_in_haste_it_looks_often_also_while_an_answer_is_on_its_way(router: Router, callers: Callers) -> None:
    all_asked(router, callers)
    router._want_map(101.0)
    assert router._look(100.1) <= 0.05
    assert router._look(100.3) <= 0.05
    callers.will_have_sent(dict.fromkeys([COORDINATOR, *NODES.values()], 1))
    router._look(100.6)  # it seems to be lost
    callers.will_have_sent(dict.fromkeys([COORDINATOR, *NODES.values()], 2))


def test_nothing_under_way_is_looked_at_once_in_a_patience(router: Router, callers: Callers) -> None:
    all_asked(router, callers)
    answered(router)
    assert router._look(100.5) == pytest.approx(0.5), "nobody has answered the question itself"
    assert router._look(101.0) == pytest.approx(settings.PATIENCE)
    assert router._look(101.5) == pytest.approx(0.5), "then the map is to be asked for"


def test_a_map_that_is_wanted_fresh_is_asked_for_at_once(router: Router, callers: Callers) -> None:
    all_asked(router, callers)
    answered(router)
    router._look(clock.now())
    answered(router)
    router._kick.clear()
    router.refresh_soon()
    assert router._kick.is_set()
    router._look(clock.now())
    callers.will_have_sent({COORDINATOR: 3} | dict.fromkeys(NODES.values(), 1))


class TestDeadlines:
    """A caller in a thread of its own asks; the keeper looks when the test does."""

    @pytest.fixture(autouse=True)
    def at_rest(self, router: Router, callers: Callers) -> None:
        all_asked(router, callers)
        answered(router)

    def call(self, function: Callable[[], object]) -> list[str]:
        """Call it beside the test; what it heard in the end."""
        heard: list[str] = []

        def call() -> None:
            try:
                function()
            except Unavailable as error:
                heard.append(str(error))

        threading.Thread(target=call, daemon=True).start()
        return heard

    def ask(self, router: Router, begun: float, deadline: float) -> list[str]:
        """Ask for something in the only tablet; returns when it is under way."""
        heard = self.call(
            lambda: router.ask(lambda: router.tablets.find("row"), lambda *_: [b""], now=begun, deadline=deadline)
        )
        self.wait_until_pending(router._links["node1"], deadline)
        return heard

    def wait_until_pending(self, link: Link, deadline: float) -> None:
        wait_for(lambda: any(p.deadline == deadline for p in list(link._session.pending.values())), "the request")

    def test_the_next_look_is_at_the_nearest_deadline(self, router: Router) -> None:
        heard = self.ask(router, 100.0, 100.3)
        assert router._look(100.0) == pytest.approx(0.3)
        router._look(100.3)
        wait_for(lambda: heard, "the caller's error")

    def test_a_request_that_cannot_wait_for_the_next_look_has_it_made_earlier(self, router: Router) -> None:
        router._look(100.0)
        router._kick.clear()
        self.ask(router, 100.0, 100.0 + 10.0)
        assert not router._kick.is_set(), "this one can wait"
        self.ask(router, 100.0, 100.3)
        wait_for(router._kick.is_set, "the kick")

    def test_a_request_at_a_place_that_the_map_no_longer_names_is_looked_at_at_once(self, router: Router) -> None:
        """It had asked where to go before the map changed; the look that followed the change came before it."""
        router._look(100.0)
        router._kick.clear()

        def where() -> Any:
            found = router.tablets.find("row")
            router.learn([configuration(1, "", None, epoch=2, node="node2")])
            router._kick.clear()
            return found

        self.call(lambda: router.ask(where, lambda *_: [b""], now=100.0, deadline=110.0))
        wait_for(router._kick.is_set, "the kick")

    def test_the_coordinator_answers_by_the_deadline_or_nobody_waits(self, router: Router) -> None:
        self.call(lambda: router.control(GetStatus(), 0.3))
        self.wait_until_pending(router._coordinators[0], clock.now() + 0.3)
        assert router._look(clock.now()) == pytest.approx(0.3)

    def test_who_has_waited_for_long_has_everybody_asked_for_a_newer_map(
        self, router: Router, callers: Callers
    ) -> None:
        self.ask(router, 100.0, 110.0)
        callers.will_have_sent({COORDINATOR: 1, NODES["node1"]: 2, NODES["node2"]: 1})
        assert router._look(100.4) == pytest.approx(settings.PATIENCE - 0.4), "when its patience ends"
        router._look(100.0 + settings.PATIENCE)
        callers.will_have_sent({COORDINATOR: 2, NODES["node1"]: 3, NODES["node2"]: 2})
