"""Power cuts at any operation: what opens is what was acknowledged, and only whole things of what was not."""

from __future__ import annotations

import os

import pytest

from tests.unit.storage.workload import Workload

SEEDS = int(os.environ.get("CRASH_SEEDS", "400"))
"""`make soak` runs many more (`tests/unit/storage/soak.py`)."""


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_nothing_acknowledged_is_lost_and_nothing_half_done_appears(first: int) -> None:
    crashes = 0
    for seed in range(first, first + 50):
        workload = Workload(seed)
        try:
            workload.run()
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
        crashes += workload.crashes
    assert crashes > 20, "a workload that never crashes proves nothing"


@pytest.mark.parametrize("seed", range(3))
def test_the_same_with_values_up_to_8_mib(seed: int) -> None:
    Workload(seed, big=True).run()
