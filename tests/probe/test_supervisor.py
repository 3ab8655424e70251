"""`manage.py cluster` as an operator meets it: starting, stopping, refusing, restarting."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from penncloud_site.supervisor.control import Refused
from tests.cluster import WebCluster
from tests.processes import ROOT, free_port_block, is_alive, port_is_free, start, wait_for

pytestmark = pytest.mark.probe

NAMES = {"coordinator", "node1", "node2", "node3", "frontend1", "frontend2", "loadbalancer"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebCluster]:
    """A cluster whose processes may be killed; each test leaves all of them running."""
    cluster = WebCluster(tmp_path_factory.mktemp("supervised"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[WebCluster]:
    """A cluster that the test starts and stops itself."""
    cluster = WebCluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.destroy()


def page(cluster: WebCluster, path: str = "/accounts/login/") -> int:
    with urllib.request.urlopen(cluster.url + path, timeout=30) as answer:
        return answer.status


def attempt(*options: object) -> subprocess.CompletedProcess[str]:
    """`manage.py cluster` that is expected to refuse."""
    command = [sys.executable, "manage.py", "cluster", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


# --- starting and stopping -------------------------------------------------------------------------------------------


def test_it_starts_says_where_it_is_leaves_nothing_behind_and_finds_everything_again(own: WebCluster) -> None:
    own.start()
    assert own.output.count("\x1b") == 0, "no colours where there is no terminal"
    for name in NAMES:
        assert f"  {name} " in own.output
    assert f"PennCloud is running at {own.url}/" in own.output
    assert len(own.operator_password) >= 16
    assert page(own) == 200

    pids = own.pids()
    assert set(pids) == NAMES | {"supervisor"}
    assert all(is_alive(pid) for pid in pids.values())
    assert own.supervisor is not None
    assert pids["supervisor"] == own.supervisor.pid
    for key in ("cluster.key", "secret.key"):
        assert stat.S_IMODE((own.data_dir / key).stat().st_mode) == 0o600

    with own.client() as client:
        client.put("ada:mailbox", "inbox:1", b"kept")
    password = own.operator_password

    begun = time.monotonic()
    assert own.stop(signal.SIGINT) == 0
    assert time.monotonic() - begun < 5.0
    assert list((own.data_dir / "run").glob("*.pid")) == []
    assert not (own.data_dir / "run" / "supervisor.sock").exists()
    assert not [pid for pid in pids.values() if is_alive(pid)]
    assert "did not stop in time" not in own.output

    own.start()
    assert "Operator account" not in own.output
    assert password not in own.output, "the password is shown once"
    with own.client() as client:
        cell = client.get("ada:mailbox", "inbox:1")
        assert cell is not None
        assert cell.value == b"kept"
    pids = own.pids()
    assert own.stop(signal.SIGHUP) == 0, "a terminal that goes away stops it as well"
    assert not [pid for pid in pids.values() if is_alive(pid)]


def test_ctrl_c_while_it_starts_leaves_nothing(own: WebCluster) -> None:
    own.start(wait=False)
    wait_for(lambda: "node1" in own.output, "the nodes' start")
    pids = [process["pid"] for process in own.control.status() if process["pid"]]
    assert len(pids) >= 2
    assert own.stop() == 0
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_killed_supervisor_leaves_no_process_and_does_not_stop_the_next(own: WebCluster) -> None:
    own.start()
    with own.client() as client:
        client.put("ada:mailbox", "inbox:1", b"kept")
    pids = own.pids()
    own.kill("supervisor")
    wait_for(lambda: not any(is_alive(pid) for pid in pids.values()), "the children's end")
    own.start()
    with own.client() as client:
        assert client.get("ada:mailbox", "inbox:1") is not None

    for name in ("node1", "frontend1", "coordinator"):
        own.kill(name, signal.SIGSTOP)
    begun = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - begun < 5.5, "hung processes do not delay the stop"
    assert "node1         did not stop in time and is killed" in own.output


def test_a_smaller_cluster_on_home_relative_and_grown_later(tmp_path: Path) -> None:
    """`--data-dir ~/pc`; one node keeps one replica; nodes may be added, not taken away."""
    own = WebCluster(tmp_path, HOME=str(tmp_path))
    own.data_dir = Path("~/pc")
    try:
        own.start("--nodes", 1, "--frontends", 1, wait=False)
        own.data_dir, own.key_file = tmp_path / "pc", tmp_path / "pc" / "cluster.key"
        own.wait_until_running()
        assert set(own.names()) == {"coordinator", "node1", "frontend1", "loadbalancer"}
        own.replication = 1
        own.wait_until_whole()
        own.stop()
        own.start("--nodes", 2, "--frontends", 1)
        assert "node2" in own.names()
        own.stop()
        refused = attempt(
            "--data-dir", own.data_dir, "--nodes", 1, "--port", own.port, "--coordinator-port", own.coordinator_port
        )
        assert refused.returncode == 1
        assert "has 2 nodes" in refused.stderr
    finally:
        own.destroy()


# --- refusing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--port", "--coordinator-port"])
def test_a_taken_port_is_one_sentence(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port_block(1)))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"--port": free_port_block(), "--coordinator-port": free_port_block()} | {option: port}
        done = attempt("--data-dir", tmp_path / "data", *(item for pair in ports.items() for item in pair))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Port {port}, which the ")
    assert option in done.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence() -> None:
    done = attempt("--data-dir", "/proc/penncloud", "--port", free_port_block())
    assert done.returncode == 1
    assert done.stderr.startswith("The data folder /proc/penncloud cannot be written: ")
    assert done.stderr.count("\n") == 1


def test_a_second_cluster_on_the_same_folder_is_one_sentence(shared: WebCluster) -> None:
    done = attempt("--data-dir", shared.data_dir, "--port", free_port_block())
    assert done.returncode == 1
    assert done.stderr.startswith(f"A cluster is already running on the data folder {shared.data_dir} (process ")
    assert done.stderr.count("\n") == 1
    assert page(shared) == 200


def test_a_second_cluster_beside_the_first_goes_to_other_ports(own: WebCluster, shared: WebCluster) -> None:
    """Same inner block of ports, but for the two that were given: what is taken is passed over."""
    own.coordinator_port = shared.coordinator_port + 10
    own.coordinators = f"127.0.0.1:{own.coordinator_port}"
    own.start()
    assert page(own) == 200
    assert page(shared) == 200
    own.stop()


def test_a_start_that_cannot_succeed_is_given_up_with_the_reason(own: WebCluster) -> None:
    own.data_dir.mkdir()
    (own.data_dir / "cluster.key").write_text("short")
    own.start(wait=False)
    assert own.supervisor is not None
    assert own.supervisor.wait(30) == 1
    last = own.output.strip().splitlines()[-1]
    assert last.startswith("coordinator ends again and again; its log, ")
    assert "cluster key" in last
    assert port_is_free(own.port)
    assert port_is_free(own.coordinator_port)


# --- restarting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["node2", "frontend1", "loadbalancer", "coordinator"])
def test_whoever_is_killed_comes_back(shared: WebCluster, name: str) -> None:
    pid = shared.kill(name)
    new = shared.wait_until_back(name, pid)
    assert shared.pid(name) == new
    assert f"  {name:<13} killed by SIGKILL; starts again" in shared.output
    shared.wait_until_whole()
    wait_for(lambda: page(shared) == 200, "the site")


def test_the_console_stops_starts_restarts_and_kills(shared: WebCluster) -> None:
    control = shared.control
    before = shared.pid("node3")
    control.stop("node3")
    wait_for(lambda: not is_alive(before), "the node's end")

    def state() -> str:
        return next(each["state"] for each in control.status() if each["name"] == "node3")

    wait_for(lambda: state() == "down", "the node being down")
    with pytest.raises(Refused, match="is not running"):
        control.kill("node3")
    control.start("node3")
    started = shared.wait_until_back("node3", before)
    with pytest.raises(Refused, match="is running already"):
        control.start("node3")
    control.restart("node3")
    restarted = shared.wait_until_back("node3", started)
    control.kill("node3")
    shared.wait_until_back("node3", restarted)
    with pytest.raises(Refused, match="no process called 'node9'"):
        control.kill("node9")
    shared.wait_until_whole()


def test_a_crash_loop_is_called_one_and_ends_when_its_cause_does(shared: WebCluster) -> None:
    """Another program took the front end's port while it was down."""
    control = shared.control
    process = next(each for each in control.status() if each["name"] == "frontend2")
    port = int(process["address"].rpartition(":")[2])
    control.stop("frontend2")
    wait_for(lambda: port_is_free(port), "the front end's end")
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        control.start("frontend2")
        wait_for(lambda: "frontend2     keeps dying" in shared.output, "the crash loop being named", 60)
        assert f"Cannot listen on 127.0.0.1:{port}" in shared.output
        assert page(shared) == 200
    shared.wait_until_back("frontend2", process["pid"])


