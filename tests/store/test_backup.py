"""A running cluster is copied, and a new one is filled from the copy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from kvstore.client import Client
from kvstore.errors import BadRequest
from kvstore.storage.archive import read_cells, read_index
from tests.cluster import StoreCluster
from tests.processes import ROOT


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    words = [sys.executable, "-m", "kvstore", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)


def everything(client: Client) -> dict[tuple[str, str], bytes]:
    return {(row, column): cell.value for row, column, cell in client.scan("", None)}


def test_a_new_cluster_from_the_backup_of_a_running_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = StoreCluster(tmp_path / "old"), StoreCluster(tmp_path / "new")
    try:
        old.start()
        old.wait_until_whole()
        with old.client() as client:
            for i in range(50):
                client.put(f"user{i}:mailbox", f"inbox:{i}", b"%d" % i)
            client.put("user1:drive:file:x:0001", "chunk", bytes(range(256)) * 4096)
            client.delete("user2:mailbox", "inbox:2")
            expected = everything(client)
            done = command("backup", old.folder / "node1", tmp_path / "backup")
            assert done.returncode == 0, done.stderr
            client.put("later", "c", b"not in the backup")
        new.start()
        new.wait_until_whole()
        where = ("--coordinators", new.coordinators, "--key-file", new.key_file)
        done = command("restore", tmp_path / "backup", *where)
        assert done.returncode == 0, done.stderr
        with new.client() as client:
            assert everything(client) == expected
        again = command("restore", tmp_path / "backup", *where)
        assert (again.returncode, "holds rows already" in again.stderr) == (1, True)
        assert command("restore", tmp_path / "backup", *where, "--overwrite").returncode == 0
    finally:
        old.stop()
        new.stop()


class Writer(threading.Thread):
    """Writes small cells and large values until told to stop. `acknowledged`: how many rows."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._stopping = threading.Event()
        self.acknowledged = 0

    def run(self) -> None:
        """See `Thread.run`."""
        large = bytes(range(256)) * 1024
        while not self._stopping.is_set():
            number = self.acknowledged
            value = large if number % 10 == 0 else b"%d" % number
            self._client.put(f"row{number:06d}", "c", value)
            self.acknowledged += 1

    def stop(self) -> None:
        """Ends it."""
        self._stopping.set()
        self.join()


def test_a_node_is_looked_at_and_backed_up_while_it_writes(tmp_path: Path) -> None:
    """The log grows under the reader's eyes: that is no damage, and what was acknowledged before is all there, in one piece."""
    cluster = StoreCluster(tmp_path)
    try:
        cluster.start()
        cluster.wait_until_whole()
        with cluster.client() as client:
            writer = Writer(client)
            writer.start()
            try:
                for attempt in range(4):
                    looked = command("inspect", cluster.folder / "node1", "--json")
                    assert (looked.returncode, json.loads(looked.stdout)["damage"]) == (0, [])
                    before = writer.acknowledged
                    done = command("backup", cluster.folder / "node1", tmp_path / f"backup{attempt}")
                    assert done.returncode == 0, done.stderr
                    rows = backed_up(tmp_path / f"backup{attempt}")
                    assert len(rows) >= before > 0
                    assert rows == [f"row{number:06d}" for number in range(len(rows))], "no row without the one before"
            finally:
                writer.stop()
    finally:
        cluster.stop()


def test_a_node_is_looked_at_and_backed_up_while_its_tablets_are_split(tmp_path: Path) -> None:
    """Whichever of a tablet's halves the reader finds on disk: each row is once in the copy, and in a new cluster."""
    (old := tmp_path / "old").mkdir()
    (new := tmp_path / "new").mkdir()
    cluster, other = StoreCluster(old), StoreCluster(new)
    try:
        cluster.start()
        cluster.wait_until_whole()
        with cluster.client() as client:
            writer, splitter = Writer(client), Splitter(cluster)
            writer.start()
            splitter.start()
            try:
                for attempt in range(3):
                    looked = command("inspect", cluster.folder / "node1", "--json")
                    assert (looked.returncode, json.loads(looked.stdout)["damage"]) == (0, [])
                    before = writer.acknowledged
                    folders = [cluster.folder / f"node{number}" for number in range(1, attempt + 2)]
                    done = command("backup", *folders, tmp_path / f"backup{attempt}")
                    assert done.returncode == 0, done.stderr
                    rows = sorted(backed_up(tmp_path / f"backup{attempt}"))
                    assert len(rows) >= before > 0
                    assert rows == [f"row{number:06d}" for number in range(len(rows))], (
                        "each once, none without the one before"
                    )
            finally:
                splitter.stop()
                writer.stop()
        assert splitter.splits >= 8
        assert len(read_index(str(tmp_path / "backup2"))) > len(read_index(str(tmp_path / "backup0"))) > 1
        cluster.stop()
        other.start()
        other.wait_until_whole()
        where = ("--coordinators", other.coordinators, "--key-file", other.key_file)
        done = command("restore", tmp_path / "backup2", *where)
        assert done.returncode == 0, done.stderr
        with other.client() as client:
            assert [row for row, _ in everything(client)] == rows
    finally:
        cluster.stop()
        other.stop()


class Splitter(threading.Thread):
    """Has tablets split where the writer is until told to stop. `splits`: how often."""

    def __init__(self, cluster: StoreCluster) -> None:
        super().__init__()
        self._admin = cluster.admin()
        self._stopping = threading.Event()
        self.splits = 0

    def run(self) -> None:
        """See `Thread.run`."""
        while not self._stopping.wait(0.1):
            sizes = {tablet["id"]: tablet["bytes"] for tablet in self._admin.status()["tablets"]}
            largest = max(sizes, key=lambda tablet: sizes[tablet])
            try:
                self._admin.split(largest)
                self.splits += 1
            except BadRequest:
                pass  # it is of one group, or empty

    def stop(self) -> None:
        """Ends it."""
        self._stopping.set()
        self.join()
        self._admin.close()


def backed_up(folder: Path) -> list[str]:
    """The rows of a backup, every byte of which is verified."""
    return [cell[0] for tablet in read_index(str(folder)) for cell in read_cells(str(folder / tablet.file))]
