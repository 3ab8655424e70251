"""The handshake lets in who holds the key, and shows a stranger nothing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.errors import AuthenticationFailed, BadRequest
from kvstore.handshake import MAGIC, Partner, Role, accept_side, connect_side, read_key
from kvstore.wire import PROTOCOL_VERSION

KEY = b"k" * 32
OTHER_KEY = b"o" * 32
SECONDS = 5.0


class Acceptor:
    """One side of a socket pair that accepts in a thread; what came of it."""

    def __init__(self, key: bytes = KEY, timeout: float = SECONDS) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(SECONDS)
        self.partner: Partner | None = None
        self.error: Exception | None = None

        def run() -> None:
            try:
                self.partner = accept_side(theirs, key, "node1", timeout)
            except (BadRequest, AuthenticationFailed, OSError) as error:
                self.error = error
            finally:
                if self.partner is None:
                    theirs.close()
            self._kept = theirs

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.ours.close()
        self.join()
        self._kept.close()


@pytest.fixture
def acceptor() -> Iterator[Acceptor]:
    made = Acceptor()
    yield made
    made.close()


def hello(role: int = Role.CLIENT, name: bytes = b"stranger", version: int = PROTOCOL_VERSION) -> bytes:
    return struct.pack("!4sHB32sB", MAGIC, version, role, b"n" * 32, len(name)) + name


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(4096):
        data += more
    return data


def read_challenge(sock: socket.socket) -> bytes:
    challenge = b""
    while len(challenge) < 39 + len(b"node1"):
        challenge += sock.recv(4096)
    return challenge


def test_both_sides_learn_whom_they_speak_to(acceptor: Acceptor) -> None:
    found = connect_side(acceptor.ours, KEY, Role.NODE, "node2", "node1", SECONDS)
    acceptor.join()
    assert found.name == "node1"
    assert acceptor.partner == Partner(Role.NODE, "node2")


def test_a_connector_with_another_key_is_told_so_and_dropped(acceptor: Acceptor) -> None:
    with pytest.raises(AuthenticationFailed, match="refused"):
        connect_side(acceptor.ours, OTHER_KEY, Role.CLIENT, "c", None, SECONDS)
    acceptor.join()
    assert isinstance(acceptor.error, AuthenticationFailed)


def test_an_acceptor_without_the_key_is_found_out() -> None:
    """It may claim to accept: without the key it cannot prove itself."""
    ours, theirs = socket.socketpair()

    def impostor() -> None:
        theirs.recv(4096)
        theirs.sendall(struct.pack("!4sH32sB", MAGIC, PROTOCOL_VERSION, b"n" * 32, 5) + b"node1")
        theirs.recv(4096)
        theirs.sendall(b"\0" + b"p" * 32)

    thread = threading.Thread(target=impostor)
    thread.start()
    with pytest.raises(AuthenticationFailed, match="does not hold"):
        connect_side(ours, KEY, Role.CLIENT, "c", None, SECONDS)
    thread.join()
    ours.close()
    theirs.close()


def test_a_stranger_gets_no_byte_made_with_the_key(acceptor: Acceptor) -> None:
    acceptor.ours.sendall(hello())
    challenge = read_challenge(acceptor.ours)
    acceptor.ours.sendall(b"x" * 32)
    rest = read_all(acceptor.ours)
    assert len(challenge) == 39 + 5
    assert rest == b"\x01"


def test_a_reflected_proof_proves_nothing() -> None:
    """The stranger plays acceptor towards a real connector, and connector towards a real acceptor, and swaps proofs.

    With proofs that did not say which side made them, what the acceptor answers on a second connection would do.
    """
    victim = Acceptor()
    ours, theirs = socket.socketpair()
    outcome: list[Exception] = []

    def real_connector() -> None:
        try:
            connect_side(theirs, KEY, Role.NODE, "node2", "node1", SECONDS)
        except (AuthenticationFailed, BadRequest, OSError) as error:
            outcome.append(error)

    thread = threading.Thread(target=real_connector)
    thread.start()
    said = b""
    while len(said) < 40 + 5:
        said += ours.recv(4096)
    victim.ours.sendall(said)  # passed on: so far an honest wire
    ours.sendall(read_challenge(victim.ours))
    proof = ours.recv(32)
    ours.sendall(b"\0" + proof)  # the connector's own proof, handed back as the acceptor's
    thread.join(SECONDS)
    assert isinstance(outcome[0], AuthenticationFailed)
    ours.close()
    theirs.close()
    victim.close()


def test_a_proof_cannot_be_played_again(acceptor: Acceptor) -> None:
    """What an eavesdropper saw on one connection is of no use on the next: the acceptor's nonce is another."""

    class Recorder:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.sent: list[bytes] = []

        def settimeout(self, seconds: float | None) -> None:
            self.sock.settimeout(seconds)

        def recv(self, size: int) -> bytes:
            return self.sock.recv(size)

        def sendall(self, data: bytes) -> None:
            self.sent.append(data)
            self.sock.sendall(data)

    recorder = Recorder(acceptor.ours)
    connect_side(recorder, KEY, Role.CLIENT, "c", None, SECONDS)
    second = Acceptor()
    second.ours.sendall(recorder.sent[0])
    read_challenge(second.ours)
    second.ours.sendall(recorder.sent[1])
    assert read_all(second.ours) == b"\x01"
    second.close()


