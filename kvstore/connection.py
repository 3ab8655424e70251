"""Frames over a socket: reading them as they come, and sending many in one system call.

`FrameReader` and `Outbox` know nothing of threads or greenlets: the socket that they are given does the waiting. A reader
has one user. An outbox never waits: what the socket does not take now stays queued, and the owner calls `push` again when
it has room. Who schedules that is `kvstore.greenlets` (servers, and clients in a patched process) or `kvstore.threads`.
"""

from __future__ import annotations

import io
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kvstore import settings
from kvstore.codec import Malformed
from kvstore.errors import BadRequest
from kvstore.mutation import Buffer
from kvstore.wire import FRAME, open_message

READ_SIZE = 128 * settings.KIB
"""What one system call may read; a frame above `LARGE` is received straight into its own memory."""
LARGE = 64 * settings.KIB
_MOST_PARTS = 512  # under the system's limit of 1,024 buffers in one call
_JOIN = 128 * settings.KIB  # up to here one copy costs less than handing many buffers to the system


class Readable(Protocol):
    """What a reader needs of a socket."""

    def recv_into(self, buffer: memoryview, /) -> int: ...


class FrameReader:
    """The frames that arrive on one socket."""

    def __init__(self, sock: Readable, max_bulk: int) -> None:
        """`max_bulk`: the largest bulk part, in bytes, that this partner may send."""
        self._sock = sock
        self._max_bulk = max_bulk
        self._view = memoryview(bytearray(READ_SIZE))
        self._start = 0
        self._end = 0

    def read(self) -> list[tuple[list[Any], bytes]]:
        """Wait for a frame; every frame that has arrived whole, each as (fields, bulk).

        Raises `EOFError` when the partner has closed, `OSError`, or `Malformed`: the connection is then of no more use.
        """
        while True:
            if self._start == self._end:
                self._start = self._end = 0
            elif frames := self._take():
                return frames
            elif self._end == READ_SIZE:
                rest = self._end - self._start
                self._view[:rest] = bytes(self._view[self._start : self._end])
                self._start, self._end = 0, rest
            count = self._sock.recv_into(self._view[self._end :])
            if not count:
                raise EOFError("the connection was closed")
            self._end += count

    def _take(self) -> list[tuple[list[Any], bytes]]:
        frames: list[tuple[list[Any], bytes]] = []
        view, start, end = self._view, self._start, self._end
        while end - start >= 8:
            message_length, bulk_length = FRAME.unpack_from(view, start)
            if message_length > settings.MAX_MESSAGE or bulk_length > self._max_bulk:
                raise Malformed(f"a frame of {message_length} + {bulk_length} bytes is over the limit")
            message_at = start + 8
            bulk_at = message_at + message_length
            following = bulk_at + bulk_length
            if following > end:
                if following - start > LARGE and not frames:
                    self._start = message_at
                    return [self._take_large(message_length, bulk_length)]
                break
            bulk = bytes(view[bulk_at:following]) if bulk_length else b""
            frames.append((open_message(view[message_at:bulk_at]), bulk))
            start = following
        self._start = start
        return frames

    def _take_large(self, message_length: int, bulk_length: int) -> tuple[list[Any], bytes]:
        fields = open_message(self._exactly(message_length))
        return fields, self._exactly(bulk_length)

    def _exactly(self, size: int) -> bytes:
        """The next `size` bytes, received into the very object that is handed on: no copy of a large value is made.

        A `BytesIO` that nobody else shares lends its memory to be written to, and then gives the same memory out as
        `bytes`.
        """
        if not size:
            return b""
        target = io.BytesIO(bytes(size))
        with target.getbuffer() as view:
            have = min(size, self._end - self._start)
            view[:have] = self._view[self._start : self._start + have]
            self._start += have
            while have < size:
                count = self._sock.recv_into(view[have:])
                if not count:
                    raise EOFError("the connection was closed inside a frame")
                have += count
        return target.getvalue()


class Outbox:
    """What is to be sent on one socket, in order. Not safe for several threads: see `kvstore.threads`."""

    def __init__(self, send: Callable[[Sequence[Buffer]], int]) -> None:
        """`send(buffers)` gives what the system took, in bytes, and raises `BlockingIOError` when it takes nothing."""
        self._send = send
        self._parts: deque[Buffer] = deque()
        self.size = 0
        """Bytes that are queued."""

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, parts: Sequence[Buffer]) -> None:
        """Queue these buffers. They must not change until they are sent."""
        self._parts.extend(parts)
        for part in parts:
            self.size += len(part)

    def push(self) -> bool:
        """Send what the socket takes now; whether everything is gone. Raises `OSError` when the connection is broken."""
        while self._parts:
            batch = self._batch()
            try:
                sent = self._send(batch)
            except BlockingIOError:
                self._parts.extendleft(reversed(batch))
                return False
            self.size -= sent
            if not self.size:
                return True
            self._put_back(batch, sent)
        return True

    def _batch(self) -> Sequence[Buffer]:
        """The next buffers for one system call, taken off the queue."""
        parts = self._parts
        if len(parts) == 1:
            return [parts.popleft()]
        if self.size <= _JOIN:
            batch = [b"".join(parts)]
            parts.clear()
            return batch
        small: list[Buffer] = []
        joined: list[Buffer] = []
        # runs of small frames between large values are joined, large values are handed over as they are
        while parts and len(joined) < _MOST_PARTS:
            part = parts.popleft()
            if len(part) < settings.BULK_VALUE:
                small.append(part)
                continue
            if small:
                joined.append(b"".join(small))
                small = []
            joined.append(part)
        if small:
            joined.append(b"".join(small))
        return joined

    def _put_back(self, batch: Sequence[Buffer], sent: int) -> None:
        """Queue again what the system did not take of `batch`."""
        for index, part in enumerate(batch):
            if sent < len(part):
                self._parts.extendleft(reversed(batch[index + 1 :]))
                self._parts.appendleft(memoryview(part)[sent:])
                return
            sent -= len(part)


def tune(sock: Any) -> None:
    """Set what every PennCloud connection wants: no waiting for more to send, and an end when the other machine is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.DEAD_CONNECTION * 1000))


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`; `BadRequest` when it is not that."""
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadRequest(f"{text!r} is not an address of the form host:port")
    return host.strip("[]"), int(port)
