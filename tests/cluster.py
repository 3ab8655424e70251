"""Whole clusters of real processes for tests.

:class:`StoreCluster` is a coordinator and storage nodes alone, started by the test itself: for tests that talk to the
store. :class:`WebCluster` is what users run, `manage.py cluster`, with front ends and balancer, under its supervisor.
Both live in a folder of their own, on ports of their own, and leave no process behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kvstore.admin import Admin
from kvstore.client import Client, connect
from kvstore.errors import StoreError
from penncloud_site import tablets
from penncloud_site.supervisor.control import SupervisorClient
from penncloud_site.supervisor.pidfile import read_pid_file
from tests.evidence import may_be_asked
from tests.processes import end, free_port_block, is_alive, start, wait_for

HEALTHY_TIMEOUT = 60.0


def is_whole(status: dict[str, Any], replication: int) -> bool:
    """Whether every tablet has a primary and as many in-sync replicas as it should, in a coordinator's status."""
    found = status["tablets"]
    return bool(found) and all(each["primary"] and len(each["in_sync"]) == replication for each in found)


def are_alike(tablet: dict[str, Any], replication: int) -> bool:
    """Whether all replicas of the tablet, in a coordinator's status, are in sync and report the same state."""
    copies = tablet["copies"]
    states = {(copy["sequence"], copy["commit"], copy["digest"]) for copy in copies}
    return len(tablet["in_sync"]) == len(copies) == replication and len(states) == 1


class Machines:
    """Where a cluster's processes run: here, all of them. `tests.probe.hosts` has others."""

    def address(self, name: str) -> str:
        """The address at which the process listens."""
        return "127.0.0.1"

    def command(self, name: str) -> list[str]:
        """What a process's command line must begin with to run there."""
        return []


