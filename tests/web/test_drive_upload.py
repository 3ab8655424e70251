"""Uploads: byte for byte, within bounds, and either whole or not there at all."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from drive import collect, download, outbox, schema
from drive.collect import Collector
from drive.errors import BrokenOff, InvalidName, NotFound, TooLarge, UploadLost
from drive.node import Node
from drive.trash import Trash
from drive.tree import Tree
from drive.upload import Upload, clean_content_type, receive
from kvstore.client import Batch, Client
from kvstore.errors import OutcomeUnknown, RequirementFailed, Unavailable
from penncloud_site.storage import store

MIB = 2**20
LIMIT = 10**12


@pytest.fixture
def owner(real_store: object) -> str:
    return f"d{uuid.uuid4().hex[:12]}"


def start(owner: str, name: str = "file.bin", folder: str = schema.ROOT, client: Any = None) -> Upload:
    return Upload(client or store(), owner, folder, name, "", LIMIT)


def put(owner: str, content: bytes, name: str = "file.bin") -> Node:
    with start(owner, name) as upload:
        receive(upload, io.BytesIO(content).read, len(content))
        return upload.commit()


def content_of(owner: str, node: Node) -> bytes:
    return b"".join(download.stream(store(), owner, node, download.Span(0, node.size)))


def rows_of(owner: str) -> set[str]:
    return {row for prefix in schema.user_prefixes(owner) for row, _, _ in store().scan(prefix=prefix, keys_only=True)}


def index_entries(owner: str) -> list[str]:
    return [column for row in schema.index_rows() for column in store().get_row(row, prefix=f"{owner}:")]


def sweep(lease: float = 0.0) -> Collector:
    """A collector for which everything has stood still for long enough. It only ever gives up what is abandoned here."""
    collector = Collector(store(), lease=lease, grace=0.0)
    collector.run_once()
    return collector


class Failing:
    """The store's client, with the `number`th and all later writes failing as told. It passes everything else on."""

    def __init__(self, client: Client, fail: Callable[[int], Exception | None], lose_answer: bool = False) -> None:
        self._client, self._fail, self._lose_answer = client, fail, lose_answer
        self._lock = threading.Lock()
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in ("apply", "put", "cput", "delete", "delete_row"):
            return method

        def write(*args: Any) -> Any:
            with self._lock:
                self.writes += 1
                error = self._fail(self.writes)
            if error is not None:
                if self._lose_answer:
                    method(*args)
                raise error
            return method(*args)

        return write


