"""Carries an operator's action out, and writes it down.

The order matters: the entry `asked` is in the log before anything is done, so that a front end that dies in the middle
leaves a trace. Recording may not stand in the way of acting, for the store may be the very thing that is ill: an entry is
waited for `RECORD_PATIENCE_S`, and if it did not get through in time the operator is told so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass, replace
from typing import Protocol

from adminconsole import audit
from adminconsole.consequences import Action
from adminconsole.machine import Unreachable
from adminconsole.wording import readable_key
from kvstore.errors import StoreError

RECORD_PATIENCE_S = 2.0

log = logging.getLogger(__name__)


class Coordinator(Protocol):
    """The part of `kvstore.admin.Admin` that is used here."""

    def disable(self, node_id: str) -> object:
        """Have its roles moved to others."""

    def enable(self, node_id: str) -> object:
        """Let it hold roles again."""


class Supervisor(Protocol):
    """The part of the supervisor that is used here; each raises `Unreachable`."""

    def restart(self, name: str) -> object:
        """Stop it cleanly and start it."""

    def kill(self, name: str) -> object:
        """SIGKILL."""

    def start(self, name: str) -> object:
        """Start what is stopped."""


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants what done to which node, and from which address."""

    action: Action
    node: str
    who: str
    address: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`message`: a sentence for the operator. `recorded`: whether the store has the entry."""

    done: bool
    message: str
    recorded: bool


def carry_out(
    order: Order, coordinator: Coordinator, supervisor: Supervisor, write: Callable[[audit.Entry], None]
) -> Outcome:
    """Do it. Refusals and failures of the coordinator or the supervisor become an `Outcome` that is not done."""
    entry = audit.Entry(order.who, order.action, order.node, "asked", order.address, audit.new_column())
    done, doing = _PAST[order.action]

    def deed() -> str:
        _do(order, coordinator, supervisor)
        return f"{order.node} {done}."

    return write_down_and_do(entry, deed, f"{doing} {order.node}", write)


def write_down_and_do(
    entry: audit.Entry, deed: Callable[[], str], doing: str, write: Callable[[audit.Entry], None]
) -> Outcome:
    """Do `deed`, which says in a sentence what it has done, or raises. `doing`: what that is called if it fails."""
    with _Recorder(write) as recorder:
        recorder.record(entry)
        try:
            said = deed()
        except (StoreError, Unreachable) as error:
            recorded = recorder.record(replace(entry, outcome=f"failed: {error}"))
            return Outcome(False, f"{doing} did not work: {error}", recorded)
        recorded = recorder.record(replace(entry, outcome="done"))
    return Outcome(True, said, recorded)


_PAST = {
    Action.DISABLE: ("is being disabled: its roles move to other nodes", "Disabling"),
    Action.ENABLE: ("is enabled", "Enabling"),
    Action.RESTART: ("is being restarted", "Restarting"),
    Action.KILL: ("was killed", "Killing"),
    Action.START: ("was started", "Starting"),
}


def _do(order: Order, coordinator: Coordinator, supervisor: Supervisor) -> None:
    deeds: dict[Action, Callable[[str], object]] = {
        Action.DISABLE: coordinator.disable,
        Action.ENABLE: coordinator.enable,
        Action.RESTART: supervisor.restart,
        Action.KILL: supervisor.kill,
        Action.START: supervisor.start,
    }
    deeds[order.action](order.node)


class _Recorder:
    """Writes entries one after the other, beside the caller: a late `asked` must not overwrite `done`."""

    def __init__(self, write: Callable[[audit.Entry], None]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="console-audit")

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False)

    def record(self, entry: audit.Entry) -> bool:
        """Whether the entry is in the store; waits `RECORD_PATIENCE_S` at the most."""
        pending: Future[None] = self._pool.submit(self._write, entry)
        try:
            pending.result(RECORD_PATIENCE_S)
        except (StoreError, NotInTime) as error:
            log.error("%s %s is not (yet) in the audit row: %r", entry.action, readable_key(entry.target), error)
            return False
        return True