def test_a_role_cannot_be_raised_on_the_way(acceptor: Acceptor) -> None:
    """Role and name are in the proof: whoever changes a client into a node on the wire breaks it."""

    class Meddler:
        def settimeout(self, seconds: float | None) -> None:
            acceptor.ours.settimeout(seconds)

        def recv(self, size: int) -> bytes:
            return acceptor.ours.recv(size)

        def sendall(self, data: bytes) -> None:
            if data[:4] == MAGIC:
                data = data[:6] + bytes([Role.NODE]) + data[7:]
            acceptor.ours.sendall(data)

    with pytest.raises(AuthenticationFailed):
        connect_side(Meddler(), KEY, Role.CLIENT, "c", None, SECONDS)
    acceptor.join()
    assert acceptor.partner is None


def test_a_node_that_is_not_the_one_expected_is_left(acceptor: Acceptor) -> None:
    with pytest.raises(BadRequest, match="node1 answers where node3 was expected"):
        connect_side(acceptor.ours, KEY, Role.NODE, "node2", "node3", SECONDS)


def test_another_version_of_the_protocol_is_named_on_both_sides(acceptor: Acceptor) -> None:
    acceptor.ours.sendall(hello(version=PROTOCOL_VERSION + 1))
    challenge = read_challenge(acceptor.ours)
    assert struct.unpack_from("!4sH", challenge) == (MAGIC, PROTOCOL_VERSION)
    acceptor.join()
    assert f"version {PROTOCOL_VERSION + 1}" in str(acceptor.error)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: everything\r\n\r\n", b"\0" * 400])
def test_what_is_not_penncloud_is_dropped(acceptor: Acceptor, garbage: bytes) -> None:
    acceptor.ours.sendall(garbage)
    acceptor.join()
    assert isinstance(acceptor.error, BadRequest | OSError)


def test_a_stranger_who_says_nothing_is_dropped_in_time() -> None:
    silent = Acceptor(timeout=0.05)
    silent.join()
    assert isinstance(silent.error, TimeoutError)
    silent.close()


def test_a_stranger_who_speaks_slowly_does_not_win_time() -> None:
    """The limit is for the whole handshake: a byte now and then does not start it anew."""
    slow = Acceptor(timeout=0.2)
    stop = threading.Event()

    def drip() -> None:
        for byte in hello():
            try:
                slow.ours.sendall(bytes([byte]))
            except OSError:
                return
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    slow.join()
    stop.set()
    thread.join()
    assert isinstance(slow.error, TimeoutError)
    slow.close()


def test_a_missing_or_short_key_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot be read from"):
        read_key(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"secret\n")
    with pytest.raises(BadRequest, match="6 bytes long"):
        read_key(tmp_path / "short")
