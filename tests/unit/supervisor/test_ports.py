"""Two ports are fixed, the others go where there is room."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from penncloud_site.supervisor.errors import CannotStart
from penncloud_site.supervisor.ports import is_free, settle
from tests.processes import free_port_block


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", free_port_block(1)))
        sock.listen()
        yield sock


def test_inner_ports_derive_from_the_coordinators() -> None:
    base = free_port_block(100)
    ports = settle("127.0.0.1", base + 99, base, nodes=3, frontends=2)
    assert (ports.public, ports.coordinator, ports.status) == (base + 99, base, base + 80)
    assert ports.nodes == (base + 11, base + 12, base + 13)
    assert ports.frontends == (base + 81, base + 82)


def test_taken_inner_ports_are_passed_over() -> None:
    base = free_port_block(100)
    taken = {base + 12, base + 80, base + 82}
    ports = settle("127.0.0.1", base + 99, base, nodes=3, frontends=2, free=lambda _, port: port not in taken)
    assert ports.nodes == (base + 11, base + 13, base + 14)
    assert ports.status == base + 81
    assert ports.frontends == (base + 83, base + 84)


def test_the_public_port_is_never_given_to_an_inner_server() -> None:
    base = free_port_block(100)
    assert settle("127.0.0.1", base + 81, base, nodes=1, frontends=1).frontends == (base + 82,)


def test_a_taken_fixed_port_is_refused_in_one_sentence(listener: socket.socket) -> None:
    taken, base = listener.getsockname()[1], free_port_block(100)
    with pytest.raises(CannotStart, match=rf"^Port {taken}, which the load balancer needs, is taken .* --port\.$"):
        settle("127.0.0.1", taken, base, nodes=1, frontends=1)
    with pytest.raises(CannotStart, match=rf"^Port {taken}, which the coordinator needs, .* --coordinator-port\.$"):
        settle("127.0.0.1", base, taken, nodes=1, frontends=1)


def test_the_two_fixed_ports_must_differ() -> None:
    with pytest.raises(CannotStart, match="cannot both listen"):
        settle("127.0.0.1", 7400, 7400, nodes=1, frontends=1)


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"cannot listen on 192\.0\.2\.1"):
        settle("192.0.2.1", free_port_block(1), free_port_block(1), nodes=1, frontends=1)
    with pytest.raises(CannotStart, match="cannot listen on not-an-address"):
        settle("not-an-address", free_port_block(1), free_port_block(1), nodes=1, frontends=1)


def test_no_room_left_is_refused() -> None:
    with pytest.raises(CannotStart, match="not enough free ports"):
        settle("127.0.0.1", free_port_block(1), free_port_block(1), nodes=1, frontends=1, free=lambda *_: False)


def test_a_port_is_free_again_at_once_when_its_server_is_gone(listener: socket.socket) -> None:
    """The connection that the server closed first stays behind in TIME_WAIT; that must not keep a restart out."""
    port = listener.getsockname()[1]
    assert not is_free("127.0.0.1", port)
    client = socket.create_connection(("127.0.0.1", port))
    served, _ = listener.accept()
    served.close()
    client.close()
    listener.close()
    assert is_free("127.0.0.1", port)
