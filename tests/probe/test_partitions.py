"""Hosts that hear each other in one direction only, while callers work: what every caller saw is judged.

Each process runs in a network namespace of its own; the callers are on a network that reaches everybody, so that they ask also
those who have been left behind. Skipped, with the reason, where namespaces cannot be made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import StoreCluster
from tests.probe.histories import PATIENT, Histories
from tests.probe.hosts import Hosts, Unsupported, hosts
from tests.processes import wait_for

pytestmark = pytest.mark.probe

NODES = ("node1", "node2", "node3")


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(hosts("coordinator", *NODES))
        except Unsupported as reason:
            pytest.skip(str(reason))
        yield made


@pytest.fixture(scope="module")
def apart(network: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    """A store with each process on a host of its own."""
    cluster = StoreCluster(tmp_path_factory.mktemp("apart"), machines=network)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(apart: StoreCluster, network: Hosts) -> Iterator[StoreCluster]:
    """The store whole; in the end everybody hears everybody again."""
    apart.start()
    apart.wait_until_whole()
    yield apart
    network.heal()


def out_of_every_set(cluster: StoreCluster, primary: str, other: str) -> bool:
    """Whether no tablet counts on the former primary."""
    return not any(primary in tablet["in_sync"] for tablet in cluster.status()["tablets"])


def leads_nothing(cluster: StoreCluster, primary: str, other: str) -> bool:
    return not any(tablet["primary"] == primary for tablet in cluster.status()["tablets"])


def without_the_other(cluster: StoreCluster, primary: str, other: str) -> bool:
    """Whether the primary still leads, and somewhere goes on without that secondary."""
    led = [tablet for tablet in cluster.status()["tablets"] if tablet["primary"] == primary]
    return any(other not in tablet["in_sync"] for tablet in led)


Cuts = Callable[[str, str], list[tuple[str, str]]]
Condition = Callable[[StoreCluster, str, str], bool]

LOSSES: dict[str, tuple[Cuts, Condition]] = {
    # a secondary gets no entries and no beacons of that primary
    "a primary is not heard by a secondary": (lambda primary, other: [(primary, other)], without_the_other),
    # entries arrive and are never acknowledged, leases are never granted
    "a primary does not hear a secondary": (lambda primary, other: [(other, primary)], without_the_other),
    # it seems dead, and is not: it hears of its own succession
    "a primary is not heard by the coordinator": (lambda primary, other: [(primary, "coordinator")], out_of_every_set),
    # it is told nothing of what is decided
    "a primary is heard and hears nobody": (
        lambda primary, other: [(name, primary) for name in ("coordinator", *NODES) if name != primary],
        leads_nothing,
    ),
    "a primary hears all and is heard by nobody": (
        lambda primary, other: [(primary, name) for name in ("coordinator", *NODES) if name != primary],
        out_of_every_set,
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_in_one_direction(cluster: StoreCluster, network: Hosts, loss: str) -> None:
    cuts, is_over = LOSSES[loss]
    with Histories(cluster, f"loss{list(LOSSES).index(loss)}") as histories:
        histories.advance()
        primary = cluster.primary_of(histories.groups[0])
        other = next(name for name in NODES if name != primary)
        for sender, receiver in cuts(primary, other):
            network.cut(sender, receiver)
        wait_for(lambda: is_over(cluster, primary, other), "the cluster coming to terms with it", PATIENT)
        histories.advance()
        network.heal()
        histories.advance()
        cluster.wait_until_whole()
        histories.judge()
        cluster.wait_until_alike()
