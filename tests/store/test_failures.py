"""Nodes die, hang, leave and return while callers write: nothing acknowledged is lost, nothing is applied twice.

One cluster goes through it all, in the order in which the tests stand; each leaves it whole again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.client import Batch, Client
from kvstore.errors import NotEnoughReplicas, OutcomeUnknown, StoreError, Unavailable
from tests.cluster import StoreCluster
from tests.processes import wait_for

ROWS = ["alice:mail", "henry:mail", "nora:mail", "tom:mail", "user:zoe"]
WITHIN = 3.0
"""Seconds in which writes go on after a node is gone, as promised (a hung one is found out slowest)."""
PATIENT = 60.0


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    cluster = StoreCluster(tmp_path_factory.mktemp("harmed"))
    try:
        cluster.start()
        cluster.wait_until_whole()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def client(harmed: StoreCluster) -> Iterator[Client]:
    with harmed.client(timeout=PATIENT) as made:
        yield made


class Writers:
    """Threads that count up in a cell of each row by compare-and-put, and write one new cell for each number.

    So a lost write, a doubled one and a stale read all show: a number that is missing or comes twice.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.longest = 0.0
        """Seconds that a write took at most, since `calm` was last called."""
        self.counts = dict.fromkeys(ROWS, 0)
        self.errors: list[StoreError] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(row,)) for row in ROWS]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the threads; waits for their last writes."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENT)

    def _run(self, row: str) -> None:
        number = 0
        counter = f"{self.name}:count"
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                before = str(number).encode() if number else None
                assert self.client.cput(row, counter, before, str(number + 1).encode()), "somebody else counted"
                number += 1
                self.client.put(row, f"{self.name}:{number:06}", str(number).encode())
                cell = self.client.get(row, counter)
                assert cell is not None
                assert cell.value == str(number).encode(), "a read after the write shows the write"
            except StoreError as error:
                self.errors.append(error)
                return
            except AssertionError as error:
                self.errors.append(StoreError(str(error)))
                return
            self.counts[row] = number
            self.longest = max(self.longest, time.monotonic() - begun)

    def calm(self) -> None:
        """Forget how long writes took so far."""
        self.longest = 0.0

    def advance(self, least: int = 3) -> None:
        """Wait until every row has been written so many times more."""
        targets = {row: count + least for row, count in self.counts.items()}

        def done() -> bool:
            assert not self.errors, self.errors[0]
            return all(self.counts[row] >= target for row, target in targets.items())

        wait_for(done, f"writes going on from {self.counts}", PATIENT)

    def check(self) -> None:
        """Everything that was acknowledged is there, once."""
        assert not self.errors, self.errors[0]
        for row, count in self.counts.items():
            found = self.client.get_row(row, f"{self.name}:0")
            numbers = [int(cell.value) for cell in found.values()]
            assert numbers[:count] == list(range(1, count + 1))


def alike(cluster: StoreCluster) -> dict[str, Any]:
    """The status, once all replicas of every tablet are in sync, at the same sequence, and have equal digests."""

    def look() -> dict[str, Any] | None:
        status = cluster.status()
        for tablet in status["tablets"]:
            copies = {(copy["sequence"], copy["commit"], copy["digest"]) for copy in tablet["copies"]}
            if len(tablet["in_sync"]) < 3 or len(tablet["copies"]) < 3 or len(copies) > 1:
                return None
        return status

    found = wait_for(look, "all replicas being alike", PATIENT)
    assert found is not None
    return found


def primary_of(cluster: StoreCluster, row: str) -> str:
    primary = cluster.tablet_of(row)["primary"]
    assert isinstance(primary, str)
    return primary


def test_a_killed_primary_is_replaced_within_three_seconds_and_comes_back_alike(
    harmed: StoreCluster, client: Client
) -> None:
    victim = primary_of(harmed, ROWS[0])
    with Writers(client, "killed") as writers:
        writers.advance()
        writers.calm()
        harmed.kill(victim)
        writers.advance()
        assert writers.longest < WITHIN
        harmed.start(victim)
        harmed.wait_until_whole()
    writers.check()
    alike(harmed)


def test_a_death_that_is_told_is_over_in_a_moment(harmed: StoreCluster, client: Client) -> None:
    """The supervisor reaps the process and says so: nobody waits for heartbeats, nor for leases of the dead."""
    victim = primary_of(harmed, ROWS[1])
    admin = harmed.admin()
    with Writers(client, "told") as writers:
        writers.advance()
        writers.calm()
        harmed.kill(victim)
        admin.process_exited(victim, harmed.pid(victim))
        writers.advance()
        assert writers.longest < 1.0
        harmed.start(victim)
        harmed.wait_until_whole()
    writers.check()
    admin.close()


def test_with_two_of_three_gone_the_last_one_serves(harmed: StoreCluster, client: Client) -> None:
    admin = harmed.admin()
    with Writers(client, "two") as writers:
        writers.advance()
        for victim in ("node1", "node2"):
            harmed.kill(victim)
            admin.process_exited(victim, harmed.pid(victim))
            writers.advance()
        status = harmed.status()
        assert all(tablet["in_sync"] == ["node3"] for tablet in status["tablets"])
        assert {node["id"]: node["state"] for node in status["nodes"]} == {
            "node1": "down",
            "node2": "down",
            "node3": "up",
        }
        harmed.start("node1", "node2")
        harmed.wait_until_whole()
    writers.check()
    alike(harmed)
    admin.close()


