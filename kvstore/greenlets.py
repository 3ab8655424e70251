"""Connections whose waiting is done by gevent's loop: both sides of a server, and a client in a patched process.

Everything here runs in one thread, on gevent's hub or on greenlets of it. What is sent in one round of the loop goes out in
one system call at the end of the round: sending is a list append, and the first of a round has the sending scheduled. It
goes out earlier when it is worth a system call of its own, so that both sides work at the same time: requests and answers
of reads in groups of `SOON`, all else in pieces of `MUCH`. (Writes had better stay together: each group that a primary
receives costs every replica a sync.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.hub import Waiter

from kvstore import settings
from kvstore.connection import FrameReader, Outbox, tune
from kvstore.errors import BadRequest
from kvstore.handshake import Partner, Role, accept_side, connect_side
from kvstore.mutation import Buffer

SOON = 8
MUCH = 32 * settings.KIB


class _Incoming:
    """What arrives on a socket, for one greenlet. When the last look took all there was it waits before it looks again: to look
    in vain is a system call and an exception, and would be every second one.

    The loop goes on watching the socket from one wait to the next; to begin and to end that for each would cost more than
    the reading.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(fd, 1)  # 1: readable
        self._watched = False
        self._reader: Any = None
        """The greenlet that waits, if it does."""
        self._dry = True
        self._closed = False

    def recv_into(self, view: memoryview) -> int:
        """Wait for bytes, put them into `view`; how many, 0 at the end. `OSError`."""
        while True:
            if self._dry and not self._closed:
                self._wait()
            if self._closed:
                return 0  # also when it was closed while bytes were there: nobody could be answered
            try:
                count = os.readv(self._fd, [view])
            except BlockingIOError:
                self._dry = True
                continue
            self._dry = count < len(view)
            return count

    def _wait(self) -> None:
        if not self._watched:
            self._watched = True
            self._readable.start(self._arrived)
        self._reader = gevent.getcurrent()
        try:
            self._hub.switch()
        finally:
            self._reader = None

    def _arrived(self) -> None:
        if self._reader is not None:
            self._reader.switch()
        else:
            # it does something else meanwhile: the loop would call again and again
            self._watched = False
            self._readable.stop()

    def close(self, close_descriptor: Callable[[], None]) -> None:
        """Whoever waits gets the end; the descriptor is closed when the loop does not look at it any more. Before that its
        number must not become another file's."""
        self._closed = True
        self._hub.loop.run_callback(self._end, close_descriptor)

    def _end(self, close_descriptor: Callable[[], None]) -> None:
        self._readable.stop()
        self._readable.close()
        close_descriptor()
        if self._reader is not None:
            self._reader.switch()


class Channel:
    """One authenticated connection: `read` by one greenlet, `send` by anybody, also from the hub."""

    def __init__(self, sock: Any, partner: Partner, max_bulk: int, most_unsent: int | None = None) -> None:
        """`max_bulk`: largest bulk part accepted. `most_unsent`: the channel closes itself when more bytes than this wait
        to be sent; None: never."""
        sock.settimeout(None)
        self.partner = partner
        self.closed = False
        self._sock = sock
        self._most_unsent = most_unsent
        fd: int = sock.fileno()
        self._incoming = _Incoming(fd)
        self._reader = FrameReader(self._incoming, max_bulk)
        self._outbox = Outbox(lambda parts: os.writev(fd, parts))
        self._loop = gevent.get_hub().loop
        self._room = self._loop.io(fd, 2)  # 2: writable
        self._scheduled = False
        self._blocked = False  # the system takes no more for now: `_room` calls when it does
        self._emptied = Event()
        self._wanted_soon = 0

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.size

    def read(self) -> list[tuple[list[Any], bytes]]:
        """As `FrameReader.read`. Raises `EOFError` or `OSError` also when `close` was called meanwhile."""
        if self.closed:
            raise EOFError("the connection was closed")
        return self._reader.read()

    def send(self, parts: Sequence[Buffer], soon: bool = False) -> None:
        """Queue the buffers of a frame; they leave at the end of this round of the loop at the latest. Dropped when closed.

        `soon`: it is of a read, see above.
        """
        if self.closed:
            return
        self._outbox.add(parts)
        if self._blocked:
            if self._most_unsent is not None and self._outbox.size > self._most_unsent:
                self.close()
            return
        if soon:
            self._wanted_soon += 1
        if self._wanted_soon >= SOON or self._outbox.size >= MUCH:
            self._push()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._push_scheduled)

    def send_now(self, parts: Sequence[Buffer]) -> None:
        """Send a frame, and all that is queued before it, without waiting for the end of the round: nothing will come that
        could share the system call."""
        if self.closed:
            return
        self._outbox.add(parts)
        if not self._blocked:
            self._push()
        elif self._most_unsent is not None and self._outbox.size > self._most_unsent:
            self.close()

    def _push_scheduled(self) -> None:
        self._scheduled = False
        self._push()

    def _push(self) -> None:
        self._wanted_soon = 0
        if self.closed:
            return
        try:
            done = self._outbox.push()
        except OSError:
            self.close()
            return
        if done:
            if self._blocked:
                self._blocked = False
                self._room.stop()
                self._emptied.set()
            return
        if not self._blocked:
            self._blocked = True
            self._emptied.clear()
            self._room.start(self._push)

    def wait_emptied(self) -> None:
        """Wait until everything queued has been sent, or the channel is closed."""
        self._push()
        if self._blocked and not self.closed:
            self._emptied.wait()

    def close(self) -> None:
        """Close the connection; what is queued is dropped. The greenlet that reads gets `EOFError` or `OSError`."""
        if self.closed:
            return
        # from here on nothing may touch the descriptor: its number may soon be another file's
        self.closed = True
        self._room.stop()
        self._room.close()
        self._emptied.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._incoming.close(self._sock.close)


