"""Leases: who may answer a read, and who may take over, by each one's own clock."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kvstore
from kvstore import settings
from kvstore.messages import Beacon, CellAnswer, Grant, Member
from kvstore.node.lease import Leases
from tests.unit.node.trio import TABLET, Trio, put

ME, OTHER = Member("n1", 1), Member("n2", 1)


def test_a_lease_counts_from_when_its_beacon_was_sent_not_from_when_the_grant_came() -> None:
    leases = Leases(started=0.0)
    beacon = leases.beacon(ME, "n2", {TABLET: 3}, now=10.0)
    leases.granted(Grant(OTHER, beacon.number, {TABLET: 3}))  # whenever that arrives
    assert leases.held_until(TABLET, OTHER) == 10.0 + settings.LEASE


def test_a_grantor_waits_from_when_the_beacon_came_and_longer_than_the_lease_lasts() -> None:
    leases = Leases(started=0.0)
    leases.give(TABLET, 3, OTHER, now=20.0)
    assert leases.free_at(TABLET, ME, former=[OTHER]) == 20.0 + settings.GRANT_WAIT
    assert settings.GRANT_WAIT * (1 - settings.CLOCK_DRIFT) > settings.LEASE * (1 + settings.CLOCK_DRIFT)


@pytest.mark.parametrize(
    "change", ["GRANT_WAIT = 1.0", "LEASE = 1.3", "COORDINATOR_GRACE = 1.0", "BEACON_INTERVAL = 0.5"]
)
def test_times_that_would_let_two_primaries_serve_do_not_even_load(change: str) -> None:
    name = change.split(" ")[0]
    source = Path(settings.__file__).read_text()
    lines = [change if line.startswith(f"{name} = ") else line for line in source.splitlines()]
    assert change in lines
    ran = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert "AssertionError" in ran.stderr


def test_the_protocol_reads_no_clock_and_rolls_no_dice() -> None:
    """Time comes in as `now`, this machine's `CLOCK_BOOTTIME`; nothing else in the state machines tells time."""
    folder = Path(kvstore.__file__).parent
    machines = ["node/{}", "coordinator/{}"]
    nouns = {
        machines[0]: "node replica leadership follower gathering requirements reads rows lease catchup host effects",
        machines[1]: "coordinator membership placement report effects",
    }
    for where, names in nouns.items():
        for name in names.split():
            tree = ast.parse((folder / where.format(f"{name}.py")).read_text())
            imported = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
            imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
            from_store = {
                alias.name
                for n in ast.walk(tree)
                if isinstance(n, ast.ImportFrom) and n.module == "kvstore"
                for alias in n.names
            }
            forbidden = {"time", "datetime", "random", "secrets", "socket", "threading", "os", "gevent"}
            assert not imported & (forbidden | {"kvstore.clock"}), name
            assert "clock" not in from_store, name


def test_the_clock_counts_a_suspended_machines_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from kvstore import clock

    monkeypatch.setattr(time, "clock_gettime", lambda which: {time.CLOCK_BOOTTIME: 42.0}[which])
    assert clock.now() == 42.0


def test_a_grant_of_another_run_or_to_an_unknown_beacon_is_no_lease() -> None:
    leases = Leases(started=0.0)
    beacon = leases.beacon(ME, "n2", {TABLET: 3}, now=10.0)
    leases.granted(Grant(Member("n2", 2), beacon.number, {TABLET: 3}))
    leases.granted(Grant(OTHER, beacon.number + 5, {TABLET: 3}))
    leases.granted(Grant(OTHER, beacon.number, {TABLET: 4}))
    assert leases.held_until(TABLET, OTHER) < 0


def test_a_grant_that_comes_when_the_lead_was_laid_down_is_no_lease_for_the_next_one() -> None:
    """Its sender was told that nobody answers any more under that lead, and need not wait for what it granted."""
    leases = Leases(started=0.0)
    before = leases.beacon(ME, "n2", {TABLET: 3, TABLET + 1: 3}, now=10.0)
    leases.lay_down(TABLET)
    grant = Grant(OTHER, before.number, {TABLET: 3, TABLET + 1: 3})
    assert leases.granted(grant) == [TABLET + 1]
    assert leases.held_until(TABLET, OTHER) < 0
    after = leases.beacon(ME, "n2", {TABLET: 5}, now=10.2)
    assert leases.granted(Grant(OTHER, after.number, {TABLET: 5})) == [TABLET]


