"""The handshake: both sides prove that they hold the cluster key before anything else is read or answered.

Challenge and response with HMAC-SHA256 (RFC 2104); the key itself never travels. Integers are big-endian.

    connector → acceptor   hello      4s "PCKV", u16 version, u8 role, 32s nonce, u8 length, name
    acceptor → connector   challenge  4s "PCKV", u16 version, 32s nonce, u8 length, name
    connector → acceptor   proof      32s HMAC(key, "penncloud connector" ‖ hello ‖ challenge)
    acceptor → connector   verdict    u8: 0 accepted, 1 refused
                                      after 0: 32s HMAC(key, "penncloud acceptor" ‖ hello ‖ challenge)

What each part is for:

- Both nonces are in both proofs, so neither side's proof can be played again on another connection.
- The two proofs begin with different words, so a stranger who opens a second connection and hands back what it was sent (a
  reflection) proves nothing.
- Role and names are in the proofs, so they cannot be changed on the way; the connector checks that the name is of the node
  that it meant to reach, since an address may have passed to another node.
- The connector proves itself first: a stranger who connects gets no byte that was made with the key.
- Before the acceptance, an acceptor reads at most `HELLO_MOST` + 32 bytes, allocates nothing that a stranger chose the size
  of, and gives up after `HANDSHAKE_TIMEOUT`.

Both sides state the protocol version that they speak; they must be equal.
"""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from kvstore import clock
from kvstore.errors import AuthenticationFailed, BadRequest
from kvstore.wire import PROTOCOL_VERSION

MAGIC = b"PCKV"
NONCE = 32
PROOF = 32
KEY_LEAST = 32
"""Shortest cluster key, in bytes."""

_HELLO = struct.Struct("!4sHB32sB")
_CHALLENGE = struct.Struct("!4sH32sB")
assert _HELLO.size == 40
assert _CHALLENGE.size == 39
HELLO_MOST = _HELLO.size + 255

_CONNECTOR = b"penncloud connector"
_ACCEPTOR = b"penncloud acceptor"
_ACCEPTED, _REFUSED = b"\x00", b"\x01"


class Role(IntEnum):
    """What a connector is, which decides what it may send."""

    CLIENT = 1  # a front end, the console, a supervisor, the command line
    NODE = 2  # a storage node, to a peer or to the coordinator


@dataclass(slots=True, frozen=True)
class Partner:
    """Who is at the other end, proved by the key."""

    role: Role
    name: str


class Socket(Protocol):
    """What the handshake needs of a socket, gevent's or Python's own."""

    def settimeout(self, seconds: float | None, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...


def read_key(path: str | os.PathLike[str]) -> bytes:
    """The cluster key in the file `path`; `BadRequest` with a clear sentence when there is none that will do."""
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise BadRequest(f"the cluster key cannot be read from {path}: {error.strerror}") from error
    if len(key) < KEY_LEAST:
        raise BadRequest(f"the cluster key in {path} is {len(key)} bytes long; it must have at least {KEY_LEAST}")
    return key


def connect_side(sock: Socket, key: bytes, role: Role, name: str, expected: str | None, timeout: float) -> Partner:
    """Prove ourselves to the acceptor and have it prove itself; who it says it is.

    `expected`: the name that it must have, None for any. Raises `AuthenticationFailed`, `BadRequest` (another protocol
    version, or not PennCloud at all), or `OSError` when the connection ends or `timeout` seconds pass.
    """
    deadline = clock.now() + timeout
    hello = _HELLO.pack(MAGIC, PROTOCOL_VERSION, role, os.urandom(NONCE), len(name.encode())) + name.encode()
    sock.settimeout(timeout)
    sock.sendall(hello)
    head = _exactly(sock, _CHALLENGE.size, deadline)
    magic, version, _, length = _CHALLENGE.unpack(head)
    _check_speech(magic, version)
    challenge = head + _exactly(sock, length, deadline)
    sock.sendall(_proof(key, _CONNECTOR, hello, challenge))
    if _exactly(sock, 1, deadline) != _ACCEPTED:
        raise AuthenticationFailed("the cluster key was refused: this process holds another one than the cluster")
    if not hmac.compare_digest(_exactly(sock, PROOF, deadline), _proof(key, _ACCEPTOR, hello, challenge)):
        raise AuthenticationFailed("the other side does not hold the cluster key")
    found = _text(challenge[_CHALLENGE.size :])
    if expected is not None and found != expected:
        raise BadRequest(f"{found} answers where {expected} was expected")
    return Partner(Role.NODE, found)


def accept_side(sock: Socket, key: bytes, name: str, timeout: float) -> Partner:
    """Have the connector prove itself, then prove ourselves; who it is. `name`: our own. Raises as `connect_side`."""
    deadline = clock.now() + timeout
    sock.settimeout(timeout)
    head = _exactly(sock, _HELLO.size, deadline)
    magic, version, role, _, length = _HELLO.unpack(head)
    if magic != MAGIC:
        raise BadRequest("not PennCloud's protocol")
    challenge = _CHALLENGE.pack(MAGIC, PROTOCOL_VERSION, os.urandom(NONCE), len(name.encode())) + name.encode()
    hello = head + _exactly(sock, length, deadline)
    sock.sendall(challenge)  # also to a connector of another version, so that it can say which two do not fit
    _check_speech(magic, version)
    if not hmac.compare_digest(_exactly(sock, PROOF, deadline), _proof(key, _CONNECTOR, hello, challenge)):
        sock.sendall(_REFUSED)
        raise AuthenticationFailed("the connector does not hold the cluster key")
    try:
        partner = Partner(Role(role), _text(hello[_HELLO.size :]))
    except ValueError as error:
        raise BadRequest(f"unknown role {role}") from error
    sock.sendall(_ACCEPTED + _proof(key, _ACCEPTOR, hello, challenge))
    return partner


def _proof(key: bytes, side: bytes, hello: bytes, challenge: bytes) -> bytes:
    return hmac.digest(key, side + hello + challenge, "sha256")


def _check_speech(magic: bytes, version: int) -> None:
    if magic != MAGIC:
        raise BadRequest("not PennCloud's protocol")
    if version != PROTOCOL_VERSION:
        raise BadRequest(
            f"the other side speaks version {version} of the protocol, this one version {PROTOCOL_VERSION}"
        )


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("a name that is not text") from error


def _exactly(sock: Socket, size: int, deadline: float) -> bytes:
    """`size` bytes, at most 255 of them chosen by the other side, before `deadline`."""
    data = b""
    while len(data) < size:
        left = deadline - clock.now()
        if left <= 0:
            raise TimeoutError("the handshake took too long")
        sock.settimeout(left)
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the connection ended during the handshake")
        data += more
    return data
