"""How a learner comes to hold what its primary holds: one replica's phase 2.

    waiting ─▶ marking ─▶ joining ─▶ comparing ─▶ closing ─▶ sealing ─▶ finished
                  ▲                      │           │
                  └── the stream broke ──┴───────────┘

It cuts its tail and marks itself as not to be trusted, durably; joins, and from then on logs the primary's stream without
applying it; reads all keys and versions of the tablet, page by page, with the store's ordinary scan; fetches the values
that differ and installs them with their versions. What lies between two keys of a page and is not in it is gone (trap 18).
Then it takes the remembered results with their commit point c, waits until the stream has brought it everything up to
c, and seals: held-back entries up to c are applied to cells that are not newer. The stream began before the first page was
read, and its first entry follows the commit point of that moment (trap 19); so nothing is missing.

Once `finished` it has told its primary so, and may be counted as a member without knowing it: it starts over only when the
primary says that it is not (`JoinAccepted.again`), or when a configuration makes it a learner of another leadership.

Values whose version is the same are taken to be the same. A replica that was found damaged begins with no cells at all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from kvstore import settings
from kvstore.messages import CaughtUp, CellAnswer, Get, Join, JoinAccepted, Page, ReadResults, Results, Scan
from kvstore.mutation import Version
from kvstore.node.effects import RequestPrimary

if TYPE_CHECKING:
    from kvstore.node.replica import Replica

LEARNING_AT_ONCE = 2
"""Tablets that one node learns at the same time: more would only share the same network and slow the writers."""
FETCHES_AT_ONCE = 4
UNSYNCED_BYTES = 16 * settings.MIB
"""Installed values that may wait for the disk before no more are fetched."""
LOCAL_CELLS_AT_ONCE = 4 * settings.SCAN_PAGE_CELLS
"""Own cells that are looked at for one page: a deleted million must not be walked in one slice (trap 29)."""
AGAIN = 0.3
"""Seconds after which a request without answer is repeated, at first."""
AGAIN_MOST = 5.0

Key = tuple[str, str]
Installed = tuple[str, str, Version | None, bytes | None]


class Stage(Enum):
    """How far the learning has come."""

    WAITING = "waiting"  # other tablets of this node learn first
    MARKING = "marking"  # "not to be trusted" is on its way to the disk
    JOINING = "joining"  # the primary was asked for its stream
    COMPARING = "comparing"  # keys are read, values fetched
    CLOSING = "closing"  # results are fetched; the stream must reach their commit point
    SEALING = "sealing"  # the end of learning is on its way to the disk
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
        self._questions: dict[int, Get | Scan | ReadResults] = {}
        self._number = 0
        self._asked_at = 0.0
        self._patience = AGAIN
        self._cursor: Key | None = ("", "")
        self._fetches: deque[Get | Scan] = deque()
        self._unsynced_bytes = 0
        self.installed_at = 0
        """The log position after which all installed values are on disk."""
        self._results: Results | None = None
        self._seen = -1
        self._cells_total = 0
        self._cells_done = 0
        self._bytes_done = 0

    @property
    def streaming(self) -> bool:
        """Whether the primary's entries are being logged."""
        return self._stage in (Stage.COMPARING, Stage.CLOSING, Stage.SEALING, Stage.FINISHED)

    @property
    def finished(self) -> bool:
        """Whether this replica holds all that its primary has committed as far as it was told."""
        return self._stage == Stage.FINISHED

    @property
    def progress(self) -> dict[str, int]:
        """For the console."""
        return {"cells_done": self._cells_done, "cells_total": self._cells_total, "bytes_done": self._bytes_done}

    # ---------------------------------------------------------------- beginning

    def tick(self, now: float) -> None:
        """Begin when it is this tablet's turn; repeat what got no answer."""
        if self._stage == Stage.WAITING and len(self._host.learning) < LEARNING_AT_ONCE:
            self._host.learning.add(self._replica.tablet)
            self._mark()
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
        self._host.engine.append_commit(self._replica.tablet, self._replica.disk.commit)
        self._replica.settle(self._host.engine.begin_learning(self._replica.tablet))

    def start_over(self) -> None:
        """The stream has a hole: join anew. What was installed stays, and need not be sent again."""
        self._attempt = self._replica.next_attempt()
        self._questions.clear()
        self._fetches.clear()
        self._cursor = ("", "")
        self._cells_done = 0
        self._results = None
        self._host.learning.add(self._replica.tablet)
        self._mark()

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
        elif self._stage == Stage.SEALING and self._replica.epoch_is_durable:
            self._stage = Stage.FINISHED
            self._host.learning.discard(self._replica.tablet)
            self._replica.apply_known()
            self._tell_finished(now)

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
            self._cells_total = message.cells
            self._stage = Stage.COMPARING
            self._go_on(now)

    # ---------------------------------------------------------------- comparing

    def _ask(self, request: Get | Scan | ReadResults, now: float) -> None:
        self._number += 1
        self._questions[self._number] = request
        self._asked_at = now
        primary = self._replica.primary
        if primary is not None:
            token = CatchUpToken(self._replica.tablet, self._attempt, self._number)
            self._host.out.append(RequestPrimary(primary.node, request, token))

    def _go_on(self, now: float) -> None:
        """Ask for what is needed next, as far as there is room for the answers."""
        while self._fetches and len(self._questions) < FETCHES_AT_ONCE and self._unsynced_bytes < UNSYNCED_BYTES:
            self._ask(self._fetches.popleft(), now)
        if self._questions or self._fetches:
            return
        replica = self._replica
        assert replica.configuration is not None
        version = replica.configuration.range_version
        if self._stage == Stage.COMPARING and self._cursor is not None:
            row, column = self._cursor
            self._ask(Scan(replica.tablet, version, row, column, None, None, None, False, True), now)
        elif self._stage == Stage.COMPARING:
            self._stage = Stage.CLOSING
            self._ask(ReadResults(replica.tablet, replica.epoch), now)
        elif self._results is None:
            self._ask(ReadResults(replica.tablet, replica.epoch), now)

    def answered(self, token: CatchUpToken, message: object | None, now: float) -> None:
        """The primary's answer to a question; anything but the answer is asked again a little later."""
        if token.attempt != self._attempt:
            return
        request = self._questions.pop(token.number, None)
        if request is None:
            return
        if isinstance(request, Scan) and isinstance(message, Page):
            self._page_came(request, message)
        elif isinstance(request, Get) and isinstance(message, CellAnswer):
            self._install([_installed(request, message)])
        elif isinstance(request, ReadResults) and isinstance(message, Results):
            self._results = message
            self.stream_moved()
            return
        else:
            if not isinstance(request, ReadResults) and not _is_keys(request):
                self._fetches.append(request)
            return
        self._go_on(now)

    def _page_came(self, request: Scan, page: Page) -> None:
        if _is_keys(request):
            self._compare((request.start, request.start_column), page)
            return
        self._install([(row, column, Version(e, s), value) for row, column, e, s, _, value in page.cells])
        if page.more and request.end is not None:
            row, column = page.cells[-1][0], page.cells[-1][1] + "\0"
            if (row, column) < (request.end, request.end_column or ""):
                rest = Scan(
                    request.tablet,
                    request.range_version,
                    row,
                    column,
                    request.end,
                    request.end_column,
                    None,
                    False,
                    False,
                )
                self._fetches.appendleft(rest)

    def _compare(self, low: Key, page: Page) -> None:
        """Hold a page of the primary's keys against the own cells of the same range."""
        high = (page.cells[-1][0], page.cells[-1][1] + "\0") if page.more else None
        tablet = self._replica.disk.tablet
        own: dict[Key, Version] = {}
        for row, column, cell in tablet.scan(low[0], low[1], *(high or (None, None))):
            if len(own) >= LOCAL_CELLS_AT_ONCE:
                high = (row, column)  # the rest of the page is read again, with the own cells from here on
                break
            own[row, column] = cell.version
        cells = [cell for cell in page.cells if high is None or (cell[0], cell[1]) < high]
        there = {(cell[0], cell[1]) for cell in cells}
        self._install([(row, column, None, None) for row, column in own if (row, column) not in there])
        differs = [own.get((c[0], c[1])) != (c[2], c[3]) for c in cells]
        self._plan_fetches(cells, differs)
        self._cells_done += len(cells)
        self._cursor = high

    def _plan_fetches(self, cells: list[tuple[str, str, int, int, int, bytes]], differs: list[bool]) -> None:
        """A large value by itself; a run of small ones that differ in one scan."""
        replica = self._replica
        assert replica.configuration is not None
        version = replica.configuration.range_version
        run: list[Key] = []

        def close() -> None:
            if run:
                (row, column), (end, end_column) = run[0], run[-1]
                scan = Scan(replica.tablet, version, row, column, end, end_column + "\0", None, False, False)
                self._fetches.append(scan)
                run.clear()

        for (row, column, _, _, size, _), wanted in zip(cells, differs, strict=True):
            if wanted and size < settings.BULK_VALUE:
                run.append((row, column))
                continue
            close()
            if wanted:
                self._fetches.append(Get(replica.tablet, version, row, column))
        close()

    def _install(self, cells: list[Installed]) -> None:
        if not cells:
            return
        size = sum(len(value) for _, _, _, value in cells if value is not None)
        self._bytes_done += size
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
        replica.apply(results.commit)  # now, as replay does; what it means is said when it is on disk
        self._results = None
        replica.settle(lsn)

    def _tell_finished(self, now: float) -> None:
        self._asked_at = now
        replica = self._replica
        disk = replica.disk
        replica.tell_primary(
            CaughtUp(replica.tablet, replica.epoch, self._host.me, disk.commit, disk.tablet.digest, self._attempt)
        )


def _is_keys(request: Get | Scan) -> bool:
    return isinstance(request, Scan) and request.keys_only


def _installed(request: Get, answer: CellAnswer) -> Installed:
    if answer.epoch == 0:
        return request.row, request.column, None, None
    return request.row, request.column, Version(answer.epoch, answer.sequence), answer.value
