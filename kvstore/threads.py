"""Connections whose waiting is done by plain threads: a client in a process that gevent has not patched.

A caller sends for itself as long as the system takes it at once. What callers add while one of them is sending, that one
sends too. When the system takes no more, a thread waits for room in the callers' stead: a server that does not read never
holds a caller past its deadline.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from _thread import allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from kvstore import settings
from kvstore.connection import FrameReader, Outbox, tune
from kvstore.handshake import Partner, Role, connect_side
from kvstore.mutation import Buffer

_LOOK = 1.0  # seconds after which whoever waits for room looks whether the connection is still wanted


class ThreadChannel:
    """One authenticated connection: `read` by one thread, `send` by any."""

    def __init__(self, sock: socket.socket, partner: Partner, max_bulk: int) -> None:
        sock.settimeout(None)
        self.partner = partner
        self.closed = False
        self._sock = sock
        self._reader = FrameReader(sock, max_bulk)
        self._outbox = Outbox(lambda parts: sock.sendmsg(parts, [], socket.MSG_DONTWAIT))
        self._incoming: deque[Sequence[Buffer]] = deque()
        self._sending = allocate_lock()

    def read(self) -> list[tuple[list[Any], bytes]]:
        """As `FrameReader.read`."""
        return self._reader.read()

    def send(self, parts: Sequence[Buffer], soon: bool = False) -> None:
        """Send the buffers of a frame, or queue them when the system takes no more. Dropped when closed."""
        self._incoming.append(parts)
        self._send_queued()

    def send_now(self, parts: Sequence[Buffer]) -> None:
        """The same: nothing waits here for more to come."""
        self.send(parts)

    def _send_queued(self) -> None:
        # a frame that is appended between the last look and the release is seen by the loop's own condition
        while self._incoming and not self.closed and self._sending.acquire(False):
            if not self._push():
                start_new_thread(self._send_when_room, ())  # it inherits the lock
                return
            self._sending.release()

    def _push(self) -> bool:
        """Send all that is queued; False when the system takes no more. The caller holds `_sending`."""
        try:
            while self._incoming or self._outbox:
                while self._incoming:
                    self._outbox.add(self._incoming.popleft())
                if not self._outbox.push():
                    return False
        except OSError:
            self._hang_up()
        return True

    def _send_when_room(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        try:
            while not self.closed:
                poll.poll(_LOOK * 1000)
                if self._push():
                    break
        finally:
            self._sending.release()
        self._send_queued()

    def _hang_up(self) -> None:
        """Mark the connection as ended and wake whoever waits on it; its descriptor stays until `close`."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; what is queued is dropped. For the reading thread, or one that has stopped it."""
        self._hang_up()
        # not while somebody sends: the descriptor's number could be another file's by the time the system looks at it
        with self._sending:
            self._sock.close()


class ThreadWaiter:
    """One caller that waits for one answer."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self._value: Any = None

    def get(self) -> Any:
        """Wait for the answer."""
        self._lock.acquire()
        return self._value

    def switch(self, value: Any) -> None:
        """Hand over the answer. At most once."""
        self._value = value
        self._lock.release()


class Threads:
    """What a client needs, from plain threads (the same operations as `kvstore.greenlets.Greenlets`)."""

    waiter = ThreadWaiter
    event = threading.Event
    soon: Callable[[Callable[[], None]], Any] | None = None

    def dial(self, address: tuple[str, int], key: bytes, role: Role, name: str, expected: str | None) -> ThreadChannel:
        """Connect and prove ourselves; raises as `handshake.connect_side`."""
        sock = socket.create_connection(address, timeout=settings.CONNECT_TIMEOUT)
        try:
            tune(sock)
            partner = connect_side(sock, key, role, name, expected, settings.HANDSHAKE_TIMEOUT)
        except BaseException:
            sock.close()
            raise
        return ThreadChannel(sock, partner, settings.MAX_PEER_BULK)

    def spawn(self, name: str, function: Callable[..., None], *arguments: Any) -> None:
        """Run `function` beside the callers; it does not keep the process alive."""
        threading.Thread(target=function, args=arguments, name=name, daemon=True).start()

    def wake(self, answers: Sequence[tuple[Any, Any]]) -> None:
        """Hand each waiter of (waiter, answer) its answer."""
        for waiter, answer in answers:
            waiter.switch(answer)

    def check_caller(self) -> None:
        """Any thread may call."""
