"""The supervisor's loop: one thread that waits for signals, deaths, control requests and times, and acts on each.

Everything that could block is kept out of it: the coordinator is told of a death by a thread, commands that take long
are processes. So a death is noticed and answered within milliseconds, whatever else goes on.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from .child import Child, State
from .control import ControlServer, Refused
from .data_folder import DataFolder
from .plan import STOP_ORDER, Kind
from .report import Report

LOOK_STARTING = 0.05
"""Seconds between two looks whether a starting process serves."""
LOOK_IDLE = 5.0
ROTATE_EVERY = 30.0
RESTART_TIMEOUT = 5.0
"""How long one process that is stopped by a command may take, before it is killed."""
STOP_BUDGETS = {Kind.BALANCER: 2.0, Kind.FRONTEND: 3.2, Kind.COORDINATOR: 3.7, Kind.NODE: 4.5}
"""Seconds after the beginning of a stop by which each kind must be gone, else it is killed."""
STOP_TIMEOUT = 5.0

assert max(STOP_BUDGETS.values()) < STOP_TIMEOUT, "a stop is promised within STOP_TIMEOUT"

NodeGone = Callable[[str, int], None]


class Supervisor:
    """Watches over `children`. `node_gone(name, pid)` is called, and must not block, when a storage node died."""

    def __init__(self, folder: DataFolder, children: list[Child], report: Report, node_gone: NodeGone) -> None:
        self.children = {child.name: child for child in children}
        self.report = report
        self.stop_signals = 0
        """How often we were asked to stop; a second time means at once."""
        self._node_gone = node_gone
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._rotate_due = time.monotonic() + ROTATE_EVERY
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._old_handlers = self._catch_signals()
        self._control = ControlServer(folder.control_socket, self._selector, self.command)

    def _catch_signals(self) -> dict[int, Any]:
        """Turn signals into something the selector sees. Their handlers do nothing: the number arrives as a byte."""
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._read_signals)
        caught = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        return {number: signal.signal(number, lambda *_: None) for number in caught}

    def close(self) -> None:
        """Give signals and sockets back; every child is gone by then."""
        self._control.close()
        signal.set_wakeup_fd(-1)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _read_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._wake_reader.recv(4096):
                if number != signal.SIGCHLD:
                    self.stop_signals += 1

    # --- the loop ----------------------------------------------------------------------------------------------------

    def step(self, most: float = LOOK_IDLE) -> None:
        """Wait for the next thing to do, at most `most` seconds, and do it."""
        for key, _ in self._selector.select(max(0.0, min(most, self._until_next_due()))):
            key.data()
        now = time.monotonic()
        for child in self.children.values():
            if (ended := child.reap()) is not None:
                self._ended(child, *ended)
            if child.state is State.STARTING and child.is_ready():
                child.state = State.READY
                self.report.ready(child)
            elif child.state is State.WAITING and now >= child.due:
                self.start(child)
            elif child.state is State.STOPPING and now >= child.due:
                self.report.killed(child)
                child.due = now + RESTART_TIMEOUT
                child.signal(signal.SIGKILL)
        if now >= self._rotate_due:
            self._rotate_due = now + ROTATE_EVERY
            for child in self.children.values():
                child.rotate_log()

    def _until_next_due(self) -> float:
        now = time.monotonic()
        pauses = [LOOK_IDLE, self._rotate_due - now]
        for child in self.children.values():
            if child.state is State.STARTING:
                pauses.append(LOOK_STARTING)
            elif child.state in (State.WAITING, State.STOPPING):
                pauses.append(child.due - now)
        return min(pauses)

    def start(self, child: Child) -> None:
        """Start a child that is not running."""
        self.report.starting(child)
        child.start()

    def _ended(self, child: Child, pid: int, status: int) -> None:
        """A child is gone; `status` as `Child.reap` gives it."""
        if child.spec.kind is Kind.NODE:
            self._node_gone(child.name, pid)
        lifetime = time.monotonic() - child.since
        told_to = child.state is State.STOPPING
        child.since = time.monotonic()
        if told_to:
            child.state = State.DOWN
            self.report.stopped(child, status)
            if child.wanted:
                self.start(child)
            return
        if self._stopping:
            child.state = State.DOWN
            return
        pause = child.restarts.died(lifetime)
        child.due = time.monotonic() + pause
        child.state = State.WAITING
        self.report.died(child, status, pause)

    # --- the end -----------------------------------------------------------------------------------------------------

    def stop_all(self) -> None:
        """Stop every process in its order; returns when all are gone, within STOP_TIMEOUT. Asked to stop once more
        meanwhile, it kills what is left."""
        self._stopping = True
        self.report.stopping()
        begun, signals_before = time.monotonic(), self.stop_signals
        for child in self.children.values():
            child.wanted = False
            if child.state is State.WAITING:
                child.state = State.DOWN
        for kinds in STOP_ORDER:
            group = [child for child in self.children.values() if child.spec.kind in kinds]
            for child in group:
                if child.pid is not None:
                    child.stop(max(0.0, begun + STOP_BUDGETS[child.spec.kind] - time.monotonic()))
            while any(child.pid is not None for child in group):
                if self.stop_signals > signals_before:
                    self._kill_all(self.children.values())
                self.step(0.1)

    @staticmethod
    def _kill_all(children: Iterable[Child]) -> None:
        for child in children:
            child.state = State.STOPPING if child.pid is not None else State.DOWN
            child.signal(signal.SIGKILL)

    # --- control -----------------------------------------------------------------------------------------------------

    def command(self, command: str, name: str) -> dict[str, Any]:
        """Carry out a request of the control socket: see :mod:`.control`.

        :raises Refused: the name is unknown, or the command does not fit the process's state.
        """
        if command == "status":
            return {"processes": [self._describe(child) for child in self.children.values()]}
        child = self.children.get(name)
        if child is None:
            raise Refused(f"There is no process called {name!r}.")
        if self.stop_signals:
            raise Refused("The cluster is stopping.")
        {"restart": self._restart, "kill": self._kill, "stop": self._stop, "start": self._start}[command](child)
        return {}

    def _restart(self, child: Child) -> None:
        if child.pid is None:
            self.start(child)
            return
        child.wanted = True
        child.stop(RESTART_TIMEOUT)

    def _kill(self, child: Child) -> None:
        if child.pid is None:
            raise Refused(f"{child.name} is not running.")
        child.signal(signal.SIGKILL)

    def _stop(self, child: Child) -> None:
        child.wanted = False
        child.stop(RESTART_TIMEOUT)

    def _start(self, child: Child) -> None:
        if child.state is State.STOPPING:
            child.wanted = True
        elif child.pid is None:
            self.start(child)
        else:
            raise Refused(f"{child.name} is running already.")

    @staticmethod
    def _describe(child: Child) -> dict[str, Any]:
        host, port = child.spec.address
        return {
            "name": child.name,
            "kind": child.spec.kind.name.lower(),
            "state": child.state.value,
            "pid": child.pid,
            "seconds": round(time.monotonic() - child.since, 1),
            "restarts": child.restarts.total,
            "address": f"{host}:{port}",
        }
