"""Reads that a secondary answers itself, so that large values burden every replica of a tablet alike.

    arrived ─▶ asked ─▶ ready ─▶ answered
       └─────────┴────────┴────▶ passed on to the primary, or refused with a newer configuration

A read waits until the primary was asked for its commit point *after* the read arrived: an answer to an older question may
be older than a write that was acknowledged before the read began. One question is on its way at a time; all that arrived
before it was sent share its answer. The primary answers under a lease, checked after it read its commit point (trap 3).
This replica applies up to there and only then reads its own cell: what it finds was committed, and was current at some moment
between the question and now. So the answer needs no lease here, and may leave at any time.

Relies on `Replica` for who leads, and whether this replica is a member that agrees with it. Large values are read one a turn:
a hundred that became ready together must not all be in memory before the first has left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvstore import errors, settings
from kvstore.errors import StorageFailure, TryAgain
from kvstore.messages import CommitPoint, Configuration, Get
from kvstore.node.effects import Reply, RequestPrimary, Token
from kvstore.node.reads import read_cell
from kvstore.questions import AskCommitPoint

if TYPE_CHECKING:
    from kvstore.node.replica import Replica

ANSWER_PATIENCE = 0.3
"""Seconds that the primary's answer is waited for; then the reads are passed on."""
MOST_WAITING_BYTES = 64 * settings.MIB
"""Values that may wait to be read; what comes then is refused with `Overloaded`, and the client asks the primary."""


@dataclass(slots=True, frozen=True)
class CommitPointToken:
    """Names a question for a commit point. Answers to any but the last are ignored."""

    tablet: int
    number: int


Waiting = tuple[Token, Get, int]
"""A read, and how large its cell was when it came."""


class SecondaryReads:
    """The reads of one replica while it is a secondary."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._host = replica.host
        self._arrived: list[Waiting] = []
        self._asked: list[Waiting] = []
        self._ready: deque[Waiting] = deque()
        self._bytes = 0
        self._number = 0
        self._asked_at = 0.0

    def take(self, token: Token, request: Get) -> None:
        """A read arrives: it will be answered, passed on or refused."""
        cell = self._replica.disk.tablet.get(request.row, request.column)
        size = 0 if cell is None else cell.size
        waiting = len(self._arrived) + len(self._asked) + len(self._ready)
        if waiting and (self._bytes + size > MOST_WAITING_BYTES or waiting >= settings.MAX_WAITING):
            self._host.refuse(token, errors.Overloaded, "too many reads wait at this secondary")
            return
        self._bytes += size
        self._arrived.append((token, request, size))
        self._host.reading[self._replica] = None

    def flush(self, now: float) -> None:
        """After a round of inputs: answer what can be, ask for what has come."""
        self._answer_ready()
        if self._arrived and not self._asked:
            self._ask(now)

    def tick(self, now: float) -> None:
        """A primary that does not answer in time gets the reads themselves."""
        if self._asked and now - self._asked_at > ANSWER_PATIENCE:
            self._pass_on(self._asked)

    # ---------------------------------------------------------------- the question

    def _ask(self, now: float) -> None:
        configuration = self._replica.configuration
        if not self._replica.serves_secondary_reads or configuration is None or configuration.primary is None:
            self._pass_on(self._arrived)
            return
        self._asked, self._arrived = self._arrived, []
        self._number += 1
        self._asked_at = now
        question = AskCommitPoint(self._replica.tablet, configuration.epoch)
        token = CommitPointToken(self._replica.tablet, self._number)
        self._host.out.append(RequestPrimary(configuration.primary.node, question, token))

    def answered(self, token: CommitPointToken, message: object | None) -> None:
        """The primary's answer; whatever is not a commit point of this very leadership answers nothing."""
        if token.number != self._number or not self._asked:
            return
        replica = self._replica
        if not self._counts(message):
            self._pass_on(self._asked)
            return
        assert isinstance(message, CommitPoint)
        replica.known_commit = max(replica.known_commit, message.commit)
        replica.apply_known()
        if replica.disk.commit < message.commit:
            self._pass_on(self._asked)
            return
        self._ready.extend(self._asked)
        self._asked = []
        self._host.reading[replica] = None

    def _counts(self, message: object | None) -> bool:
        configuration = self._replica.configuration
        return (
            isinstance(message, CommitPoint)
            and configuration is not None
            and message.epoch == configuration.epoch
            and message.sender == configuration.primary
            and self._replica.serves_secondary_reads
        )

    # ---------------------------------------------------------------- answers

    def _answer_ready(self) -> None:
        """Answer what is ready, up to one large value: the driver lets that leave, and comes back."""
        while self._ready:
            if not self._replica.serves_secondary_reads:
                self._pass_on(self._ready)
                return
            token, request, size = self._ready.popleft()
            self._bytes -= size
            try:
                answer = read_cell(self._replica, request)
            except StorageFailure as error:
                self._replica.report_damage(f"a value could not be read: {error}")
                self._bytes += size
                self._ready.appendleft((token, request, size))  # to be passed on with the others
                continue
            except TryAgain:
                # no descriptor is left to read it with: that says nothing of the value, nor of what else waits
                self._bytes += size
                self._pass_on([(token, request, size)])
                continue
            self._host.out.append(Reply(token, answer))
            if self._ready and len(answer.value) >= settings.BULK_VALUE:
                self._host.reading[self._replica] = None
                return

    def _pass_on(self, reads: list[Waiting] | deque[Waiting]) -> None:
        primary = self._replica.primary
        for token, request, size in reads:
            self._bytes -= size
            if primary is None or primary == self._host.me:
                self._host.refuse(token, errors.NotPrimary, "the tablet has no primary", self._replica.configuration)
            else:
                self._host.forward(token, self._replica.tablet, primary.node, request)
        reads.clear()
        if self._arrived:
            self._host.reading[self._replica] = None

    def refuse_all(self, newest: Configuration) -> None:
        """The configuration is another: nothing that was asked under the former one counts."""
        for reads in (self._arrived, self._asked, self._ready):
            for token, _, _ in reads:
                self._host.refuse(token, errors.NotPrimary, "the tablet's configuration has changed", newest)
            reads.clear()
        self._bytes = 0
