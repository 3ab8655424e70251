"""From options to a running cluster, and back: the whole life of `manage.py cluster`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from kvstore.client import connect
from kvstore.errors import StoreError
from penncloud_site import tablets

from . import ports as port_choice
from .child import CODE, Child, State
from .data_folder import DataFolder, Record, write_durably
from .errors import CannotStart
from .notice import tell_coordinator
from .options import ClusterOptions, settled_size
from .pidfile import remove_pid_file, write_pid_file
from .plan import START_ORDER, ProcessSpec, environment, plan, reachable
from .ports import LOOPBACK, Ports
from .report import Report
from .supervisor import Supervisor

READY_TIMEOUT = 60.0
"""Seconds that each step of a start may take. A node that replays a long log accepts connections early on."""
STORE_TIMEOUT = 60.0
DEATHS_AT_START = 3
"""So many deaths of one process before it was ever ready, and the start is given up."""
OPERATOR = "operator"


class Interrupted(Exception):
    """Somebody asked us to stop before everything had started."""


@dataclass
class Cluster:
    """A cluster about to run: everything is decided, nothing is started."""

    folder: DataFolder
    ports: Ports
    bind: str
    record: Record
    replication: int
    specs: list[ProcessSpec] = field(default_factory=list)

    @property
    def url(self) -> str:
        host = reachable(self.bind)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.ports.public}/"

    @property
    def coordinators(self) -> str:
        return f"{LOOPBACK}:{self.ports.coordinator}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of every process."""
        return {**os.environ, **environment(self.folder, self.ports, self.bind)}


def run(options: ClusterOptions, report: Report | None = None) -> None:
    """Run a cluster until a signal says stop. Returns when every process is gone.

    :raises CannotStart: with one sentence; nothing runs then.
    """
    report = report or Report()
    folder = DataFolder(options.data_dir)
    folder.open()
    pid_file = folder.pid_file("supervisor")
    try:
        cluster = prepare(options, folder)
        write_pid_file(pid_file)
        report.begin(folder.path, len(cluster.ports.nodes), cluster.replication)
        _run(cluster, report)
    finally:
        remove_pid_file(pid_file, os.getpid())
        folder.close()


def prepare(options: ClusterOptions, folder: DataFolder) -> Cluster:
    """Settle size and ports, and write down what was settled. The folder is open.

    :raises CannotStart: options contradict what is there, or a port is taken.
    """
    record = folder.read_record()
    nodes, replication = settled_size(options, record.nodes, record.replication)
    ports = port_choice.settle(
        options.bind, options.port, options.coordinator_port, nodes=nodes, frontends=options.frontends
    )
    cluster = Cluster(folder, ports, options.bind, record, replication)
    record.nodes, record.replication = nodes, replication
    record.url, record.coordinators = cluster.url, cluster.coordinators
    record.balancer_status = f"{LOOPBACK}:{ports.status}"
    cluster.specs = plan(folder, ports, options.bind, options.rebuild_after, options.scrub_period)
    record.addresses = {spec.name: f"{spec.address[0]}:{spec.address[1]}" for spec in cluster.specs}
    folder.write_record(record)
    creation = json.dumps(tablets.creation(replication), indent=2).encode() + b"\n"
    write_durably(folder.creation_file, creation, 0o644)
    return cluster


def _run(cluster: Cluster, report: Report) -> None:
    children = [Child(spec, cluster.folder, cluster.variables) for spec in cluster.specs]

    def node_gone(name: str, pid: int) -> None:
        tell_coordinator(cluster.coordinators, str(cluster.folder.cluster_key), name, pid)

    supervisor = Supervisor(cluster.folder, children, report, node_gone)
    try:
        _start(cluster, supervisor)
        while not supervisor.stop_signals:
            supervisor.step()
    except Interrupted:
        pass
    finally:
        try:
            supervisor.stop_all()
        finally:
            supervisor.close()
    report.end()


def _start(cluster: Cluster, supervisor: Supervisor) -> None:
    """Everything from the coordinator to the line that says where to go."""
    _collect_static_files(cluster, supervisor)
    for kinds in START_ORDER:
        group = [child for child in supervisor.children.values() if child.spec.kind in kinds]
        for child in group:
            supervisor.start(child)
        _await_ready(cluster, supervisor, group)
    _await_store(cluster, supervisor)
    password = None if cluster.record.operator_made else _make_operator(cluster, supervisor)
    supervisor.report.running(cluster.url, cluster.folder.path)
    if password is not None:
        supervisor.report.operator(OPERATOR, password)


