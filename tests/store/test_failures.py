"""What callers meet when nodes are taken out, end in order, or are too few. What happens to them when processes, disks and
networks fail is in `tests/probe`.

One cluster goes through it all; each test leaves it whole again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from kvstore import settings
from kvstore.client import Batch, Client, connect
from kvstore.errors import NotEnoughReplicas, OutcomeUnknown, Unavailable
from tests.cluster import StoreCluster, running_store
from tests.probe.histories import PATIENT, Histories
from tests.processes import accepts, wait_for

ROWS = ["alice:mail", "henry:mail", "nora:mail", "tom:mail", "user:zoe"]


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    with running_store(tmp_path_factory.mktemp("harmed")) as cluster:
        yield cluster


@pytest.fixture
def client(harmed: StoreCluster) -> Iterator[Client]:
    with harmed.client(timeout=PATIENT) as made:
        yield made


def test_a_node_that_is_told_to_stop_hands_over_first(harmed: StoreCluster) -> None:
    """Its roles are elsewhere before it ends: nobody had to be missed."""
    with Histories(harmed, "handover") as histories:
        histories.advance()
        victim = harmed.primary_of(histories.groups[0])
        harmed.end(victim)
        tablets = harmed.status()["tablets"]
        assert all(tablet["primary"] not in (victim, None) for tablet in tablets)
        assert not any(victim in tablet["in_sync"] for tablet in tablets)
        assert not (harmed.folder / "run" / f"{victim}.pid").exists()
        histories.advance()
        harmed.start(victim)
        harmed.wait_until_whole()
        histories.judge()


def test_a_disabled_node_holds_no_role_until_it_is_enabled(harmed: StoreCluster) -> None:
    admin = harmed.admin()
    with Histories(harmed, "disabled") as histories:
        histories.advance()
        victim = harmed.primary_of(histories.groups[0])
        admin.disable(victim)

        def emptied() -> bool:
            (node,) = [node for node in harmed.status()["nodes"] if node["id"] == victim]
            return node["state"] == "disabled" and node["primary_of"] == node["secondary_of"] == 0

        wait_for(emptied, "the node's roles moving away", PATIENT)
        histories.advance()
        admin.enable(victim)
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()
    admin.close()


def test_a_scan_goes_through_a_failover_without_repeating_or_leaving_out(harmed: StoreCluster, client: Client) -> None:
    for row in ROWS:
        batch = Batch()
        for number in range(300):
            batch.put(row, f"scan:{number:04}", b"x" * 4000)
        client.apply(batch)
    expected = [(row, f"scan:{number:04}") for row in sorted(ROWS) for number in range(300)]
    for reverse in (False, True):
        seen = []
        scan = client.scan(reverse=reverse)
        for number, (row, column, _) in enumerate(scan):
            if column.startswith("scan:"):
                seen.append((row, column))
            if number == 100:
                victim = harmed.primary_of(row)
                harmed.kill_and_tell(victim)
        assert seen == (expected[::-1] if reverse else expected)
        harmed.start(victim)
        harmed.wait_until_whole()


def test_when_nobody_can_answer_the_caller_hears_it_at_his_deadline(harmed: StoreCluster, client: Client) -> None:
    client.get(ROWS[0], "x")
    for name in ("node1", "node2", "node3"):
        harmed.kill(name)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        client.get(ROWS[0], "x", timeout=0.5)
    with pytest.raises((Unavailable, OutcomeUnknown)):
        client.put(ROWS[0], "x", b"", timeout=0.5)
    assert time.monotonic() - begun < settings.DEFAULT_TIMEOUT, "the deadline that was given is what counts"
    harmed.start()
    harmed.wait_until_whole()


def test_a_node_that_has_not_heard_the_coordinator_yet_misleads_nobody(harmed: StoreCluster, client: Client) -> None:
    """It knows neither the tablets nor the rule that says which rows a batch may touch, and does not claim to."""
    harmed.kill_all()
    harmed.start("node1")
    node = harmed.address("node1")
    wait_for(lambda: accepts(int(node.rpartition(":")[2])), "the node's start", PATIENT)
    with pytest.raises(Unavailable):
        connect(node, harmed.key_file, timeout=1.0)
    with pytest.raises(Unavailable):
        client.get(ROWS[0], "x", timeout=3.0)  # so it asks everybody, and only that node answers
    harmed.start()
    client.apply(Batch().put("alice:mail", "rule", b"1").put("alice:mail:2", "rule", b"2"), timeout=PATIENT)
    harmed.wait_until_whole()


def test_below_min_in_sync_writes_are_refused_and_reads_go_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("careful")
    cluster = StoreCluster(folder, nodes=2)
    plan = json.loads((folder / "creation.json").read_text())
    (folder / "creation.json").write_text(json.dumps({**plan, "replication": 2, "min_in_sync": 2}))
    try:
        cluster.start()
        cluster.wait_until_whole()
        with cluster.client() as client:
            client.put(ROWS[0], "c", b"on two disks")
            cluster.kill_and_tell("node2")
            with pytest.raises(NotEnoughReplicas):
                client.put(ROWS[0], "c", b"on one", timeout=1.0)
            cell = client.get(ROWS[0], "c", timeout=30)
            assert cell is not None
            assert cell.value == b"on two disks"
            cluster.start("node2")
            client.put(ROWS[0], "c", b"on two again", timeout=PATIENT)
    finally:
        cluster.stop()
