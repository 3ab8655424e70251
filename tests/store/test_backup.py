"""A running cluster is copied, and a new one is filled from the copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kvstore.client import Client
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
