"""Which ports a cluster uses.

Two are fixed, because people and tools rely on them: the balancer's (`--port`) and the coordinator's
(`--coordinator-port`, 7400); if one is taken, the start is refused. The others are inner matters and derive from the
coordinator's: the balancer's figures +80, front ends +81…, nodes +11…. Whatever of these is taken is replaced by the next
free one of its block, so a second cluster needs nothing but two other fixed ports. They stay below the range from
which the system picks ports for outgoing connections: one of those could otherwise take a port while its process
restarts.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .errors import CannotStart

NODE_OFFSET = 11
STATUS_OFFSET = 80
FRONTEND_OFFSET = 81
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """All ports of one run."""

    public: int
    coordinator: int
    status: int
    nodes: tuple[int, ...]
    frontends: tuple[int, ...]


def is_free(bind: str, port: int) -> bool:
    """Whether a server could listen there right now.

    :raises OSError: for another reason than that somebody does already.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def require_free(bind: str, port: int, what: str, option: str) -> None:
    """:raises CannotStart: with a sentence that names the port, what it is for, and the option that changes it."""
    try:
        free = is_free(bind, port)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise CannotStart(f"The {what} cannot listen on {bind}:{port}: {reason}.") from error
    if not free:
        raise CannotStart(
            f"Port {port}, which the {what} needs, is taken by another program; choose another one with {option}."
        )


def settle(
    bind: str,
    public: int,
    coordinator: int,
    *,
    nodes: int,
    frontends: int,
    free: Callable[[str, int], bool] = is_free,
) -> Ports:
    """All ports of a run.

    :raises CannotStart: a fixed port cannot be had, or no inner one is left in its block.
    """
    if public == coordinator:
        raise CannotStart(f"The load balancer and the coordinator cannot both listen on port {public}.")
    require_free(bind, public, "load balancer", "--port")
    require_free(LOOPBACK, coordinator, "coordinator", "--coordinator-port")
    used = {public, coordinator}

    def pick(candidates: Iterable[int]) -> int:
        for candidate in candidates:
            if candidate <= 65535 and candidate not in used and free(LOOPBACK, candidate):
                used.add(candidate)
                return candidate
        raise CannotStart(f"There are not enough free ports above {coordinator}; choose another --coordinator-port.")

    block = range(coordinator + NODE_OFFSET, coordinator + 1000)
    status = pick(block[STATUS_OFFSET - NODE_OFFSET :])
    node_ports = tuple(pick(block[index:]) for index in range(nodes))
    frontend_ports = tuple(pick(block[FRONTEND_OFFSET - NODE_OFFSET + index :]) for index in range(frontends))
    return Ports(public, coordinator, status, node_ports, frontend_ports)
