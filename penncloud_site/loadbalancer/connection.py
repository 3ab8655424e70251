"""The two kinds of connection: a client's to us, and ours to a front end.

Both turn a socket into events (`http1`) that are pulled one at a time, so that nothing is read before the last piece
was passed on: that is the back pressure. Neither knows anything of the other.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque

from gevent import socket

from . import limits
from .backends import Backend
from .http1 import BadResponse, Body, End, Refused, RequestHead, RequestParser, ResponseHead, ResponseParser


class ClientGone(Exception):
    """The client closed its connection, or it broke."""


class ClientTooSlow(Exception):
    """The client sent nothing for longer than it may."""


class BackendFailed(Exception):
    """The connection to a front end broke, or what came over it is not an answer."""


class BackendTooSlow(BackendFailed):
    """Nothing came for RESPONSE_TIMEOUT."""


class BackendPutOut(BackendFailed):
    """The front end failed its health checks while its answer was awaited."""


class ClientConnection:
    """A client's connection: what it sends as events, and a way to answer."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self._sock = sock
        self._parser = RequestParser()
        self._events: deque[RequestHead | Body | End | Refused] = deque()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def next_request(self) -> RequestHead | Refused | None:
        """The next request; None when the client has no more, or stays silent for KEEP_ALIVE_TIMEOUT.

        :raises ClientTooSlow: a head was begun and not finished within HEAD_TIMEOUT.
        :raises ClientGone: the connection broke.
        """
        deadline = None
        while not self._events:
            waiting = limits.KEEP_ALIVE_TIMEOUT if deadline is None else deadline - time.monotonic()
            try:
                if not self._receive(waiting):
                    return None
            except ClientTooSlow:
                if deadline is None:
                    return None
                raise
            if deadline is None and not self._events:
                deadline = time.monotonic() + limits.HEAD_TIMEOUT
        event = self._events.popleft()
        assert isinstance(event, RequestHead | Refused), "each body is read to its End before the next request"
        return event

    def next_body_event(self) -> Body | End | Refused:
        """The next piece of the current request's body.

        :raises ClientTooSlow: nothing came for BODY_IDLE_TIMEOUT.
        :raises ClientGone: the connection ended inside the body.
        """
        while not self._events:
            if not self._receive(limits.BODY_IDLE_TIMEOUT):
                raise ClientGone("the upload was cut off")
        event = self._events.popleft()
        assert not isinstance(event, RequestHead)
        return event

    def body_is_here(self) -> bool:
        """Whether the rest of the current request's body was received already."""
        return any(isinstance(event, End | Refused) for event in self._events)

    def send(self, data: bytes) -> None:
        """Send all of `data`; waits for a client that takes it slowly, up to SEND_TIMEOUT for a piece."""
        try:
            for start in range(0, len(data), limits.RECEIVE_SIZE):
                self._sock.settimeout(limits.SEND_TIMEOUT)
                self._sock.sendall(data[start : start + limits.RECEIVE_SIZE])
        except OSError as error:
            raise ClientGone(str(error)) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def close_after_answer(self) -> None:
        """Close so that an answer given in the middle of a request is still read: a plain close with unread bytes in
        the kernel becomes a reset, and the client throws the answer away. So: end our side, read on for a while."""
        deadline = time.monotonic() + limits.LINGER_TIMEOUT
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not self._sock.recv(limits.RECEIVE_SIZE):
                    break
        self.close()

    def _receive(self, timeout: float) -> bool:
        """Read once. False at the end of the stream."""
        if timeout <= 0:
            raise ClientTooSlow
        try:
            self._sock.settimeout(timeout)
            data = self._sock.recv(limits.RECEIVE_SIZE)
        except TimeoutError:
            raise ClientTooSlow from None
        except OSError as error:
            raise ClientGone(str(error)) from error
        self._events.extend(self._parser.feed(data))
        return bool(data)


class BackendConnection:
    """A connection to one front end; serves one exchange at a time, and many after each other."""

    def __init__(self, backend: Backend) -> None:
        """:raises OSError: nothing was sent yet, whatever the reason."""
        self.backend = backend
        self._sock = socket.create_connection(backend.address, timeout=limits.CONNECT_TIMEOUT)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = ResponseParser()
        self._events: deque[ResponseHead | Body | End] = deque()
        self._clean = True
        self.sent_any = False
        """Whether a byte of the current request may have reached the front end."""

    def begin(self, *, expect_body: bool) -> None:
        """Before each request: `expect_body` is False for HEAD."""
        self._parser = ResponseParser(expect_body=expect_body)
        self._events.clear()
        self._clean = False
        self.sent_any = False

    def send(self, data: bytes) -> None:
        """:raises BackendFailed: the front end is gone or takes nothing for SEND_TIMEOUT."""
        self.sent_any = True
        try:
            self._sock.settimeout(limits.SEND_TIMEOUT)
            self._sock.sendall(data)
        except OSError as error:
            raise BackendFailed(str(error)) from error

    def next_event(self, wait: float) -> ResponseHead | Body | End | None:
        """The next event of the answer; None when nothing came for `wait` seconds.

        :raises BackendFailed: the connection ended or broke inside the answer, or the answer is malformed.
        """
        while not self._events:
            try:
                self._sock.settimeout(wait)
                data = self._sock.recv(limits.RECEIVE_SIZE)
            except TimeoutError:
                return None
            except OSError as error:
                raise BackendFailed(str(error)) from error
            if not data:
                raise BackendFailed("it closed the connection")
            try:
                self._events.extend(self._parser.feed(data))
            except BadResponse as error:
                raise BackendFailed(f"its answer is malformed: {error}") from error
        return self._events.popleft()

    def finished(self) -> None:
        """The exchange ran to its end on both sides."""
        self._clean = not self._parser.surplus and not self._events

    def reusable(self) -> bool:
        """Whether the connection is idle and alive: nothing is under way, and the front end neither closed it nor
        sent a byte nobody asked for."""
        if not self._clean:
            return False
        try:
            self._sock.settimeout(0.0)
            self._sock.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def abort(self) -> None:
        """End the connection under whoever waits on it: the front end sees its end, and so do we."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()


class BackendPool:
    """The idle connections to all front ends, the last used one first."""

    def __init__(self) -> None:
        self._idle: dict[str, list[BackendConnection]] = {}

    def take(self, backend: Backend, *, fresh: bool = False) -> BackendConnection:
        """A connection that works; `fresh` asks for a new one.

        :raises OSError: the front end cannot be connected to.
        """
        idle = self._idle.get(backend.name, [])
        while idle and not fresh:
            connection = idle.pop()
            if connection.reusable():
                return connection
            connection.close()
        return BackendConnection(backend)

    def give_back(self, connection: BackendConnection) -> None:
        """Keep it for the next request, if it can be used again and there is room."""
        idle = self._idle.setdefault(connection.backend.name, [])
        if len(idle) < limits.MAX_IDLE_PER_BACKEND and connection.reusable():
            idle.append(connection)
        else:
            connection.close()

    def forget(self, backend: Backend) -> None:
        """The front end is out: close what idles. One that is stopping waits for exactly that."""
        for connection in self._idle.pop(backend.name, []):
            connection.close()
