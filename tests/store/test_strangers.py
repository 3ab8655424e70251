"""Who does not hold the cluster key gets nothing, costs little, and hinders nobody; neither does one who holds it and errs."""

from __future__ import annotations

import os
import secrets
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvstore import settings
from kvstore.admin import Admin
from kvstore.client import connect
from kvstore.connection import FrameReader
from kvstore.control import GetStatus
from kvstore.errors import AuthenticationFailed, Unavailable
from kvstore.handshake import Role, connect_side, read_key
from kvstore.messages import Beacon, Heartbeat, Member, Relinquish
from kvstore.wire import FRAME, PROTOCOL_VERSION, encode
from tests.cluster import StoreCluster
from tests.processes import ROOT, free_port_block


@pytest.fixture(params=["coordinator", "node1"])
def port(request: pytest.FixtureRequest, cluster: StoreCluster) -> int:
    """Where the coordinator listens, and where a node does."""
    return cluster.port + cluster.names.index(request.param)


def open_to(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.settimeout(10)
    return sock


def known(cluster: StoreCluster, port: int, role: Role = Role.CLIENT, name: str = "test") -> socket.socket:
    """A connection that has proved the key."""
    sock = open_to(port)
    connect_side(sock, read_key(cluster.key_file), role, name, None, 5)
    sock.settimeout(10)
    return sock


def is_dropped(sock: socket.socket) -> bool:
    """Whether the other side ends the connection without a further word."""
    try:
        return sock.recv(4096) == b""
    except ConnectionResetError:
        return True


def assert_serving(cluster: StoreCluster) -> None:
    with cluster.client() as client:
        row = f"{secrets.token_hex(4)}:mail"
        client.put(row, "c", b"still here")
        cell = client.get(row, "c")
        assert cell is not None
        assert cell.value == b"still here"


class TestWithoutTheKey:
    def test_a_client_with_another_key_is_told_at_once(self, cluster: StoreCluster, tmp_path: Path) -> None:
        other = tmp_path / "other.key"
        other.write_text(secrets.token_hex(32))
        begun = time.monotonic()
        with pytest.raises(AuthenticationFailed):
            connect(cluster.coordinators, other, timeout=10)
        with pytest.raises(AuthenticationFailed):
            Admin.connect(cluster.coordinators, other, timeout=10).status()
        assert time.monotonic() - begun < 5, "no use in trying until the deadline"

    @pytest.mark.parametrize(
        "garbage",
        [
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curious\r\nAccept: */*\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
            b"\0" * 1000,
            FRAME.pack(settings.MAX_MESSAGE, settings.MAX_PEER_BULK) + bytes(1000),
            os.urandom(5000),
        ],
        ids=["http", "tls", "zeros", "a frame", "random"],
    )
    def test_garbage_is_dropped(self, cluster: StoreCluster, port: int, garbage: bytes) -> None:
        sock = open_to(port)
        sock.sendall(garbage)
        assert is_dropped(sock)
        assert_serving(cluster)

    def test_a_frame_before_the_proof_is_not_looked_at(self, cluster: StoreCluster, port: int) -> None:
        sock = open_to(port)
        sock.sendall(struct.pack("!4sHB32sB", b"PCKV", PROTOCOL_VERSION, Role.CLIENT, bytes(32), 0))
        sock.recv(4096)
        sock.sendall(b"".join(map(bytes, encode(GetStatus(), 1))).ljust(64, b"\0"))
        assert sock.recv(4096) in (b"\x01", b""), "the proof was wrong: refused, and nothing answered"
        assert is_dropped(sock)

    def test_a_flood_of_silent_strangers_is_bounded_and_over_when_they_leave(
        self, cluster: StoreCluster, port: int
    ) -> None:
        strangers = [open_to(port) for _ in range(settings.MAX_STRANGERS + 50)]
        try:
            assert is_dropped(strangers[-1]), "one too many is dropped at once"
            for stranger in strangers:
                stranger.close()
            assert_serving(cluster)
        finally:
            for stranger in strangers:
                stranger.close()


class TestWithTheKey:
    def test_a_frame_over_the_limit_ends_the_connection(self, cluster: StoreCluster, port: int) -> None:
        for head in (FRAME.pack(settings.MAX_MESSAGE + 1, 0), FRAME.pack(10, settings.MAX_BULK + 1), b"\xff" * 8):
            sock = known(cluster, port)
            sock.sendall(head)
            assert is_dropped(sock)
        assert_serving(cluster)

    @pytest.mark.parametrize(
        "message", [b"\xc1", b"\x90", b"\x93\x63\x01\x02", b"\x92\x02\x01", b"\xdd\xff\xff\xff\xff"]
    )
    def test_a_message_that_is_none_ends_the_connection(self, cluster: StoreCluster, port: int, message: bytes) -> None:
        sock = known(cluster, port)
        sock.sendall(FRAME.pack(len(message), 0) + message)
        assert is_dropped(sock)
        assert_serving(cluster)

    def test_a_client_cannot_speak_as_a_node(self, cluster: StoreCluster) -> None:
        """The role is part of the proof, and only nodes may move leases, logs or the coordinator's mind."""
        me = Member("node2", 1)
        for message in (Beacon(me, 1, {1: 99}), Relinquish(1, 99, me)):
            sock = known(cluster, cluster.port + 1)
            sock.sendall(b"".join(map(bytes, encode(message))))
            assert is_dropped(sock)
        sock = known(cluster, cluster.port)
        sock.sendall(b"".join(map(bytes, encode(Heartbeat(me, 0.0, [], {})))))
        assert is_dropped(sock)

    def test_a_node_cannot_speak_for_another(self, cluster: StoreCluster) -> None:
        sock = known(cluster, cluster.port, Role.NODE, "node9")
        sock.sendall(b"".join(map(bytes, encode(Heartbeat(Member("node1", 1), 0.0, [], {})))))
        assert is_dropped(sock)
        sock = known(cluster, cluster.port + 1, Role.NODE, "node9")
        sock.sendall(b"".join(map(bytes, encode(Beacon(Member("node2", 1), 1, {1: 99})))))
        assert is_dropped(sock)

    def test_half_a_frame_and_a_hang_up_leave_nothing_behind(self, cluster: StoreCluster, port: int) -> None:
        for _ in range(20):
            sock = known(cluster, port)
            sock.sendall(FRAME.pack(1000, 10_000_000) + b"x" * 500)
            sock.close()
        assert_serving(cluster)

    def test_a_status_is_answered_on_the_same_connection_as_often_as_it_is_asked(self, cluster: StoreCluster) -> None:
        sock = known(cluster, cluster.port)
        for request_id in range(1, 11):
            sock.sendall(b"".join(map(bytes, encode(GetStatus(), request_id))))
        reader = FrameReader(sock, settings.MAX_BULK)
        ids: list[int] = []
        while len(ids) < 10:
            ids += [fields[1] for fields, _ in reader.read()]
        assert ids == list(range(1, 11))
        sock.close()


class TestStartingUp:
    """A server that cannot start says why in one sentence, with status 1."""

    def run(self, *arguments: object) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "kvstore", *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stderr

    def node(self, cluster: StoreCluster, folder: Path, listen: str, key: Path | None = None) -> tuple[int, str]:
        return self.run(
            "node", "--id", "extra", "--listen", listen, "--data-dir", folder,
            "--key-file", key or cluster.key_file, "--coordinators", cluster.coordinators,
        )  # fmt: skip

    def test_a_port_that_is_taken(self, cluster: StoreCluster, tmp_path: Path) -> None:
        taken = f"127.0.0.1:{cluster.port + 1}"
        status, said = self.node(cluster, tmp_path / "n", taken)
        assert (status, said) == (1, f"extra: {taken}: Address already in use\n")

    def test_a_data_folder_in_use(self, cluster: StoreCluster) -> None:
        status, said = self.node(cluster, cluster.folder / "node1", f"127.0.0.1:{free_port_block(1)}")
        assert status == 1
        assert said.count("\n") == 1
        assert str(cluster.folder / "node1") in said

    def test_a_data_folder_that_cannot_be_made(self, cluster: StoreCluster, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        status, said = self.node(cluster, tmp_path / "file" / "n", f"127.0.0.1:{free_port_block(1)}")
        assert status == 1
        assert said.count("\n") == 1
        assert "Not a directory" in said

    def test_a_key_that_is_missing(self, cluster: StoreCluster, tmp_path: Path) -> None:
        status, said = self.node(cluster, tmp_path / "n", f"127.0.0.1:{free_port_block(1)}", tmp_path / "none")
        assert status == 1
        assert "the cluster key cannot be read" in said

    @pytest.mark.parametrize(
        ("plan", "complaint"),
        [
            ("{", "cannot be read"),
            ("[]", "must hold one object"),
            ("{}", "group_rule"),
            ('{"group_rule": "("}', "not a regular expression"),
            ('{"group_rule": "[^:]+", "splits": ["b", "a"]}', "in order"),
            ('{"group_rule": "[^:]+", "colour": 1}', "unknown key 'colour'"),
            ('{"group_rule": "[^:]+", "replication": 5}', "nodes cannot hold"),
        ],
    )
    def test_a_creation_file_with_a_mistake(
        self, cluster: StoreCluster, tmp_path: Path, plan: str, complaint: str
    ) -> None:
        (tmp_path / "plan.json").write_text(plan)
        status, said = self.run(
            "coordinator", "--listen", f"127.0.0.1:{free_port_block(1)}", "--data-dir", tmp_path / "c",
            "--key-file", cluster.key_file, "--create-with", tmp_path / "plan.json", "--nodes-expected", 3,
        )  # fmt: skip
        assert status == 1
        assert said.count("\n") == 1
        assert complaint in said

    def test_a_coordinator_without_cluster_and_without_plan(self, cluster: StoreCluster, tmp_path: Path) -> None:
        listen = f"127.0.0.1:{free_port_block(1)}"
        status, said = self.run(
            "coordinator", "--listen", listen, "--data-dir", tmp_path, "--key-file", cluster.key_file
        )  # fmt: skip
        assert status == 1
        assert "no cluster here yet" in said


def test_an_operator_is_told_of_a_node_that_does_not_exist(cluster: StoreCluster) -> None:
    from kvstore.errors import BadRequest

    admin = cluster.admin()
    with pytest.raises(BadRequest, match="node77"):
        admin.disable("node77")
    admin.close()


def test_without_coordinator_control_ends_at_its_deadline(cluster: StoreCluster) -> None:
    admin = Admin.connect(f"127.0.0.1:{free_port_block(1)}", cluster.key_file, timeout=0.3)
    with pytest.raises(Unavailable, match="the coordinator did not answer"):
        admin.status()
    admin.close()
