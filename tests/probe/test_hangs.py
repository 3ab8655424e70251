"""Processes hang for longer than a lease, and wake: SIGSTOP and SIGCONT while callers work. What every caller saw is judged.

A stopped process keeps its connections open, and the kernel goes on taking bytes for it: requests wait in front of it, and it
wakes with old beliefs and a queue of things to do. Where a test sleeps, the length of the pause is the fault that is tried.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvstore import settings
from tests.cluster import StoreCluster
from tests.probe.histories import PATIENT, Histories
from tests.processes import wait_for

pytestmark = pytest.mark.probe


@contextmanager
def stopped(cluster: StoreCluster, *names: str) -> Iterator[None]:
    """The processes stand still for the length of the block."""
    for name in names:
        cluster.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            cluster.kill(name, signal.SIGCONT)


def given_up(cluster: StoreCluster, name: str) -> bool:
    """Whether no tablet counts on the node any more."""
    return not any(name in tablet["in_sync"] for tablet in cluster.status()["tablets"])


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_a_node_that_hangs_is_left_behind_and_wakes_to_learn(harmed: StoreCluster, role: str) -> None:
    with Histories(harmed, role) as histories:
        histories.advance()
        primary = harmed.primary_of(histories.groups[0])
        victim = primary if role == "primary" else next(name for name in harmed.names[1:] if name != primary)
        with stopped(harmed, victim):
            wait_for(lambda: given_up(harmed, victim), "the others going on without it", PATIENT)
            histories.advance()
        histories.advance()
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()


def test_the_coordinator_hangs_and_nobody_notices(harmed: StoreCluster) -> None:
    with Histories(harmed, "coordinator") as histories:
        histories.advance()
        with stopped(harmed, "coordinator"):
            # longer than any lease: they are between nodes, and need no coordinator
            time.sleep(2 * settings.LEASE)
        histories.advance()
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()


def test_everything_hangs_as_a_suspended_machine_does(harmed: StoreCluster) -> None:
    """Every lease is over when it wakes, and every node looks dead to the coordinator until it is heard again."""
    with Histories(harmed, "all", timeout=PATIENT) as histories:
        histories.advance()
        with stopped(harmed, *harmed.names):
            time.sleep(2 * settings.HEARTBEAT_DEAD)
        histories.advance()
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()
