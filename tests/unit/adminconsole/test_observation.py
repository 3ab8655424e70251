"""What a front end knows of the cluster while the coordinator answers, is slow, and is gone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from adminconsole.observation import Observer
from kvstore.errors import Unavailable
from tests.unit.adminconsole.clusters import raw_node, raw_status

LONG = 10.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Coordinator:
    """Answers with `answer`, or raises it if it is an exception; waits for `gate` first."""

    def __init__(self) -> None:
        self.answer: Any = raw_status([raw_node("node1")], [])
        self.gate = threading.Event()
        self.gate.set()
        self.asked = 0

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        assert self.gate.wait(LONG)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def observer(coordinator: Coordinator, clock: Clock) -> Observer:
    return Observer(coordinator, clock)


def test_a_fresh_answer_is_shared_and_an_old_one_is_asked_for_again(
    observer: Observer, coordinator: Coordinator, clock: Clock
) -> None:
    assert observer.observe(LONG).problem == ""
    clock.now += 0.4
    seen = observer.observe(LONG)
    assert (coordinator.asked, round(seen.age_s, 1)) == (1, 0.4)
    clock.now += 0.4
    assert observer.observe(LONG).age_s == 0.0
    assert coordinator.asked == 2


def test_when_the_coordinator_goes_the_last_state_is_kept_with_its_age_and_the_reason(
    observer: Observer, coordinator: Coordinator, clock: Clock
) -> None:
    observer.observe(LONG)
    coordinator.answer = Unavailable("connection refused")
    clock.now += 14
    seen = observer.observe(LONG)
    assert seen.status is not None
    assert (seen.age_s, seen.problem) == (14, "Unavailable: connection refused")
    assert seen.status.nodes[0].last_heartbeat_s == 14.1  # it was 0.1 s when the coordinator last answered


def test_before_any_answer_there_is_no_status_only_a_reason(
    observer: Observer, coordinator: Coordinator, clock: Clock
) -> None:
    coordinator.answer = ConnectionRefusedError("nobody there")
    clock.now += 3
    seen = observer.observe(LONG)
    assert (seen.status, seen.age_s) == (None, 3)
    assert "nobody there" in seen.problem


def test_after_a_change_even_a_young_answer_is_asked_for_again(observer: Observer, coordinator: Coordinator) -> None:
    observer.observe(LONG)
    observer.expire()
    observer.observe(LONG)
    observer.observe(LONG)
    assert coordinator.asked == 2


def test_it_recovers_by_itself(observer: Observer, coordinator: Coordinator, clock: Clock) -> None:
    coordinator.answer = Unavailable("away")
    observer.observe(LONG)
    coordinator.answer = raw_status([], [])
    seen = observer.observe(LONG)
    assert (seen.problem, seen.age_s) == ("", 0.0)


def test_a_slow_coordinator_does_not_hold_the_page_and_is_asked_once_however_many_pages_wait(
    observer: Observer, coordinator: Coordinator
) -> None:
    coordinator.gate.clear()
    for _ in range(3):
        seen = observer.observe(patience_s=0.01)
        assert seen.status is None
        assert "No answer within" in seen.problem
    assert coordinator.asked == 1
    coordinator.gate.set()
    assert observer.observe(LONG).status is not None


def test_an_answer_that_cannot_be_read_is_said_so(observer: Observer, coordinator: Coordinator) -> None:
    coordinator.answer = {"nodes": []}
    assert "cannot be read" in observer.observe(LONG).problem
