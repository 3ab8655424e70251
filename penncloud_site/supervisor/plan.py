"""Which processes make up a cluster, how each is started, and in which order they start and stop. Pure.

Starting: the coordinator first; then nodes and front ends together (a front end connects to the store when it is first
asked); then the balancer. Stopping: balancer and front ends, which need the store; then the coordinator, *before* the nodes.
It would take every node that ends out of the in-sync sets, until they held the last one alone, and all others had to
learn anew at the next start. With the coordinator gone the sets stay whole, and the nodes end at once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum

from kvstore import settings

from .data_folder import DataFolder
from .ports import LOOPBACK, Ports


class Kind(Enum):
    """What a process is. The value is the order of stopping."""

    BALANCER = 0
    FRONTEND = 1
    COORDINATOR = 2
    NODE = 3


START_ORDER = ((Kind.COORDINATOR,), (Kind.NODE, Kind.FRONTEND), (Kind.BALANCER,))
STOP_ORDER = ((Kind.BALANCER,), (Kind.FRONTEND,), (Kind.COORDINATOR,), (Kind.NODE,))


@dataclass(frozen=True)
class ProcessSpec:
    """One process. `address` is where it listens; it is ready when it has written its pid file."""

    name: str
    kind: Kind
    command: tuple[str, ...]
    address: tuple[str, int]


def plan(
    folder: DataFolder,
    ports: Ports,
    bind: str,
    rebuild_after: str | None = None,
    scrub_period: float = settings.SCRUB_PERIOD,
) -> list[ProcessSpec]:
    """All processes of a cluster, with their names as pid files and the console use them. `rebuild_after`: what the coordinator
    is told, if anything; `scrub_period`: what the nodes are."""
    store = [_coordinator(folder, ports, rebuild_after)]
    store += [_node(folder, ports, number, scrub_period) for number in range(1, len(ports.nodes) + 1)]
    fronts = [_frontend(folder, ports, number) for number in range(1, len(ports.frontends) + 1)]
    return [*store, *fronts, _balancer(folder, ports, bind)]


def environment(folder: DataFolder, ports: Ports, bind: str) -> dict[str, str]:
    """The variables by which front ends and commands find this cluster (see penncloud_site.settings)."""
    return {
        "PENNCLOUD_DATA_DIR": str(folder.path),
        "PENNCLOUD_COORDINATORS": f"{LOOPBACK}:{ports.coordinator}",
        "PENNCLOUD_KEY_FILE": str(folder.cluster_key),
        "PENNCLOUD_SECRET_KEY_FILE": str(folder.secret_key),
        "PENNCLOUD_BALANCER_STATUS": f"http://{LOOPBACK}:{ports.status}/",
        "PENNCLOUD_STATIC_ROOT": str(folder.static),
        "PENNCLOUD_BIND": bind,
        "PYTHONUNBUFFERED": "1",
    }


def _python(*arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", *map(str, arguments))


def _coordinator(folder: DataFolder, ports: Ports, rebuild_after: str | None) -> ProcessSpec:
    told = () if rebuild_after is None else ("--rebuild-after", rebuild_after)
    name, address = "coordinator", (LOOPBACK, ports.coordinator)
    command = _python(
        "kvstore", "coordinator",
        "--listen", f"{LOOPBACK}:{ports.coordinator}",
        "--data-dir", folder.data(name),
        "--key-file", folder.cluster_key,
        "--nodes-expected", len(ports.nodes),
        "--create-with", folder.creation_file,
        *told,
        "--pid-file", folder.pid_file(name),
    )  # fmt: skip
    return ProcessSpec(name, Kind.COORDINATOR, command, address)


def _node(folder: DataFolder, ports: Ports, number: int, scrub_period: float) -> ProcessSpec:
    name, port = f"node{number}", ports.nodes[number - 1]
    command = _python(
        "kvstore", "node",
        "--id", name,
        "--listen", f"{LOOPBACK}:{port}",
        "--data-dir", folder.data(name),
        "--key-file", folder.cluster_key,
        "--coordinators", f"{LOOPBACK}:{ports.coordinator}",
        "--scrub-period", f"{scrub_period:g}",
        "--pid-file", folder.pid_file(name),
    )  # fmt: skip
    return ProcessSpec(name, Kind.NODE, command, (LOOPBACK, port))


def _frontend(folder: DataFolder, ports: Ports, number: int) -> ProcessSpec:
    name, port = f"frontend{number}", ports.frontends[number - 1]
    command = _python("penncloud_site.frontend", "--port", port, "--pid-file", folder.pid_file(name))
    return ProcessSpec(name, Kind.FRONTEND, command, (LOOPBACK, port))


def _balancer(folder: DataFolder, ports: Ports, bind: str) -> ProcessSpec:
    name = "loadbalancer"
    fronts = [item for port in ports.frontends for item in ("--frontend", f"{LOOPBACK}:{port}")]
    command = _python(
        "penncloud_site.loadbalancer",
        "--bind", bind,
        "--port", ports.public,
        "--status-port", ports.status,
        *fronts,
        "--pid-file", folder.pid_file(name),
    )  # fmt: skip
    return ProcessSpec(name, Kind.BALANCER, command, (reachable(bind), ports.public))


def reachable(bind: str) -> str:
    """An address of this machine under which a server bound to `bind` answers."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(bind, bind)  # noqa: S104  (compared with, not bound to)
