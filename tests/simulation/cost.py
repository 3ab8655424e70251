"""From three nodes to six: what the protocol makes of more machines, when every message, sync and byte has its price.

    python -m tests.simulation.cost                 # prints the table; --docs puts it into docs/benchmarks.md

The state machines are the product's (`kvstore.node.node`), on simulated disks, under virtual time. Each node has one processor
and one disk of its own, as on a machine of its own; whatever it does takes the time that was measured on real processes, and
while it does it, what arrives waits. Callers ask again as soon as they have their answer; front ends (three for one tablet,
else one a node) pay their own part. So the figures say what the protocol's shape allows, in particular where one primary is
the limit.

Left out: the network's bandwidth and a switch's queues (a message takes `WIRE` however large), checkpoints and compaction, the
operating system's other work, caches that a busier machine empties, disks that are slower at times. A real cluster does less.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvstore import messages
from kvstore.messages import Configuration, Configure, Get, Member, Registered, Write
from kvstore.mutation import Op, bundle_of, encode_mutation
from kvstore.node import effects
from kvstore.node.node import Node
from tests.simulation.disk import SimulatedDisk, SimulatedEngine
from tests.simulation.world import World

PRIMARY_PUT, SECONDARY_PUT, CLIENT_PUT = 4.2e-6, 3.2e-6, 5.3e-6
"""Seconds of processor for one small put among many: at the primary, at each secondary, in the client ("The profile's story" in
docs/benchmarks.md)."""
NODE_GET, CLIENT_GET = 6.3e-6, 6.3e-6
"""The same for a get: 159,000 a second, with primary and client at work at the same time (there too)."""
GETS_TOGETHER = 8
"""Reads leave and are answered in groups of so many, whose messages are part of their price; puts are kept together."""
MESSAGE = 25e-6
"""For one frame at either end: its system call, the turn of the loop that it wakes, framing. From processor times of real nodes
at 64 and 256 callers: 275 µs at the primary and 196 at a secondary for an entry, however many puts are in it; that is
eight to eleven frames and syncs each."""
SYNC = 140e-6
"""Until an append of a few KiB is on disk, on preallocated blocks; the loop goes on meanwhile (docs/storage.md)."""
SYNC_CALLS = 25e-6
"""What beginning a sync and hearing of its end cost the loop, each."""
WIRE = 50e-6
"""From one machine to another in the same room. Not measured: there is one machine."""

TICK = 0.02
SIZE = 150
CALLERS = 256
"""For each front end."""
WARM, MEASURED, STAGGER = 0.35, 0.15, 0.0017
"""Seconds of virtual time: before it counts; while it counts; between the front ends' beginnings."""


class Processor:
    """One machine's processor: what arrives waits until what is being done is done; then all of it is done in one round."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.busy = 0.0
        """Seconds of work so far."""
        self.at_once: int | None = None
        """How much of what has arrived is done in one round; None: all of it."""
        self._inbox: list[Callable[[], float]] = []
        self._at_work = False

    def put(self, work: Callable[[], float]) -> None:
        """Something to do; `work()` does it and returns what it costs, in seconds."""
        self._inbox.append(work)
        if not self._at_work:
            self._at_work = True
            self.world.after(0.0, self._round)

    def _round(self) -> None:
        inbox, self._inbox = self._inbox[: self.at_once], self._inbox[len(self._inbox[: self.at_once]) :]
        spent = sum(work() for work in inbox)
        spent += self.finish_round()
        self.busy += spent
        self.world.after(spent, self._done)

    def _done(self) -> None:
        self.leave()
        if self._inbox:
            self._round()
        else:
            self._at_work = False

    def finish_round(self) -> float:
        """What follows from all that was done in this round; its cost."""
        return 0.0

    def leave(self) -> None:
        """The round's time is over: what came of it leaves."""


