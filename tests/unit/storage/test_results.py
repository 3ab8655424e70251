"""What is remembered of mutations, and what is forgotten when."""

from __future__ import annotations

import random

import pytest

from kvstore.errors import BadRequest
from kvstore.mutation import Mutation
from kvstore.storage.results import Forgotten, Result, ResultTable


def result(sequence: int) -> Result:
    return Result(0, 1, sequence)


def test_a_recorded_result_is_found_and_an_unknown_number_is_not() -> None:
    table = ResultTable()
    table.record(7, 3, 0, Result(1, 5, 9, 2))
    assert table.lookup(7, 3) == Result(1, 5, 9, 2)
    assert table.lookup(7, 4) is None
    assert table.lookup(8, 3) is None


def test_numbers_below_the_clients_floor_are_forgotten() -> None:
    table = ResultTable()
    for number in (1, 2, 3):
        table.record(7, number, 0, result(number))
    table.record(7, 9, 3, result(9))
    assert table.lookup(7, 2) == Forgotten(3)
    assert table.lookup(7, 3) == result(3)
    assert len(table) == 2


def test_a_floor_far_ahead_costs_no_time() -> None:
    table = ResultTable()
    table.record(7, 1, 0, result(1))
    table.record(7, 1 << 62, (1 << 62) - 1, result(2))
    assert table.lookup(7, 1) == Forgotten((1 << 62) - 1)


def test_beyond_the_bound_of_one_client_the_first_recorded_are_forgotten_and_said_so() -> None:
    table = ResultTable(per_client=3)
    for number in (5, 4, 6, 7):
        table.record(1, number, 0, result(number))
    assert table.lookup(1, 5) == Forgotten(6)
    assert table.lookup(1, 4) == result(4)
    assert table.lookup(1, 7) == result(7)


def test_beyond_the_bound_of_clients_the_one_longest_silent_is_forgotten() -> None:
    table = ResultTable(clients=2)
    table.record(1, 1, 0, result(1))
    table.record(2, 1, 0, result(2))
    table.record(1, 2, 0, result(3))
    table.record(3, 1, 0, result(4))
    assert table.lookup(2, 1) is None
    assert table.lookup(1, 1) == result(1)


def test_two_replicas_that_record_the_same_forget_the_same() -> None:
    chance = random.Random(1)
    tables = [ResultTable(per_client=5, clients=4) for _ in range(2)]
    for sequence in range(2000):
        client, number = chance.randrange(6), sequence + chance.randrange(5)
        floor = max(0, number - chance.randrange(20))
        for table in tables:
            table.record(client, number, floor, result(sequence))
        if sequence % 100 == 0:
            snapshot = tables[1].snapshot()
            tables[1] = ResultTable.decode(tables[1].encode(), per_client=5, clients=4)
            snapshot.release()
    assert tables[0].encode() == tables[1].encode()


@pytest.mark.parametrize("per_client", [2, 5, 100])
@pytest.mark.parametrize("seed", range(10))
def test_many_that_were_done_are_remembered_as_one_after_the_other(seed: int, per_client: int) -> None:
    chance = random.Random(seed)
    together, single = ResultTable(per_client, clients=3), ResultTable(per_client, clients=3)
    outstanding: dict[int, list[int]] = {client: [] for client in range(5)}
    following = dict.fromkeys(outstanding, 1)
    sequence, snapshots = 1, []
    for _ in range(200):
        done = []
        for _ in range(chance.choice((1, 3, 20))):
            client = chance.randrange(chance.choice((1, 5)))
            mine = outstanding[client]
            while len(mine) < chance.choice((1, 4, 30)):
                following[client] += chance.choice((1, 1, 1, 400))
                mine.append(following[client])
            floor = min(mine)
            done.append(Mutation(client, mine.pop(chance.randrange(len(mine))), floor, [], []))
        together.record_done(done, 3, sequence)
        for client, number, floor, _, _ in done:
            single.record(client, number, floor, Result(0, 3, sequence))
            sequence += 1
        if chance.random() < 0.1:
            snapshots.append((together.snapshot(), together.encode()))
            together = together.twin() if chance.random() < 0.5 else together
        assert together.encode() == single.encode()
    for snapshot, then in snapshots:
        shown = ResultTable()
        for encoded in snapshot.encoded_slices():
            shown.add_encoded(encoded)
        assert shown.encode() == then


def test_a_snapshot_stays_as_it_was() -> None:
    table = ResultTable()
    table.record(1, 1, 0, result(1))
    table.record(2, 1, 0, result(2))
    before = table.encode()
    snapshot = table.snapshot()
    table.record(1, 2, 2, result(3))
    table.record(3, 1, 0, result(4))
    copy = ResultTable()
    for encoded in snapshot.encoded_slices():
        copy.add_encoded(encoded)
    snapshot.release()
    assert copy.encode() == before
    assert table.lookup(1, 2) == result(3)


@pytest.mark.parametrize(
    "wrong", [b"", b"\x91\x01", b"\x91\x97\x01\x00\xc4\x01x\xc4\x00\xc4\x00\xc4\x00\xc4\x00", b"\xc1"]
)
def test_what_is_no_table_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadRequest, match="not a table of results"):
        ResultTable.decode(wrong)


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_twin_has_the_same_results_and_each_goes_on_by_itself(snapshot: bool) -> None:
    table = ResultTable(per_client=3)
    for number in range(3):
        table.record(1, number, 0, Result(0, 1, number))
        table.record(2, number, 0, Result(0, 1, 10 + number))
    taken = table.snapshot() if snapshot else None
    before = table.encode()
    twin = table.twin()
    third = twin.twin()
    assert twin.encode() == before
    table.record(1, 3, 2, Result(0, 2, 20))
    twin.record(1, 4, 0, Result(1, 3, 30))
    assert [t.lookup(1, 3) for t in (table, twin, third)] == [Result(0, 2, 20), None, None]
    assert [t.lookup(1, 4) for t in (table, twin, third)] == [None, Result(1, 3, 30), None]
    assert (table.lookup(1, 0), twin.lookup(1, 0), third.lookup(1, 0)) == (Forgotten(2), Forgotten(1), Result(0, 1, 0))
    assert third.encode() == before
    if taken is not None:
        shown = ResultTable()
        for encoded in taken.encoded_slices():
            shown.add_encoded(encoded)
        assert shown.encode() == before
