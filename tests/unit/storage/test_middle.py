"""Where the middle of a tablet's bytes is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.storage.block import MOST_CELLS
from kvstore.storage.cell import cell_bytes, pack_inline
from kvstore.storage.cellkey import cell_key
from kvstore.storage.tablet import Tablet


def filled(sizes: list[int]) -> Tablet:
    """A tablet with a cell of each size, in order of the rows."""
    tablet = Tablet()
    for number, size in enumerate(sizes):
        tablet.set_packed(cell_key(f"r{number:05}", "c"), pack_inline(1, number + 1, b"x" * size))
    return tablet


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(0, 61))
def test_half_of_the_bytes_lie_below_the_middle(sizes: list[int], place: int) -> None:
    tablet = filled(sizes)
    middle = tablet.middle()
    assert (middle is None) == (not sizes)
    if middle is not None:
        below = tablet.bytes_below(middle)
        packed = tablet.packed(middle)
        assert packed is not None
        assert below <= tablet.bytes // 2 < below + cell_bytes(middle, packed)
    bound = cell_key(f"r{place:05}", "")
    assert tablet.bytes_below(bound) == sum(cell_bytes(key, packed) for key, packed in tablet.walk(b"", bound))


def test_over_many_blocks_too() -> None:
    tablet = filled([10] * (5 * MOST_CELLS))
    assert tablet.middle() == cell_key(f"r{5 * MOST_CELLS // 2:05}", "c")
    assert tablet.bytes_below(cell_key("s", "")) == tablet.bytes
    assert tablet.bytes_below(b"") == 0
