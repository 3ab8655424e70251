"""The control socket: what the console and the supervisor say to each other."""

from __future__ import annotations

import json
import selectors
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penncloud_site.supervisor.control import (
    MAX_LINE,
    ControlServer,
    Refused,
    SupervisorClient,
    SupervisorGone,
    short_path,
)


class Loop:
    """A control socket served by a loop of its own; remembers what it was told."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "run" / "supervisor.sock"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.told: list[tuple[str, str]] = []
        self.selector = selectors.DefaultSelector()
        self.server = ControlServer(self.path, self.selector, self.handle)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def handle(self, command: str, name: str) -> dict[str, Any]:
        if name == "nobody":
            raise Refused("There is no process called 'nobody'.")
        self.told.append((command, name))
        return {"processes": [{"name": "node1", "state": "ready"}]} if command == "status" else {}

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self.selector.select(0.05):
                key.data()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.server.close()
        self.selector.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    yield loop
    loop.close()


def exchange(loop: Loop, sent: bytes) -> bytes:
    """Everything that comes back for these bytes, until the connection ends or a line is complete."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        with short_path(loop.path) as path:
            connection.connect(path)
        connection.sendall(sent)
        return connection.makefile("rb").readline()


def test_commands_arrive_and_are_answered(loop: Loop, tmp_path: Path) -> None:
    client = SupervisorClient(tmp_path)
    assert client.status() == [{"name": "node1", "state": "ready"}]
    client.restart("node1")
    client.kill("node2")
    client.stop("node3")
    client.start("node3")
    assert loop.told == [
        ("status", ""), ("restart", "node1"), ("kill", "node2"), ("stop", "node3"), ("start", "node3"),
    ]  # fmt: skip


def test_a_refusal_is_an_error_with_its_sentence(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="There is no process called 'nobody'"):
        SupervisorClient(tmp_path).kill("nobody")


@pytest.mark.parametrize(
    "line",
    [
        b"restart node1",
        b"[]",
        b"null",
        b"7",
        b'{"name": "node1"}',
        b'{"cmd": "format"}',
        b'{"cmd": "kill", "name": 7}',
        b"\xff",
    ],
)
def test_nonsense_is_answered_and_nothing_is_done(loop: Loop, line: bytes) -> None:
    answer = json.loads(exchange(loop, line + b"\n"))
    assert answer["ok"] is False
    assert answer["error"].endswith(".")
    assert loop.told == []


def test_a_line_without_an_end_is_cut(loop: Loop) -> None:
    assert exchange(loop, b"x" * (2 * MAX_LINE)) == b""


def test_only_the_owner_may_open_it(loop: Loop) -> None:
    assert stat.S_IMODE(loop.path.stat().st_mode) == 0o600


def test_a_path_deeper_than_the_kernel_allows_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    loop = Loop(deep)
    try:
        assert SupervisorClient(deep).status()
    finally:
        loop.close()


def test_nobody_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(SupervisorGone, match="No supervisor answers"):
        SupervisorClient(tmp_path).status()
