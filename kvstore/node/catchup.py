"""How a learner comes to hold what its primary holds: one replica's phase 2.

    waiting ─▶ marking ─▶ joining ─▶ comparing ─▶ closing ─▶ sealing ─▶ finished
                  ▲                      │           │
                  └── the stream broke ──┴───────────┘

It cuts its tail and marks itself as not to be trusted, durably; joins, and from then on logs the primary's stream without
applying it; and makes its cells those of the primary. What it has applied was committed, so of each range of keys it asks what
is newer than that, and for a digest of the rest (`kvstore.storage.difference`). Where the digests agree nothing else differs;
where they do not, something was deleted: there it asks for finer digests, and where those differ for all keys and versions,
with the store's ordinary scan. What lies between two keys of such a page and is not in it is gone (trap 18).

Then it takes the remembered results with their commit point c, waits until the stream has brought it everything up to
c, and seals: held-back entries up to c are applied to cells that are not newer. The stream began before the first range was
read, and its first entry follows the commit point of that moment (trap 19); so nothing is missing.

Once `finished` it has told its primary so, and may be counted as a member without knowing it: it starts over only when the
primary says that it is not (`JoinAccepted.again`), or when a configuration makes it a learner of another leadership.

Values whose version is the same are taken to be the same. A replica that was found damaged begins with no cells at all.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from kvstore import settings
from kvstore.messages import CaughtUp, CellAnswer, Get, Join, JoinAccepted, Page, Scan
from kvstore.mutation import Version
from kvstore.node.comparison import Comparison, Findings, Installed, fetched, scanned
from kvstore.node.effects import RequestPrimary
from kvstore.questions import Changes, ReadChanges, ReadResults, Results
from kvstore.storage.replica import Learning

if TYPE_CHECKING:
    from kvstore.node.replica import Replica

LEARNING_AT_ONCE = 2
"""Tablets that one node learns at the same time: more would only share the same network and slow the writers."""
FETCHES_AT_ONCE = 2
UNSYNCED_BYTES = 8 * settings.MIB
"""Installed values that may wait for the disk before no more are fetched."""
SETTLED_AT_ONCE = 1000
"""Mutations that were held back and are applied in one slice: there may be a hundred thousand (trap 29)."""
WORK = 0.01
"""Seconds after each tick (one of 20 ms and more) in which a learner asks, if `Pace` allows it: the rest is for others, its
primary first."""
HELD_BACK_MOST = 200_000
"""Mutations of the stream that wait in memory, about a kilobyte each; a learner of more minds no pace any longer."""
AGAIN = 0.3
"""Seconds after which a request without answer is repeated, at first."""
AGAIN_MOST = 5.0

Question = Get | Scan | ReadChanges | ReadResults


class Stage(Enum):
    """How far the learning has come."""

    WAITING = "waiting"  # other tablets of this node learn first
    MARKING = "marking"  # "not to be trusted" is on its way to the disk
    JOINING = "joining"  # the primary was asked for its stream
    COMPARING = "comparing"  # keys are read, values fetched
    CLOSING = "closing"  # results are fetched; the stream must reach their commit point
    SEALING = "sealing"  # the end of learning is on its way to the disk; what was held back is applied, slice by slice
    FINISHED = "finished"  # trusted again; the primary is told until a configuration answers


@dataclass(slots=True, frozen=True)
class CatchUpToken:
    """Names a question to the primary. Answers to an earlier attempt are ignored."""

    tablet: int
    attempt: int
    number: int


class CatchUp:
    """One replica's learning under one leadership."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._host = replica.host
        self._attempt = replica.next_attempt()
        self._stage = Stage.WAITING
        self._questions: dict[int, Question] = {}
        self._number = 0
        self._asked_at = 0.0
        self._patience = AGAIN
        self._since = Version(0, 0)
        self._stream_start = 0
        self._compared: Comparison | None = None
        self._fetches: deque[Get | Scan] = deque()
        self._unsynced_bytes = 0
        self.installed_at = 0
        """The log position after which all installed values are on disk."""
        self._results: Results | None = None
        self._seen = -1
        self._cells_total = 0
        self._cells_done = 0
        self._cells_copied = 0
        self._bytes_done = 0
        self._began = self._now = 0.0
        self._rests = False
        """It had its share of the time since the last tick, and waits for the next."""

    @property
    def streaming(self) -> bool:
        """Whether the primary's entries are being logged."""
        return self._stage in (Stage.COMPARING, Stage.CLOSING, Stage.SEALING, Stage.FINISHED)

    @property
    def finished(self) -> bool:
        """Whether this replica holds all that its primary has committed as far as it was told."""
        return self._stage == Stage.FINISHED

    @property
    def attempt(self) -> int:
        """The number of the attempt under way: answers and the stream belong to one."""
        return self._attempt

    @property
    def progress(self) -> dict[str, int]:
        """For the console: how many cells are compared, of about how many; cells and bytes of values that were copied; seconds
        that the rest will take at the pace so far, -1 when that cannot be told."""
        return {
            "cells_done": self._cells_done,
            "cells_total": self._cells_total,
            "cells_copied": self._cells_copied,
            "bytes_done": self._bytes_done,
            "seconds_left": self._seconds_left,
        }

    @property
    def _seconds_left(self) -> int:
        if not self._cells_done:
            return -1
        left = max(0, self._cells_total - self._cells_done)
        return math.ceil((self._now - self._began) * left / self._cells_done)

    # ---------------------------------------------------------------- beginning

    def tick(self, now: float) -> None:
        """Begin when it is this tablet's turn; repeat what got no answer."""
        self._now = now
        if self._rests and self._stage in (Stage.COMPARING, Stage.CLOSING):
            self._go_on(now)
        if self._stage == Stage.WAITING and len(self._host.learning) < LEARNING_AT_ONCE:
            self._host.learning.add(self._replica.tablet)
            self._mark()
        if self._stage == Stage.SEALING:
            self._settle_some(now)
        if now - self._asked_at < self._patience:
            return
        if self._stage == Stage.JOINING:
            # more and more patiently, or a slow network would bring each answer after the next attempt
            self._patience = min(2 * self._patience, AGAIN_MOST)
            self._join_again(now)
        elif self._stage == Stage.CLOSING and self._results is not None:
            self._asked_at = now
            if self._seen == self._replica.last:
                # the stream stands still before a commit point that the primary has reached: this attempt's is no more
                self._patience = min(2 * self._patience, AGAIN_MOST)
                self.start_over()
            self._seen = self._replica.last
        elif self._stage in (Stage.COMPARING, Stage.CLOSING):
            self._go_on(now)
        elif self._stage == Stage.FINISHED:
            self._tell_finished(now)

    def _mark(self) -> None:
        self._stage = Stage.MARKING
        # what is applied is compared with the primary's cells, so replay must apply it too before it cuts the tail: the
        # log knows of a commit point only from what came after it
        disk = self._replica.disk
        if disk.learning is Learning.SETTLING:
            self._replica.apply(
                disk.settle_at
            )  # replay will have applied all of it before it comes to what begins here
        self._host.engine.append_commit(self._replica.tablet, disk.commit)
        now = self._replica.configuration
        known = (now.start, now.end, now.range_version) if now is not None else None
        self._replica.settle(self._host.engine.begin_learning(self._replica.tablet, known))
        self._since = Version(disk.commit_epoch, disk.commit) if disk.tablet.cells else Version(0, 0)

    def start_over(self) -> None:
        """The stream has a hole: join anew. What was installed stays, and need not be sent again."""
        self._attempt = self._replica.next_attempt()
        self._questions.clear()
        self._fetches.clear()
        self._cells_done = 0
        self._unsynced_bytes = 0  # what begins here waits for all of them
        self._results = None
        self._host.learning.add(self._replica.tablet)
        self._mark()

    def narrowed(self, whole: bool) -> None:
        """The tablet was split, and so was what is here, if it was `whole`: as it was in the set at that moment. What it learnt
        stays as far as it lies in the range; what it held back, or still asks for, may not."""
        if self._stage != Stage.WAITING and not (whole and self.finished):
            self.start_over()

    def stop(self) -> None:
        """The configuration has another use for the replica."""
        self._host.learning.discard(self._replica.tablet)

    def on_synced(self, now: float) -> None:
        """The log of this replica is on disk as far as it was written when this stage began."""
        if self._stage == Stage.MARKING and self._replica.epoch_is_durable:
            self._stage = Stage.JOINING
            self._join(now)
        elif self._stage == Stage.COMPARING and self._host.synced >= self.installed_at:
            self._unsynced_bytes = 0
            self._go_on(now)
        elif self._stage == Stage.SEALING:
            self._settle_some(now)

    def announced(self, now: float) -> None:
        """The primary spoke: it may not have served yet when it was asked last."""
        if self._stage == Stage.JOINING:
            self._patience = AGAIN
            self._join_again(now)

    def _join_again(self, now: float) -> None:
        # as a new attempt: the stream of the old one may have been accepted, and missed, without this replica's knowing
        self._attempt = self._replica.next_attempt()
        self._join(now)

    def _join(self, now: float) -> None:
        self._asked_at = now
        replica = self._replica
        replica.tell_primary(Join(replica.tablet, replica.epoch, self._host.me, self._attempt))

    def accepted(self, message: JoinAccepted, now: float) -> None:
        """The primary streams to this attempt from now on, or says that its stream is lost."""
        if message.attempt != self._attempt:
            return
        if message.again:
            if message.differs and self.finished:
                self._replica.distrust()  # all was there, and yet the primary does not agree
            self.start_over()
        elif self._stage == Stage.JOINING:
            self._replica.begin_stream(message.start, message.start_epoch)
            self._stream_start = message.start
            self._cells_total = message.cells
            self._began = now
            self._compared = Comparison(self._replica, self._since)
            self._stage = Stage.COMPARING
            self._go_on(now)

    # ---------------------------------------------------------------- comparing

    def _comparison(self) -> Comparison:
        assert self._compared is not None, "it begins when the primary has accepted"
        return self._compared

    def _ask(self, request: Question, now: float) -> None:
        self._number += 1
        self._questions[self._number] = request
        self._asked_at = now
        primary = self._replica.primary
        if primary is not None:
            token = CatchUpToken(self._replica.tablet, self._attempt, self._number)
            self._host.out.append(RequestPrimary(primary.node, request, token))

    def _go_on(self, now: float) -> None:
        """Ask for what is needed next, as far as there is room for the answers, and unless it is time to rest."""
        self._rests = now - self._now > WORK or not self._may_copy(now)
        if self._rests:
            return
        while self._fetches and len(self._questions) < FETCHES_AT_ONCE and self._unsynced_bytes < UNSYNCED_BYTES:
            self._ask(self._fetches.popleft(), now)
        if self._questions or self._fetches or self._unsynced_bytes >= UNSYNCED_BYTES:
            return
        replica = self._replica
        if self._stage == Stage.COMPARING and not self._comparison().done:
            self._ask(self._comparison().question(), now)
        elif self._stage == Stage.COMPARING:
            self._stage = Stage.CLOSING
            self._ask(ReadResults(replica.tablet, replica.epoch), now)
        elif self._results is None:
            self._ask(ReadResults(replica.tablet, replica.epoch), now)

    def _may_copy(self, now: float) -> bool:
        held_back = self._replica.last - self._stream_start
        return held_back > HELD_BACK_MOST or self._host.pace.allows(now)

    def answered(self, token: CatchUpToken, message: object | None, now: float) -> None:
        """The primary's answer to a question; anything but the answer is asked again a little later."""
        if token.attempt != self._attempt:
            return
        request = self._questions.pop(token.number, None)
        if request is None:
            return
        if isinstance(request, ReadChanges) and isinstance(message, Changes):
            self._found(self._comparison().changes(message))
        elif isinstance(request, Scan) and isinstance(message, Page):
            self._found(self._comparison().keys(message) if request.keys_only else scanned(request, message))
        elif isinstance(request, Get) and isinstance(message, CellAnswer):
            self._install([fetched(request, message)])
        elif isinstance(request, ReadResults) and isinstance(message, Results):
            self._results = message
            self.stream_moved()
            return
        else:
            if isinstance(request, Get) or (isinstance(request, Scan) and not request.keys_only):
                self._fetches.append(request)
            return
        self._go_on(now)

    def _found(self, findings: Findings) -> None:
        self._fetches.extend(findings.fetch)
        self._cells_done += findings.examined
        self._install(findings.install)

    def _install(self, cells: list[Installed]) -> None:
        if not cells:
            return
        size = sum(len(value) for _, _, _, value in cells if value is not None)
        self._cells_copied += len(cells)
        self._bytes_done += size
        self._host.pace.took(size)
        self._unsynced_bytes += size
        self.installed_at = self._host.engine.install(self._replica.tablet, cells)
        self._host.logged(self._replica)

    # ---------------------------------------------------------------- ending

    def stream_moved(self) -> None:
        """The stream brought something: if it reached the results' commit point, learning can end (trap 19)."""
        results, replica = self._results, self._replica
        if self._stage != Stage.CLOSING or results is None or replica.last < results.commit:
            return
        self._stage = Stage.SEALING
        self._patience = AGAIN
        lsn = self._host.engine.finish_learning(replica.tablet, results.encoded, results.commit_epoch, results.commit)
        replica.known_commit = max(replica.known_commit, results.commit)
        self._results = None
        replica.settle(lsn)

    def _settle_some(self, now: float) -> None:
        """Apply some of what was held back; when nothing is left, and the end of learning is on disk, say so."""
        replica = self._replica
        known = min(replica.known_commit, replica.last)
        self._host.engine.apply(replica.tablet, known, SETTLED_AT_ONCE)
        if replica.disk.intact and replica.disk.commit >= known and replica.epoch_is_durable:
            self._stage = Stage.FINISHED
            self._host.learning.discard(replica.tablet)
            self._tell_finished(now)

    def _tell_finished(self, now: float) -> None:
        self._asked_at = now
        replica = self._replica
        disk = replica.disk
        replica.tell_primary(
            CaughtUp(replica.tablet, replica.epoch, self._host.me, disk.commit, disk.tablet.digest, self._attempt)
        )
