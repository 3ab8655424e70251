"""Two hundred runs of whole clusters under faults, with everything judged. `python -m tests.simulation` runs more."""

from __future__ import annotations

from tests.simulation.__main__ import outcomes
from tests.simulation.run import Plan, run

SEEDS = range(1000, 1200)


def test_two_hundred_clusters_keep_every_promise() -> None:
    failed, operations, compared, epochs, moves, splits = [], 0, 0, 0, 0, 0
    for outcome in outcomes(SEEDS, processes=2):
        operations += outcome.done
        compared += outcome.compared
        epochs += outcome.epochs
        splits += outcome.splits
        moves += outcome.moves
        if outcome.failure is not None:
            failed.append(f"seed {outcome.seed}: {outcome.failure}\n{outcome.story[-4000:]}")
    assert not failed, "\n\n".join(failed)
    # that much must have happened for the above to say anything
    assert operations > 300 * len(SEEDS)
    assert compared > 300 * len(SEEDS)
    assert epochs > 10 * len(SEEDS)
    assert splits > len(SEEDS) / 2
    assert moves > len(SEEDS) // 2


def test_learners_get_on_where_nobody_writes() -> None:
    """Was once a bug: a sync that came before a learner's newest values was the last that it heard of, unless somebody wrote;
    it waited for ever. With the bug every second of these runs fails."""
    for seed in range(6):
        outcome = run(seed, Plan(quiet=True, trouble=5.0))
        assert outcome.failure is None, f"seed {seed}: {outcome.failure}\n{outcome.story[-4000:]}"


def test_a_seed_replays_a_run_exactly_in_another_process_too() -> None:
    seeds = range(3, 18, 11)  # the second with the real engine, and with bits that flip
    here = {seed: run(seed).fingerprint for seed in seeds}
    there = {outcome.seed: outcome.fingerprint for outcome in outcomes(seeds, processes=2)}
    assert here == there
    assert here[3] != here[14]
