"""Readers of files and payloads against arbitrary bytes: an error of ours, or what was written; nothing else."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.errors import BadRequest, StorageFailure
from kvstore.keys import checked
from kvstore.link import MUCH
from kvstore.mutation import bundle_of, check_bundle, decode_entry, decode_head, encode_head, encode_mutation
from kvstore.settings import MAX_OPERATIONS
from kvstore.storage.cellkey import cell_key, column_bounds, row_end, split_key
from kvstore.storage.checkpoint import CELLS, CheckpointWriter, load_checkpoint, read_chunks
from kvstore.storage.crc import combined, crc32c, extended
from kvstore.storage.failures import CorruptValue, FutureFormat
from kvstore.storage.manifest import read_manifest
from kvstore.storage.records import Kind
from kvstore.storage.results import ResultTable
from kvstore.storage.segment import FIRST_RECORD, segment_name
from kvstore.storage.segments import WalOptions
from kvstore.storage.upkeep import checkpoint, run_to_end
from kvstore.storage.wal import Wal
from tests.faults.disk import FaultyDisk, FaultyFiles, Inode
from tests.unit.storage.engines import reopened, with_tablet, write
from tests.unit.storage.entries import put

texts = st.text(alphabet=st.sampled_from("\0\1ab\x7f\xe9￿\U0001f600"), max_size=4)


@given(texts, texts, texts, texts)
def test_keys_compare_as_their_rows_and_columns(row: str, column: str, other_row: str, other_column: str) -> None:
    checked(row, "row")
    key, other = cell_key(row, column), cell_key(other_row, other_column)
    assert (key < other) == ((row, column) < (other_row, other_column))
    assert split_key(key) == (row, column)
    assert (cell_key(row, "") <= other < row_end(row)) == (row == other_row)


@given(texts, texts, texts, texts)
def test_column_bounds_hold_exactly_the_columns_asked_for(column: str, start: str, end: str, prefix: str) -> None:
    low, high = column_bounds("row", start, end, prefix)
    wanted = start <= column < end and column.startswith(prefix)
    assert (low <= cell_key("row", column) < high) == wanted


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_of_parts_make_the_checksum_of_the_whole(first: bytes, second: bytes) -> None:
    whole = crc32c(first + second)
    assert combined(crc32c(first), crc32c(second), len(second)) == whole
    assert extended(crc32c(first), second) == whole


def file_system(path: str, data: bytes) -> FaultyFiles:
    disk = FaultyDisk()
    disk.names[path] = Inode(bytearray(data), bytearray(data))
    return FaultyFiles(disk)


def a_log() -> bytes:
    disk = FaultyDisk()
    wal = Wal.open(FaultyFiles(disk), "/log", WalOptions(segment_size=8192))
    list(wal.replay())
    for i in range(8):
        wal.append(20, 1, 1, i, [bytes([i]) * 100])
        wal.sync()
    return bytes(disk.names[f"/log/{segment_name(1)}"].data)


LOG = a_log()
patches = st.lists(st.tuples(st.integers(0, len(LOG) - 1), st.binary(min_size=1, max_size=60)), max_size=4)


@settings(deadline=None, max_examples=300)
@given(patches, st.integers(0, len(LOG)))
def test_a_log_with_anything_in_it_gives_what_was_written_or_says_what_is_wrong(
    changes: list[tuple[int, bytes]], length: int
) -> None:
    data = bytearray(LOG)
    for at, patch in changes:
        data[at : at + len(patch)] = patch
    data = data[:length] if length % 3 == 0 else data[: len(LOG)]
    wal = Wal.open(file_system(f"/log/{segment_name(1)}", bytes(data)), "/log", WalOptions(segment_size=8192))
    found = [(record.first, record.payload) for _, record in wal.replay()]
    assert all(payload == bytes([first]) * 100 for first, payload in found)
    assert [first for first, _ in found] == sorted({first for first, _ in found})
    if len(found) < 8:
        assert wal.damage or wal.cut is not None or len(found) == 0 or data[FIRST_RECORD:] != LOG[FIRST_RECORD:]


def a_checkpoint() -> bytes:
    disk = FaultyDisk()
    engine = with_tablet(disk)
    write(engine, [put("row", f"{i}", b"value") for i in range(20)])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    return bytes(next(inode.data for name, inode in disk.names.items() if name.endswith(".ckpt")))


CHECKPOINT = a_checkpoint()


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(CHECKPOINT) - 1), st.binary(min_size=1, max_size=20), st.integers(0, len(CHECKPOINT)))
def test_a_checkpoint_with_anything_in_it_is_the_one_written_or_refused(at: int, patch: bytes, length: int) -> None:
    data = bytearray(CHECKPOINT)
    data[at : at + len(patch)] = patch
    data = data[:length] if length % 3 == 0 else data
    files = file_system("/c", bytes(data))
    with contextlib.suppress(StorageFailure):
        list(read_chunks(files, files.open("/c"), "/c"))
        assert data[: len(CHECKPOINT)] == CHECKPOINT


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_entry_no_results_no_manifest(data: bytes) -> None:
    with contextlib.suppress(BadRequest):
        decode_entry(1, 1, data)
    with contextlib.suppress(BadRequest):
        ResultTable.decode(data)
    with contextlib.suppress(BadRequest):
        ResultTable.decode(msgpack.packb([[1, 2, data, data, data, data, data]]))
    with contextlib.suppress(StorageFailure):
        read_manifest(file_system("/data/store", data), "/data")


def test_an_entry_from_before_there_were_bundles_is_read() -> None:
    """A log that an earlier version wrote: u32 count, sizes of each mutation, the mutations, the bulk parts."""
    large = bytes(range(250))
    first = encode_mutation(1, 1, 1, [[0, "row", "a"]], [[0, "row", "a", b"1"]])
    second = encode_mutation(1, 2, 1, [], [[1, "row", "b", len(large), crc32c(large)]])
    sizes = struct.pack("<IBHIIBHII", 2, 1, 3, len(first), 0, 0, 0, len(second), len(large))
    payload = sizes + first + second + large
    entry = decode_entry(4, 10, payload)
    assert [m.number for m in entry.mutations] == [1, 2]
    assert (list(entry.outcomes), list(entry.failed), entry.last) == ([1, 0], [3, 0], 11)
    assert bytes(entry.bundles[1].bulk) == large
    assert b"".join(map(bytes, entry.payload_parts)) == payload, "it is passed on as it is"
    decode_entry(4, 10, payload, entry.checksum)
    with pytest.raises(BadRequest, match="damaged on its way"):
        decode_entry(4, 10, payload, entry.checksum ^ 1)
    for length in range(len(payload)):
        with pytest.raises(BadRequest):
            decode_entry(4, 10, payload[:length])


# ---------------------------------------------------------------- found by fuzzing


@pytest.mark.parametrize("odd", [0, None, "", {}, b""])
@pytest.mark.parametrize("place", [3, 4])
def test_a_mutation_whose_requirements_or_operations_are_no_array_is_refused(odd: object, place: int) -> None:
    """What is false and no array passed for "no requirements" at the edge, and ended the node that looked through them."""
    mutation: list[object] = [1, 1, 0, [], [[0, "row", "column", b"v"]]]
    mutation[place] = odd
    head = encode_head([msgpack.packb(mutation)])
    with pytest.raises(BadRequest, match="are arrays"):
        decode_head(head)
    sizes = struct.pack("<IIIII", (1 << 31) + 1, 1, 1, len(head), 0)
    payload = sizes + b"\0" + head
    with pytest.raises(BadRequest, match="are arrays"):
        decode_entry(1, 1, payload)


@pytest.mark.parametrize("odd", [{"a": 1, "b": 2, "c": 3, "d": 4}, "abcd", b"\0bcd", 7, None, [[0], "r", "c", b"v"]])
def test_an_operation_or_requirement_that_is_no_array_is_refused(odd: object) -> None:
    """An operation of four named members was looked up by place, and ended the node that did."""
    for requires, operations in (([], [odd]), ([odd], [[0, "row", "column", b"v"]])):
        with pytest.raises(BadRequest):
            check_bundle(bundle_of(encode_mutation(1, 1, 0, requires, operations)))


def test_a_bundle_that_would_hold_up_a_node_is_refused_and_any_that_a_client_makes_is_not() -> None:
    """A client adds what it writes to a bundle until that has `MUCH` bytes: so many small ones, and then the largest batch."""
    least = encode_mutation(1, 1, 0, [], [[3, "r"]])
    largest = encode_mutation(1, 2, 0, [], [[3, "r"]] * MAX_OPERATIONS)
    check_bundle(bundle_of(*[least] * (MUCH // len(least)), largest))
    with pytest.raises(BadRequest, match="operations"):
        check_bundle(bundle_of(least, largest, largest))


@pytest.mark.parametrize("operations", [1, 2])
@pytest.mark.parametrize(("number", "floor"), [(1 << 63, 0), (1, 1 << 63), (-1, 0), (1, -1), (1, 2)])
def test_a_number_that_has_no_successor_in_64_bits_or_lies_below_its_floor_is_refused(
    number: int, floor: int, operations: int
) -> None:
    """When its result is forgotten the floor is one more, and is written to the checkpoint."""
    mutation = encode_mutation(1, number, floor, [], [[0, "row", f"{i}", b"v"] for i in range(operations)])
    with pytest.raises(BadRequest):
        check_bundle(bundle_of(mutation))


@pytest.mark.parametrize(
    "client", [[1, 0, b"", b"", b"", [], b""], ["1", 0, b"", b"", b"", b"", b""], [1, None, b"", b"", b"", b"", b""]]
)
def test_remembered_results_of_other_types_are_no_table(client: list[object]) -> None:
    with pytest.raises(BadRequest):
        ResultTable.decode(msgpack.packb([client]))


@pytest.mark.parametrize(
    "kind", [Kind.CREATE, Kind.ENTRY, Kind.LEARN, Kind.INSTALL, Kind.FINISH, Kind.MOVED, Kind.DAMAGED]
)
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x00" * 11, msgpack.packb([1, 2, 3])])
def test_a_record_with_its_checksum_that_makes_no_sense_is_told_and_ends_its_replica(
    kind: Kind, payload: bytes
) -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk)
    write(engine, [put("row", "a", b"1")])
    engine.create_tablet(2, "other", None, 1)
    if kind in (Kind.INSTALL, Kind.FINISH):
        engine.begin_learning(1)
    place = engine.wal.position
    engine.wal.append(kind, 7 if kind is Kind.CREATE else 1, 1, 2, [payload])
    engine.sync()
    again = reopened(engine)
    assert (again.damage[0].file, again.damage[0].offset) == (f"log/{segment_name(place.segment)}", place.offset)
    assert kind is Kind.CREATE or not again.tablets[1].intact
    assert again.tablets[2].intact


def test_a_record_of_a_kind_from_the_future_is_refused_by_name() -> None:
    engine = with_tablet(FaultyDisk())
    engine.wal.append(77, 1, 1, 1, [b"?"])
    engine.sync()
    with pytest.raises(
        FutureFormat, match=r"00000001\.seg at byte \d+: a record of kind 77, which this version does not know"
    ):
        reopened(engine)


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [[b"b\0\0", b"a\0\0"], [bytes(17), bytes(17)]],
        [[b"a\0\0", b"a\0\0"], [bytes(17), bytes(17)]],
        [[b"a\0\0"], []],
        [[b"a\0\0"], [b"short"]],
        [["a"], [bytes(17)]],
        [[b"a\0\0"], [bytes(16) + b"\1" + bytes(3)]],
    ],
)
def test_a_checkpoint_with_its_checksums_that_makes_no_sense_is_refused(cells: object, monkeypatch: Any) -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("row", "a", b"1")])
    monkeypatch.setattr(CheckpointWriter, "_payloads", lambda *_: [(CELLS, msgpack.packb(cells))])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    monkeypatch.undo()
    with pytest.raises(CorruptValue):
        load_checkpoint(engine.files, engine.checkpoint_path(1, 1), ResultTable())


@pytest.mark.parametrize("keep", [9, 10, 11, 12, 13])
def test_an_entry_that_ends_among_its_outcomes_is_refused(keep: int) -> None:
    head = (1 << 31).to_bytes(4, "little") + (2).to_bytes(4, "little")
    with pytest.raises(BadRequest):
        decode_entry(1, 1, (head + b"\1\1" + bytes(3))[:keep])
