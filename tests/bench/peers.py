"""What a user would pick instead, three replicas each, and the ceiling: bare processes that only frame, commit and replicate.

Their scripts and load programs are those of a folder beside this repository (`../shared/peers`, or another that is named);
its README says what they do and need. A peer that is not installed is skipped, and the report says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from tests.bench.figures import Case, Figure, figure

_RESULT = re.compile(r"ops/s=(\d+).*? p50=([\d.]+)ms p99=([\d.]+)ms")


class System(Protocol):
    """Something to measure."""

    system: str

    def missing(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def measure(self, case: Case, seconds: float) -> Figure | None: ...


class Tools:
    """The peers' folder, the Python that has their clients, and where their data goes."""

    def __init__(self, folder: Path, python: str, data: Path) -> None:
        self.folder, self.python, self.data = folder, python, data
        self._built: dict[str, Path] = {}
        self.environment = {**os.environ, "PEERS_DATA": str(data)}
        if Path(python).is_absolute():
            self.environment["PATH"] = f"{Path(python).parent}:{os.environ['PATH']}"

    def lacks(self, commands: tuple[str, ...], modules: tuple[str, ...]) -> str:
        """What is not there, in words; empty when all is."""
        if not self.folder.is_dir():
            return f"no folder {self.folder}"
        absent = [name for name in commands if shutil.which(name, path=self.environment["PATH"]) is None]
        for module in modules:
            command = [self.python, "-c", f"import {module}"]
            if subprocess.run(command, env=self.environment, capture_output=True).returncode:
                absent.append(f"Python's {module}")
        return f"not installed: {', '.join(absent)}" if absent else ""

    def script(self, name: str, *arguments: object) -> None:
        """Run a shell script of the folder."""
        command = [str(self.folder / name), *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr}")

    def program(self, name: str, *arguments: object, keys: int) -> str:
        """What a load program of the folder prints."""
        return self.output([self.python, str(self.folder / name), *map(str, arguments)], keys)

    def output(self, command: list[str], keys: int = 0) -> str:
        done = subprocess.run(
            command, env={**self.environment, "KEYS": str(keys)}, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
        return done.stdout

    def built(self, name: str) -> str:
        """A C program of the folder, compiled."""
        if name not in self._built:
            self._built[name] = self.data / name
            subprocess.run(["gcc", "-O2", "-o", str(self._built[name]), str(self.folder / f"{name}.c")], check=True)
        return str(self._built[name])


def read_result(system: str, case: Case, printed: str) -> Figure:
    """The figure in a load program's line. The programs count cells, not batches."""
    found = _RESULT.search(printed)
    if found is None:
        raise RuntimeError(f"{system}: no result in {printed!r}")
    return figure(system, case, float(found[1]), float(found[2]), float(found[3]))


class Ceiling:
    """What Python can reach on this machine: replication without anything that makes it a store."""

    system = "ceiling"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def missing(self) -> str:
        return self._tools.lacks((), ("gevent", "msgpack", "google_crc32c"))

    def start(self) -> None:
        self._tools.script("ceiling.sh", "start", "direct", 2)

    def stop(self) -> None:
        self._tools.script("ceiling.sh", "stop")

    def measure(self, case: Case, seconds: float) -> Figure | None:
        mode = "pipe" if case.shared else "one"
        arguments = (17100, 1, case.operation, mode, case.callers, case.size, seconds)
        return read_result(self.system, case, self._tools.program("ceiling_load.py", *arguments, keys=case.keys))


class Redis:
    """Append-only file synced at every write, and WAIT for both replicas (which sync too)."""

    def __init__(self, tools: Tools, compiled: bool) -> None:
        self._tools, self._compiled = tools, compiled
        self.system = "redis_c" if compiled else "redis"

    def missing(self) -> str:
        commands = ("redis-server", "redis-cli", *(["gcc"] if self._compiled else []))
        return self._tools.lacks(commands, () if self._compiled else ("redis", "hiredis"))

    def start(self) -> None:
        self._tools.script("redis_cluster.sh", "start")

    def stop(self) -> None:
        self._tools.script("redis_cluster.sh", "stop")

    def measure(self, case: Case, seconds: float) -> Figure | None:
        if self._compiled:
            mode = {"put": "setwait", "get": "get", "batch": "mset64w"}[case.operation]
            command = [self._tools.built("redis_load"), "6401", mode, case.callers, case.size, seconds, case.keys]
            return read_result(self.system, case, self._tools.output([str(part) for part in command]))
        # the fastest of Python's ways, as far as was seen: threads, and asyncio for small gets
        mode = {"put": "setwait", "get": "get", "batch": "batchw"}[case.operation]
        kind = "aio" if case.operation == "get" and case.callers > 4 else "threads"
        arguments = (mode, case.callers, case.size, seconds, 6401, kind)
        return read_result(self.system, case, self._tools.program("redis_load.py", *arguments, keys=case.keys))


class Etcd:
    """From Python by gRPC's asyncio. A put is answered when two of three have synced it."""

    system = "etcd"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        tools.environment["ETCD_EXTRA"] = "--max-request-bytes=16777216"

    def missing(self) -> str:
        return self._tools.lacks(("etcd", "etcdctl"), ("etcd3.etcdrpc", "grpc"))

    def start(self) -> None:
        self._tools.script("etcd_cluster.sh", "start")

    def stop(self) -> None:
        self._tools.script("etcd_cluster.sh", "stop")

    def measure(self, case: Case, seconds: float) -> Figure | None:
        if case.operation == "batch":
            return None
        mode = "put" if case.operation == "put" else "getl"
        if case.callers > 4:
            mode = f"aio-{mode}"
        arguments = (mode, case.callers, case.size, seconds)
        return read_result(self.system, case, self._tools.program("etcd_load.py", *arguments, keys=case.keys))


class PostgreSQL:
    """Two synchronous standbys, psycopg2, a connection for each caller."""

    system = "postgresql"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def missing(self) -> str:
        if not Path("/usr/lib/postgresql/15/bin/initdb").exists():
            return "not installed: PostgreSQL 15"
        lacking = self._tools.lacks(("runuser",), ("psycopg2",))
        enters = ["runuser", "-u", "postgres", "--", "test", "-x", str(self._tools.data)]
        if not lacking and subprocess.run(enters, capture_output=True).returncode:
            return f"its user may not enter {self._tools.data}"
        return lacking

    def start(self) -> None:
        self._tools.script("pg_cluster.sh", "start", 2)

    def stop(self) -> None:
        self._tools.script("pg_cluster.sh", "stop")

    def measure(self, case: Case, seconds: float) -> Figure | None:
        arguments = (case.operation, case.callers, case.size, seconds)
        return read_result(self.system, case, self._tools.program("pg_load.py", *arguments, keys=case.keys))


def all_peers(tools: Tools) -> list[System]:
    """The ceiling first."""
    return [Ceiling(tools), Redis(tools, True), Redis(tools, False), Etcd(tools), PostgreSQL(tools)]
