"""Cells in memory against a plain dict: order, scans, snapshots, the digest and the counters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from kvstore.mutation import Version
from kvstore.storage.cell import NOWHERE, BulkRef, Place, StoredCell, cell_digest, pack_inline
from kvstore.storage.cellkey import cell_key
from kvstore.storage.tablet import Tablet
from tests.unit.storage.entries import delete, delete_row, entry, put

Model = dict[tuple[str, str], tuple[Version, int]]


def applied(tablet: Tablet, first: int, *operations: tuple[Any, ...], epoch: int = 1) -> None:
    tablet.apply(entry(epoch, first, list(operations)), Place(7, 100), None)


def with_columns(count: int, row: str = "row") -> Tablet:
    tablet = Tablet()
    for i in range(count):
        applied(tablet, i + 1, put(row, f"{i:06d}", b"v"))
    return tablet


def shown(cells: Any) -> list[tuple[str, str, Version, int]]:
    return [(row, column, cell.version, cell.size) for row, column, cell in cells]


@pytest.mark.parametrize("seed", range(12))
def test_a_tablet_behaves_as_a_sorted_dict(seed: int) -> None:
    chance = random.Random(seed)
    tablet, model = Tablet(), Model()
    rows = [f"r{i}" for i in range(chance.choice((1, 3, 40)))] + ["a", "a\0", "a\0\1", "é", "\U0001f600"]
    columns = chance.choice((5, 100, 3000))
    snapshots = []
    for sequence in range(1, chance.choice((60, 1500, 5000))):
        row = chance.choice(rows)
        column = f"c{chance.randrange(columns):04d}" if chance.random() < 0.8 else f"d{sequence:08d}"
        kind = chance.random()
        if kind < 0.7:
            value = bytes(chance.choice((0, 3, 100)))
            applied(tablet, sequence, put(row, column, value))
            model[row, column] = Version(1, sequence), len(value)
        elif kind < 0.97:
            applied(tablet, sequence, delete(row, column))
            model.pop((row, column), None)
        else:
            applied(tablet, sequence, delete_row(row))
            model = {key: cell for key, cell in model.items() if key[0] != row}
        if chance.random() < 0.003:
            snapshots.append((tablet.snapshot(), dict(model)))
    expected = [(row, column, *cell) for (row, column), cell in sorted(model.items())]
    assert shown(tablet.scan()) == expected
    assert shown(tablet.scan(reverse=True)) == expected[::-1]
    for row, column in list(model)[:200]:
        found = tablet.get(row, column)
        assert found is not None
        assert (found.version, found.size) == model[row, column]
    assert tablet.get("r0", "never there") is None
    check_counters(tablet, expected)
    check_ranges(tablet, expected, rows, columns, chance)
    for snapshot, then in snapshots:
        keys = [key for block in snapshot.blocks for key in block.ordered()]
        assert keys == sorted(cell_key(*key) for key in then)


@pytest.mark.parametrize("seed", range(8))
def test_many_puts_of_one_mutation_are_the_same_as_one_after_the_other(seed: int) -> None:
    chance = random.Random(seed)
    together, single = Tablet(), Tablet()
    rows = ["a", "a\0", "b", "é", "r1", "r2"]
    snapshots = []
    for sequence in range(1, 400):
        puts = []
        for _ in range(chance.choice((1, 8, 64))):
            row = chance.choice(rows[: chance.choice((1, 6))])
            column = f"c{chance.randrange(700):04d}" if chance.random() < 0.9 else f"d{sequence:08d}"
            value = bytes(chance.choice((0, 3, 100)))
            puts.append(put(row, column, value) if chance.random() < 0.999 else put(row, column, bytes(20_000)))
        applied(together, sequence, *puts)
        for each in puts:
            applied(single, sequence, each)
        if chance.random() < 0.02:
            snapshots.append((together.snapshot(), shown(single.scan())))
    expected = shown(single.scan())
    assert shown(together.scan()) == expected
    assert (together.digest, together.bytes, together.cells) == (single.digest, single.bytes, single.cells)
    check_counters(together, expected)
    for snapshot, then in snapshots:
        keys = [key for block in snapshot.blocks for key in block.ordered()]
        assert keys == [cell_key(row, column) for row, column, *_ in then]


def check_counters(tablet: Tablet, expected: list[tuple[str, str, Version, int]]) -> None:
    assert tablet.cells == len(expected)
    assert tablet.digest == sum(cell_digest(key, packed) for key, packed in tablet.walk(b"", None)) % 2**64
    bulk = sum(size for _, _, _, size in expected if size >= 64)
    assert sum(tablet.bulk_bytes.values()) == bulk


def check_ranges(
    tablet: Tablet, expected: list[tuple[str, str, Version, int]], rows: list[str], columns: int, chance: random.Random
) -> None:
    for _ in range(20):
        low, high = [(chance.choice(rows), f"c{chance.randrange(columns):04d}") for _ in range(2)]
        within = [cell for cell in expected if low <= cell[:2] < high]
        assert shown(tablet.scan(*low, *high)) == within
        assert shown(tablet.scan(*low, *high, reverse=True)) == within[::-1]
        row = chance.choice(rows)
        begun = [c for r, c, *_ in expected if r == row and c.startswith("c00") and c >= low[1]]
        assert [c for c, _ in tablet.columns(row, start=low[1], prefix="c00")] == begun
        assert [c for c, _ in tablet.columns(row, start=low[1], prefix="c00", reverse=True)] == begun[::-1]


def test_a_scan_goes_on_where_it_was_when_the_tablet_changes() -> None:
    tablet = with_columns(2000)
    scan = tablet.scan()
    first = [next(scan)[1] for _ in range(1000)]
    for i in range(0, 2000, 2):
        applied(tablet, 3000 + i, delete("row", f"{i:06d}"))
    applied(tablet, 6000, put("row", "000999x", b""), put("row", "000000x", b""))
    rest = [column for _, column, _ in scan]
    assert first == [f"{i:06d}" for i in range(1000)]
    assert rest == ["000999x", *[f"{i:06d}" for i in range(1001, 2000, 2)]]


def test_a_reverse_scan_goes_on_where_it_was_when_the_tablet_changes() -> None:
    tablet = with_columns(2000)
    scan = tablet.scan(reverse=True)
    first = [next(scan)[1] for _ in range(1000)]
    applied(tablet, 3000, delete("row", "000500"), put("row", "000999x", b""), put("row", "001500x", b""))
    rest = [column for _, column, _ in scan]
    assert first[-1] == "001000"
    assert rest == ["000999x", *[f"{i:06d}" for i in range(999, -1, -1) if i != 500]]


def test_versions_only_grow() -> None:
    tablet = Tablet()
    applied(tablet, 5, put("row", "column", b"new"))
    with pytest.raises(AssertionError, match="versions of a cell only grow"):
        applied(tablet, 4, put("row", "column", b"old"))


def test_a_learners_stream_changes_only_older_cells() -> None:
    tablet = Tablet()
    tablet.set_packed(cell_key("row", "column"), StoredCell((b"",)) and None)
    applied(tablet, 5, put("row", "column", b"snapshot"), put("row", "other", b"snapshot"))
    stream = entry(1, 3, [put("row", "column", b"old")], [delete("row", "other")], [put("row", "other", b"same")])
    tablet.apply(stream, Place(0, 0), None, newer_only=True)
    assert [(c, cell.value) for c, cell in tablet.columns("row")] == [("column", b"snapshot"), ("other", b"same")]


def test_the_digest_does_not_depend_on_the_order_or_the_place_of_values() -> None:
    one, other = Tablet(), Tablet()
    first, second = entry(1, 1, [put("a", "x", b"1")]), entry(1, 2, [put("b", "y", bytes(100))])
    one.apply(first, Place(1, 10), None)
    one.apply(second, Place(1, 20), None)
    other.apply(second, Place(9, 999), None)
    other.apply(first, Place(9, 9), None)
    assert one.digest == other.digest


@pytest.mark.parametrize(
    "change",
    [
        put("a", "x", b"2"),
        put("a", "xx", b"1"),
        delete("a", "x"),
        put("b", "y", bytes(99) + b"1"),
    ],
)
def test_the_digest_tells_tablets_that_differ(change: tuple[Any, ...]) -> None:
    """Trap 22: without the value's checksum in it, two replicas whose values differ under one version would look alike."""
    tablets = []
    for last in (put("a", "x", b"1"), change):
        tablet = Tablet()
        applied(tablet, 1, put("b", "y", bytes(100)))
        applied(tablet, 2, put("a", "x", b"1"))
        tablet.set_packed(cell_key("a", "x"), None) if last is change and change[0] == "delete" else applied(
            tablet, 2, last
        )
        tablets.append(tablet)
    assert tablets[0].digest != tablets[1].digest