class CostNode(Processor):
    """A storage node."""

    def __init__(self, world: World, name: str, peers: dict[str, CostNode]) -> None:
        super().__init__(world)
        self.name = name
        self._peers = peers
        peers[name] = self
        self._disk = SimulatedDisk(name)
        self._syncing = False
        self._out: list[Any] = []
        self.node = Node(name, SimulatedEngine(self._disk), boot_id=name, started=world.now)
        self._tick()

    def configure(self, configurations: list[Configuration], incarnation: int = 1) -> None:
        """The coordinator's word."""
        self.node.from_coordinator(Registered(incarnation, "cost", ".*", [], {}), self.world.now)
        for peer in self._peers:
            if peer != self.name:
                self.node.peer_connected(peer, self.world.now)
        self.tell(configurations)

    def tell(self, configurations: list[Configuration]) -> None:
        """A later word of the coordinator."""

        def work() -> float:
            self.node.from_coordinator(Configure(configurations, {}), self.world.now)
            return MESSAGE

        self.put(work)

    def _tick(self) -> None:
        def work() -> float:
            self.node.tick(self.world.now)
            return MESSAGE

        self.put(work)
        self.world.after(TICK, self._tick)

    def from_peer(self, message: Any) -> None:
        """A message of another node has arrived."""

        def work() -> float:
            self.node.from_peer(message, self.world.now)
            puts = sum(entry.count for entry in message.entries) if isinstance(message, messages.Append) else 0
            return MESSAGE + puts * SECONDARY_PUT

        self.put(work)

    def puts(self, front_end: FrontEnd, writes: list[Write]) -> None:
        """A front end's puts have arrived, those of a tablet in one bundle."""

        def work() -> float:
            for write in writes:
                self.node.client_write(front_end, write, self.world.now)
            return MESSAGE + PRIMARY_PUT * sum(len(write.ids) for write in writes)

        self.put(work)

    def gets(self, front_end: FrontEnd, gets: list[tuple[int, Get]]) -> None:
        """A few of a front end's gets have arrived together."""

        def work() -> float:
            for number, get in gets:
                self.node.client_request((front_end, number), get, self.world.now)
            return NODE_GET * len(gets)

        self.put(work)

    def finish_round(self) -> float:
        self.node.flush(self.world.now)
        self._out = self.node.take_effects()
        frames = {id(effect) for effect in self._out if isinstance(effect, effects.SendPeer)}
        clients = {
            front_end for each in self._out if isinstance(each, effects.Committed) for front_end, _ in _answers(each)
        }
        syncs = sum(isinstance(effect, effects.WakeLog) for effect in self._out)
        return MESSAGE * (len(frames) + len(clients)) + SYNC_CALLS * syncs

    def leave(self) -> None:
        answers: Counter[Any] = Counter()
        for effect in self._out:
            if isinstance(effect, effects.SendPeer):
                self.world.after(WIRE, self._peers[effect.node].from_peer, effect.message)
            elif isinstance(effect, effects.WakeLog):
                self._sync()
            for front_end, count in _answers(effect):
                answers[front_end] += count
        for front_end, count in answers.items():
            self.world.after(WIRE, front_end.answered, count)

    def _sync(self) -> None:
        if not self._syncing and self._disk.waiting:
            self._syncing = True
            self.world.after(SYNC, self._synced, self._disk.begin_sync())

    def _synced(self, begun: int) -> None:
        self._syncing = False
        upto = self._disk.end_sync(begun)

        def work() -> float:
            self.node.synced(upto, self.world.now)
            return SYNC_CALLS

        self.put(work)
        self._sync()


def _answers(effect: Any) -> list[tuple[Any, int]]:
    """The front ends that an effect answers, and how many of their requests."""
    if isinstance(effect, effects.Committed):
        return [(source, len(ids)) for source, ids in effect.groups]
    if isinstance(effect, effects.Reply):
        assert not isinstance(effect.message, messages.Refused), effect.message
        token: Any = effect.token
        return [(token[0], 1)]
    return []


class FrontEnd(Processor):
    """A client process with many callers, each of which asks again when it has its answer."""

    def __init__(self, world: World, number: int, tablets: list[Configuration], nodes: dict[str, CostNode]) -> None:
        super().__init__(world)
        self._number = number
        self._tablets = tablets
        self._nodes = nodes
        self._chance = random.Random(number)
        self._asked = 0
        self._puts = True
        self._asking: list[tuple[int, Configuration, str]] = []
        self.done = 0

    def begin(self, puts: bool) -> None:
        """All callers ask for the first time."""
        self._puts = puts
        self.at_once = None if puts else 1

        def work() -> float:
            return sum(self._ask() for _ in range(CALLERS))

        self.put(work)

    def answered(self, count: int) -> None:
        """Answers have arrived together."""

        def work() -> float:
            self.done += count
            return MESSAGE * self._puts + sum(self._ask() for _ in range(count))

        self.put(work)

    def _ask(self) -> float:
        tablet = self._chance.choice(self._tablets)
        self._asked += 1
        self._asking.append((self._asked, tablet, f"{tablet.start}{self._chance.randrange(1000):06d}"))
        return CLIENT_PUT if self._puts else CLIENT_GET

    def finish_round(self) -> float:
        return MESSAGE * len({_primary(tablet) for _, tablet, _ in self._asking}) * self._puts

    def leave(self) -> None:
        asking, self._asking = self._asking, []
        by_node: dict[str, list[tuple[int, Configuration, str]]] = defaultdict(list)
        for each in asking:
            by_node[_primary(each[1])].append(each)
        for name, asked in by_node.items():
            node = self._nodes[name]
            if self._puts:
                self.world.after(WIRE, node.puts, self, self._writes(asked))
                continue
            gets = [(number, Get(tablet.tablet, 1, row, "c")) for number, tablet, row in asked]
            for begin in range(0, len(gets), GETS_TOGETHER):
                self.world.after(WIRE, node.gets, self, gets[begin : begin + GETS_TOGETHER])

    def _writes(self, asked: list[tuple[int, Configuration, str]]) -> list[Write]:
        by_tablet: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for number, tablet, row in asked:
            by_tablet[tablet.tablet].append((number, row))
        writes = []
        for tablet_id, puts in by_tablet.items():
            encoded = [encode_mutation(self._number, n, n, [], [[Op.PUT, row, "c", bytes(SIZE)]]) for n, row in puts]
            writes.append(Write(tablet_id, 1, [number for number, _ in puts], bundle_of(*encoded)))
        return writes