@pytest.mark.parametrize("size", [0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 20 * MIB], ids=str)
def test_what_goes_in_comes_out(owner: str, size: int) -> None:
    content = random.Random(size).randbytes(size)
    node = put(owner, content)
    assert (node.size, node.chunks, node.sha256) == (size, -(-size // (4 * MIB)), hashlib.sha256(content).hexdigest())
    assert Tree(store(), owner).find(node.uid) == node
    assert content_of(owner, node) == content
    assert index_entries(owner) == []
    assert store().get_row(schema.work_row(owner)) == {}


def test_the_same_name_again_gets_a_number(owner: str) -> None:
    assert [put(owner, b"", "a.txt").name for _ in range(3)] == ["a.txt", "a (2).txt", "a (3).txt"]


def test_the_same_name_by_several_at_once_gets_several_numbers(owner: str) -> None:
    threads = [threading.Thread(target=put, args=(owner, b"x" * number, "same.txt")) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = Tree(store(), owner).lines(schema.ROOT)
    assert sorted(line.name for line in lines) == [
        "same (2).txt",
        "same (3).txt",
        "same (4).txt",
        "same (5).txt",
        "same.txt",
    ]


def test_an_upload_is_invisible_until_it_is_whole(owner: str) -> None:
    with start(owner) as upload:
        upload.write(b"x" * (9 * MIB))
        upload.finish()
        assert Tree(store(), owner).lines(schema.ROOT) == []
        with pytest.raises(NotFound):
            Tree(store(), owner).find(upload.uid)
        upload.commit()
    assert [line.size for line in Tree(store(), owner).lines(schema.ROOT)] == [9 * MIB]


@pytest.mark.parametrize("sent", [0, 10, 4 * MIB, 9 * MIB])
def test_a_body_that_ends_early_leaves_nothing(owner: str, sent: int) -> None:
    with pytest.raises(BrokenOff), start(owner) as upload:
        receive(upload, io.BytesIO(b"x" * sent).read, 12 * MIB)
    assert rows_of(owner) == set()
    assert index_entries(owner) == []


def test_a_connection_that_breaks_leaves_nothing(owner: str) -> None:
    pieces: Iterator[bytes] = iter([b"x" * (5 * MIB)])

    def read(size: int) -> bytes:
        try:
            return next(pieces)
        except StopIteration:
            raise OSError("unexpected end of file while reading request") from None

    with pytest.raises(BrokenOff), start(owner) as upload:
        receive(upload, read, 10 * MIB)
    assert rows_of(owner) == set()


def test_a_file_over_the_limit_is_refused_while_it_streams(owner: str) -> None:
    with pytest.raises(TooLarge), Upload(store(), owner, schema.ROOT, "big", "", 6 * MIB) as upload:
        receive(upload, lambda size: b"x" * size, 100 * MIB)
    assert upload.size <= 6 * MIB
    assert rows_of(owner) == set()


def test_a_bad_name_or_folder_is_refused_before_anything_is_written(owner: str) -> None:
    with pytest.raises(InvalidName):
        start(owner, "a/b")
    with pytest.raises(NotFound):
        start(owner, folder=schema.new_uid())
    assert rows_of(owner) == set()
    assert index_entries(owner) == []


def test_the_folder_deleted_meanwhile_leaves_nothing(owner: str) -> None:
    folder = Tree(store(), owner).create_folder(schema.ROOT, "going")
    with start(owner, folder=folder.uid) as upload:
        upload.write(b"x" * MIB)
        upload.finish()
        Trash(store(), owner).put(folder.uid)
        with pytest.raises(NotFound):
            upload.commit()
    assert not any(":file:" in row for row in rows_of(owner))


def test_a_front_end_killed_at_any_write_leaves_nothing_once_collected(owner: str) -> None:
    """The writes of an upload of three chunks, cut off after each; then the collector runs as another process would."""
    whole = Failing(store(), lambda number: None)
    visible = {put_through(whole, owner)}
    for dies_at in range(1, whole.writes + 1):
        client = Failing(store(), partial(killed_from, dies_at))
        try:
            visible.add(put_through(client, owner))
        except RuntimeError:
            visible |= {line.uid for line in Tree(store(), owner).lines(schema.ROOT)}
        sweep()
        assert {line.uid for line in Tree(store(), owner).lines(schema.ROOT)} == visible
        assert index_entries(owner) == []
    for uid in visible:
        assert content_of(owner, Tree(store(), owner).find(uid)) == b"z" * (9 * MIB)
    empty_drive(owner)


def killed_from(first: int, number: int) -> Exception | None:
    return RuntimeError("killed") if number >= first else None


def losing_the_first_answer() -> Any:
    return Failing(store(), lambda number: OutcomeUnknown("no answer") if number == 1 else None, lose_answer=True)


def put_through(client: Any, owner: str) -> str:
    with start(owner, client=client) as upload:
        upload.write(b"z" * (9 * MIB))
        upload.finish()
        return upload.commit().uid


def empty_drive(owner: str) -> None:
    """Delete everything for good; no row of a file may be left."""
    for line in Tree(store(), owner).lines(schema.ROOT):
        Trash(store(), owner).put(line.uid)
    Trash(store(), owner).empty()
    sweep()
    left = rows_of(owner) - {schema.node_row(owner, schema.ROOT), schema.work_row(owner)}
    assert left == set()


def test_a_collected_upload_can_never_become_visible(owner: str) -> None:
    with start(owner) as upload:
        upload.write(b"x" * (5 * MIB))
        upload.finish()
        sweep()
        with pytest.raises(UploadLost):
            upload.commit()
    assert rows_of(owner) == set()


def test_no_chunk_can_be_written_after_the_upload_was_collected(owner: str) -> None:
    with start(owner) as upload:
        upload.write(b"x" * (4 * MIB))
        sweep()
        upload.write(b"x" * (4 * MIB))
        with pytest.raises(UploadLost):
            upload.finish()
    assert rows_of(owner) == set()


def test_an_upload_that_runs_is_not_collected(owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drive.upload.BEAT", 0.05)
    collector = Collector(store(), lease=5.0, grace=5.0)
    with start(owner) as upload:
        upload.write(b"x" * MIB)
        lease = schema.lease_column(upload.uid)
        collector.run_once()
        before = store().get(schema.work_row(owner), lease)
        deadline = time.monotonic() + 10
        while store().get(schema.work_row(owner), lease) == before and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        collector.clock = lambda: time.monotonic() + 100  # 100 s later the lease is not the one that was seen
        collector.run_once()
        upload.finish()
        assert upload.commit().size == MIB


def test_a_stalled_sender_loses_the_lease(owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drive.upload.BEAT", 0.01)
    monkeypatch.setattr("drive.upload.STALL", -1.0)
    with start(owner) as upload:
        before = store().get(schema.work_row(owner), schema.lease_column(upload.uid))
        threading.Event().wait(0.2)  # twenty beats in which nothing may happen
        assert store().get(schema.work_row(owner), schema.lease_column(upload.uid)) == before


def test_a_commit_whose_answer_was_lost_is_found_out(owner: str) -> None:
    with start(owner) as upload:
        upload.write(b"abc")
        upload.finish()
        upload.store = losing_the_first_answer()
        with pytest.raises(OutcomeUnknown):
            upload.commit()
        assert upload.commit().size == 3
    (line,) = Tree(store(), owner).lines(schema.ROOT)
    assert content_of(owner, Tree(store(), owner).find(line.uid)) == b"abc"


def test_giving_up_after_a_commit_of_unknown_outcome_keeps_the_file(owner: str) -> None:
    with start(owner) as upload:
        upload.write(b"abc")
        upload.finish()
        upload.store = losing_the_first_answer()
        with pytest.raises(OutcomeUnknown):
            upload.commit()
    sweep()
    (line,) = Tree(store(), owner).lines(schema.ROOT)
    assert content_of(owner, Tree(store(), owner).find(line.uid)) == b"abc"


def test_a_store_that_is_away_for_a_while_is_waited_for(owner: str) -> None:
    away = {5, 6, 7}
    client = Failing(store(), lambda number: Unavailable("failing over") if number in away else None)
    with start(owner, client=client) as upload:
        upload.write(b"w" * (13 * MIB))
        upload.finish()
        node = upload.commit()
    assert content_of(owner, node) == b"w" * (13 * MIB)


def test_memory_is_bounded_however_large_the_file(owner: str) -> None:
    """300 MB made on the fly, and a store that is slower than the sender; then 60 MB into the real one."""

    class Discarding(Upload):
        """Its chunks take 5 ms each and are kept nowhere."""

        def _put_chunk(self, number: int, data: bytes) -> None:
            threading.Event().wait(0.005)

    assert peak_of(lambda: Discarding(store(), owner, schema.ROOT, "slow", "", LIMIT), 300 * 10**6) < 24 * MIB
    assert peak_of(lambda: start(owner), 60 * 10**6) < 64 * MIB


def peak_of(begin: Callable[[], Upload], left: int) -> int:
    """The most bytes that Python held while an upload took `left` bytes."""
    block = random.Random(1).randbytes(256 * 1024)

    def read(size: int) -> bytes:
        nonlocal left
        piece = bytes(memoryview(block)[: min(size, left)])
        left -= len(piece)
        return piece

    with begin() as upload:
        tracemalloc.start()
        try:
            receive(upload, read, left)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_an_index_entry_without_an_intent_is_dropped_for_good(owner: str) -> None:
    uid = schema.new_uid()
    outbox.announce(store(), owner, uid)
    patient = Collector(store(), grace=1_000.0)
    patient.run_once()
    assert index_entries(owner) == [f"{owner}:{uid}"]
    sweep()
    assert index_entries(owner) == []
    late = Batch()
    outbox.record(late, owner, uid, outbox.encode(outbox.Kind.PURGE, target=uid))
    with pytest.raises(RequirementFailed):
        store().apply(late)


def test_two_collectors_at_once_do_no_harm(owner: str) -> None:
    keep = put(owner, b"k" * (5 * MIB), "keep")
    for number in range(4):
        Trash(store(), owner).put(put(owner, b"x" * (5 * MIB), f"go{number}").uid)
    Trash(store(), owner).empty()
    threads = [threading.Thread(target=sweep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content_of(owner, keep) == b"k" * (5 * MIB)
    assert {row.split(":")[3] for row in rows_of(owner) if ":file:" in row} == {keep.uid}
    assert index_entries(owner) == []


@pytest.mark.parametrize(
    ("given", "name", "stored"),
    [
        ("image/png", "a.txt", "image/png"),
        ("TEXT/Plain; charset=utf-8", "a", "text/plain"),
        ("", "a.pdf", "application/pdf"),
        ("application/octet-stream", "a.jpg", "image/jpeg"),
        ("text/html\r\nX-Evil: 1", "a", "application/octet-stream"),
        ("nonsense", "a", "application/octet-stream"),
        ("a/" + "b" * 200, "a", "application/octet-stream"),
    ],
)
def test_content_types_are_checked(given: str, name: str, stored: str) -> None:
    assert clean_content_type(given, name) == stored


def test_the_collector_leaves_an_upload_alone_until_its_lease_is_over(owner: str) -> None:
    assert collect.LEASE > 60
    with start(owner) as upload:
        upload.write(b"x")
        Collector(store()).run_once()
        upload.finish()
        upload.commit()
