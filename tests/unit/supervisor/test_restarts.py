"""How soon a process that died is started again."""

from __future__ import annotations

from penncloud_site.supervisor.restarts import LOOPING, PAUSE_FIRST, PAUSE_MOST, STABLE, Restarts


def test_the_first_time_it_comes_back_at_once() -> None:
    assert Restarts().died(lifetime=3600.0) == PAUSE_FIRST
    assert Restarts().died(lifetime=0.1) == PAUSE_FIRST


def test_one_that_keeps_dying_waits_longer_and_longer_up_to_a_limit() -> None:
    restarts = Restarts()
    pauses = [restarts.died(lifetime=0.2) for _ in range(10)]
    assert pauses == sorted(pauses)
    assert pauses[:4] == [PAUSE_FIRST, 0.5, 1.0, 2.0]
    assert pauses[-1] == PAUSE_MOST


def test_a_crash_loop_is_called_one() -> None:
    restarts = Restarts()
    for _ in range(LOOPING - 1):
        restarts.died(lifetime=1.0)
        assert not restarts.looping
    restarts.died(lifetime=1.0)
    assert restarts.looping


def test_a_long_life_is_a_fresh_start() -> None:
    restarts = Restarts()
    for _ in range(LOOPING):
        restarts.died(lifetime=1.0)
    assert restarts.died(lifetime=STABLE) == PAUSE_FIRST
    assert not restarts.looping
    assert restarts.total == LOOPING + 1