def dial(
    address: tuple[str, int], key: bytes, role: Role, name: str, expected: str | None, most_unsent: int | None = None
) -> Channel:
    """Connect to `address` and prove ourselves. Raises as `handshake.connect_side`; `OSError` when nobody answers there."""
    sock = socket.create_connection(address, timeout=settings.CONNECT_TIMEOUT)
    try:
        tune(sock)
        partner = connect_side(sock, key, role, name, expected, settings.HANDSHAKE_TIMEOUT)
    except BaseException:
        sock.close()
        raise
    return Channel(sock, partner, settings.MAX_PEER_BULK, most_unsent)


class Listener:
    """Accepts connections, has each prove itself, and hands over those that did.

    `serve(channel)` runs in a greenlet of its own; the channel is closed when it returns.
    """

    def __init__(
        self,
        address: tuple[str, int],
        key: bytes,
        name: str,
        serve: Callable[[Channel], None],
        spawn: Callable[..., Any],
        report: Callable[[str], None],
    ) -> None:
        """Listens from here on. `OSError` when the address cannot be had. `spawn(name, function, *args)` starts a
        supervised greenlet; `report(sentence)` is told why a connection was dropped."""
        self._key = key
        self._name = name
        self._serve = serve
        self._spawn = spawn
        self._report = report
        self._strangers = 0
        self._sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._sock.bind(address)
            self._sock.listen(1024)
        except OSError:
            self._sock.close()
            raise
        self.address: tuple[str, int] = self._sock.getsockname()[:2]

    def run(self) -> None:
        """Accept for ever."""
        while True:
            try:
                sock, address = self._sock.accept()
            except OSError as error:
                # out of descriptors: those that are open go on, and new ones wait until some have ended
                self._report(f"cannot accept a connection: {error}")
                gevent.sleep(0.1)
                continue
            if self._strangers >= settings.MAX_STRANGERS:
                sock.close()
                continue
            self._strangers += 1
            self._spawn(f"connection from {address[0]}:{address[1]}", self._admit, sock, address)

    def _admit(self, sock: Any, address: tuple[str, int]) -> None:
        try:
            tune(sock)
            partner = accept_side(sock, self._key, self._name, settings.HANDSHAKE_TIMEOUT)
        except Exception as error:  # noqa: BLE001  whatever a stranger does ends his connection and nothing else
            self._report(f"{address[0]}:{address[1]} was dropped: {error}")
            sock.close()
            return
        finally:
            self._strangers -= 1
        node = partner.role is Role.NODE
        channel = Channel(sock, partner, settings.MAX_PEER_BULK if node else settings.MAX_BULK)
        try:
            self._serve(channel)
        finally:
            channel.close()

    def close(self) -> None:
        """Take no further connections."""
        self._sock.close()


class Greenlets:
    """What a client needs, from greenlets of one hub (the same operations as `kvstore.threads.Threads`)."""

    waiter = Waiter
    event = Event

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._run_callback = self._hub.loop.run_callback
        self.soon = self._run_callback

    def dial(self, address: tuple[str, int], key: bytes, role: Role, name: str, expected: str | None) -> Channel:
        """Connect and prove ourselves; raises as `handshake.connect_side`."""
        return dial(address, key, role, name, expected)

    def spawn(self, name: str, function: Callable[..., None], *arguments: Any) -> None:
        """Run `function` beside the callers."""
        greenlet = gevent.Greenlet(function, *arguments)
        greenlet.name = name
        greenlet.start()

    def wake(self, answers: Sequence[tuple[Any, Any]]) -> None:
        """Hand each waiter of (waiter, answer) its answer, all in one callback of the hub.

        By way of the hub, because a waiter is switched to from there alone; `Waiter` sees to it that a caller which was
        killed meanwhile is not woken a second time, in the middle of something else.
        """
        if answers:
            self._run_callback(_switch_each, answers)

    def check_caller(self) -> None:
        """Only greenlets of the thread in which the client was made may call; `BadRequest` otherwise."""
        if gevent.get_hub() is not self._hub:
            raise BadRequest("in a process patched by gevent a client belongs to the thread that made it")


def _switch_each(answers: Sequence[tuple[Any, Any]]) -> None:
    for waiter, answer in answers:
        waiter.switch(answer)
