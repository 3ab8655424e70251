"""The client: how PennCloud's processes read and write the store.

    client = connect("127.0.0.1:7400", "var/cluster.key")
    client.put("user:alice", "email", b"alice@example.org")

One `Client` per process, shared by everything in it that calls:

- *Greenlets*: the process must be monkey-patched (`gevent.monkey.patch_all()` before anything else is imported), which
  `connect` detects. The client then belongs to the thread that made it.
- *Plain threads*: nothing is needed; any thread may call at any time.

It keeps one connection to each node, with many requests in flight; requests that are ready together go out in one write. A
child process made by `fork` must call `connect` for itself: there the parent's client refuses to work.

Where a row is: the client learns the tablet map from the coordinator or from any node, keeps it, and corrects it from the
refusals of nodes. A coordinator that is down does not matter to it.

Time: each call has a deadline, `timeout` seconds from when it begins (for `scan` and `get_row`: each page). Until then the
client asks again by itself whenever that can help: at another primary, with the same mutation number, so that a write is
applied once however often it was sent. What it raises at the deadline is `OutcomeUnknown` for a write that may have
happened, and otherwise the last reason why nothing did. All errors are of `kvstore.errors`.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

from kvstore import clock, settings
from kvstore.batch import Batch, put_operation
from kvstore.errors import BadRequest, RequirementFailed, StoreError
from kvstore.handshake import read_key
from kvstore.keys import checked, prefix_end
from kvstore.link import Callers
from kvstore.locks import native_lock
from kvstore.messages import CellAnswer, Configuration, GetRow, Page, Scan, Written
from kvstore.mutation import Buffer, Op, Version, encode_mutation
from kvstore.routing import Router, Where
from kvstore.wire import encode, encode_get

__all__ = ["Batch", "Cell", "Client", "Version", "connect"]


class Cell(NamedTuple):
    """A cell as it was read. `size` is the value's length in bytes; in a `keys_only` scan `value` is empty."""

    value: bytes
    version: Version
    size: int


def connect(
    coordinators: str = "127.0.0.1:7400",
    key_file: str | os.PathLike[str] = "var/cluster.key",
    timeout: float = settings.DEFAULT_TIMEOUT,
) -> Client:
    """A client of the cluster whose coordinator listens at `coordinators` (`host:port`, several parted by commas).

    `timeout`: seconds that each call may take when it says nothing else, and that this one may take. Raises `Unavailable`
    when nobody answers or the cluster has no tablets yet, `AuthenticationFailed` when the key is another cluster's,
    `BadRequest` when the key file cannot be read.
    """
    client = Client(make_router(coordinators, read_key(key_file)), timeout)
    try:
        client.router.wait_for_map(timeout)
    except BaseException:
        client.close()
        raise
    return client


def make_router(coordinators: str, key: bytes) -> Router:
    """A router for whatever this process's callers are; it has not reached anybody yet."""
    return Router(_callers(), coordinators, key, f"client-{os.getpid()}")


def _callers() -> Callers:
    """Plain threads, or greenlets where gevent has patched sockets."""
    if "gevent" in sys.modules:
        from gevent import monkey

        if monkey.is_module_patched("socket"):
            from kvstore.greenlets import Greenlets

            return Greenlets()
    from kvstore.threads import Threads

    return Threads()


class _Numbers:
    """Mutation numbers, and the floor below which every number's outcome is known."""

    __slots__ = ("_lock", "_next", "_outstanding")

    def __init__(self) -> None:
        self._next = 1
        self._outstanding: dict[int, None] = {}
        self._lock = native_lock()

    def take(self) -> tuple[int, int]:
        """A new number, and the floor to send with it."""
        # In one step: a number that was drawn and not yet put down would let a second caller state a floor above it,
        # and the tablet would forget the result of the first one's write before it was asked for.
        with self._lock:
            number = self._next
            self._next = number + 1
            self._outstanding[number] = None
            return number, next(iter(self._outstanding))

    def done(self, number: int) -> None:
        """Nobody will ask about this number again."""
        with self._lock:
            del self._outstanding[number]


