"""The command line on a real cluster."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import StoreCluster
from tests.processes import ROOT, free_port_block


class CommandLine:
    def __init__(self, cluster: StoreCluster) -> None:
        self._options = ["--coordinators", cluster.coordinators, "--key-file", str(cluster.key_file)]

    def __call__(self, *arguments: str, stdin: bytes = b"", status: int = 0) -> str:
        """What it prints; `status` is what it must end with, and what it says in error is then returned instead."""
        done = subprocess.run(
            [sys.executable, "-m", "kvstore", *self._options, *arguments],
            cwd=ROOT, input=stdin, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == status, done.stderr.decode()
        return (done.stderr if status else done.stdout).decode()


@pytest.fixture
def kvstore(cluster: StoreCluster) -> CommandLine:
    return CommandLine(cluster)


@pytest.fixture
def row() -> str:
    return f"u{secrets.token_hex(6)}:mail"


def test_put_get_scan_delete(kvstore: CommandLine, row: str, tmp_path: Path) -> None:
    kvstore("put", row, "greeting", "hello")
    assert kvstore("get", row, "greeting") == "hello"
    kvstore("put", row, "input", "-", stdin=b"from stdin\0\n")
    assert kvstore("get", row, "input") == "from stdin\0\n"
    (tmp_path / "value").write_bytes(b"from a file")
    kvstore("put", row, "file", f"@{tmp_path}/value")
    lines = kvstore("scan", "--prefix", row).splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        [repr(row), repr(column)] for column in ("file", "greeting", "input")
    ]
    assert "'from stdin\\x00\\n'" in lines[2]
    assert len(kvstore("scan", "--prefix", row, "--limit", "1", "--reverse", "--keys-only").splitlines()) == 1
    kvstore("delete", row, "file")
    assert "no cell at row" in kvstore("get", row, "file", status=1)
    kvstore("delete", row)
    assert kvstore("scan", "--prefix", row) == ""


def test_a_shell_takes_commands_one_a_line(kvstore: CommandLine, row: str) -> None:
    script = f"put {row} c 'two words'\n\nget {row} c\nscan --prefix {row}\n"
    printed = kvstore("shell", stdin=script.encode())
    assert "two words" in printed
    assert "9 B" in printed


def test_a_mistake_in_a_script_is_told_and_shows_in_the_status(kvstore: CommandLine, row: str) -> None:
    said = kvstore("shell", stdin=f"nonsense\nput {row}\nget {row} none\nput {row} 'open".encode(), status=1)
    assert "invalid choice: 'nonsense'" in said
    assert "no cell" in said
    assert "No closing quotation" in said


def test_the_status_is_there_for_people_and_for_programs(kvstore: CommandLine) -> None:
    shown = kvstore("status")
    assert "node1" in shown
    assert "Tablets" in shown
    status = json.loads(kvstore("status", "--json"))
    node = status["nodes"][0]
    assert {"id", "address", "pid", "incarnation", "state"} <= set(node)
    assert node["state"] == "up"
    tablet = status["tablets"][0]
    assert {"id", "start", "end", "epoch", "primary", "in_sync", "learners"} <= set(tablet)
    assert tablet["start"] == ""


def test_what_fails_says_why_in_one_sentence(kvstore: CommandLine, row: str, tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port_block(1)}"
    for arguments, reason in (
        (("--coordinators", nowhere, "--timeout", "0.3", "get", row, "c"), "no coordinator answers"),
        (("--coordinators", nowhere, "--timeout", "0.3", "status"), "did not answer"),
        (("--coordinators", "nonsense", "status"), "not an address"),
        (("--key-file", str(tmp_path / "none"), "status"), "cannot be read"),
        (("put", row, "c", f"@{tmp_path}/none"), "cannot be read"),
        (("put", row, "x" * 2000, "v"), "2000 bytes long"),
    ):
        said = kvstore(*arguments, status=1)
        assert reason in said
        assert said.count("\n") == 1
        assert "Traceback" not in said


def test_what_the_cluster_does_by_itself_is_switched(kvstore: CommandLine) -> None:
    before = json.loads(kvstore("status", "--json"))["cluster"]
    assert (before["spread"], before["split_above"]) == (True, 512 << 20)
    try:
        kvstore("shell", stdin=b"spread off\nsplit-above 64M\n")
        now = json.loads(kvstore("status", "--json"))["cluster"]
        assert (now["spread"], now["split_above"]) == (False, 64 << 20)
        assert "tablets are split: above 64 MiB in memory; data spreads: off" in kvstore("status")
        kvstore("split-above", "never")
        assert json.loads(kvstore("status", "--json"))["cluster"]["split_above"] is None
    finally:
        kvstore("shell", stdin=b"spread on\nsplit-above 512M\n")


def test_what_cannot_be_moved_or_split_says_why(kvstore: CommandLine) -> None:
    for arguments, reason in (
        (("move", "1", "node1", "node9"), "there is no node 'node9'"),
        (("move", "1", "node1", "node2"), "tablet 1 has a replica on node2 already"),
        (("move", "99", "node1", "node2"), "there is no tablet 99"),
        (("move", "1", "node1"), "move TABLET FROM TO"),
        (("move", "1", "--withdraw"), "tablet 1 is not moving"),
        (("move", f"{1 << 70}", "node1", "node2"), f"there is no tablet {1 << 70}"),
        (("move", f"{1 << 70}", "--withdraw"), f"there is no tablet {1 << 70}"),
        (("move", "1", "node1", "\udcff"), "a node's name holds a lone surrogate"),
        (("split", "1", "\udcff"), "the row holds a lone surrogate"),
        (("split", "99"), "there is no tablet 99"),
        (("split-above", "much"), "number of bytes"),
        (("split-above", "1"), "not above 1"),
    ):
        said = kvstore(*arguments, status=1)
        assert reason in said
        assert said.count("\n") == 1
    assert "invalid choice: 'perhaps'" in kvstore("spread", "perhaps", status=2)
