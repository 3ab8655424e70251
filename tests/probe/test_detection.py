"""How soon writes go on when a node dies or hangs, under the real supervisor, at the product's own settings."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cluster import WebCluster
from tests.probe.beats import Beats, keep_to
from tests.probe.histories import groups_of

pytestmark = pytest.mark.probe

ROWS = groups_of("beat")


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebCluster]:
    cluster = WebCluster(tmp_path_factory.mktemp("detection"))
    try:
        cluster.start("--frontends", 1)
        cluster.wait_until_whole()
        yield cluster
    finally:
        cluster.destroy()


def test_a_process_that_died_is_told_of_and_writes_go_on_in_a_moment(supervised: WebCluster) -> None:
    """The supervisor reaps it and tells the coordinator: nobody waits for silence, nor for leases of the dead."""
    with Beats(supervised, ROWS) as beats:

        def kill() -> float:
            victim = supervised.primary_of(ROWS[0])
            pid = supervised.pid(victim)
            took = beats.around(lambda: supervised.kill(victim))
            supervised.wait_until_back(victim, pid, 60)
            supervised.wait_until_whole()
            return took

        keep_to(kill, 5, median=0.1, most=0.3)
    assert beats.errors == []


def test_a_hang_is_found_out_by_silence(supervised: WebCluster) -> None:
    with Beats(supervised, ROWS) as beats:

        def hang() -> float:
            victim = supervised.primary_of(ROWS[0])
            took = beats.around(lambda: supervised.kill(victim, signal.SIGSTOP))
            supervised.kill(victim, signal.SIGCONT)
            supervised.wait_until_whole()
            return took

        keep_to(hang, 1, median=2.5, most=2.5)
    assert beats.errors == []
