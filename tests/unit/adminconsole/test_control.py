"""Carrying an action out, and writing it down, also when one of the two does not work."""

from __future__ import annotations

import threading

import pytest

from adminconsole import control
from adminconsole.audit import Entry
from adminconsole.consequences import Action
from adminconsole.control import Order, carry_out
from adminconsole.machine import Unreachable
from kvstore.errors import Unavailable


class Lever:
    """Coordinator and supervisor in one: notes what it was told, or fails as it was told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.told: list[str] = []
        self.failure = failure

    def _tell(self, what: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.told.append(what)

    def disable(self, node_id: str) -> None:
        self._tell(f"disable {node_id}")

    def enable(self, node_id: str) -> None:
        self._tell(f"enable {node_id}")

    def restart(self, name: str) -> None:
        self._tell(f"restart {name}")

    def kill(self, name: str) -> None:
        self._tell(f"kill {name}")

    def start(self, name: str) -> None:
        self._tell(f"start {name}")


def order(action: Action) -> Order:
    return Order(action, "node2", "root", "192.0.2.7")


@pytest.mark.parametrize("action", list(Action))
def test_each_action_pulls_its_lever_between_two_entries(action: Action) -> None:
    lever = Lever()
    written: list[tuple[Entry, list[str]]] = []
    outcome = carry_out(order(action), lever, lever, lambda entry: written.append((entry, list(lever.told))))
    assert lever.told == [f"{action} node2"]
    assert outcome.done
    assert outcome.recorded
    (asked, before), (done, after) = written
    assert (asked.outcome, before) == ("asked", [])
    assert (done.outcome, after) == ("done", lever.told)
    assert asked.column == done.column
    assert (asked.who, asked.address) == ("root", "192.0.2.7")


@pytest.mark.parametrize("failure", [Unavailable("the coordinator is away"), Unreachable("no supervisor here.")])
def test_a_lever_that_fails_is_said_and_written_down(failure: Exception) -> None:
    written: list[Entry] = []
    outcome = carry_out(order(Action.KILL), Lever(failure), Lever(failure), written.append)
    assert not outcome.done
    assert str(failure) in outcome.message
    assert written[-1].failed
    assert str(failure) in written[-1].outcome


def test_a_store_that_takes_no_entry_does_not_keep_the_operator_from_acting() -> None:
    def refuse(entry: Entry) -> None:
        raise Unavailable("no primary")

    lever = Lever()
    outcome = carry_out(order(Action.RESTART), lever, lever, refuse)
    assert outcome.done
    assert not outcome.recorded
    assert lever.told == ["restart node2"]


def test_a_store_that_hangs_is_not_waited_for_and_a_late_entry_never_overwrites_its_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "RECORD_PATIENCE_S", 0.01)
    gate, finished = threading.Event(), threading.Event()
    written: list[str] = []

    def hang(entry: Entry) -> None:
        assert gate.wait(10)
        written.append(entry.outcome)
        if entry.outcome == "done":
            finished.set()

    lever = Lever()
    outcome = carry_out(order(Action.DISABLE), lever, lever, hang)
    assert outcome.done
    assert not outcome.recorded
    gate.set()
    assert finished.wait(10)
    assert written == ["asked", "done"]
