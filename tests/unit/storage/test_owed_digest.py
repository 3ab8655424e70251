"""The digest that a tablet owes: puts over cells are counted later, and whatever happens meanwhile it comes out the same."""

from __future__ import annotations

import random

import pytest

from kvstore.mutation import Version
from kvstore.storage import tablet as tablet_module
from kvstore.storage.cell import DIGEST_MASK, cell_bytes, cell_digest, pack_inline
from kvstore.storage.cellkey import cell_key
from kvstore.storage.difference import newer_part
from kvstore.storage.tablet import Tablet
from tests.unit.storage.entries import delete, delete_row, entry, put
from tests.unit.storage.model import check_sums
from tests.unit.storage.test_tablet import applied, with_columns


def counted(tablet: Tablet) -> int:
    return sum(cell_digest(key, packed) for key, packed in tablet.walk(b"", None)) & DIGEST_MASK


@pytest.mark.parametrize("most", [0, 2_000, 1 << 30])
@pytest.mark.parametrize("seed", range(6))
def test_it_comes_out_the_same_whenever_it_is_asked_for(seed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablet_module, "MOST_OWED", most)
    monkeypatch.setattr(tablet_module, "_AT_ONCE", 40)
    chance = random.Random(seed)
    tablets, snapshots = [Tablet()], []
    for sequence in range(1, 3000, 2):
        tablet = chance.choice(tablets)
        row, column = f"r{chance.randrange(6)}", f"c{chance.randrange(chance.choice((9, 900))):04d}"
        kind = chance.random()
        if kind < 0.9:
            size = chance.choice((0, 3, 50)) if chance.random() < 0.98 else 100  # 100 is bulk
            puts = [put(row, column, bytes(size)) for _ in range(chance.choice((1, 1, 9)))]
            applied(tablet, sequence, *puts)
        elif kind < 0.96:
            applied(tablet, sequence, delete(row, column))
        elif kind < 0.97:
            applied(tablet, sequence, delete_row(row))
        elif kind < 0.98:
            tablet.set_packed(cell_key(row, column), pack_inline(1, sequence, b"learnt"))
        elif kind < 0.985:
            snapshot = tablet.snapshot()
            snapshots.append((snapshot, snapshot.digest))
        elif kind < 0.99 and len(tablets) < 4:
            tablets.append(tablet.cut_off(cell_key(row, column)))
        elif kind < 0.995:
            tablet.apply(entry(1, sequence, [put(row, column, b"x")]), tablet_module.Place(7, 0), None, newer_only=True)
        else:
            assert newer_part(tablet, b"", None, Version(0, 0), 10_000).rest == 0, (
                "every cell is newer, nothing is left"
            )
    for tablet in tablets:
        check_sums(tablet)
    for snapshot, digest in snapshots:
        cells = [cell for block in snapshot.blocks for cell in block.cells.items()]
        assert digest == sum(cell_digest(*cell) for cell in cells) & DIGEST_MASK


def test_cells_that_are_written_again_and_again_are_kept_once_and_little_of_them() -> None:
    tablet = with_columns(100)
    for sequence in range(200, 1200):
        applied(tablet, sequence, put("row", f"{sequence % 100:06d}", bytes(50)))
    assert len(tablet._blocks[0].owed) == 100
    assert tablet.digest == counted(tablet)
    assert not tablet._blocks[0].owed


def test_what_is_owed_is_settled_before_it_takes_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablet_module, "MOST_OWED", 10_000)
    tablet = with_columns(500)
    kept = []
    for sequence in range(1000, 1500):
        applied(tablet, sequence, put("row", f"{sequence - 1000:06d}", b"w"))
        kept.append(tablet._owed)
    assert 5_000 < max(kept) <= 10_000


def test_where_hardly_a_cell_is_written_again_each_put_is_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablet_module, "MOST_OWED", 10_000)
    monkeypatch.setattr(tablet_module, "_AT_ONCE", 300)
    tablet = with_columns(600)
    owed = []
    for sequence in range(1000, 1600):
        applied(tablet, sequence, put("row", f"{sequence - 1000:06d}", b"w"))
        owed.append(sum(len(block.owed) for block in tablet._owing))
    first = owed.index(0, 1)
    assert owed[first : first + 300] == [0] * 300
    assert owed[first + 301] > 0, "and then it is tried again"
    assert tablet.digest == counted(tablet)


def test_cells_that_are_written_again_go_on_being_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablet_module, "MOST_OWED", 10_000)
    tablet = with_columns(600)
    for sequence in range(1000, 4000):
        applied(tablet, sequence, put("row", f"{sequence % (30 if sequence % 10 else 600):06d}", b"w"))
    assert tablet._at_once == 0


def test_a_tablet_that_is_cut_between_two_blocks_takes_what_it_owes_along() -> None:
    tablet = with_columns(2000)
    applied(tablet, 5000, put("row", "000001", b"lower"), put("row", "001990", b"upper"))
    upper = tablet.cut_off(tablet._firsts[1])
    for each in (tablet, upper):
        check_sums(each)
    applied(upper, 5001, put("row", "001990", b"again"))
    check_sums(upper)


def test_a_tablet_that_was_emptied_owes_nothing() -> None:
    tablet = with_columns(10)
    applied(tablet, 50, put("row", "000001", b"other"))
    tablet.clear()
    assert tablet.digest == 0


def test_what_is_owed_counts_where_a_tablet_would_be_cut_in_two() -> None:
    tablet = with_columns(2000)
    high = tablet._firsts[1]
    applied(tablet, 5000, put("row", "000010", bytes(51)))
    assert tablet.bytes_below(high) == sum(cell_bytes(*cell) for cell in tablet.walk(b"", high))
