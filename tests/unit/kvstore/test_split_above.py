"""The size above which tablets are split by themselves, as an operator writes it."""

from __future__ import annotations

import pytest

from kvstore import settings, split_above
from kvstore.errors import BadRequest

MIB = settings.MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("67108864", 64 * MIB), ("64M", 64 * MIB), ("64 MiB", 64 * MIB), ("1g", 1024 * MIB), ("2048kb", 2 * MIB)],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert split_above.parse(text) == size


def test_never_is_a_size_too() -> None:
    assert split_above.parse("never") is None
    assert not split_above.exceeded(None, 1 << 60, 0)


@pytest.mark.parametrize("text", ["", "big", "-1", "1.5G", "1T", "1", f"{1 << 70}", "9" * 5000])
def test_what_is_no_such_size_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as raised:
        split_above.parse(text)
    assert len(str(raised.value)) < 200


def test_values_that_are_not_in_memory_count_less() -> None:
    above = 10 * MIB
    assert not split_above.exceeded(above, above, 0)
    assert split_above.exceeded(above, above + 1, 0)
    large = above * settings.SPLIT_ABOVE_BULK
    assert not split_above.exceeded(above, large, large)
    assert split_above.exceeded(above, large + 1, large)