def _collect_static_files(cluster: Cluster, supervisor: Supervisor) -> None:
    """Put what browsers fetch, compressed and under names with hashes, where the front ends serve it from. Under a second.

    At every start, since the code may have changed. What was there stays: pages that are open still ask for it.

    :raises CannotStart: without these files no page can be shown.
    """
    command = [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity", "0"]
    status, _, error = _command(command, cluster.variables, supervisor)
    if status != 0:
        last = error.strip().splitlines()[-1:] or ["no reason was given"]
        raise CannotStart(f"The static files could not be collected in {cluster.folder.static}: {last[0]}")


def _await_ready(cluster: Cluster, supervisor: Supervisor, group: list[Child]) -> None:
    """:raises CannotStart: one of them keeps dying, or does not become ready in time."""
    deadline = time.monotonic() + READY_TIMEOUT
    while waiting := [child for child in group if child.state is not State.READY]:
        supervisor.report.awaiting(waiting)
        for child in waiting:
            dies = child.restarts.quick_deaths >= DEATHS_AT_START
            if dies or time.monotonic() > deadline:
                what = "ends again and again" if dies else f"is not ready after {READY_TIMEOUT:.0f} s"
                raise CannotStart(
                    f"{child.name} {what}; its log, {cluster.folder.log_file(child.name)}, ends with: "
                    f"{child.last_words() or 'nothing'}"
                )
        _step(supervisor)
    supervisor.report.awaiting([])


def _step(supervisor: Supervisor) -> None:
    supervisor.step(0.5)
    if supervisor.stop_signals:
        raise Interrupted


def _await_store(cluster: Cluster, supervisor: Supervisor) -> None:
    """Wait until every tablet answers a read: after a crash of everything, nodes first agree on who has what."""
    done = threading.Event()
    failure: list[str] = []

    def ask() -> None:
        try:
            client = connect(cluster.coordinators, str(cluster.folder.cluster_key), STORE_TIMEOUT)
            try:
                for row in ("a", *tablets.SPLIT_KEYS):
                    client.get(row, "health")
            finally:
                client.close()
        except (StoreError, OSError) as error:
            failure.append(str(error))
        finally:
            done.set()

    threading.Thread(target=ask, name="store-gate", daemon=True).start()
    while not done.is_set():
        supervisor.step(0.05)
        if supervisor.stop_signals:
            raise Interrupted
    if failure:
        supervisor.report.note(f"Not all data can be reached yet: {failure[0]}", "bold red")


def _make_operator(cluster: Cluster, supervisor: Supervisor) -> str | None:
    """Make the first operator's account; its password if it is new. A failure is reported, and tried again at the next
    start: the cluster is of use without an operator."""
    command = [sys.executable, "manage.py", "createoperator", OPERATOR, "--random", "--json"]
    status, output, error = _command(command, cluster.variables, supervisor)
    if status != 0:
        last = error.strip().splitlines()[-1:] or ["no reason was given"]
        supervisor.report.note(f"The operator's account could not be made: {last[0]}", "bold red")
        return None
    cluster.record.operator_made = True
    cluster.folder.write_record(cluster.record)
    password = json.loads(output)["password"]
    if password is None:
        # An earlier start was broken off after the account was made and before its password was shown: nobody knows it.
        supervisor.report.note(
            f"The account {OPERATOR} exists already; its password was made earlier and is not shown again. If nobody has it, "
            "make another operator with: manage.py createoperator NAME --random",
            "bold",
        )
    return password


def _command(command: list[str], variables: Mapping[str, str], supervisor: Supervisor) -> tuple[int, str, str]:
    """Run a command while the loop goes on: (exit status, output, errors)."""
    process = subprocess.Popen(
        command, cwd=CODE, env=dict(variables), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        while process.poll() is None:
            _step(supervisor)
    except BaseException:
        process.kill()
        process.wait()
        raise
    output, error = process.communicate()
    return process.returncode, output, error
