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


@pytest.mark.parametrize(
    ("seed", "was"),
    [
        (11, "a checkpoint's replay began inside a learning that the checkpoint had behind it"),
        (14, "a checkpoint named what is synced as its place in the log, and a cut lay behind that"),
        (157, "replay cut more than the learner had when it began to learn, and a deleted cell came back"),
        (153, "replay was told to begin inside a segment's header"),
        (7374, "log was dropped on the word of a record that the crash took away"),
    ],
)
def test_a_crash_that_once_went_wrong(seed: int, was: str) -> None:
    Workload(seed).run()
