"""A client's one connection to one server, with many requests in flight on it.

A request is put down as a `Pending` under its id; whoever takes it out again (the reader with its answer, the sweep past
its deadline, the end of the connection) is the one who answers its waiter, so every waiter is answered exactly once. That
holds among plain threads too, since taking an entry out of a `dict` is one step of the interpreter.

A link dials when it is first asked something, and again when it is asked something after a break; a moment after a failed
attempt it does not try again but says so at once, so that the callers' pauses bound the rate of attempts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

from kvstore import clock, settings
from kvstore.codec import Malformed
from kvstore.errors import AuthenticationFailed, BadRequest
from kvstore.handshake import Role
from kvstore.locks import native_lock
from kvstore.messages import Written
from kvstore.mutation import Buffer, Outcome, Version, encode_head
from kvstore.retry import NoAnswer, NotSent
from kvstore.wire import WRITTEN_MANY, encode_write, read_message

_REDIAL_PAUSE = 0.05
MUCH = 32 * settings.KIB
"""Bytes of small writes that leave at once, so that both sides work at the same time."""
_new = tuple.__new__


class Channel(Protocol):
    """What a link needs of a connection (`kvstore.greenlets.Channel`, `kvstore.threads.ThreadChannel`)."""

    closed: bool

    def read(self) -> list[tuple[list[Any], bytes]]: ...
    def send(self, parts: Sequence[Buffer], soon: bool = False) -> None: ...
    def send_now(self, parts: Sequence[Buffer]) -> None: ...
    def close(self) -> None: ...


class Callers(Protocol):
    """What a client needs to wait and to wake: plain threads or greenlets."""

    waiter: Any
    event: Any
    soon: Callable[[Callable[[], None]], Any] | None
    """Has a function called when everybody who can run now has run; None where there is no such moment."""

    def dial(self, address: tuple[str, int], key: bytes, role: Role, name: str, expected: str | None) -> Channel: ...
    def spawn(self, name: str, function: Callable[..., None], *arguments: Any) -> None: ...
    def wake(self, answers: Sequence[tuple[Any, Any]]) -> None: ...
    def check_caller(self) -> None: ...


class Pending(NamedTuple):
    """A request that waits for its answer: the message, a `Version` for a write that was done, `NoAnswer` or `NotSent`.

    `spread`: it is a read that any member of the tablet's in-sync set may answer, not the primary alone."""

    waiter: Any
    tablet: int
    asked: float
    deadline: float
    spread: bool = False


class _Session:
    """One connection's life, from before it is dialled to after it has ended."""

    __slots__ = ("bundling", "bundling_size", "channel", "over", "pending", "queue", "started")

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self.queue: deque[Sequence[Buffer]] = deque()
        self.channel: Channel | None = None
        self.started = False
        self.over: NoAnswer | NotSent | None = None
        self.bundling: dict[tuple[int, int], tuple[list[int], list[bytes]]] = {}
        """Ids and encoded mutations that will leave together, by tablet and range version."""
        self.bundling_size = 0

    def send_bundles(self) -> None:
        """What was to leave together leaves."""
        bundling, self.bundling = self.bundling, {}
        self.bundling_size = 0
        parts: list[Buffer] = []
        for (tablet, range_version), (ids, mutations) in bundling.items():
            parts += encode_write(tablet, range_version, ids, encode_head(mutations))
        if parts and self.channel is not None:
            self.channel.send_now(parts)
        elif parts:
            self.send(parts, False)

    def send(self, parts: Sequence[Buffer], soon: bool) -> None:
        if self.channel is not None:
            self.channel.send(parts, soon)
            return
        self.queue.append(parts)
        # the channel may have come, and the queue been emptied, since the look above
        if self.channel is not None:
            self.send_queue()

    def send_queue(self) -> None:
        channel = self.channel
        assert channel is not None
        while self.queue:
            try:
                parts = self.queue.popleft()
            except IndexError:
                return
            channel.send(parts)


