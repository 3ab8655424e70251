"""What the client promises of single cells, rows, scans and batches, on a real cluster."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator

import pytest

from kvstore import settings
from kvstore.client import Batch, Cell, Client, Version
from kvstore.errors import BadRequest, CrossTabletBatch, RequirementFailed, ValueTooLarge
from tests.cluster import StoreCluster


@pytest.fixture(scope="module")
def client(cluster: StoreCluster) -> Iterator[Client]:
    with cluster.client() as made:
        yield made


@pytest.fixture
def row() -> str:
    """A row that no other test uses."""
    return f"u{secrets.token_hex(6)}:mail"


@pytest.fixture(scope="module")
def cells(client: Client) -> list[tuple[str, str]]:
    """Rows all over the key space, so in several tablets, under a name of this test run."""
    mark = secrets.token_hex(4)
    cells = []
    for letter in "adgjmpsvyz":
        for number in range(3):
            row = f"{letter}scan{mark}{number}:x"
            for column in ("a", "b"):
                client.put(row, column, b"12345")
                cells.append((row, column))
    return sorted(cells)


class TestCells:
    def test_what_was_put_is_read_with_the_version_that_wrote_it(self, client: Client, row: str) -> None:
        first = client.put(row, "c", b"one")
        assert client.get(row, "c") == Cell(b"one", first, 3)
        second = client.put(row, "c", b"")
        assert second > first
        assert client.get(row, "c") == Cell(b"", second, 0)

    def test_an_absent_cell_is_none_and_not_empty(self, client: Client, row: str) -> None:
        assert client.get(row, "c") is None
        client.put(row, "c", b"")
        assert client.get(row, "c") is not None
        client.delete(row, "c")
        assert client.get(row, "c") is None

    @pytest.mark.parametrize(
        "size",
        [settings.BULK_VALUE - 1, settings.BULK_VALUE, settings.BULK_VALUE + 1, 4 * settings.MIB, settings.MAX_VALUE],
    )
    def test_values_of_every_size_come_back_as_they_were(self, client: Client, row: str, size: int) -> None:
        value = random.Random(size).randbytes(size)
        client.put(row, "c", value)
        found = client.get(row, "c")
        assert found is not None
        assert found.size == size
        assert found.value == value

    def test_keys_may_be_any_text(self, client: Client, row: str) -> None:
        for key in ("", "\0", "a\nb", "é", "日本語", "😀", "\U0010ffff", "x" * 1024):
            client.put(row, key, key.encode())
            found = client.get(row, key)
            assert found is not None
            assert found.value == key.encode()

    def test_cput_writes_only_on_what_it_expects(self, client: Client, row: str) -> None:
        assert not client.cput(row, "c", b"something", b"x")
        assert client.cput(row, "c", None, b"one")
        assert not client.cput(row, "c", None, b"two")
        assert not client.cput(row, "c", b"", b"two")
        assert client.cput(row, "c", b"one", b"two")
        found = client.get(row, "c")
        assert found is not None
        assert found.value == b"two"

    def test_delete_row_takes_every_cell_and_nothing_else(self, client: Client, row: str) -> None:
        for column in "abc":
            client.put(row, column, b"x")
        client.put(row + "x", "a", b"kept")
        client.delete_row(row)
        assert client.get_row(row) == {}
        assert client.get(row + "x", "a") is not None


class TestRows:
    @pytest.fixture
    def columns(self, client: Client, row: str) -> list[str]:
        columns = sorted(f"{kind}:{number:03}" for kind in ("inbox", "sent") for number in range(10))
        batch = Batch()
        for column in columns:
            batch.put(row, column, column.encode())
        client.apply(batch)
        return columns

    def test_columns_come_in_order_forward_and_back(self, client: Client, row: str, columns: list[str]) -> None:
        assert list(client.get_row(row)) == columns
        assert list(client.get_row(row, reverse=True)) == columns[::-1]
        assert {column: cell.value for column, cell in client.get_row(row).items()} == {c: c.encode() for c in columns}

    def test_prefix_bounds_and_limit_go_together(self, client: Client, row: str, columns: list[str]) -> None:
        assert list(client.get_row(row, "sent:")) == columns[10:]
        assert list(client.get_row(row, "inbox:", 3)) == columns[:3]
        assert list(client.get_row(row, "inbox:", 3, reverse=True)) == columns[9:6:-1]
        assert list(client.get_row(row, start=columns[4], end=columns[6])) == columns[4:6]
        assert list(client.get_row(row, "inbox:", start=columns[8])) == columns[8:10]
        assert client.get_row(row, limit=0) == {}
        assert client.get_row(row, "nothing") == {}

    def test_keys_only_gives_sizes_without_values(self, client: Client, row: str, columns: list[str]) -> None:
        found = client.get_row(row, keys_only=True)
        assert all(cell.value == b"" and cell.size == len(column) for column, cell in found.items())

    def test_a_row_longer_than_many_pages_is_read_whole(self, client: Client, row: str) -> None:
        count = settings.SCAN_PAGE_CELLS * 2 + 17
        for start in range(0, count, 500):
            batch = Batch()
            for number in range(start, min(start + 500, count)):
                batch.put(row, f"{number:06}", b"v")
            client.apply(batch)
        expected = [f"{number:06}" for number in range(count)]
        assert list(client.get_row(row)) == expected
        assert list(client.get_row(row, reverse=True)) == expected[::-1]
        assert list(client.get_row(row, limit=count - 1)) == expected[:-1]

    def test_a_row_of_large_values_is_read_in_pages_too(self, client: Client, row: str) -> None:
        value = bytes(700 * settings.KIB)
        for number in range(5):
            client.put(row, str(number), value)
        assert [cell.value for cell in client.get_row(row).values()] == [value] * 5


class TestScans:
    def test_a_scan_crosses_tablets_in_order(self, client: Client, cells: list[tuple[str, str]]) -> None:
        touched = {client.router.tablets.find(row).tablet for row, _ in cells}  # type: ignore[union-attr]
        assert len(touched) > 1, "the cluster must have several tablets for this to mean anything"
        mine = set(cells)
        found = [(row, column) for row, column, _ in client.scan() if (row, column) in mine]
        assert found == cells
        back = [(row, column) for row, column, _ in client.scan(reverse=True) if (row, column) in mine]
        assert back == cells[::-1]

    def test_bounds_are_rows_start_inclusive_end_exclusive(self, client: Client, cells: list[tuple[str, str]]) -> None:
        rows = sorted({row for row, _ in cells})
        start, end = rows[4], rows[20]
        mine = set(rows)
        for reverse in (False, True):
            found = {row for row, _, _ in client.scan(start, end, reverse=reverse)} & mine
            assert found == set(rows[4:20])

    def test_a_limit_ends_it_exactly(self, client: Client, cells: list[tuple[str, str]]) -> None:
        everything = list(client.scan(keys_only=True))
        for limit in (0, 1, 7, len(everything)):
            assert list(client.scan(limit=limit, keys_only=True)) == everything[:limit]
            assert list(client.scan(limit=limit, keys_only=True, reverse=True)) == everything[::-1][:limit]

    def test_a_prefix_takes_the_rows_that_begin_with_it(self, client: Client, cells: list[tuple[str, str]]) -> None:
        prefix = cells[0][0][:-3]
        expected = [cell for cell in cells if cell[0].startswith(prefix)]
        assert [(row, column) for row, column, _ in client.scan(prefix=prefix)] == expected
        assert [(row, column) for row, column, _ in client.scan(prefix=prefix, reverse=True)] == expected[::-1]

    def test_an_empty_range_is_empty(self, client: Client) -> None:
        assert list(client.scan("b", "a")) == []
        assert list(client.scan("a", "a")) == []

    def test_pages_go_on_in_the_middle_of_a_row(self, client: Client, row: str) -> None:
        count = settings.SCAN_PAGE_CELLS + 10
        batch = Batch()
        for number in range(count):
            batch.put(row, f"{number:05}", b"")
        client.apply(batch)
        expected = [f"{number:05}" for number in range(count)]
        assert [column for _, column, _ in client.scan(prefix=row)] == expected
        assert [column for _, column, _ in client.scan(prefix=row, reverse=True)] == expected[::-1]


class TestBatches:
    def test_all_or_nothing_and_one_version(self, client: Client, row: str) -> None:
        version = client.apply(Batch().put(row, "a", b"1").put(row + ":2", "b", b"2").delete(row, "none"))
        cells = client.get(row, "a"), client.get(row + ":2", "b")
        assert [cell.version for cell in cells if cell] == [version, version]
        with pytest.raises(RequirementFailed) as failed:
            client.apply(Batch().require(row, "a", b"1").require(row, "b", b"9").put(row, "a", b"x"))
        assert (failed.value.row, failed.value.column) == (row, "b")
        found = client.get(row, "a")
        assert found is not None
        assert found.value == b"1"

    def test_operations_take_effect_in_order(self, client: Client, row: str) -> None:
        client.put(row, "old", b"x")
        client.apply(Batch().put(row, "a", b"1").delete_row(row).put(row, "b", b"2"))
        assert list(client.get_row(row)) == ["b"]

    def test_a_version_can_be_required(self, client: Client, row: str) -> None:
        version = client.put(row, "a", bytes(settings.BULK_VALUE))
        client.apply(Batch().require_version(row, "a", version).put(row, "a", b"2"))
        with pytest.raises(RequirementFailed):
            client.apply(Batch().require_version(row, "a", version).put(row, "a", b"3"))

    def test_many_large_values_in_one_batch(self, client: Client, row: str) -> None:
        values = {str(n): random.Random(n).randbytes(settings.MIB + n) for n in range(8)}
        batch = Batch()
        for column, value in values.items():
            batch.put(row, column, value)
        client.apply(batch)
        assert {column: cell.value for column, cell in client.get_row(row).items()} == values

    def test_rows_of_two_groups_cannot_be_in_one_batch(self, client: Client) -> None:
        with pytest.raises(CrossTabletBatch):
            client.apply(Batch().put("alice:mail", "c", b"").put("bob:mail", "c", b""))
        with pytest.raises(CrossTabletBatch):
            client.apply(Batch().require("alice:mail", "c", None).put("alice:drive", "c", b""))


class TestLimits:
    def test_what_can_never_be_written_is_refused_before_it_is_sent(self, client: Client, row: str) -> None:
        with pytest.raises(ValueTooLarge):
            client.put(row, "c", bytes(settings.MAX_VALUE + 1))
        with pytest.raises(ValueTooLarge):
            client.put(row, "c" * 1025, b"")
        with pytest.raises(ValueTooLarge):
            client.put(row, "é" * 513, b"")
        with pytest.raises(ValueTooLarge):
            client.cput(row, "c", bytes(settings.BULK_VALUE), b"")
        with pytest.raises(BadRequest):
            client.put(row, "c", "text")  # type: ignore[arg-type]
        with pytest.raises(BadRequest):
            client.put(5, "c", b"")  # type: ignore[arg-type]
        with pytest.raises(BadRequest):
            client.put(row, "\ud800", b"")
        with pytest.raises(BadRequest):
            client.apply(Batch())
        with pytest.raises(BadRequest):
            client.scan("a", prefix="b")
        with pytest.raises(BadRequest):
            client.get_row(row, limit=-1)
        assert client.get_row(row) == {}

    def test_a_batch_over_its_limits_is_refused(self, row: str) -> None:
        batch = Batch().put(row, "a", bytes(settings.MAX_VALUE)).put(row, "b", bytes(settings.MAX_VALUE - 1000))
        with pytest.raises(ValueTooLarge):
            batch.put(row, "c", bytes(2000))
        many = Batch()
        for number in range(settings.MAX_OPERATIONS):
            many.delete(row, str(number))
        with pytest.raises(ValueTooLarge):
            many.delete(row, "one more")

    def test_the_largest_batch_is_taken(self, client: Client, row: str) -> None:
        """Ten thousand small values make the largest message there is: they all travel in its msgpack part."""
        batch = Batch()
        for number in range(settings.MAX_OPERATIONS):
            batch.put(row, f"{number:05}", bytes(1500))
        client.apply(batch, timeout=30)
        assert len(client.get_row(row, keys_only=True, timeout=30)) == settings.MAX_OPERATIONS
        client.delete_row(row)


def test_the_client_says_how_many_replicas_hold_a_row(client: Client, cluster: StoreCluster) -> None:
    cluster.wait_until_whole()
    client.router.refresh_soon()
    assert client.replicas("alice:mail") == (3, 3)


def test_versions_of_a_tablet_only_grow(client: Client, row: str) -> None:
    versions = [client.put(row, "c", str(number).encode()) for number in range(20)]
    assert versions == sorted(set(versions))
    assert all(isinstance(version, Version) for version in versions)


def test_the_status_tells_the_true_room_on_each_nodes_disk(cluster: StoreCluster) -> None:
    found = os.statvfs(cluster.folder)
    free = found.f_bavail * found.f_frsize
    for node in cluster.status()["nodes"]:
        assert abs(node["disk_free"] - free) < free // 2, "another file system, or not told at all"
        assert node["log_bytes"] > 0
        assert node["memory_bytes"] > 0
