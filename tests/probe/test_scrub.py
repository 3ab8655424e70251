"""A byte goes wrong in what lies still on a disk, and nobody reads it there: the node finds it, and learns it from another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore import settings
from kvstore.client import Client
from tests.cluster import StoreCluster, running_store
from tests.probe.histories import PATIENT, Histories, groups_of
from tests.processes import wait_for

pytestmark = pytest.mark.probe

VALUE = random.Random(7).randbytes(2 * settings.MIB)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    """A store whose nodes read all that they store again every second."""
    with running_store(tmp_path, node_options=("--scrub-period", 7)) as cluster:
        yield cluster


def flip_in_value(cluster: StoreCluster, name: str) -> None:
    """Change one byte in the middle of the node's copy of the value, wherever in its log that lies."""
    for path in cluster.data_folder(name).glob("log/*.seg"):
        at = path.read_bytes().find(VALUE)
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at + len(VALUE) // 2)
                file.write(bytes([VALUE[len(VALUE) // 2] ^ 16]))
            return
    raise AssertionError(f"{name} has no copy of the value")


def damages(cluster: StoreCluster, name: str) -> float:
    """How much the node's scrub has found damaged."""
    node = next(node for node in cluster.status()["nodes"] if node["id"] == name)
    found = node["figures"].get("scrub_damages", 0)
    assert isinstance(found, float | int)
    return found


def value_of(client: Client, row: str) -> bytes:
    cell = client.get(row, "large", timeout=PATIENT)
    assert cell is not None
    return cell.value


def test_a_byte_that_goes_wrong_in_a_value_of_a_secondary_is_mended_though_nobody_reads_it_there(
    cluster: StoreCluster,
) -> None:
    row = groups_of("still")[0]
    with cluster.client(PATIENT) as client, Histories(cluster, "scrub", timeout=PATIENT) as histories:
        client.put(row, "large", VALUE)
        primary = cluster.primary_of(row)
        victim = next(name for name in cluster.names[1:] if name != primary)
        wait_for(lambda: has_gone_round(cluster, victim), "a whole round of the scrub", PATIENT)
        flip_in_value(cluster, victim)

        def found() -> bool:
            assert value_of(client, row) == VALUE, "its primary answers, and is right"
            return damages(cluster, victim) > 0

        wait_for(found, "the scrub finding the damage", PATIENT)
        assert "is damaged on disk and will be rebuilt" in cluster.log(victim)
        cluster.wait_until_whole()
        histories.advance()
        histories.judge()
        cluster.wait_until_alike()

    cluster.kill_and_tell(victim)  # what it has learnt must be on its disk
    cluster.start(victim)
    cluster.wait_until_whole()
    for other in sorted({*cluster.names[1:]} - {victim}):
        cluster.kill_and_tell(other)
    with cluster.client(PATIENT) as client:
        assert value_of(client, row) == VALUE
    assert cluster.primary_of(row) == victim


def has_gone_round(cluster: StoreCluster, name: str) -> bool:
    node = next(node for node in cluster.status()["nodes"] if node["id"] == name)
    return node["figures"].get("scrub_ended_s", -1) >= 0