def _primary(tablet: Configuration) -> str:
    assert tablet.primary is not None
    return tablet.primary.node


@dataclass(frozen=True, slots=True)
class Found:
    """Operations a second, and the share of its time that the busiest node, the least busy one and a front end worked."""

    per_second: float
    busiest: float
    idlest: float
    front_end: float


def measure(nodes: int, tablets: int, puts: bool, front_ends: int = 3) -> Found:
    """One cluster under full load."""
    world = World(nodes * 100 + tablets)
    world.run(100.0)
    peers: dict[str, CostNode] = {}
    for number in range(1, nodes + 1):
        CostNode(world, f"n{number}", peers)
    configurations = _spread(list(peers), tablets)
    empty = [Configuration(c.tablet, c.start, c.end, 1, 1, None, (), replicas=c.replicas) for c in configurations]
    for node in peers.values():
        node.configure([each for each in empty if node.name in each.replicas])
    world.run(world.now + 0.05)
    for node in peers.values():
        node.tell([each for each in configurations if node.name in each.replicas])
    world.run(world.now + 2.0)  # who has just started leads nothing for a while
    ends = [FrontEnd(world, number, configurations, peers) for number in range(front_ends)]
    for end in ends:
        end.begin(puts)
        world.run(world.now + STAGGER)
    for node in peers.values():
        node.at_once = None if puts else 1
    world.run(world.now + WARM)
    before = [end.done for end in ends], [node.busy for node in peers.values()], [end.busy for end in ends]
    world.run(world.now + MEASURED)
    done = sum(end.done for end in ends) - sum(before[0])
    busy = [(node.busy - at) / MEASURED for node, at in zip(peers.values(), before[1], strict=True)]
    clients = [(end.busy - at) / MEASURED for end, at in zip(ends, before[2], strict=True)]
    return Found(done / MEASURED, max(busy), min(busy), max(clients))


def _spread(names: list[str], tablets: int) -> list[Configuration]:
    """Tablets with three replicas each, rotated over the nodes as a new cluster's are."""
    found = []
    for index in range(tablets):
        replicas = tuple(names[(index + step) % len(names)] for step in range(3))
        members = tuple(Member(name, 1) for name in replicas)
        start, end = f"t{index:03d}", f"t{index + 1:03d}"
        found.append(Configuration(index + 1, start, end, 1, 2, members[0], members, (), replicas, (), 1, 2))
    leads = Counter(each.replicas[0] for each in found)
    assert tablets == 1 or max(leads.values()) == min(leads.values()), "the tablets are meant to be spread evenly"
    return found


def table(nodes: range) -> str:
    """As Markdown."""
    lines = [
        "| nodes | puts/s, one tablet | its primary is busy | puts/s, spread tablets | busiest node | gets/s, one tablet"
        " | gets/s, spread tablets |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for count in nodes:
        one, spread = measure(count, 1, True), measure(count, 2 * count, True, front_ends=count)
        get_one, get_spread = measure(count, 1, False), measure(count, 2 * count, False, front_ends=count)
        figures = f"{one.per_second:,.0f} | {one.busiest:.0%} | {spread.per_second:,.0f} | {spread.busiest:.0%}"
        lines.append(f"| {count} | {figures} | {get_one.per_second:,.0f} | {get_spread.per_second:,.0f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.cost", description=__doc__)
    parser.add_argument("--nodes", type=int, default=6, help="at most")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args(argv)
    told = table(range(3, options.nodes + 1))
    print(told)
    if options.docs:
        from tests.bench.report import put_into_page

        put_into_page("cost", told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