class Client:
    """Reads and writes of one cluster; made by `connect`. See the module's docstring."""

    def __init__(self, router: Router, timeout: float) -> None:
        self.router = router
        self._timeout = timeout
        self._id = secrets.randbits(63)
        self._numbers = _Numbers()

    # -- reading

    def get(self, row: str, column: str, *, spread: bool = False, timeout: float | None = None) -> Cell | None:
        """The cell, or None when it is absent.

        `spread`: let the tablet's in-sync replicas answer by turns, not its primary alone; no less linearizable, and meant
        for values of many kilobytes: for a small one, asking the primary how far to read costs as much as the value.
        """
        checked(row, "row")
        checked(column, "column")
        now = clock.now()
        answer = self.router.ask(
            lambda: self.router.tablets.find(row),
            lambda c, request_id: [encode_get(c.tablet, c.range_version, row, column, request_id)],
            now=now,
            deadline=now + (self._timeout if timeout is None else timeout),
            spread=spread,
        )
        if type(answer) is not CellAnswer:
            raise _unexpected(answer)
        if not answer.epoch:
            return None
        return Cell(answer.value, Version(answer.epoch, answer.sequence), len(answer.value))

    def get_row(
        self,
        row: str,
        prefix: str = "",
        limit: int | None = None,
        *,
        start: str = "",
        end: str | None = None,
        reverse: bool = False,
        keys_only: bool = False,
        timeout: float | None = None,
    ) -> dict[str, Cell]:
        """The row's columns that begin with `prefix` and lie in [start, end), in order (descending if `reverse`).

        At most `limit` of them. Each page is a consistent cut; a long row is read in several, during which it may change.
        """
        for text, what in ((row, "row"), (prefix, "prefix"), (start, "start"), (end or "", "end")):
            checked(text, what)
        cells: dict[str, Cell] = {}
        left = _checked_limit(limit)
        while left is None or left > 0:
            request = GetRow(0, 0, row, prefix, start, end, left, reverse, keys_only)
            page = self._page(lambda: self.router.tablets.find(row), request, timeout)
            for _, column, epoch, sequence, size, value in page.cells:
                cells[column] = Cell(value, Version(epoch, sequence), size)
            if not page.more:
                break
            last = page.cells[-1][1]
            if reverse:
                end = last
            else:
                start = last + "\0"
            left = None if left is None else left - len(page.cells)
        return cells

    def scan(
        self,
        start: str = "",
        end: str | None = None,
        *,
        prefix: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
        timeout: float | None = None,
    ) -> Iterator[tuple[str, str, Cell]]:
        """(row, column, cell) of the rows in [start, end), or of all rows that begin with `prefix`, in order.

        Goes over tablets and through failovers without repeating or leaving out a cell. Each page is a consistent cut of
        its tablet; what is written while the scan is on its way is seen if it lies ahead.
        """
        if prefix is not None:
            if start or end is not None:
                raise BadRequest("a scan has either a prefix or a start and an end")
            start, end = checked(prefix, "prefix"), prefix_end(prefix)
        checked(start, "start")
        if end is not None:
            checked(end, "end")
        left = _checked_limit(limit)
        if end is not None and end <= start:
            return iter(())
        if reverse:
            return self._scan_down(start, end, left, keys_only, timeout)
        return self._scan_up(start, end, left, keys_only, timeout)

    def _scan_up(
        self, start: str, end: str | None, left: int | None, keys_only: bool, timeout: float | None
    ) -> Iterator[tuple[str, str, Cell]]:
        row, column = start, ""
        while left is None or left > 0:
            tablet: list[Configuration | None] = [None]

            def where(row: str = row, tablet: list[Configuration | None] = tablet) -> Configuration | None:
                tablet[0] = self.router.tablets.find(row)
                return tablet[0]

            request = Scan(0, 0, row, column, end, None, left, False, keys_only)
            page = self._page(where, request, timeout)
            for cell in page.cells:
                yield _scanned(cell)
            left = None if left is None else left - len(page.cells)
            asked = tablet[0]
            assert asked is not None
            if page.more:
                row, column = page.cells[-1][0], page.cells[-1][1] + "\0"
            elif asked.end is None or (end is not None and asked.end >= end):
                return
            else:
                row, column = asked.end, ""

    def _scan_down(
        self, start: str, end: str | None, left: int | None, keys_only: bool, timeout: float | None
    ) -> Iterator[tuple[str, str, Cell]]:
        row, column = end, None  # everything below (row, column); a column of None: below the whole row
        while left is None or left > 0:
            tablet: list[Configuration | None] = [None]

            def where(
                row: str | None = row, column: str | None = column, tablet: list[Configuration | None] = tablet
            ) -> Configuration | None:
                tablets = self.router.tablets
                tablet[0] = tablets.find_below(row) if row is None or column is None else tablets.find(row)
                return tablet[0]

            request = Scan(0, 0, start, "", row, column, left, True, keys_only)
            page = self._page(where, request, timeout)
            for cell in page.cells:
                yield _scanned(cell)
            left = None if left is None else left - len(page.cells)
            asked = tablet[0]
            assert asked is not None
            if page.more:
                row, column = page.cells[-1][0], page.cells[-1][1]
            elif asked.start <= start:
                return
            else:
                row, column = asked.start, None

    def _page(self, where: Where, request: GetRow | Scan, timeout: float | None) -> Page:
        """One page, asked for at the tablet that `where()` names; a scan's range is cut to that tablet's."""
        now = clock.now()

        def encoder(configuration: Configuration, request_id: int) -> Sequence[Buffer]:
            request.tablet = configuration.tablet
            request.range_version = configuration.range_version
            return encode(_clipped(request, configuration), request_id)

        deadline = now + (self._timeout if timeout is None else timeout)
        page = self.router.ask(where, encoder, now=now, deadline=deadline)
        if type(page) is not Page or (page.more and not page.cells):
            raise _unexpected(page)
        return page

    # -- writing

    def put(self, row: str, column: str, value: bytes, *, timeout: float | None = None) -> Version:
        """Write the cell; its new version. The value is at most `MAX_VALUE` bytes."""
        checked(row, "row")
        checked(column, "column")
        operation, bulk = put_operation(row, column, value)
        return self._write(row, [], [operation], bulk, timeout)

    def cput(
        self, row: str, column: str, expected: bytes | None, value: bytes, *, timeout: float | None = None
    ) -> bool:
        """Write the cell if its value is exactly `expected` (None: if it is absent); whether it was written.

        `expected` must be under `BULK_VALUE` bytes; for larger values compare versions with `Batch.require_version`.
        """
        try:
            self.apply(Batch().require(row, column, expected).put(row, column, value), timeout=timeout)
        except RequirementFailed:
            return False
        return True

    def delete(self, row: str, column: str, *, timeout: float | None = None) -> Version:
        """Delete the cell; it may be absent. The version of the deletion."""
        checked(row, "row")
        checked(column, "column")
        return self._write(row, [], [(int(Op.DELETE), row, column)], b"", timeout)

    def delete_row(self, row: str, *, timeout: float | None = None) -> Version:
        """Delete every cell of the row. The version of the deletion."""
        checked(row, "row")
        return self._write(row, [], [(int(Op.DELETE_ROW), row)], b"", timeout)

    def apply(self, batch: Batch, *, timeout: float | None = None) -> Version:
        """Apply the batch, all or nothing; the version of every cell that it wrote.

        Raises `RequirementFailed` when a requirement does not hold, `CrossTabletBatch` when its rows lie in several groups.
        """
        rule = self.router.tablets.group_rule
        assert rule is not None, "connect() returns only when the map, which carries the rule, is known"
        row = batch.only_row(rule)
        return self._write(row, batch.requires, batch.operations, batch.bulk, timeout)

    def _write(
        self,
        row: str,
        requires: list[tuple[object, ...]],
        operations: list[tuple[object, ...]],
        bulk: bytes,
        timeout: float | None,
    ) -> Version:
        now = clock.now()
        deadline = now + (self._timeout if timeout is None else timeout)
        number, floor = self._numbers.take()
        try:
            answer = self.router.ask(
                lambda: self.router.tablets.find(row),
                None,
                mutation=(encode_mutation(self._id, number, floor, requires, operations), bulk),
                now=now,
                deadline=deadline,
            )
        finally:
            self._numbers.done(number)
        if type(answer) is Version:
            return answer
        if type(answer) is Written and answer.failed < len(requires):
            raise RequirementFailed(str(requires[answer.failed][1]), str(requires[answer.failed][2]))
        raise _unexpected(answer)

    # -- the cluster

    def replicas(self, row: str) -> tuple[int, int]:
        """(in sync, wanted) of the row's tablet: how many replicas hold every write that was acknowledged, and how many
        there should be. From the map, which is at most a few seconds old; (0, 0) when no tablet is known for the row."""
        if self.router.map_age(clock.now()) > 1.0:
            self.router.refresh_soon()
        configuration = self.router.tablets.find(checked(row, "row"))
        if configuration is None:
            return 0, 0
        return len(configuration.in_sync), len(configuration.replicas)

    def close(self) -> None:
        """Close every connection. Calls that wait end with an error."""
        self.router.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _clipped(request: GetRow | Scan, tablet: Configuration) -> GetRow | Scan:
    """The scan's part that lies in this tablet; a `GetRow` as it is."""
    if isinstance(request, GetRow):
        return request
    start, column = request.start, request.start_column
    if start < tablet.start:
        start, column = tablet.start, ""
    end, end_column = request.end, request.end_column
    if tablet.end is not None and (end is None or end >= tablet.end):
        end, end_column = tablet.end, None
    return Scan(
        tablet.tablet, tablet.range_version, start, column, end, end_column,
        request.limit, request.reverse, request.keys_only,
    )  # fmt: skip


def _scanned(cell: tuple[str, str, int, int, int, bytes]) -> tuple[str, str, Cell]:
    row, column, epoch, sequence, size, value = cell
    return row, column, Cell(value, Version(epoch, sequence), size)


def _checked_limit(limit: int | None) -> int | None:
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise BadRequest(f"a limit is a whole number from 0, not {limit!r}")
    return limit


def _unexpected(answer: object) -> StoreError:
    return BadRequest(f"a node gave an answer that does not belong to the request: {type(answer).__name__}")
