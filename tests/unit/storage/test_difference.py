"""Two copies of a tablet find where they differ, by versions and digests."""

from __future__ import annotations

import random

import pytest

from kvstore import settings
from kvstore.mutation import Version
from kvstore.storage.cell import BulkRef, pack_bulk, pack_inline
from kvstore.storage.difference import doubtful, newer_part
from kvstore.storage.tablet import Tablet

KNOWN = Version(1, 1_000_000)


def _key(number: int) -> bytes:
    return b"row\0\0%06d" % number


def _tablet(numbers: range, *, shuffled: bool = False) -> Tablet:
    """Cells of versions that both copies know. The order in which they came decides where blocks are split."""
    tablet = Tablet()
    order = list(numbers)
    if shuffled:
        random.Random(5).shuffle(order)
    for number in order:
        tablet.set_packed(_key(number), pack_inline(1, number + 1, b"v%d" % number))
    return tablet


def _compare(
    primary: Tablet, learner: Tablet, most: int
) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes | None]]]:
    """What is told of the whole tablet in parts of about `most` cells, and the ranges that are doubtful."""
    told: dict[bytes, bytes] = {}
    found: list[tuple[bytes, bytes | None]] = []
    low: bytes | None = b""
    while low is not None:
        part = newer_part(primary, low, None, KNOWN, most)
        assert part.end is None or part.end > low
        told.update(part.cells)
        found += doubtful(learner, low, part.cells, [(part.end, part.rest)])
        low = part.end
    return told, found


@pytest.mark.parametrize("most", [1, 50, 680, 5000])
def test_copies_that_are_alike_are_found_alike_however_their_blocks_lie(most: int) -> None:
    assert _compare(_tablet(range(3000)), _tablet(range(3000), shuffled=True), most) == ({}, [])


@pytest.mark.parametrize("most", [1, 50, 680, 5000])
def test_what_is_newer_is_told_and_nothing_else_is_doubtful(most: int) -> None:
    primary, learner = _tablet(range(3000)), _tablet(range(3000), shuffled=True)
    changed = {_key(number): pack_inline(2, 5, b"new") for number in (0, 7, 8, 1500, 2999, 7000)}
    for key, packed in changed.items():
        primary.set_packed(key, packed)
    assert _compare(primary, learner, most) == (changed, [])


@pytest.mark.parametrize("most", [1, 50, 680, 5000])
def test_a_deleted_cell_makes_just_its_range_doubtful(most: int) -> None:
    primary, learner = _tablet(range(3000)), _tablet(range(3000), shuffled=True)
    primary.set_packed(_key(1234), None)
    primary.set_packed(_key(2000), pack_inline(2, 5, b"new"))
    told, found = _compare(primary, learner, most)
    assert list(told) == [_key(2000)]
    ((low, high),) = found
    assert low <= _key(1234)
    assert high is None or high > _key(1234)


@pytest.mark.parametrize("gone", [range(1, 3000), range(0, 2999), range(3000)])
def test_a_long_range_that_was_deleted_is_doubtful(gone: range) -> None:
    primary, learner = _tablet(range(3000)), _tablet(range(3000))
    for number in gone:
        primary.set_packed(_key(number), None)
    _, found = _compare(primary, learner, 680)
    assert found != []


def test_a_cell_that_is_other_than_the_primarys_under_the_same_version_is_doubtful() -> None:
    primary, learner = _tablet(range(100)), _tablet(range(100))
    learner.set_packed(_key(50), pack_inline(1, 51, b"not what was written"))
    ((low, high),) = _compare(primary, learner, 10)[1]
    assert high is not None
    assert low <= _key(50) < high


def test_a_large_value_is_told_without_the_place_where_it_lies() -> None:
    primary, learner = _tablet(range(10)), _tablet(range(10))
    primary.set_packed(_key(3), pack_bulk(2, 5, BulkRef(7, 4096, 1 << 20, 99)))
    told, found = _compare(primary, learner, 680)
    assert told == {_key(3): pack_bulk(2, 5, BulkRef(0, 0, 1 << 20, 99))[:25]}
    assert found == []
    # and who has it elsewhere on his disk has it all the same
    learner.set_packed(_key(3), pack_bulk(2, 5, BulkRef(1, 12, 1 << 20, 99)))
    assert doubtful(learner, b"", [], [(None, primary.digest)]) == []


def test_a_part_ends_with_its_page() -> None:
    primary = Tablet()
    for number in range(3000):
        primary.set_packed(_key(number), pack_inline(2, number, b"new"))
    part = newer_part(primary, b"", None, KNOWN, 10_000)
    assert len(part.cells) == settings.SCAN_PAGE_CELLS
    assert part.end == _key(settings.SCAN_PAGE_CELLS)
    large = bytes(settings.SCAN_PAGE_BYTES // 4)
    for number in range(100):
        primary.set_packed(_key(number), pack_inline(3, number, large))
    assert len(newer_part(primary, b"", None, KNOWN, 10_000).cells) <= 5


def test_whatever_differs_is_told_or_doubtful() -> None:
    chance = random.Random(17)
    for _ in range(60):
        primary, learner = _tablet(range(1500)), _tablet(range(1500), shuffled=chance.random() < 0.5)
        for number in chance.sample(range(2000), chance.randint(0, 40)):
            gone = chance.random() < 0.4
            primary.set_packed(_key(number), None if gone else pack_inline(2, number, b"new"))
        told, found = _compare(primary, learner, chance.choice([1, 30, 680, 2000]))
        for number in range(2000):
            key = _key(number)
            if primary.packed(key) == learner.packed(key):
                continue
            inside = any(low <= key and (high is None or key < high) for low, high in found)
            assert told.get(key) == primary.packed(key) if primary.packed(key) is not None else inside
