"""One run: a cluster, clients, faults for a while, then peace; and the judgement.

What is judged: every group's history is linearizable; whoever applies a sequence has the same cells after it; never can two
nodes answer for a tablet at one instant; once the faults stop the clients get on, every replica comes back into the set, all
are equal, and no large value lies damaged anywhere.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kvstore import settings
from kvstore.node import catchup, comparison, pace, reads
from kvstore.storage import scrub, scrubround
from tests.simulation.checker import first_contradiction
from tests.simulation.clients import Client
from tests.simulation.cluster import Broken, Cluster
from tests.simulation.faults import Faults


@dataclass(slots=True)
class Plan:
    """What a run is made of. Times in seconds of the simulated world."""

    nodes: int = 3
    tablets: int = 2
    clients: int = 3
    callers: int = 2
    groups: int = 6
    pause: float = 0.06
    calm: float = 1.0
    trouble: float = 8.0
    every: float = 0.6
    peace: float = 25.0
    min_in_sync: int = 1
    rebuild_after: float | None = None
    late: int = 0
    """So many of the nodes join while the faults go on."""
    real_engine: bool = False
    spread: bool = False
    split_above: int | None = None
    """Tablets of so many bytes are split by themselves."""
    split_every: float | None = None
    """So often an operator wants one split, beside all else."""
    quiet: bool = False
    """When the faults are over the clients wait until all is whole: what only their writes would set going again stands still
    and is seen. Half of the values are large, so that a learner has to wait for its disk."""


@dataclass(slots=True)
class Outcome:
    """What came of a run. `failure` is None when all held."""

    seed: int
    failure: str | None
    story: str
    done: int
    failed: int
    compared: int
    epochs: int
    moves: int = 0
    """Replicas that went to another node, as an operator asked or to spread."""
    splits: int = 0
    fingerprint: str = ""
    """Of everything that happened, for comparing two replays."""


def plan_of(seed: int) -> Plan:
    """A plan for a seed: three nodes, or more with spares among them, or a stricter cluster."""
    shapes = [
        Plan(),
        Plan(tablets=1),
        Plan(min_in_sync=2),
        Plan(nodes=4, tablets=3, rebuild_after=2.5, trouble=14.0),
        Plan(nodes=5, tablets=4),
        Plan(nodes=5, tablets=3, rebuild_after=2.0, late=1, trouble=14.0),
        Plan(nodes=7, tablets=4, rebuild_after=3.0, late=2, trouble=14.0),
    ]
    plan = shapes[seed % len(shapes)]
    plan.real_engine = seed % 5 == 4
    plan.quiet = seed % 4 == 2
    plan.spread = seed % 3 != 0
    plan.split_above = 120 if seed % 4 == 1 else None
    plan.split_every = 0.5 if seed % 3 == 1 else None
    return plan


def run(seed: int, plan: Plan | None = None) -> Outcome:
    """Play one run."""
    plan = plan or plan_of(seed)
    cluster = Cluster(
        seed,
        plan.nodes,
        plan.tablets,
        3,
        plan.min_in_sync,
        plan.real_engine,
        plan.rebuild_after,
        plan.late,
        plan.spread,
        plan.split_above,
    )
    groups = [f"g{index}" for index in range(plan.groups)]
    large = 0.5 if plan.quiet or plan.real_engine else 0.05
    clients = [Client(cluster, number + 1, groups, large=large) for number in range(plan.clients)]
    try:
        with _small_limits():
            _play(cluster, clients, plan)
        _judge(clients, groups)
        failure = None
    except AssertionError as error:
        if cluster.lost():
            return Outcome(seed, None, "", 0, 0, 0, 0)
        failure = f"{type(error).__name__}: {error}" if not isinstance(error, Broken) else str(error)
        if not isinstance(error, Broken):
            failure = traceback.format_exc()
    return Outcome(
        seed,
        failure,
        cluster.world.story() if failure else "",
        sum(client.done for client in clients),
        sum(client.failed for client in clients),
        cluster.entries_compared,
        sum(configuration.epoch for configuration in cluster.configurations.values()),
        cluster.moves,
        cluster.splits,
        _fingerprint(cluster, clients),
    )


@contextmanager
def _small_limits() -> Iterator[None]:
    """Pages, and what a learner may have unsynced, so small that a few dozen cells meet every limit; patience so short that
    leads go back between two faults."""
    limits = [
        (settings, "LEAD_STEADY", 1.5),
        (settings, "LEAD_STEADY_MOST", 3.0),
        (settings, "HAND_BACK_PAUSE", 0.2),
        (settings, "SPREAD_STEADY", 0.3),
        (settings, "SPLIT_ABOVE_LEAST", 1),
        (settings, "SPLIT_AGAIN", 1.0),
        (settings, "SCAN_PAGE_CELLS", 7),
        (reads, "COARSE_CELLS", 5),
        (reads, "COARSE_PART_CELLS", 12),
        (reads, "FINE_CELLS", 2),
        (reads, "FINE_PART_CELLS", 6),
        (comparison, "LOCAL_CELLS_AT_ONCE", 9),
        (catchup, "UNSYNCED_BYTES", 2 * settings.BULK_VALUE),
        (catchup, "HELD_BACK_MOST", 40),
        (catchup, "SETTLED_AT_ONCE", 2),
        (pace, "COPY_RATE", 20 * settings.BULK_VALUE),
        (pace, "COPY_BURST", settings.BULK_VALUE),
        (scrub, "AT_ONCE", settings.BULK_VALUE),
        (scrubround, "SLICE", 3 * settings.BULK_VALUE),
        (scrubround, "FLOOR", settings.MIB),
    ]
    before = [getattr(module, name) for module, name, _ in limits]
    for module, name, value in limits:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(limits, before, strict=True):
            setattr(module, name, value)


def _fingerprint(cluster: Cluster, clients: list[Client]) -> str:
    lines = [cluster.world.story(last=10**9)]
    lines += [str(operation) for client in clients for history in client.history.values() for operation in history]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _play(cluster: Cluster, clients: list[Client], plan: Plan) -> None:
    world = cluster.world
    cluster.start()
    _start_callers(clients, plan)
    world.run(plan.calm)
    faults = Faults(cluster, plan.every, plan.split_every)
    faults.start()
    world.run(plan.calm + plan.trouble)
    faults.heal()
    if plan.quiet:
        _stop_callers(cluster, clients)
        _wait_for_full_sets(cluster, plan)
        _start_callers(clients, plan)
    done = sum(client.done for client in clients)
    _wait_for_full_sets(cluster, plan)
    world.run(world.now + 1.0)
    if sum(client.done for client in clients) <= done:
        raise Broken("no client gets anything done after the faults")
    _stop_callers(cluster, clients)
    # what was paused or slow when the faults ended may have cost a member its place since
    _wait_for_full_sets(cluster, plan)
    _wait_for_places(cluster, plan)
    faults.flip_at_rest()
    _wait_until_all_is_read_again(cluster, plan)
    cluster.compare_copies()


def _start_callers(clients: list[Client], plan: Plan) -> None:
    for client in clients:
        client.running = True
        for _ in range(plan.callers):
            client.start_caller(plan.pause)


def _stop_callers(cluster: Cluster, clients: list[Client]) -> None:
    world = cluster.world
    for client in clients:
        client.running = False
    end = world.now + 15.0
    while world.now < end and any(client.busy for client in clients):
        world.run(world.now + 0.25)
    if any(client.busy for client in clients):
        raise Broken("a client still waits long after its deadline")


def _wait_for_full_sets(cluster: Cluster, plan: Plan) -> None:
    world = cluster.world
    end = world.now + plan.peace
    steady = 0
    while world.now < end and steady < 6:
        world.run(world.now + 0.25)
        steady = steady + 1 if cluster.all_in_sync() else 0
    if steady < 6:
        raise Broken(f"{plan.peace} s after the last fault the in-sync sets are not full again")


def _wait_for_places(cluster: Cluster, plan: Plan) -> None:
    """Leads go back to where they belong, and who was replaced has dropped its copies."""
    world = cluster.world
    end = world.now + plan.peace
    while world.now < end and (cluster.out_of_place() or not cluster.all_in_sync()):
        world.run(world.now + 0.25)
    if found := cluster.out_of_place():
        raise Broken(f"{plan.peace} s after all sets were full: {found}")
    world.run(world.now + 0.5)


def _wait_until_all_is_read_again(cluster: Cluster, plan: Plan) -> None:
    """A whole round of the scrub on each node; and what was found damaged has learnt anew."""
    world = cluster.world
    before = {engine: engine.figures.scrub_rounds for engine in cluster.engines()}

    def waits() -> bool:
        # the round that is under way began before the last bit flipped, perhaps
        return any(e.stored_bytes and e.figures.scrub_rounds < before.get(e, 0) + 2 for e in cluster.engines())

    end = world.now + plan.peace
    while world.now < end and waits():
        world.run(world.now + 0.25)
    if waits():
        raise Broken(f"{plan.peace} s were too short to read again what lies still")
    if before:
        _wait_for_full_sets(cluster, plan)


def _judge(clients: list[Client], groups: list[str]) -> None:
    for group in groups:
        history = [operation for client in clients for operation in client.history[group]]
        contradiction = first_contradiction(history)
        if contradiction is not None:
            raise Broken(f"group {group}: {contradiction}")
