"""What the probes share: a store that may be harmed, and the balancer's surroundings."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cluster import StoreCluster
from tests.probe.balancer import Site
from tests.processes import accepts, end, free_port_block, start, wait_for


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    """A coordinator and three nodes for one module's tests to harm, by way of `harmed`."""
    cluster = StoreCluster(tmp_path_factory.mktemp("store"))
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def harmed(store: StoreCluster) -> StoreCluster:
    """The store with everything running and every replica in sync, whatever the test before did to it."""
    store.start()
    store.wait_until_whole()
    return store


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    log = tmp_path_factory.mktemp("balancer") / "log"
    port = free_port_block(4)
    ports = {"a": port + 2, "b": port + 3}
    arguments = ["-m", "penncloud_site.loadbalancer", "--port", port, "--status-port", port + 1]
    for server_port in ports.values():
        arguments += ["--frontend", f"127.0.0.1:{server_port}"]
    site = Site(port, port + 1, ports, log, start(*arguments, log=log), {})
    for name in ports:
        site.start_server(name)
    try:
        wait_for(lambda: accepts(site.status_port), "the balancer's start")
        yield site
    finally:
        for process in (site.balancer, *site.servers.values()):
            end(process, signal.SIGKILL)


@pytest.fixture
def site(whole_site: Site) -> Site:
    """The balancer with both servers up and healthy, whatever the test before did to them."""
    for name, process in list(whole_site.servers.items()):
        process.send_signal(signal.SIGCONT)
        if process.poll() is not None:
            whole_site.start_server(name)
    whole_site.await_states("healthy", "healthy")
    return whole_site