class Store:
    """What both kinds of cluster offer: clients, control, and the coordinator's word on how things stand."""

    coordinators: str
    key_file: Path
    replication: int

    def client(self, timeout: float = 10.0) -> Client:
        """A client of its own; the caller closes it."""
        return connect(self.coordinators, str(self.key_file), timeout)

    def admin(self, timeout: float = 10.0) -> Admin:
        """Control of its own; the caller closes it."""
        return Admin.connect(self.coordinators, str(self.key_file), timeout)

    def status(self) -> dict[str, Any]:
        """The coordinator's status, as `Admin.status` gives it."""
        return self.ask_status(10.0)

    def ask_status(self, timeout: float) -> dict[str, Any]:
        """The same, within so many seconds."""
        admin = self.admin(timeout)
        try:
            return admin.status()
        finally:
            admin.close()

    def tablet_of(self, row: str) -> dict[str, Any]:
        """The tablet that holds the row, as the status describes it."""
        for tablet in self.status()["tablets"]:
            if tablet["start"] <= row and (not tablet["end"] or row < tablet["end"]):
                return tablet
        raise AssertionError(f"no tablet holds {row!r}")

    def primary_of(self, row: str) -> str:
        """The node that leads the row's tablet."""
        primary = self.tablet_of(row)["primary"]
        assert isinstance(primary, str), f"nobody leads the tablet of {row!r}"
        return primary

    def wait_until_alike(self, timeout: float = HEALTHY_TIMEOUT) -> dict[str, Any]:
        """The status, once all replicas of every tablet are in sync and report the same digest at the same commit point:
        nobody must be writing."""
        self.wait_until_whole(timeout)
        differ: list[Any] = []

        def alike() -> dict[str, Any] | None:
            status = self.status()
            differ[:] = [each for each in status["tablets"] if not are_alike(each, self.replication)]
            return None if differ else status

        try:
            found = wait_for(alike, "all replicas being alike", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{differ}") from None
        assert found is not None
        return found

    def wait_until_whole(self, timeout: float = HEALTHY_TIMEOUT) -> dict[str, Any]:
        """The status, once every tablet has a primary and its full in-sync set."""
        seen: dict[str, Any] = {"nodes": [], "tablets": []}

        def whole() -> bool:
            with contextlib.suppress(StoreError):
                seen.update(self.status())
            return is_whole(seen, self.replication)

        try:
            wait_for(whole, "every tablet having all its replicas in sync", timeout)
        except AssertionError as error:
            nodes = [(node["id"], node["state"], node["last_heartbeat_s"]) for node in seen["nodes"]]
            short = [tablet for tablet in seen["tablets"] if len(tablet["in_sync"]) != self.replication]
            raise AssertionError(f"{error}\nnodes: {nodes}\nshort of replicas: {short}") from None
        return seen


class StoreCluster(Store):
    """Coordinator and nodes, named as under the supervisor: coordinator, node1, node2, …"""

    def __init__(
        self, folder: Path, nodes: int = 3, machines: Machines | None = None, node_options: Sequence[object] = ()
    ) -> None:
        """Nothing runs yet. `folder`: for everything that it keeps. `machines`: where its processes are to run.
        `node_options`: what each node is told besides."""
        self.folder = folder
        self.machines = machines or Machines()
        self._node_options = node_options
        self.port = free_port_block()
        self.coordinators = f"{self.machines.address('coordinator')}:{self.port}"
        self.key_file = folder / "cluster.key"
        self.replication = min(3, nodes)
        self.names = ["coordinator", *(f"node{number}" for number in range(1, nodes + 1))]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        may_be_asked(self)
        (folder / "run").mkdir()
        self.key_file.write_text(secrets.token_hex(32))
        (folder / "creation.json").write_text(json.dumps(tablets.creation(self.replication)))

    def start(self, *names: str) -> None:
        """Start the named processes (all, if none is named) that are not running."""
        for name in names or self.names:
            if name not in self._processes or self._processes[name].poll() is not None:
                self._processes[name] = start(
                    *self._command(name), log=self.folder / f"{name}.log", before=self.machines.command(name)
                )

    def address(self, name: str) -> str:
        """`host:port` where the process listens."""
        return f"{self.machines.address(name)}:{self.port + self.names.index(name)}"

    def data_folder(self, name: str) -> Path:
        """Where the process keeps its data."""
        return self.folder / name

    def _command(self, name: str) -> list[object]:
        files: list[object] = ["--data-dir", self.data_folder(name), "--key-file", self.key_file]
        files += ["--pid-file", self.folder / "run" / f"{name}.pid"]
        index = self.names.index(name)
        if index == 0:
            creation = ["--nodes-expected", len(self.names) - 1, "--create-with", self.folder / "creation.json"]
            return ["-m", "kvstore", "coordinator", "--listen", self.address(name), *files, *creation]
        listen = ["--listen", self.address(name)]
        return [
            "-m",
            "kvstore",
            "node",
            "--id",
            name,
            *listen,
            *files,
            "--coordinators",
            self.coordinators,
            *self._node_options,
        ]

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def ended(self) -> list[str]:
        """Whose process was started and runs no more."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send the signal; after SIGKILL the process is gone when this returns."""
        self._processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self._processes[name].wait()

    def kill_all(self) -> None:
        """As a power cut: every process is killed before any of their deaths is looked at."""
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self._processes.values():
            process.wait()

    def kill_and_tell(self, name: str) -> None:
        """As under the supervisor: kill the process, reap it, and tell the coordinator that it is gone."""
        self.kill(name)
        admin = self.admin()
        try:
            admin.process_exited(name, self.pid(name))
        finally:
            admin.close()

    def end(self, name: str) -> None:
        """Have the process stop in order; it is gone when this returns."""
        end(self._processes[name])

    def stop(self) -> None:
        """End all processes, the coordinator first: nodes then end at once, and every in-sync set stays whole."""
        for name in self.names:
            if name in self._processes:
                end(self._processes[name])

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> list[Path]:
        """Where each process's output goes."""
        return [self.folder / f"{name}.log" for name in self.names]


@contextlib.contextmanager
def running_store(folder: Path, nodes: int = 3, node_options: Sequence[object] = ()) -> Iterator[StoreCluster]:
    """A store that runs and has all its replicas, for the length of the block."""
    cluster = StoreCluster(folder, nodes, node_options=node_options)
    try:
        cluster.start()
        cluster.wait_until_whole()
        yield cluster
    finally:
        cluster.stop()


class WebCluster(Store):
    """`manage.py cluster` as a user starts it. `output` is what its terminal would show."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.data_dir = folder / "data"
        self.output_file = folder / "terminal"
        self.port = free_port_block()
        self.coordinator_port = free_port_block()
        self.coordinators = f"127.0.0.1:{self.coordinator_port}"
        self.key_file = self.data_dir / "cluster.key"
        self.replication = 3
        self.url = f"http://127.0.0.1:{self.port}"
        self.supervisor: subprocess.Popen[bytes] | None = None
        self._environment = environment
        may_be_asked(self)

    def logs(self) -> list[Path]:
        """What its terminal shows, and each process's own."""
        return [self.output_file, *sorted((self.data_dir / "log").glob("*.log"))]

    def start(self, *options: object, wait: bool = True) -> None:
        """Start it, and wait for the line that says where it runs."""
        self.output_file.write_bytes(b"")
        self.supervisor = start(
            "manage.py", "cluster", "--data-dir", self.data_dir, "--port", self.port,
            "--coordinator-port", self.coordinator_port, *options, log=self.output_file, env=self._environment,
        )  # fmt: skip
        if wait:
            self.wait_until_running()

    def wait_until_running(self, timeout: float = 90.0) -> None:
        def running() -> bool:
            assert self.supervisor is not None
            assert self.supervisor.poll() is None, f"the cluster did not start: {self.output}"
            return "PennCloud is running at" in self.output

        wait_for(running, f"the cluster's start; it shows\n{self.output}\nand", timeout)

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    @property
    def operator_password(self) -> str:
        """The password of the account `operator`, as shown at the first start, a line or two after where it runs."""

        def shown() -> str:
            found = re.search(r"^Password: +(\S+) ", self.output, re.MULTILINE)
            return found[1] if found else ""

        return str(wait_for(shown, f"the password being shown behind\n{self.output}\nand so", 10))

    @property
    def control(self) -> SupervisorClient:
        return SupervisorClient(self.data_dir)

    def names(self) -> list[str]:
        """All processes but the supervisor."""
        return [process["name"] for process in self.control.status()]

    def pid(self, name: str) -> int:
        """From the pid file, waiting for it if the process is just starting."""
        path = self.data_dir / "run" / f"{name}.pid"
        found = wait_for(lambda: read_pid_file(path), f"the pid file of {name}")
        assert found is not None
        return found

    def pids(self) -> dict[str, int]:
        """Every process of the cluster by its name, the supervisor too."""
        return {name: self.pid(name) for name in (*self.names(), "supervisor")}

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send the signal to the process itself, past the supervisor; its process id."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def wait_until_back(self, name: str, not_pid: int, timeout: float = 30.0) -> int:
        """Wait until the supervisor has started the process anew and it is ready; the new process id."""

        def back() -> int | None:
            process = next(each for each in self.control.status() if each["name"] == name)
            return process["pid"] if process["state"] == "ready" and process["pid"] != not_pid else None

        found = wait_for(back, f"{name} coming back", timeout)
        assert found is not None
        return found

    def log(self, name: str) -> str:
        return (self.data_dir / "log" / f"{name}.log").read_text(errors="replace")

    def stop(self, number: int = signal.SIGINT, timeout: float = 15.0) -> int:
        """As Ctrl-C does; the exit status. Fails if a process is left."""
        assert self.supervisor is not None
        pids = self.pids() if "PennCloud is running at" in self.output else {}
        status = end(self.supervisor, number, timeout)
        left = {name: pid for name, pid in pids.items() if is_alive(pid)}
        assert not left, f"these processes are left: {left}"
        return status

    def destroy(self) -> None:
        """End it whatever its state. The kernel takes the children along with the supervisor."""
        if self.supervisor is not None and self.supervisor.poll() is None:
            try:
                end(self.supervisor, signal.SIGTERM, 15.0)
            except subprocess.TimeoutExpired:
                end(self.supervisor, signal.SIGKILL)
