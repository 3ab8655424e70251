"""The digest that a tablet owes: puts over cells are counted later, and whatever happens meanwhile it comes out the same."""

from __future__ import annotations

import random

import pytest

from kvstore.mutation import Version
from kvstore.storage import blocklist, debts
from kvstore.storage.cell import DIGEST_MASK, Place, cell_bytes, cell_digest, pack_inline
from kvstore.storage.cellkey import cell_key
from kvstore.storage.debts import Debts
from kvstore.storage.difference import newer_part
from kvstore.storage.tablet import Tablet
from kvstore.storage.upkeep import checkpoint, run_to_end
from tests.faults.disk import FaultyDisk
from tests.unit.storage.engines import reopened, with_tablet, write
from tests.unit.storage.entries import delete, delete_row, entry, put
from tests.unit.storage.model import check_sums
from tests.unit.storage.test_tablet import applied, with_columns


def counted(tablet: Tablet) -> int:
    return sum(cell_digest(key, packed) for key, packed in tablet.walk(b"", None)) & DIGEST_MASK


@pytest.mark.parametrize("most", [0, 2_000, 1 << 30])
@pytest.mark.parametrize("seed", range(6))
def test_it_comes_out_the_same_whenever_it_is_asked_for(seed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debts, "MOST_OWED", most)
    monkeypatch.setattr(blocklist, "AT_ONCE", 40)
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
            tablet.apply(entry(1, sequence, [put(row, column, b"x")]), Place(7, 0), None, newer_only=True)
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
    monkeypatch.setattr(debts, "MOST_OWED", 10_000)
    monkeypatch.setattr(blocklist, "AT_ONCE", 0)
    tablet = with_columns(500)
    kept = []
    for sequence in range(1000, 1500):
        applied(tablet, sequence, put("row", f"{sequence - 1000:06d}", bytes(50)))
        kept.append(tablet._owed)
    assert 5_000 < max(kept) <= 10_000
    noted = [len(block.owed) for block in tablet._owing]
    assert tablet._owed == sum(noted) * (len(cell_key("row", "000000")) + 18 + 67 + debts.NOTE)


def test_one_batch_settles_in_its_midst(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one entry may bring is much more than may be owed."""
    monkeypatch.setattr(debts, "MOST_OWED", 10_000)
    tablet = with_columns(400)
    applied(tablet, 1000, *[put("row", f"{i:06d}", bytes(40)) for i in range(400)])
    assert tablet._owed <= 10_000
    check_sums(tablet)


def test_the_tablets_of_a_node_owe_no_more_together_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debts, "MOST_OWED", 10_000)
    together = Debts()
    tablets = [Tablet(together) for _ in range(5)]
    for sequence in range(1, 3000, 2):
        for tablet in tablets:
            applied(tablet, sequence, put("row", f"{sequence % 30:06d}", b"v"))
            assert sum(each._owed for each in tablets) == together._bytes <= 10_000
    assert all(tablet._at_once > 0 for tablet in tablets), "none of their cells is written again in so little"
    for tablet in tablets:
        check_sums(tablet)
    assert together._bytes == 0
    assert not together._debtors


def at_rest(tablet: Tablet, puts: int, sequence: int) -> list[int]:
    """How many cells are noted after each of the mutations, each of so many puts; every cell is written once."""
    noted = []
    for at in range(0, tablet.cells - puts + 1, puts):
        applied(tablet, sequence, *[put("row", f"{at + i:06d}", b"w") for i in range(puts)])
        noted.append(sum(len(block.owed) for block in tablet._owing))
        sequence += 1
    return noted


@pytest.mark.parametrize("puts", [1, 10])
def test_where_hardly_a_cell_is_written_again_each_put_is_counted_at_once(
    puts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debts, "MOST_OWED", 10_000)
    monkeypatch.setattr(blocklist, "AT_ONCE", 30)
    tablet = with_columns(100 * puts)
    noted = at_rest(tablet, puts, 5000)
    first = next(i for i in range(1, len(noted)) if noted[i] < noted[i - 1])
    assert len(set(noted[first : first + 30])) == 1, "nothing is noted"
    assert noted[first + 32] > noted[first], "and then it is tried again"
    check_sums(tablet)


@pytest.mark.parametrize("puts", [1, 10])
def test_cells_that_are_written_again_go_on_being_noted(puts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debts, "MOST_OWED", 10_000)
    tablet = with_columns(600)
    for sequence in range(1000, 4000):
        columns = 30 if sequence % 10 else 600
        applied(tablet, sequence, *[put("row", f"{(sequence + 7 * i) % columns:06d}", b"w") for i in range(puts)])
        assert tablet._at_once == 0


def test_puts_before_all_was_settled_say_nothing_of_what_is_noted_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debts, "MOST_OWED", 10_000)
    tablet = with_columns(400)
    for sequence in range(1000, 2000):
        applied(tablet, sequence, put("row", "000000", b"w"))
    assert tablet.digest == counted(tablet)
    at_rest(tablet, 1, 3000)
    assert tablet._at_once > 0


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


def test_all_tablets_of_a_node_have_the_same_debts_however_they_came_to_be() -> None:
    engine = with_tablet(FaultyDisk())
    write(engine, [put("a", "c", b"1"), put("m", "c", b"2")])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    engine.create_tablet(2, "z", None, 1)
    engine.split_tablet(1, 3, "m", 1, engine.tablets[1].commit, 2)
    engine.sync()
    assert {id(replica.tablet.debts) for replica in engine.tablets.values()} == {id(engine.debts)}
    engine = reopened(engine)
    assert engine.tablets.keys() == {1, 2, 3}
    assert {id(replica.tablet.debts) for replica in engine.tablets.values()} == {id(engine.debts)}
