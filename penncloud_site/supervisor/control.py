"""The supervisor's control socket: one JSON object a line, there and back, on `<data-dir>/run/supervisor.sock`.

    {"cmd": "status"}                     → {"ok": true, "processes": [{"name": "node2", "kind": "node", "state": "ready",
                                             "pid": 4711, "seconds": 12.5, "restarts": 1, "address": "127.0.0.1:7412"}, …]}
    {"cmd": "restart", "name": "node2"}   ask it to end, start it again as soon as it has
    {"cmd": "kill", "name": "node2"}      SIGKILL; it is restarted like after any other death
    {"cmd": "stop", "name": "node2"}      ask it to end, and leave it down until `start` (or the supervisor's next run)
    {"cmd": "start", "name": "node2"}     start it now, if it is down or waits for its next start
    anything refused                      → {"ok": false, "error": "one sentence"}

An answer says that the action has begun, not that it is complete: ask for the status. States: down, starting, ready,
stopping, waiting (died, is started again after a pause). The socket has mode 0600 in a folder of mode 0700: who may
open it, may stop the cluster anyway. :class:`SupervisorClient` speaks it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

COMMANDS = ("status", "restart", "kill", "stop", "start")
MAX_LINE = 4096
"""Bytes of one request; a longer one ends the connection."""
CLIENT_TIMEOUT = 5.0


class Refused(Exception):
    """The supervisor refuses a command; the text is its sentence."""


class SupervisorGone(Exception):
    """No supervisor answers on the data folder."""


class ControlServer:
    """The socket's server side, driven by the supervisor's loop: it registers callbacks in `selector` and never
    blocks. `handle` gets a request's fields and returns the answer's, or raises :class:`Refused`."""

    def __init__(
        self, path: Path, selector: selectors.BaseSelector, handle: Callable[[str, str], dict[str, Any]]
    ) -> None:
        self._path = path
        self._selector = selector
        self._handle = handle
        self._received: dict[socket.socket, bytes] = {}
        path.unlink(missing_ok=True)  # of a supervisor that was killed: the folder's lock says that none is there
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        with short_path(path) as name:
            self._listener.bind(name)
        path.chmod(0o600)
        self._listener.listen(16)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """End it, with all its connections."""
        for client in list(self._received):
            self._drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            self._received[client] = b""
            self._selector.register(client, selectors.EVENT_READ, lambda: self._receive(client))

    def _receive(self, client: socket.socket) -> None:
        try:
            data = client.recv(MAX_LINE)
            *lines, rest = (self._received[client] + data).split(b"\n")
            self._received[client] = rest
            for line in lines:
                client.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:
            data = b""  # it went away, or does not read its answers
        if not data or len(self._received.get(client, b"")) > MAX_LINE:
            self._drop(client)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            command, name = request["cmd"], request.get("name", "")
        except (ValueError, TypeError, KeyError, AttributeError):
            return {"ok": False, "error": 'A request is a JSON object such as {"cmd": "status"}.'}
        if command not in COMMANDS or not isinstance(name, str):
            return {"ok": False, "error": f"The commands are {', '.join(COMMANDS)}."}
        try:
            return {"ok": True, **self._handle(command, name)}
        except Refused as refused:
            return {"ok": False, "error": str(refused)}

    def _drop(self, client: socket.socket) -> None:
        if self._received.pop(client, None) is not None:
            self._selector.unregister(client)
            client.close()


class SupervisorClient:
    """Talks to the supervisor of a data folder; one connection for each call, so it may be shared and kept.

    Every method raises :class:`SupervisorGone` when none answers within 5 seconds, :class:`Refused` with the
    supervisor's sentence when it refuses (an unknown name, a process that is not running).
    """

    def __init__(self, data_dir: Path | str) -> None:
        self._socket = Path(data_dir).expanduser().absolute() / "run" / "supervisor.sock"

    def status(self) -> list[dict[str, Any]]:
        """All processes: see the module for the fields."""
        return self._call("status", "")["processes"]

    def restart(self, name: str) -> None:
        """Stop it gently, then start it again."""
        self._call("restart", name)

    def kill(self, name: str) -> None:
        """kill -9; it comes back by itself."""
        self._call("kill", name)

    def stop(self, name: str) -> None:
        """Stop it gently, and leave it down."""
        self._call("stop", name)

    def start(self, name: str) -> None:
        """Start one that is down."""
        self._call("start", name)

    def _call(self, command: str, name: str) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(CLIENT_TIMEOUT)
                with short_path(self._socket) as path:
                    connection.connect(path)
                connection.sendall(json.dumps({"cmd": command, "name": name}).encode() + b"\n")
                line = connection.makefile("rb").readline()
                answer = json.loads(line)
        except (OSError, ValueError) as error:
            raise SupervisorGone(f"No supervisor answers on {self._socket.parent.parent}: {error}.") from error
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name of a socket that fits into the 108 bytes the kernel allows, however deep its folder lies."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
