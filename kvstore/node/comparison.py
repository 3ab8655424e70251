"""What a learner asks of its primary to make its cells the primary's, and what follows from the answers. Pure.

It goes over all keys in ranges, each compared as closely as need be: what is newer than what the learner had applied, and
digests of the rest; where those differ, digests of few cells each; where those differ, all keys with their versions. Every
answer is about the first part of the range that was asked about; what is behind it is asked about next.

Leaves out how questions are asked, and how cells are installed (`kvstore.node.catchup`).
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from kvstore import settings
from kvstore.messages import CellAnswer, Get, Page, Scan
from kvstore.mutation import Version
from kvstore.questions import Changes, ReadChanges
from kvstore.storage.cell import BULK, StoredCell
from kvstore.storage.cellkey import cell_key, split_key
from kvstore.storage.difference import doubtful

if TYPE_CHECKING:
    from kvstore.node.replica import Replica

LOCAL_CELLS_AT_ONCE = 4 * settings.SCAN_PAGE_CELLS
"""Own cells that are looked at for one page: a deleted million must not be walked in one slice (trap 29)."""

Key = tuple[str, str]
Listed = tuple[str, str, int, int, int, bytes]
"""A cell of a page: row, column, epoch, sequence, size, value."""
Installed = tuple[str, str, Version | None, bytes | None]
"""What a cell is to be: row, column, version, value; None when it is gone."""


class Care(Enum):
    """How closely a range of keys is compared."""

    COARSE = "coarse"  # what is newer, and digests of the rest
    FINE = "fine"  # the same, with digests of few cells each: something was deleted
    KEYS = "keys"  # every key with its version


class Range(NamedTuple):
    """Keys that are still to be compared."""

    care: Care
    low: bytes
    high: bytes | None


class Findings(NamedTuple):
    """What follows from an answer: cells to install, values to fetch, and how many more cells are compared."""

    install: list[Installed]
    fetch: list[Get | Scan]
    examined: int = 0


class Comparison:
    """One pass over all keys of a tablet. Questions are asked one after the other."""

    def __init__(self, replica: Replica, since: Version) -> None:
        """`since`: what the learner had applied up to there was committed, and is the primary's but for what came after."""
        assert replica.configuration is not None
        self._tablet = replica.tablet
        self._cells = replica.disk.tablet
        self._range_version = replica.configuration.range_version
        self._since = since
        self._ranges: deque[Range] = deque([Range(Care.COARSE, b"", None)])

    @property
    def done(self) -> bool:
        """Whether everything is compared."""
        return not self._ranges

    def question(self) -> Scan | ReadChanges:
        """What to ask next."""
        care, low, high = self._ranges[0]
        if care is Care.KEYS:
            end, end_column = (None, None) if high is None else split_key(high)
            return Scan(self._tablet, self._range_version, *split_key(low), end, end_column, None, False, True)
        return ReadChanges(self._tablet, self._range_version, low, high, *self._since, care is Care.FINE)

    def changes(self, changes: Changes) -> Findings:
        """The answer: what is newer at the primary in the first part of the range, and digests of the rest."""
        asked = self._ranges.popleft()
        end = changes.marks[-1][0]
        if end != asked.high:
            self._go_on_behind(asked, end)
        closer = Care.FINE if asked.care is Care.COARSE else Care.KEYS
        differing = doubtful(self._cells, asked.low, changes.cells, changes.marks)
        self._ranges.extendleft(Range(closer, low, high) for low, high in reversed(differing))
        return self._taken_over(changes.cells, changes.examined if asked.care is Care.COARSE else 0)

    def _go_on_behind(self, asked: Range, end: bytes | None) -> None:
        assert end is not None, "what goes on behind it has an end"
        assert asked.low < end, "an answer goes forward"
        self._ranges.appendleft(Range(asked.care, end, asked.high))

    def _taken_over(self, cells: list[tuple[bytes, bytes]], examined: int) -> Findings:
        """Small cells are installed as they were told; the values of large ones are fetched."""
        found = Findings([], [], examined)
        for key, packed in cells:
            own = self._cells.packed(key)
            if own is not None and own.startswith(packed):
                continue  # an earlier attempt took it over
            row, column = split_key(key)
            if packed[16] == BULK:
                found.fetch.append(Get(self._tablet, self._range_version, row, column))
            else:
                found.install.append((row, column, StoredCell((packed,)).version, packed[17:]))
        return found

    def keys(self, page: Page) -> Findings:
        """The answer: a page of the primary's keys, which is held against the own cells of the same range."""
        asked = self._ranges.popleft()
        high = cell_key(page.cells[-1][0], page.cells[-1][1] + "\0") if page.more else asked.high
        own: dict[Key, Version] = {}
        for key, packed in self._cells.walk(asked.low, high):
            if len(own) >= LOCAL_CELLS_AT_ONCE:
                high = key  # the rest of the page is read again, with the own cells from here on
                break
            own[split_key(key)] = StoredCell((packed,)).version
        if high != asked.high:
            self._go_on_behind(asked, high)
        cells = [cell for cell in page.cells if high is None or cell_key(cell[0], cell[1]) < high]
        there = {(cell[0], cell[1]) for cell in cells}
        gone: list[Installed] = [(row, column, None, None) for row, column in own if (row, column) not in there]
        differs = [own.get((cell[0], cell[1])) != (cell[2], cell[3]) for cell in cells]
        return Findings(gone, self._fetches(cells, differs))

    def _fetches(self, cells: list[Listed], differs: list[bool]) -> list[Get | Scan]:
        """A large value by itself; a run of small ones that differ in one scan."""
        fetches: list[Get | Scan] = []
        run: list[Key] = []

        def close() -> None:
            if run:
                (row, column), (end, end_column) = run[0], run[-1]
                version = self._range_version
                scan = Scan(self._tablet, version, row, column, end, end_column + "\0", None, False, False)
                fetches.append(scan)
                run.clear()

        for (row, column, _, _, size, _), wanted in zip(cells, differs, strict=True):
            if wanted and size < settings.BULK_VALUE:
                run.append((row, column))
                continue
            close()
            if wanted:
                fetches.append(Get(self._tablet, self._range_version, row, column))
        close()
        return fetches


def fetched(request: Get, answer: CellAnswer) -> Installed:
    """What the cell is that was fetched by itself."""
    if answer.epoch == 0:
        return request.row, request.column, None, None
    return request.row, request.column, Version(answer.epoch, answer.sequence), answer.value


def scanned(request: Scan, page: Page) -> Findings:
    """What the cells are that were fetched in a scan, and what of it is still to be fetched."""
    cells: list[Installed] = [(row, column, Version(e, s), value) for row, column, e, s, _, value in page.cells]
    if page.more and request.end is not None:
        row, column = page.cells[-1][0], page.cells[-1][1] + "\0"
        if (row, column) < (request.end, request.end_column or ""):
            tablet, version, end, end_column = request.tablet, request.range_version, request.end, request.end_column
            return Findings(cells, [Scan(tablet, version, row, column, end, end_column, None, False, False)])
    return Findings(cells, [])