def test_what_is_relinquished_late_does_not_undo_a_promise_for_a_later_epoch() -> None:
    leases = Leases(started=0.0)
    leases.give(TABLET, 3, OTHER, now=10.0)
    leases.relinquished(TABLET, 3, OTHER)
    assert leases.free_at(TABLET, ME, [OTHER]) == settings.GRANT_WAIT  # of the former life alone
    assert not leases.give(TABLET, 3, OTHER, now=11.0), "a late beacon of the old epoch"
    assert leases.give(TABLET, 5, OTHER, now=12.0)
    leases.relinquished(TABLET, 3, OTHER)  # a straggler
    assert leases.free_at(TABLET, ME, [OTHER]) == 12.0 + settings.GRANT_WAIT


def test_a_read_says_until_when_its_answer_may_leave() -> None:
    """The driver reads the clock after the value was read: a process paused in between must not answer stale."""
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.read("n1", "r", "a")
    trio.settle()
    assert isinstance(trio.answers["r"], CellAnswer)
    assert trio.now < trio.valid_until["r"] <= trio.now + settings.LEASE


def test_a_read_waits_while_no_lease_is_held_and_is_answered_when_one_is() -> None:
    trio = Trio().serving()
    trio.held = {("n2", "n1")}
    trio.now += settings.LEASE + 0.1
    trio.read("n1", "r", "a")
    trio.settle()
    assert "r" not in trio.answers
    trio.held = set()
    trio.advance(0.3)
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_a_partition_of_one_direction_ends_the_lease() -> None:
    """n2 hears every beacon of n1, and n1 nothing of n2: only a full round trip renews."""
    trio = Trio().serving()
    trio.held = {("n2", "n1")}
    trio.advance(settings.LEASE + 0.05)
    trio.read("n1", "r", "a")
    trio.settle()
    assert "r" not in trio.answers


def test_a_primary_alone_in_its_set_needs_no_lease() -> None:
    trio = Trio().serving("n1", "n1")
    trio.held = {("n2", "n1"), ("n3", "n1")}
    trio.advance(5.0)
    trio.read("n1", "r", "a")
    trio.settle()
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_a_successor_waits_out_what_it_granted() -> None:
    trio = Trio().serving()
    granted = trio.now
    trio.held = {("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1")}  # n1 is cut off, and serves on
    trio.lead("n2", "n2 n3", to="n2 n3")
    trio.read("n2", "r", "a")
    trio.advance(granted + settings.LEASE - trio.now)
    assert "r" not in trio.answers, "n1 may still answer reads"
    trio.advance(settings.GRANT_WAIT)
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_a_successor_of_one_who_stepped_down_need_not_wait() -> None:
    trio = Trio().serving()
    trio.lead("n2", "n2 n3")
    trio.advance(0.1)
    trio.read("n2", "r", "a")
    trio.settle()
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_a_successor_of_one_that_is_known_to_have_ended_need_not_wait() -> None:
    """The supervisor reaped n1: the configuration names nobody who could still think that it leads."""
    trio = Trio().serving()
    trio.crash("n1")
    trio.incarnations["n1"] += 1
    trio.lead("n2", "n2 n3")
    assert trio.configuration.former == ()
    trio.read("n2", "r", "a")
    trio.settle()
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_a_process_that_just_started_has_forgotten_what_it_granted_and_waits() -> None:
    trio = Trio().serving()
    trio.held = {("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")}
    trio.crash("n2")
    trio.start("n2")
    began = trio.now
    trio.lead("n2", "n2", to="n2")  # n3 is gone too: the one who restarted leads, and n1 may still serve
    trio.read("n2", "r", "a")
    trio.advance(began + settings.GRANT_WAIT - 0.05 - trio.now)
    assert "r" not in trio.answers
    trio.advance(0.2)
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_a_beacon_of_an_older_epoch_is_not_granted_and_its_sender_hears_why() -> None:
    trio = Trio().serving()
    trio.lead("n2", "n2 n3", to="n2 n3")  # n1 has not heard of it
    trio.settle()
    before = trio.now
    trio.nodes["n2"].from_peer(Beacon(trio.member("n1"), 999, {TABLET: 2}), trio.now)
    trio.settle()
    assert trio.replica("n1").leadership is None, "n1 steps down"
    assert trio.replica("n1").epoch == 3
    assert trio.replica("n2").host.leases.free_at(TABLET, trio.member("n2"), [trio.member("n1")]) <= before + 1.25
