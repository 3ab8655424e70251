"""A file on its way out: chunks read ahead, so that the receiver does not wait for the store, in bounded memory.

A file's content never changes under its uid, so the uid is its entity tag. What may happen meanwhile is that it is deleted for
good: then a chunk is missing and `stream` raises, which breaks the connection off. It never ends early as if that were all.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

from drive import schema
from drive.errors import DriveError, NotFound
from drive.node import Node
from kvstore.client import Client
from kvstore.errors import TryAgain

READ_AHEAD = 2
"""Chunks being read, or waiting to be sent, besides the one that is sent."""

PATIENCE = 60.0
"""Seconds for which a chunk is asked for again when the store's client gave up: a failover may outlast its timeout."""

INLINE = frozenset({
    "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "text/plain",
    "audio/mpeg", "audio/ogg", "audio/wav", "video/mp4", "video/webm",
})  # fmt: skip
"""Types that a browser may show in place, because they cannot run anything. Not HTML, SVG, XML or PDF."""

IMAGES = frozenset(kind for kind in INLINE if kind.startswith("image/"))

_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*")


class Unsatisfiable(DriveError):
    """The range asked for lies outside of the file."""


class ChunkMissing(DriveError):
    """The file was deleted for good while it was being sent."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, end) of a file."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def parse_range(header: str, size: int) -> Span | None:
    """The one range that a Range header asks for (RFC 9110, 14.1.2), cut to the file.

    None for what may be ignored: no header, another unit, several ranges, nonsense. `Unsatisfiable` for a good range outside.
    """
    found = _RANGE.fullmatch(header)
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        suffix = int(found[2])
        if suffix == 0 or size == 0:
            raise Unsatisfiable("The range is empty.")
        return Span(max(0, size - suffix), size)
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise Unsatisfiable("The range begins after the end of the file.")
    return Span(first, min(last + 1, size))


def entity_tag(node: Node) -> str:
    return f'"{node.uid}"'


def disposition(kind: str, name: str) -> str:
    """A Content-Disposition (RFC 6266): a plain name for old receivers, the true one in UTF-8 for all others."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%/' else "_" for c in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def stream(store: Client, user: str, node: Node, span: Span) -> Iterator[bytes]:
    """The bytes of a span, in pieces of at most one chunk. The first chunk is read before this returns.

    `NotFound` at once if the file is gone already; `ChunkMissing` from the iterator if it goes later; store errors either way.
    """
    if span.length == 0:
        return iter(())
    first, last = span.start // schema.CHUNK_SIZE, (span.end - 1) // schema.CHUNK_SIZE
    try:
        head = _read_chunk(store, user, node, first)
    except ChunkMissing:
        raise NotFound from None
    return _pieces(store, user, node, span, head, range(first + 1, last + 1))


def _pieces(store: Client, user: str, node: Node, span: Span, head: bytes, rest: range) -> Iterator[bytes]:
    offset = span.start // schema.CHUNK_SIZE * schema.CHUNK_SIZE
    if span.start > offset or span.end < offset + len(head):
        head = head[span.start - offset : span.end - offset]
    yield head
    del head  # or 4 MiB would be held until the last byte is sent
    if not rest:
        return
    ahead: deque[Future[bytes]] = deque()
    pool = ThreadPoolExecutor(READ_AHEAD, thread_name_prefix=f"drive-ahead-{node.uid}")
    try:
        numbers = iter(rest)
        for number in rest:
            while len(ahead) < READ_AHEAD and (upcoming := next(numbers, None)) is not None:
                ahead.append(pool.submit(_read_chunk, store, user, node, upcoming))
            data = ahead.popleft().result()
            end = span.end - number * schema.CHUNK_SIZE
            yield data if end >= len(data) else data[:end]
            del data
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read_chunk(store: Client, user: str, node: Node, number: int) -> bytes:
    row = schema.chunk_row(user, node.uid, number)
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            cell = store.get(row, schema.CHUNK, spread=True)
        except TryAgain:  # the client has waited for its whole timeout
            if time.monotonic() >= give_up:
                raise
            continue
        expected = min(schema.CHUNK_SIZE, node.size - number * schema.CHUNK_SIZE)
        if cell is None or len(cell.value) != expected:
            raise ChunkMissing(f"Chunk {number} of file {node.uid} is gone.")
        return cell.value
