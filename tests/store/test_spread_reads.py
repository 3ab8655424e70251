"""Reads that any in-sync replica may answer, on real clusters: as true as the primary's, and nobody hears of one that fails."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvstore import settings
from tests.cluster import StoreCluster, running_store

LARGE = 16 * settings.BULK_VALUE


def _sent_by(cluster: StoreCluster, node: str) -> int:
    """Bytes that a node's connections have sent and seen acknowledged, as the kernel counts them."""
    port = cluster.port + cluster.names.index(node)
    told = subprocess.run(
        ["ss", "-tinH", "src", f"127.0.0.1:{port}"], capture_output=True, text=True, check=True
    ).stdout
    return sum(map(int, re.findall(r"bytes_acked:(\d+)", told)))


@pytest.mark.parametrize("size", [0, 100, settings.BULK_VALUE, settings.MAX_VALUE])
def test_who_has_written_reads_it_wherever_it_reads(cluster: StoreCluster, size: int) -> None:
    row = f"u{secrets.token_hex(6)}:drive:file:1"
    with cluster.client() as client:
        assert client.get(row, "c", spread=True) is None
        for number in range(12):
            value = b"%d" % number + os.urandom(max(0, size - 2))
            version = client.put(row, "c", value)
            for _ in range(3):
                cell = client.get(row, "c", spread=True)
                assert cell is not None
                assert (cell.value, cell.version) == (value, version)
        client.delete(row, "c")
        assert [client.get(row, "c", spread=True) for _ in range(3)] == [None] * 3


@pytest.mark.skipif(shutil.which("ss") is None, reason="what a node has sent is told by `ss` of iproute2")
def test_all_replicas_take_their_part(cluster: StoreCluster) -> None:
    row = f"u{secrets.token_hex(6)}:drive:file:1"
    with cluster.client() as client:
        client.put(row, "c", bytes(LARGE))
        nodes = cluster.tablet_of(row)["in_sync"]
        assert len(nodes) == 3
        before = {node: _sent_by(cluster, node) for node in nodes}
        for _ in range(30):
            assert client.get(row, "c", spread=True) is not None
        sent = {node: _sent_by(cluster, node) - before[node] for node in nodes}
    for node in nodes:
        assert sent[node] >= 9 * LARGE, sent
        assert sent[node] < 12 * LARGE, sent


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    """A cluster to do harm to."""
    with running_store(tmp_path) as cluster:
        yield cluster


@pytest.mark.probe
@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("whom", ["a secondary", "the primary"])
def test_reads_go_on_when_a_replica_dies_or_hangs(own_cluster: StoreCluster, harm: signal.Signals, whom: str) -> None:
    row = f"u{secrets.token_hex(6)}:drive:file:1"
    with own_cluster.client() as client:
        client.put(row, "c", bytes(LARGE))
        tablet = own_cluster.tablet_of(row)
        secondary = next(name for name in tablet["in_sync"] if name != tablet["primary"])

        def read(_: int) -> bool:
            cell = client.get(row, "c", spread=True)
            return cell is not None and cell.value == bytes(LARGE)

        with ThreadPoolExecutor(8) as callers:
            before = list(callers.map(read, range(40)))
            going = [callers.submit(read, number) for number in range(200)]
            own_cluster.kill(tablet["primary"] if whom == "the primary" else secondary, harm)
            assert all(before)
            assert all(each.result() for each in going)
