"""A client that sends exactly the bytes it is told to and reads what comes back."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """One answer as it came: `complete` is False when the connection ended inside it."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True
    raw_head: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


class RawConnection:
    """A plain connection to 127.0.0.1:`port`."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, method: str = "GET") -> Answer | None:
        """The next answer; None when the connection ends without one."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            if not line:
                assert not head, f"the connection ended inside a head: {head!r}"
                return None
            head += line
        status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(status_line.split()[1])
        if method == "HEAD" or status in (204, 304) or 100 <= status < 200:
            return Answer(status, headers, b"", raw_head=head)
        body, complete = self._chunks() if "transfer-encoding" in headers else self._exactly(headers)
        return Answer(status, headers, body, complete, head)

    def _exactly(self, headers: dict[str, str]) -> tuple[bytes, bool]:
        if "content-length" not in headers:
            return self.file.read(), True
        length = int(headers["content-length"])
        try:
            body = self.file.read(length)
        except ConnectionError:
            return b"", False
        return body, len(body) == length

    def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        while size := self.file.readline():
            length = int(size, 16)
            piece = self.file.read(length + 2)
            body += piece[:-2]
            if length == 0:
                return body, True
        return body, False

    def ended(self) -> bool:
        """Whether the other side closes the connection without another byte."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True


def ask(port: int, data: bytes) -> Answer:
    """One connection, one request, one answer."""
    method = data.split(b" ", 1)[0].decode("latin-1")
    with RawConnection(port) as connection:
        connection.send(data)
        answer = connection.answer(method=method)
    assert answer is not None, f"no answer to {data[:80]!r}"
    return answer


def get(port: int, path: str, *lines: str, method: str = "GET", body: bytes = b"") -> Answer:
    """A well-formed request, on a connection of its own."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines]
    if body or method in ("POST", "PUT"):
        head.append(f"Content-Length: {len(body)}")
    return ask(port, "\r\n".join(head).encode() + b"\r\n\r\n" + body)