def test_the_digest_is_adjusted_and_not_only_added_to() -> None:
    tablet = Tablet()
    applied(tablet, 1, put("a", "x", b"1"), put("a", "y", bytes(100)))
    applied(tablet, 2, delete_row("a"))
    assert (tablet.digest, tablet.cells, tablet.bytes, tablet.bulk_bytes) == (0, 0, 0, {})


def test_a_row_of_any_size_is_deleted_at_once_and_freed_in_slices() -> None:
    tablet = with_columns(20_000)
    applied(tablet, 20_001, put("other", "c", b""))
    applied(tablet, 20_002, delete_row("row"))
    assert [row for row, _, _ in tablet.scan()] == ["other"]
    slices = 1
    while tablet.release_dropped():
        slices += 1
    assert slices > 3


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("newer", [[], [0], [7_000, 7_001], [19_999], range(0, 20_000, 100)])
def test_a_row_that_is_deleted_late_keeps_what_is_newer(order: str, newer: Sequence[int]) -> None:
    """A learner's stream brings the deletion of a row of which the snapshot already held what came after it."""
    tablet = Tablet()
    columns = list(range(20_000))
    if order == "shuffled":
        random.Random(1).shuffle(columns)
    for i in columns:
        tablet.set_packed(cell_key("row", f"{i:06d}"), pack_inline(2 if i in newer else 1, 9, b"v"))
    for row in ("before", "row\0", "row1"):
        tablet.set_packed(cell_key(row, "c"), pack_inline(1, 9, b"v"))
    tablet.apply(entry(1, 10, [delete_row("row")]), NOWHERE, None, newer_only=True)
    left = [(row, column) for row, column, _ in tablet.scan()]
    assert left == [("before", "c"), *(("row", f"{i:06d}") for i in newer), ("row\0", "c"), ("row1", "c")]
    check_counters(tablet, shown(tablet.scan()))


