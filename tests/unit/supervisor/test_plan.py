"""Which processes make up a cluster."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from penncloud_site.supervisor.data_folder import DataFolder
from penncloud_site.supervisor.plan import START_ORDER, STOP_ORDER, Kind, environment, plan, reachable
from penncloud_site.supervisor.ports import Ports

PORTS = Ports(8000, 7400, 7480, (7411, 7412, 7413), (7481, 7482))
FOLDER = DataFolder(Path("/data"))


def option(command: tuple[str, ...], name: str) -> list[str]:
    return [value for key, value in pairwise(command) if key == name]


def test_names_are_those_that_tools_rely_on() -> None:
    names = [spec.name for spec in plan(FOLDER, PORTS, "127.0.0.1")]
    assert names == ["coordinator", "node1", "node2", "node3", "frontend1", "frontend2", "loadbalancer"]


def test_every_process_writes_its_pid_file() -> None:
    for spec in plan(FOLDER, PORTS, "127.0.0.1"):
        assert option(spec.command, "--pid-file") == [f"/data/run/{spec.name}.pid"]


def test_the_coordinator_is_told_when_to_rebuild_only_if_somebody_said_so() -> None:
    """A start without the option leaves what the operator chose meanwhile."""
    assert option(plan(FOLDER, PORTS, "127.0.0.1")[0].command, "--rebuild-after") == []
    assert option(plan(FOLDER, PORTS, "127.0.0.1", "never")[0].command, "--rebuild-after") == ["never"]


def test_every_node_is_told_within_how_long_to_read_everything_again() -> None:
    nodes = [spec for spec in plan(FOLDER, PORTS, "127.0.0.1", scrub_period=86400.0) if spec.kind is Kind.NODE]
    assert [option(spec.command, "--scrub-period") for spec in nodes] == [["86400"]] * 3


def test_only_the_balancer_listens_to_others() -> None:
    for spec in plan(FOLDER, PORTS, "0.0.0.0"):
        text = " ".join(spec.command)
        assert ("0.0.0.0" in text) is (spec.kind is Kind.BALANCER)
        assert spec.address[0] == "127.0.0.1"


def test_the_balancer_knows_all_front_ends() -> None:
    balancer = plan(FOLDER, PORTS, "127.0.0.1")[-1]
    assert option(balancer.command, "--frontend") == ["127.0.0.1:7481", "127.0.0.1:7482"]
    assert option(balancer.command, "--status-port") == ["7480"]


def test_nobody_loses_its_server_before_itself() -> None:
    assert [kind for kinds in STOP_ORDER for kind in kinds] == list(Kind)
    assert {kind for kinds in START_ORDER for kind in kinds} == set(Kind)
    assert START_ORDER[0] == (Kind.COORDINATOR,)
    assert START_ORDER[-1] == (Kind.BALANCER,)


def test_front_ends_are_pointed_at_this_cluster() -> None:
    variables = environment(FOLDER, PORTS, "192.0.2.7")
    assert variables["PENNCLOUD_COORDINATORS"] == "127.0.0.1:7400"
    assert variables["PENNCLOUD_KEY_FILE"] == "/data/cluster.key"
    assert variables["PENNCLOUD_SECRET_KEY_FILE"] == "/data/secret.key"
    assert variables["PENNCLOUD_BALANCER_STATUS"] == "http://127.0.0.1:7480/"
    assert variables["PENNCLOUD_STATIC_ROOT"] == "/data/static"
    assert variables["PENNCLOUD_BIND"] == "192.0.2.7"


def test_a_server_bound_to_everything_is_reached_on_loopback() -> None:
    assert reachable("0.0.0.0") == "127.0.0.1"
    assert reachable("::") == "::1"
    assert reachable("192.0.2.1") == "192.0.2.1"