class Link:
    """The way to one server."""

    def __init__(self, callers: Callers, address: tuple[str, int], key: bytes, name: str, expected: str | None) -> None:
        """`name` is what we call ourselves; `expected` the name that the server must prove, None for any."""
        self.address = address
        self.expected = expected
        self.refused: AuthenticationFailed | BadRequest | None = None
        """Why the last handshake failed for good, if it did."""
        self.new_id = count(1).__next__
        self._callers = callers
        self._key = key
        self._name = name
        self._session = _Session()
        self._starting = native_lock()
        self._not_before = 0.0
        self._failure = ""
        self._closed = False

    def ask(self, request_id: int, parts: Sequence[Buffer], pending: Pending, soon: bool = False) -> None:
        """Send the request `parts`, whose id came from `new_id`; `pending`'s waiter is answered exactly once.

        `soon`: it is a read, see `kvstore.greenlets`.
        """
        session = self._enter(request_id, pending)
        if session is not None:
            session.send(parts, soon)

    def write(
        self, request_id: int, tablet: int, range_version: int, mutation: bytes, bulk: bytes, pending: Pending
    ) -> None:
        """Send an encoded mutation with its bulk part, as `ask` does. Among greenlets, those without bulk part that are
        written before the loop comes round leave in one bundle: for everybody behind, that is one thing to read."""
        session = self._enter(request_id, pending)
        if session is None:
            return
        soon = self._callers.soon
        if bulk or soon is None:
            session.send(encode_write(tablet, range_version, [request_id], encode_head([mutation]), bulk), False)
            return
        place = (tablet, range_version)
        together = session.bundling.get(place)
        if together is None:
            if not session.bundling:
                soon(session.send_bundles)
            together = session.bundling[place] = ([], [])
        together[0].append(request_id)
        together[1].append(mutation)
        session.bundling_size += len(mutation)
        if session.bundling_size >= MUCH:
            session.send_bundles()

    def _enter(self, request_id: int, pending: Pending) -> _Session | None:
        """The session on which the request is to be sent, now that its waiter will be answered; None: it was already."""
        session = self._session
        session.pending[request_id] = pending
        if not session.started:
            self._start(session)
        if session.over is not None and session.pending.pop(request_id, None) is not None:
            # it ended, and was swept, between our look at it and our entry
            self._callers.wake([(pending.waiter, NotSent(session.over.reason))])
            return None
        return session

    def forget(self, request_id: int) -> None:
        """The caller does not wait any more (it was killed)."""
        self._session.pending.pop(request_id, None)

    @property
    def up(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self._session.channel is not None

    def sweep(self, now: float, stale: Callable[[Pending], bool]) -> tuple[float, float]:
        """Answer with `NoAnswer` what is past its deadline or `stale`. Of the others: since when the oldest waits, and the
        nearest deadline; infinite when there are none."""
        oldest = nearest = math.inf
        answers: list[tuple[Any, Any]] = []
        session = self._session
        for request_id, pending in list(session.pending.items()):
            if now >= pending.deadline or stale(pending):
                if session.pending.pop(request_id, None) is not None:
                    answers.append((pending.waiter, NoAnswer(f"{self._who()} did not answer")))
                continue
            oldest = min(oldest, pending.asked)
            nearest = min(nearest, pending.deadline)
        self._callers.wake(answers)
        return oldest, nearest

    def close(self) -> None:
        """Close for good: what is pending and what is still asked is answered at once."""
        self._closed = True
        session = self._session
        if session.channel is not None:
            self._end(session, NoAnswer("the client was closed"))
        else:
            self._end(session, NotSent("the client was closed"))

    # -- one connection's life

    def _who(self) -> str:
        return f"{self.expected or 'the server'} at {self.address[0]}:{self.address[1]}"

    def _start(self, session: _Session) -> None:
        with self._starting:
            if session.started:
                return
            session.started = True
        if self._closed:
            self._end(session, NotSent("the client was closed"))
        elif clock.now() < self._not_before:
            self._end(session, NotSent(self._failure))
        else:
            self._callers.spawn(f"link to {self._who()}", self._run, session)

    def _run(self, session: _Session) -> None:
        """Dial, then read until the connection ends."""
        try:
            channel = self._callers.dial(self.address, self._key, Role.CLIENT, self._name, self.expected)
        except (OSError, AuthenticationFailed, BadRequest) as error:
            self.refused = error if not isinstance(error, OSError) else None
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self._failure = f"{self._who()} cannot be reached: {reason}"
            self._not_before = clock.now() + _REDIAL_PAUSE
            self._end(session, NotSent(self._failure))
            return
        self.refused = None
        session.channel = channel
        if session.over is not None:  # closed while it was dialled
            channel.close()
            return
        session.send_queue()
        reason = "the connection was lost"
        try:
            while True:
                self._answer(session, channel.read())
        except (EOFError, OSError):
            pass
        except Malformed as error:
            reason = str(error)
        finally:
            # whatever ends this reader, even a mistake of our own, must leave no caller waiting for ever
            self._end(session, NoAnswer(f"{self._who()}: {reason}"))

    def _answer(self, session: _Session, frames: list[tuple[list[Any], bytes]]) -> None:
        answers: list[tuple[Any, Any]] = []
        take = session.pending.pop
        try:
            for fields, bulk in frames:
                message = read_message(fields, bulk)
                if fields[0] == WRITTEN_MANY:
                    epoch = message.epoch
                    for sequence, request_id in enumerate(message.ids, message.first):
                        pending = take(request_id, None)
                        if pending is not None:
                            answers.append((pending.waiter, _new(Version, (epoch, sequence))))
                    continue
                if type(message) is Written and message.outcome == Outcome.OK:
                    message = Version(message.epoch, message.sequence)
                pending = take(fields[1], None)
                if pending is not None:  # else the caller has given up meanwhile
                    answers.append((pending.waiter, message))
        finally:
            # a frame that cannot be read ends the connection, not the answers that came before it
            self._callers.wake(answers)

    def _end(self, session: _Session, reason: NoAnswer | NotSent) -> None:
        """The connection is over: a new session stands ready, everything pending on the old one is answered."""
        if session.over is None:
            session.over = reason
        if self._session is session:
            self._session = _Session()
        if session.channel is not None:
            session.channel.close()
        answers: list[tuple[Any, Any]] = []
        while session.pending:
            try:
                _, pending = session.pending.popitem()
            except KeyError:
                break
            answers.append((pending.waiter, reason))
        self._callers.wake(answers)