def test_a_node_that_hangs_is_left_behind_and_does_not_answer_stale_when_it_wakes(
    harmed: StoreCluster, client: Client
) -> None:
    victim = primary_of(harmed, ROWS[0])
    with Writers(client, "hung") as writers:
        writers.advance()
        writers.calm()
        harmed.kill(victim, signal.SIGSTOP)
        try:
            writers.advance()
            assert writers.longest < WITHIN + 1.0, "found out by silence; this machine runs other tests beside"
        finally:
            harmed.kill(victim, signal.SIGCONT)
        harmed.wait_until_whole()
    writers.check()
    alike(harmed)


def test_without_coordinator_reads_and_writes_go_on_and_it_comes_back_knowing_everything(
    harmed: StoreCluster, client: Client
) -> None:
    before = harmed.status()
    with Writers(client, "alone") as writers:
        harmed.kill("coordinator")
        writers.calm()
        writers.advance(30)
        assert writers.longest < 1.0
        harmed.start("coordinator")
        harmed.wait_until_whole()
    writers.check()
    after = harmed.status()
    assert [tablet["epoch"] for tablet in after["tablets"]] == [tablet["epoch"] for tablet in before["tablets"]]
    assert [node["incarnation"] for node in after["nodes"]] == [node["incarnation"] for node in before["nodes"]]


def test_a_restart_faster_than_its_detection_is_noticed(harmed: StoreCluster, client: Client) -> None:
    victim = primary_of(harmed, ROWS[0])
    with Writers(client, "fast") as writers:
        writers.advance()
        harmed.kill(victim)
        harmed.start(victim)
        writers.advance()
        harmed.wait_until_whole()
    writers.check()
    alike(harmed)


def test_a_node_that_is_told_to_stop_hands_over_first(harmed: StoreCluster, client: Client) -> None:
    victim = primary_of(harmed, ROWS[0])
    with Writers(client, "handover") as writers:
        writers.advance()
        writers.calm()
        harmed.kill(victim, signal.SIGTERM)
        wait_for(lambda: harmed.tablet_of(ROWS[0])["primary"] != victim, "the roles moving away")
        writers.advance()
        assert writers.longest < 1.0, "nobody had to be missed first"
        harmed.end(victim)
        assert not (harmed.folder / "run" / f"{victim}.pid").exists()
        harmed.start(victim)
        harmed.wait_until_whole()
    writers.check()


def test_a_disabled_node_holds_no_role_until_it_is_enabled(harmed: StoreCluster, client: Client) -> None:
    victim = primary_of(harmed, ROWS[0])
    admin = harmed.admin()
    with Writers(client, "disabled") as writers:
        writers.advance()
        writers.calm()
        admin.disable(victim)

        def emptied() -> bool:
            (node,) = [node for node in harmed.status()["nodes"] if node["id"] == victim]
            return node["state"] == "disabled" and node["primary_of"] == node["secondary_of"] == 0

        wait_for(emptied, "the node's roles moving away")
        writers.advance()
        assert writers.longest < 1.0
        admin.enable(victim)
        harmed.wait_until_whole()
    writers.check()
    alike(harmed)
    admin.close()


def test_everything_that_was_acknowledged_survives_a_power_cut(harmed: StoreCluster, client: Client) -> None:
    with Writers(client, "cut") as writers:
        writers.advance(20)
        for name in harmed.names:
            harmed.kill(name)
        harmed.start()
        writers.advance()
        harmed.wait_until_whole()
    writers.check()
    alike(harmed)


def test_a_scan_goes_through_a_failover_without_repeating_or_leaving_out(harmed: StoreCluster, client: Client) -> None:
    for row in ROWS:
        batch = Batch()
        for number in range(300):
            batch.put(row, f"scan:{number:04}", b"x" * 4000)
        client.apply(batch)
    expected = [(row, f"scan:{number:04}") for row in sorted(ROWS) for number in range(300)]
    admin = harmed.admin()
    for reverse in (False, True):
        seen = []
        scan = client.scan(reverse=reverse)
        for number, (row, column, _) in enumerate(scan):
            if column.startswith("scan:"):
                seen.append((row, column))
            if number == 100:
                victim = primary_of(harmed, row)
                harmed.kill(victim)
                admin.process_exited(victim, harmed.pid(victim))
        assert seen == (expected[::-1] if reverse else expected)
        harmed.start(victim)
        harmed.wait_until_whole()
    admin.close()


def test_when_nobody_can_answer_the_caller_hears_it_at_his_deadline(harmed: StoreCluster, client: Client) -> None:
    client.get(ROWS[0], "x")
    for name in ("node1", "node2", "node3"):
        harmed.kill(name)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        client.get(ROWS[0], "x", timeout=0.5)
    with pytest.raises((Unavailable, OutcomeUnknown)):
        client.put(ROWS[0], "x", b"", timeout=0.5)
    assert time.monotonic() - begun < 3
    harmed.start()
    harmed.wait_until_whole()


def test_below_min_in_sync_writes_are_refused_and_reads_go_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    import json

    folder = tmp_path_factory.mktemp("careful")
    cluster = StoreCluster(folder, nodes=2)
    plan = json.loads((folder / "creation.json").read_text())
    (folder / "creation.json").write_text(json.dumps({**plan, "replication": 2, "min_in_sync": 2}))
    try:
        cluster.start()
        cluster.wait_until_whole()
        with cluster.client() as client:
            client.put(ROWS[0], "c", b"on two disks")
            admin = cluster.admin()
            cluster.kill("node2")
            admin.process_exited("node2", cluster.pid("node2"))
            with pytest.raises(NotEnoughReplicas):
                client.put(ROWS[0], "c", b"on one", timeout=1.0)
            cell = client.get(ROWS[0], "c", timeout=30)
            assert cell is not None
            assert cell.value == b"on two disks"
            cluster.start("node2")
            client.put(ROWS[0], "c", b"on two again", timeout=PATIENT)
            admin.close()
    finally:
        cluster.stop()