def test_a_cleared_tablet_is_empty_and_its_snapshot_is_not() -> None:
    tablet = with_columns(3000)
    snapshot = tablet.snapshot()
    tablet.clear()
    assert (tablet.digest, tablet.cells, tablet.bytes, tablet.bulk_bytes, list(tablet.scan())) == (0, 0, 0, {}, [])
    assert sum(len(block.cells) for block in snapshot.blocks) == 3000
    assert tablet.has_dropped


def test_many_deletions_leave_no_crowd_of_empty_blocks() -> None:
    tablet = with_columns(20_000)
    for i in range(20_000):
        if i % 100:
            applied(tablet, 30_000 + i, delete("row", f"{i:06d}"))
    assert tablet.cells == 200
    assert len(tablet.snapshot().blocks) < 10


def test_a_moved_value_is_pointed_to_only_while_it_is_the_cells() -> None:
    tablet = Tablet()
    applied(tablet, 1, put("a", "x", bytes(100)))
    key = cell_key("a", "x")
    packed = tablet.packed(key)
    assert packed is not None
    moved = packed[:25] + (9).to_bytes(4, "big") + (99).to_bytes(4, "big")
    before = tablet.digest
    assert tablet.relocate(key, moved)
    found = tablet.get("a", "x")
    assert found is not None
    assert isinstance(found.value, BulkRef)
    assert (found.value.segment, found.value.offset) == (9, 99)
    assert tablet.bulk_bytes == {9: 100}
    assert tablet.digest == before
    applied(tablet, 2, put("a", "x", bytes(101)))
    assert not tablet.relocate(key, moved)


# ---------------------------------------------------------------- cut in two


@pytest.mark.parametrize("seed", range(30))
def test_a_tablet_is_cut_in_two_anywhere_and_each_part_goes_on_by_itself(seed: int) -> None:
    chance = random.Random(seed)
    tablet = Tablet()
    count = chance.choice((0, 1, 700, 5000))
    for i in range(count):
        value = bytes(100 if chance.random() < chance.choice((0, 0.01, 1)) else 3)
        tablet.apply(entry(1, i + 1, [put(f"{i:05}", "c", value)]), Place(chance.randrange(5), 100), None)
    snapshots = [tablet.snapshot() for _ in range(chance.choice((0, 1, 2)))]
    held = [[(key, block.cells[key]) for block in s.blocks for key in block.ordered()] for s in snapshots]
    row = f"{chance.randrange(count + 2):05}" if chance.random() < 0.8 else chance.choice(("", "x"))
    cells = shown(tablet.scan())
    upper = tablet.cut_off(cell_key(row, ""))
    below, above = [c for c in cells if c[0] < row], [c for c in cells if c[0] >= row]
    for part, expected in ((tablet, below), (upper, above)):
        assert shown(part.scan()) == expected
        assert shown(part.scan(reverse=True)) == expected[::-1]
        check_counters(part, expected)
        for at, (name, *_) in enumerate(expected[::37]):
            applied(part, 9000 + at, put(name, "c", bytes(chance.choice((1, 200)))), put(name, "d", b"new"), epoch=2)
        for name, *_ in expected[::41]:
            applied(part, 9999, delete_row(name), epoch=2)
        check_counters(part, shown(part.scan()))
    for snapshot, then in zip(snapshots, held, strict=True):
        assert [(key, block.cells[key]) for block in snapshot.blocks for key in block.ordered()] == then
        snapshot.release()
    assert tablet._snapshots == upper._snapshots == []


def test_a_scan_that_was_begun_before_the_cut_ends_there() -> None:
    tablet = with_columns(2000)
    scan = tablet.scan()
    first = [next(scan)[1] for _ in range(900)]
    upper = tablet.cut_off(cell_key("row", "001000"))
    assert [*first, *(column for _, column, _ in scan)] == [f"{i:06d}" for i in range(1000)]
    assert upper.cells == 1000
