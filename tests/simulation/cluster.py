"""A whole simulated cluster, and what must hold in it at every moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from kvstore import control, messages
from kvstore.coordinator.creation import Creation
from kvstore.messages import Configuration, Member
from kvstore.storage.failures import CorruptValue
from kvstore.storage.replica import DiskReplica, Learning
from tests.simulation.machines import CoordinatorMachine, NodeMachine
from tests.simulation.network import Network
from tests.simulation.real_disk import RealDisk, WatchedEngine
from tests.simulation.world import World

GROUP_RULE = r"[^:]*"


class Broken(AssertionError):
    """Something that must always hold did not."""


class Cluster:
    """Machines, network, and the watch over them."""

    def __init__(
        self,
        seed: int,
        nodes: int = 3,
        tablets: int = 2,
        replication: int = 3,
        min_in_sync: int = 1,
        real_engine: bool = False,
        rebuild_after: float | None = None,
        late: int = 0,
        spread: bool = False,
        split_above: int | None = None,
    ) -> None:
        """`late`: the last so many nodes join some seconds after the others. `spread`: data and leads spread by themselves.
        `split_above`: tablets of so many bytes are split by themselves."""
        self.real_engine = real_engine
        self.world = World(seed)
        self.network = Network(self.world)
        self.supervised = 0.5
        """Chance that the coordinator is told when a node's process ends."""
        splits = [f"g{index}" for index in range(1, tablets)]
        self.rebuild_after = rebuild_after
        self._late = late
        expected = nodes - late
        creation = Creation(
            "simulated", GROUP_RULE, splits, replication, min_in_sync, expected, rebuild_after, spread, split_above
        )
        self.spread = spread
        self.moves = 0
        """Moves of a replica that have come to their end."""
        self.coordinator = CoordinatorMachine(self, creation)
        self.nodes: dict[str, NodeMachine] = {}
        for index in range(1, nodes + 1):
            self.nodes[f"n{index}"] = NodeMachine(self, f"n{index}")
        self.configurations: dict[int, Configuration] = {}
        """What the coordinator has decided last, as its journal has it."""
        self._history: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._damaged: dict[str, int] = {}
        """The last run of a node before bits flipped on its disk."""
        self.entries_compared = 0
        self.splits = 0
        self.on_split: Callable[[], None] = lambda: None
        """Called when a split's record is durable, and nobody has been told yet."""

    def start(self) -> None:
        """Start every process."""
        self.coordinator.start()
        nodes = list(self.nodes.values())
        expected = len(nodes) - self._late
        for node in nodes[:expected]:
            node.start()
        for node in nodes[expected:]:
            self.world.after(self.world.random.uniform(1.0, 6.0), node.join)

    # ---------------------------------------------------------------- what happens

    def ask(
        self,
        source: Any,
        target: str,
        request: object,
        answer: Callable[[object | None], None],
        forwarded: bool = False,
    ) -> None:
        """Send a request to a node as a client does; `answer` gets its answer, or None when the connection broke. When it
        is held up by the network or the node hangs, no answer comes."""
        node, network, world = self.nodes[target], self.network, self.world
        boot = node.boot
        if not node.alive:
            world.after(world.random.uniform(0.0005, 0.01), answer, None)
            return
        if not network.reaches(source.name, target) or network.loses():
            world.after(world.random.uniform(0.3, 2.0), answer, None)
            return
        answered = [False]

        def reply(message: object | None) -> None:
            if not node.alive or node.boot != boot:
                return  # what it forwarded was answered after its own end
            if answered[0]:
                raise Broken(f"{target} answered {request} twice")
            answered[0] = True
            if not network.reaches(target, source.name) or network.loses():
                world.after(world.random.uniform(0.3, 2.0), answer, None)
            else:
                world.after(network.delay(), answer, message)

        def arrive() -> None:
            if not node.alive or node.boot != boot:
                answer(None)
                return
            if isinstance(request, messages.Write):
                node.write_arrives(reply, request)
            else:
                node.put(lambda process, now: process.client_request(reply, request, now, forwarded))
            node.waiting_answers.append((answered, answer))

        world.after(network.delay(), arrive)

    def tell_coordinator(self, source: str, request: object, answer: Callable[[object | None], None]) -> None:
        """A request to the coordinator from outside; None when no answer came."""
        coordinator, network, world = self.coordinator, self.network, self.world
        if not coordinator.alive or not network.reaches(source, coordinator.name):
            world.after(world.random.uniform(0.001, 0.3), answer, None)
            return

        answered = [False]

        def once(message: object | None) -> None:
            if not answered[0]:
                answered[0] = True
                answer(message)

        def reply(message: object | None) -> None:
            world.after(network.delay(), once, message)

        boot = coordinator.boot

        def arrive() -> None:
            if coordinator.alive and coordinator.boot == boot:
                coordinator.put(lambda process, now: process.request(reply, request, now))

        world.after(network.delay(), arrive)
        world.after(1.0, once, None)

    def process_ended(self, node: NodeMachine) -> None:
        """A node's process is gone: who waits for its answers learns that; the supervisor may tell the coordinator."""
        for answered, answer in node.waiting_answers:
            if not answered[0]:
                answered[0] = True
                self.world.after(self.world.random.uniform(0.0005, 0.01), answer, None)
        node.waiting_answers.clear()
        if self.world.random.random() < self.supervised:
            exited = control.ProcessExited(node.name, node.boot)
            delay = self.world.random.uniform(0.001, 0.1)
            self.world.after(delay, self.tell_coordinator, "supervisor", exited, lambda answer: None)

    # ---------------------------------------------------------------- what must hold

    def decided(self, record: dict[str, Any]) -> None:
        """The coordinator's journal has one more record."""
        if record["kind"] != "configurations":
            self.world.note("coord", "decides", record)
            return
        from kvstore.codec import reader

        for written in record["configurations"]:
            configuration: Configuration = reader(Configuration)(written)
            before = self.configurations.get(configuration.tablet)
            begins = configuration.since if configuration.born is not None else 1
            if configuration.epoch != (before.epoch + 1 if before else begins):
                raise Broken(f"epoch {configuration.epoch} after {before}")
            if before is None and configuration.born is not None:
                self.splits += 1
                self.on_split()
            self.configurations[configuration.tablet] = configuration
            if before is not None and before.leaving and before.leaving not in configuration.replicas:
                self.moves += 1
            self.world.note("coord", "decides", brief(configuration))
        self._check_owners()

    def moved(self, node: NodeMachine, tablet: int, replica: DiskReplica) -> None:
        """A replica applied an entry, learnt, or was replayed: whoever stands at that sequence has the same cells, by an
        entry of the same epoch."""
        if replica.learning is not Learning.INTACT:
            return
        self.entries_compared += 1
        state = (replica.commit_epoch, replica.tablet.digest)
        known = self._history.setdefault((tablet, replica.range_version, replica.commit), state)
        if known != state:
            raise Broken(f"{node.name}: tablet {tablet} at {replica.commit} is {state}, and was {known} elsewhere")

    def check_primaries(self, changed: NodeMachine) -> None:
        """At most one node can answer reads of a row at this instant, whatever tablet it takes the row to be in."""
        mine = self._answers_for(changed)
        for node in self.nodes.values() if mine else ():
            if node is changed:
                continue
            for other in self._answers_for(node):
                for own in mine:
                    if overlap(own, other):
                        raise Broken(f"{changed.name} serves {brief(own)}, {node.name} serves {brief(other)}")

    @staticmethod
    def _answers_for(node: NodeMachine) -> list[Configuration]:
        """Under which configurations a node can answer reads."""
        if node.process is None:
            return []
        now = node.clock
        found = []
        for replica in node.process._replicas.values():
            leadership = replica.leadership
            if leadership is not None and leadership.serving and now <= leadership.lease_until:
                found.append(replica.configuration)
        return found

    def _check_owners(self) -> None:
        """Each row is in one tablet, by every record."""
        end: str | None = ""
        for configuration in sorted(self.configurations.values(), key=lambda c: c.start):
            if end != configuration.start:
                raise Broken(f"the rows from {end!r} on are not in one tablet: {brief(configuration)}")
            end = configuration.end
        if end is not None:
            raise Broken(f"the rows from {end!r} on are in no tablet")

    # ---------------------------------------------------------------- what is so

    def all_in_sync(self) -> bool:
        """Whether every replica of every tablet is a member, its node lives, and the tablet is served."""
        for configuration in self.configurations.values():
            if len(configuration.in_sync) < len(configuration.replicas) or configuration.primary is None:
                return False
            for member in configuration.in_sync:
                process = self.nodes[member.node].process
                if process is None or process._host.me != member:
                    return False
            serving = self._answers_for(self.nodes[configuration.primary.node])
            if all(served.tablet != configuration.tablet for served in serving):
                return False
        return bool(self.configurations)

    def out_of_place(self) -> list[str]:
        """What is not where it belongs, in words: leads, copies of nodes whose place another has taken, and what should have
        spread."""
        found = self._uneven() if self.spread else []
        for tablet, configuration in self.configurations.items():
            if configuration.primary is None or configuration.primary.node != configuration.replicas[0]:
                found.append(f"tablet {tablet} is not led by {configuration.replicas[0]}")
            for name, node in self.nodes.items():
                if node.engine is not None and name not in configuration.replicas and tablet in node.engine.tablets:
                    found.append(f"{name} still has a copy of tablet {tablet}")
        return found

    def _uneven(self) -> list[str]:
        """Nodes that hold more than others, and orders that could be more even."""
        present = list(self.configurations.values())
        held = Counter(name for now in present for name in now.replicas)
        first = Counter(now.replicas[0] for now in present)
        found = [
            f"{name} holds {held[name]}, and {other} {held[other]}"
            for name in self.nodes
            for other in self.nodes
            if held[name] >= held[other] + 2
        ]
        found += [
            f"{now.replicas[0]} is first of {first[now.replicas[0]]}, and {name} of {first[name]}"
            for now in present
            for name in now.replicas
            if first[now.replicas[0]] >= first[name] + 2
        ]
        return found

    def damage_disk(self, node: NodeMachine) -> None:
        """Bits flip in the files of a node: what its runs until now held may be gone."""
        assert isinstance(node.disk, RealDisk)
        hit = node.disk.damage(self.world.random)
        if hit:
            self.world.note(node.name, "has a DAMAGED DISK:", *hit)
            runs = [record for record in self.coordinator.journal if record["kind"] == "run"]
            self._damaged[node.name] = max(run["incarnation"] for run in runs if run["node"] == node.name)

    def holders(self, tablet: int) -> list[str]:
        """The nodes that hold everything acknowledged of a tablet, on the disk that they have now."""
        configuration = self.configurations.get(tablet)
        if configuration is None:
            return []
        return [
            member.node
            for member in configuration.in_sync
            if self._has_disk_of(member) and not self._found_damaged(member.node, tablet)
        ]

    def _found_damaged(self, name: str, tablet: int) -> bool:
        """Whether a bit that flipped before its last learning was found since: in a large value, which catching up does not
        read again when both sides have the same version of it."""
        engine = self.nodes[name].engine
        if name not in self._damaged or engine is None or tablet not in engine.tablets:
            return False
        return engine.tablets[tablet].learning is Learning.DAMAGED

    def _has_disk_of(self, member: Member) -> bool:
        if member.incarnation <= self._damaged.get(member.node, 0):
            return False
        for record in self.coordinator.journal:
            run = record["kind"] == "run" and record["node"] == member.node
            if run and record["incarnation"] == member.incarnation:
                return bool(record["store_id"] == self.nodes[member.node].disk.store_id)
        return False

    def lost(self) -> bool:
        """Whether some tablet's every copy is gone with its disk: what was the last one was emptied, or is damaged."""
        return any(c.in_sync and not self.holders(tablet) for tablet, c in self.configurations.items())

    def engines(self) -> list[WatchedEngine]:
        """The real engines of all nodes that live, if there are such."""
        return [node.engine for node in self.nodes.values() if isinstance(node.engine, WatchedEngine) and node.alive]

    def compare_copies(self) -> None:
        """At rest, all replicas of a tablet are equal: cells, results, and that they are intact. Large values are read, and are
        right, for all have been read again since the faults ended."""
        for configuration in self.configurations.values():
            found = set()
            for name in configuration.replicas:
                replica = self.nodes[name].engine.tablets[configuration.tablet]  # type: ignore[union-attr]
                if not replica.intact:
                    raise Broken(f"{name}: tablet {configuration.tablet} is not intact at rest")
                if self.real_engine:
                    self._read_all(name, configuration.tablet)
                found.add((replica.commit, replica.tablet.digest, replica.results.encode()))
            if len(found) != 1:
                short = [(commit, digest) for commit, digest, _ in found]
                raise Broken(f"tablet {configuration.tablet}: the replicas differ at rest: {short}")

    def _read_all(self, name: str, tablet: int) -> None:
        engine = self.nodes[name].engine
        assert engine is not None
        for row, column, cell in engine.tablets[tablet].tablet.scan():
            try:
                engine.read(cell)
            except CorruptValue as error:
                raise Broken(f"{name}: {row}, {column} of tablet {tablet} lies damaged at rest: {error}") from error


def overlap(one: Configuration, other: Configuration) -> bool:
    """Whether some row lies in both ranges."""
    return (one.end is None or other.start < one.end) and (other.end is None or one.start < other.end)


def brief(configuration: Configuration) -> str:
    """A configuration in few words."""

    def runs(members: tuple[Member, ...]) -> str:
        return ",".join(f"{m.node}/{m.incarnation}" for m in members)

    primary = runs((configuration.primary,)) if configuration.primary else "nobody"
    rows = f"[{configuration.start!r}, {configuration.end!r}) {configuration.range_version}"
    return (
        f"tablet {configuration.tablet} {rows} epoch {configuration.epoch}: {primary} leads {runs(configuration.in_sync)}"
        f" learners [{runs(configuration.learners)}] former [{runs(configuration.former)}]"
        f" belongs to {','.join(configuration.replicas)}"
        + (f", leaves {configuration.leaving}" if configuration.leaving else "")
    )
