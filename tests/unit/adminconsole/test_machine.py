"""The balancer's view and the supervisor's levers: there, away, and talking nonsense."""

from __future__ import annotations

import http.server
import json
import selectors
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from adminconsole import machine
from adminconsole.machine import FrontEnd, Supervisor, Unreachable
from penncloud_site.supervisor.control import ControlServer, Refused


@pytest.fixture
def answers() -> list[bytes]:
    """What the balancer's status port will say, one for each question."""
    return []


@pytest.fixture
def balancer(answers: list[bytes], settings: Settings) -> Iterator[None]:
    """A status port that says `answers`."""

    class Port(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers.pop(0))

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.PENNCLOUD = settings.PENNCLOUD | {"BALANCER_STATUS": f"http://127.0.0.1:{server.server_port}/"}
        yield
        server.shutdown()


def front_end(address: str, **changes: Any) -> dict[str, Any]:
    return {"address": address, "state": "healthy", "healthy": True, "active": 1, "served": 9, "failures": 0} | changes


@pytest.mark.usefixtures("balancer")
def test_front_ends_in_the_order_of_their_addresses(answers: list[bytes]) -> None:
    two = [front_end("127.0.0.1:7482", healthy=False, failures=2), front_end("127.0.0.1:7481")]
    answers.append(json.dumps({"frontends": two}).encode())
    assert machine.front_ends() == (
        FrontEnd("127.0.0.1:7481", True, 1, 9, 0),
        FrontEnd("127.0.0.1:7482", False, 1, 9, 2),
    )


@pytest.mark.usefixtures("balancer")
@pytest.mark.parametrize("nonsense", [b"", b"<html>", b"[]", b'{"frontends": 3}', b'{"frontends": [{"address": "x"}]}'])
def test_an_answer_that_is_no_list_of_front_ends_is_said_so(answers: list[bytes], nonsense: bytes) -> None:
    answers.append(nonsense)
    with pytest.raises(Unreachable, match="load balancer"):
        machine.front_ends()


def test_a_balancer_that_is_away_and_one_that_is_not_configured(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings.PENNCLOUD = settings.PENNCLOUD | {"BALANCER_STATUS": f"http://127.0.0.1:{port}/"}
    with pytest.raises(Unreachable, match="refused"):
        machine.front_ends()
    settings.PENNCLOUD = settings.PENNCLOUD | {"BALANCER_STATUS": "file:///etc/passwd"}
    with pytest.raises(Unreachable, match="No load balancer is configured"):
        machine.front_ends()


PROCESSES = [
    {"name": "node1", "kind": "node", "state": "ready", "pid": 4711, "seconds": 1.5, "restarts": 2, "address": "a"},
    {"name": "node2", "kind": "node", "state": "down", "pid": None, "seconds": 1.5, "restarts": 0, "address": "b"},
]


@pytest.fixture
def orders(tmp_path: Path, settings: Settings) -> Iterator[list[tuple[str, str]]]:
    """The control socket of a supervisor, and what it was told."""
    told: list[tuple[str, str]] = []

    def handle(command: str, name: str) -> dict[str, Any]:
        if command == "status":
            return {"processes": PROCESSES}
        if name != "node1":
            raise Refused(f"There is no process {name}.")
        told.append((command, name))
        return {}

    (tmp_path / "run").mkdir()
    settings.PENNCLOUD = settings.PENNCLOUD | {"DATA_DIR": tmp_path}
    with selectors.DefaultSelector() as selector:
        server = ControlServer(tmp_path / "run" / "supervisor.sock", selector, handle)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                for key, _ in selector.select(0.05):
                    key.data()

        loop = threading.Thread(target=serve, daemon=True)
        loop.start()
        yield told
        ended.set()
        loop.join(10)
        server.close()


@pytest.mark.usefixtures("orders")
def test_the_supervisor_knows_its_processes_and_no_others() -> None:
    found = Supervisor().process("node1")
    assert found is not None
    assert (found.state, found.restarts, found.is_down) == ("ready", 2, False)
    down = Supervisor().process("node2")
    assert down is not None
    assert down.is_down
    assert Supervisor().process("node7") is None


def test_each_lever_is_passed_on_and_a_refusal_keeps_its_sentence(orders: list[tuple[str, str]]) -> None:
    for pull in (Supervisor().restart, Supervisor().kill, Supervisor().start):
        pull("node1")
    assert orders == [("restart", "node1"), ("kill", "node1"), ("start", "node1")]
    with pytest.raises(Unreachable, match=r"There is no process node7\."):
        Supervisor().kill("node7")


def test_without_a_supervisor_it_says_so(tmp_path: Path, settings: Settings) -> None:
    settings.PENNCLOUD = settings.PENNCLOUD | {"DATA_DIR": tmp_path}
    with pytest.raises(Unreachable, match="No supervisor answers"):
        Supervisor().process("node1")