def test_make_run_passes_options_on(tmp_path: Path) -> None:
    """Through make, as a user starts it; Ctrl-C reaches make and the supervisor alike."""
    log, port, coordinator = tmp_path / "terminal", free_port_block(), free_port_block()
    options = f"--port {port} --coordinator-port {coordinator} --data-dir {tmp_path / 'data'}"
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "run", f"ARGS={options}"], cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(lambda: f"PennCloud is running at http://127.0.0.1:{port}/" in log.read_text(), "the start", 90)
        os.killpg(make.pid, signal.SIGINT)
        make.wait(10)
        assert "Everything is stopped." in log.read_text()
        assert port_is_free(port)
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
            make.wait()


def test_each_part_starts_alone_with_its_own_command(tmp_path: Path) -> None:
    for command in ("coordinator", "storagenode", "frontend", "loadbalancer"):
        done = subprocess.run(
            [sys.executable, "manage.py", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "usage: " in done.stdout
    port = free_port_block()
    log = tmp_path / "log"
    key = tmp_path / "secret.key"
    key.write_text("a secret of this test alone, long enough")
    environment = {"PENNCLOUD_SECRET_KEY_FILE": str(key), "PENNCLOUD_DATA_DIR": str(tmp_path)}
    front = start("manage.py", "frontend", "--port", port, "--pid-file", tmp_path / "pid", log=log, env=environment)
    try:
        wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").status == 200, "the front end")
        assert int((tmp_path / "pid").read_text()) == front.pid, "it is the process that was started"
    finally:
        front.terminate()
        assert front.wait(10) == 0
