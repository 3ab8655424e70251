"""Downloads: ranges, names, and what happens when the file goes meanwhile."""

from __future__ import annotations

import random
import uuid

import pytest

from drive import download, schema
from drive.collect import Collector
from drive.download import ChunkMissing, Span, Unsatisfiable, disposition, parse_range
from drive.errors import NotFound
from drive.node import Node
from drive.trash import Trash
from drive.upload import Upload
from penncloud_site.storage import store

MIB = 2**20


@pytest.fixture
def owner(real_store: object) -> str:
    return f"d{uuid.uuid4().hex[:12]}"


def put(owner: str, content: bytes) -> Node:
    with Upload(store(), owner, schema.ROOT, "file.bin", "", 10**9) as upload:
        upload.write(content)
        upload.finish()
        return upload.commit()


def delete_for_good(owner: str, node: Node) -> None:
    Trash(store(), owner).put(node.uid)
    Trash(store(), owner).purge(node.uid)
    Collector(store(), lease=10_000.0).run_once()


def test_any_span_is_cut_exactly(owner: str) -> None:
    content = random.Random(7).randbytes(13 * MIB + 5)
    node = put(owner, content)
    edges = [0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, 12 * MIB, 13 * MIB + 4, 13 * MIB + 5]
    for start in edges:
        for end in edges:
            if start <= end:
                assert b"".join(download.stream(store(), owner, node, Span(start, end))) == content[start:end]


def test_a_file_deleted_for_good_while_it_is_sent_breaks_off(owner: str) -> None:
    node = put(owner, b"x" * (40 * MIB))
    pieces = download.stream(store(), owner, node, Span(0, node.size))
    assert len(next(pieces)) == 4 * MIB
    delete_for_good(owner, node)
    with pytest.raises(ChunkMissing):
        list(pieces)


def test_a_file_deleted_for_good_before_is_not_found(owner: str) -> None:
    node = put(owner, b"x" * MIB)
    delete_for_good(owner, node)
    with pytest.raises(NotFound):
        download.stream(store(), owner, node, Span(0, node.size))


def test_a_receiver_that_leaves_stops_the_reading_ahead(owner: str) -> None:
    node = put(owner, b"x" * (30 * MIB))
    pieces = download.stream(store(), owner, node, Span(0, node.size))
    next(pieces)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert list(pieces) == []


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        ("bytes=0-99", 1000, Span(0, 100)),
        ("bytes=500-", 1000, Span(500, 1000)),
        ("bytes=-100", 1000, Span(900, 1000)),
        ("bytes=-5000", 1000, Span(0, 1000)),
        ("bytes=990-2000", 1000, Span(990, 1000)),
        ("", 1000, None),
        ("lines=0-1", 1000, None),
        ("bytes=0-1,5-6", 1000, None),
        ("bytes=5-2", 1000, None),
        ("bytes=-", 1000, None),
        ("bytes=a-b", 1000, None),
    ],
)
def test_range_headers(header: str, size: int, span: Span | None) -> None:
    assert parse_range(header, size) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=1000-", 1000), ("bytes=0-", 0), ("bytes=-0", 1000), ("bytes=-5", 0)]
)
def test_ranges_outside_of_the_file(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


@pytest.mark.parametrize(
    ("name", "plain", "quoted"),
    [
        ("a.txt", "a.txt", "a.txt"),
        ("Zoë's “plan”.pdf", "Zo_'s _plan_.pdf", "Zo%C3%AB%27s%20%E2%80%9Cplan%E2%80%9D.pdf"),
        ('a"; filename="evil.exe', "a_; filename=_evil.exe", "a%22%3B%20filename%3D%22evil.exe"),
        ("100%.txt", "100_.txt", "100%25.txt"),
    ],
)
def test_names_in_content_disposition(name: str, plain: str, quoted: str) -> None:
    assert disposition("attachment", name) == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quoted}"
