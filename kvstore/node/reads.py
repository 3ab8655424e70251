"""Reads: a cell, a page of a row or of a range, the remembered results, the commit point. From committed cells, at the primary.

A page ends at `SCAN_PAGE_CELLS` cells or `SCAN_PAGE_BYTES` bytes, whichever comes first, with one cell at least: so no
read keeps the node from its beacons for long (trap 29). One page is a consistent cut of its tablet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kvstore import settings
from kvstore.errors import StorageFailure, TryAgain, Unavailable
from kvstore.messages import CellAnswer, CommitPoint, Get, GetRow, Page, Refused, Scan
from kvstore.mutation import Version
from kvstore.node.effects import Reply, Token
from kvstore.questions import AskCommitPoint, Changes, ReadChanges, ReadResults, Results
from kvstore.storage.block import MOST_CELLS
from kvstore.storage.difference import newer_part

if TYPE_CHECKING:
    from kvstore.node.replica import Replica

ReadRequest = Get | GetRow | Scan | ReadChanges | ReadResults | AskCommitPoint
Answer = CellAnswer | Page | Changes | Results | CommitPoint

COARSE_CELLS, COARSE_PART_CELLS = MOST_CELLS, 4 * MOST_CELLS
"""Cells of one mark, and of an answer, where marks are coarse: the digest of a block of cells is at hand."""
FINE_CELLS, FINE_PART_CELLS = 32, MOST_CELLS
"""The same where they are fine: the digest of each cell takes a microsecond, and no slice may be long (trap 29)."""


def answer_read(replica: Replica, token: Token, request: ReadRequest, valid_until: float) -> None:
    """Answer `token` with what the replica's committed cells say."""
    answer: Answer | Refused
    try:
        answer = _answer(replica, request)
    except StorageFailure as error:
        # another replica has the value: the coordinator will make one of those primary
        replica.report_damage(f"a value could not be read: {error}")
        answer = Refused(Unavailable.__name__, f"a value could not be read on {replica.host.name}", None)
    except TryAgain as error:
        answer = Refused(Unavailable.__name__, str(error), None)
    replica.host.out.append(Reply(token, answer, valid_until))


def read_cell(replica: Replica, request: Get) -> CellAnswer:
    """The cell as the replica has applied it. Raises `StorageFailure` when its value cannot be read."""
    cell = replica.disk.tablet.get(request.row, request.column)
    if cell is None:
        return CellAnswer(0, 0, b"")
    value = cell.value
    epoch, sequence = cell.version
    return CellAnswer(epoch, sequence, value if isinstance(value, bytes) else replica.host.engine.read(cell))


def _answer(replica: Replica, request: ReadRequest) -> Answer:
    disk, engine = replica.disk, replica.host.engine
    if isinstance(request, Get):
        return read_cell(replica, request)
    if isinstance(request, AskCommitPoint):
        return CommitPoint(replica.tablet, replica.epoch, replica.host.me, disk.commit)
    if isinstance(request, ReadChanges):
        return _changes(disk.tablet, request)
    if isinstance(request, GetRow):
        columns = disk.tablet.columns(request.row, request.start, request.end, request.prefix, request.reverse)
        cells = ((request.row, column, cell) for column, cell in columns)
        return _page(engine, cells, request.limit, request.keys_only, disk.commit)
    if isinstance(request, Scan):
        start, end = request.start, request.end
        cells = disk.tablet.scan(start, request.start_column, end, request.end_column, request.reverse)
        return _page(engine, cells, request.limit, request.keys_only, disk.commit)
    return Results(disk.commit, disk.commit_epoch, disk.results.encode(), disk.tablet.digest)


def _page(engine: Any, cells: Iterator[tuple[str, str, Any]], limit: int | None, keys_only: bool, commit: int) -> Page:
    most = settings.SCAN_PAGE_CELLS if limit is None else min(max(limit, 1), settings.SCAN_PAGE_CELLS)
    page: list[tuple[str, str, int, int, int, bytes]] = []
    size = 0
    for row, column, cell in cells:
        if len(page) >= most or size >= settings.SCAN_PAGE_BYTES:
            return Page(page, True, commit)
        value = b"" if keys_only else engine.read(cell)
        size += len(row) + len(column) + len(value)
        epoch, sequence = cell.version
        page.append((row, column, epoch, sequence, cell.size, value))
    return Page(page, False, commit)


def _changes(tablet: Any, request: ReadChanges) -> Changes:
    cells, most = (FINE_CELLS, FINE_PART_CELLS) if request.fine else (COARSE_CELLS, COARSE_PART_CELLS)
    since = Version(request.since_epoch, request.since_sequence)
    answer = Changes([], [], 0)
    low: bytes | None = request.start
    size = 0
    while low is not None and answer.examined < most and size < settings.SCAN_PAGE_BYTES:
        if len(answer.cells) >= settings.SCAN_PAGE_CELLS:
            break
        part = newer_part(tablet, low, request.end, since, cells)
        answer.cells += part.cells
        answer.marks.append((part.end, part.rest))
        answer.examined += part.examined
        size += sum(len(packed) for _, packed in part.cells)
        low = part.end if part.end != request.end else None
    return answer
