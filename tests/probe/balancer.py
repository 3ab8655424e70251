"""A balancer with two servers behind it that a test may kill, stop and start."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.probe.raw_http import get
from tests.processes import start, wait_for

SERVER = Path(__file__).with_name("misbehaving_server.py")


@dataclass
class Site:
    """A balancer on `port`, its figures on `status_port`, two servers "a" and "b" behind it."""

    port: int
    status_port: int
    server_ports: dict[str, int]
    log: Path
    balancer: subprocess.Popen[bytes]
    servers: dict[str, subprocess.Popen[bytes]]

    def start_server(self, name: str) -> None:
        self.servers[name] = start(SERVER, self.server_ports[name], name, log=self.log)

    def states(self) -> dict[str, str]:
        """What the balancer thinks of each server."""
        ports = {port: name for name, port in self.server_ports.items()}
        front_ends = get(self.status_port, "/").json()["frontends"]
        return {ports[int(entry["address"].rpartition(":")[2])]: entry["state"] for entry in front_ends}

    def await_states(self, a: str, b: str) -> None:
        wait_for(lambda: self.states() == {"a": a, "b": b}, f"a being {a} and b being {b}")

    def counts(self) -> int:
        """How many requests both servers have read, leaving out health checks and these questions."""
        return sum(int(get(port, "/count").body) for port in self.server_ports.values())

    def counted(self, *asked: int) -> int:
        """Requests read since `asked`, an earlier result of `counts`."""
        return self.counts() - asked[0] - len(self.server_ports)
