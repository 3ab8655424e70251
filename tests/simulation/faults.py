"""Faults: what befalls a simulated cluster, at random but repeatably."""

from __future__ import annotations

from collections.abc import Callable

from kvstore.control import MoveReplica, SetDisabled, SplitTablet, WithdrawMove
from tests.simulation.cluster import Cluster
from tests.simulation.machine import Machine


class Faults:
    """Does a cluster harm, one thing after another, until it is told to stop; then heals everything."""

    def __init__(self, cluster: Cluster, every: float = 0.7, split_every: float | None = None) -> None:
        """`every`: seconds between two faults, about; `split_every`: between two splits, beside those."""
        self._cluster, self._world = cluster, cluster.world
        self._every = every
        self._split_every = split_every
        self._going = True
        self._disabled: set[str] = set()
        self.kinds: list[tuple[int, Callable[[], None]]] = [
            (8, self._crash_node),
            (4, self._crash_between_effects),
            (6, self._pause_node),
            (4, self._pause_between_effects),
            (6, self._cut_one_way),
            (4, self._cut_off),
            (2, self._cut_from_coordinator),
            (3, self._cut_apart),
            (4, self._slow_disk),
            (2, self._failing_disk),
            (3, self._restart_coordinator),
            (1, self._pause_coordinator),
            (1, self._everything_down),
            (2, self._empty_disk),
            (12 if cluster.real_engine else 0, self._damage_disk),
            (2, self._disable),
            (12 if cluster.rebuild_after is not None else 0, self._stay_away),
            (12 if len(cluster.nodes) > 3 else 0, self._move),
            (16, self._split),
            (2, self._lossy),
            (2, self._slow_network),
        ]

    def start(self) -> None:
        """Begin."""
        self._cluster.on_split = self._split_decided
        self._next()
        self._split_again()

    def _next(self) -> None:
        self._world.after(self._world.random.expovariate(1 / self._every), self._strike)

    def _strike(self) -> None:
        if self._going:
            weights = [weight for weight, _ in self.kinds]
            ((_, kind),) = self._world.random.choices(self.kinds, weights)
            kind()
            self._next()

    def _node(self) -> Machine:
        return self._cluster.nodes[self._world.random.choice(list(self._cluster.nodes))]

    def _later(self, least: float, most: float, what: Callable[[], None]) -> None:
        self._world.after(self._world.random.uniform(least, most), what)

    # ---------------------------------------------------------------- processes

    def _revive(self, machine: Machine) -> None:
        if not machine.alive:
            machine.start()

    def _crash_node(self) -> None:
        node = self._node()
        if node.alive:
            node.crash()
            # often faster than anybody notices
            self._later(*self._world.random.choice([(0.01, 0.3), (0.3, 4.0)]), lambda: self._revive(node))

    def _stay_away(self) -> None:
        """So long that its replicas are rebuilt elsewhere."""
        node = self._node()
        if node.alive:
            self._world.note(node.name, "stays away")
            node.crash()
            self._later(4.0, 9.0, lambda: self._revive(node))

    def _crash_between_effects(self) -> None:
        node = self._node()
        node.crash_in = self._world.random.randint(0, 30)
        self._later(1.0, 3.0, lambda: self._revive(node))

    def _pause_node(self) -> None:
        self._node().pause(self._world.random.choice([0.3, 0.8, 1.1, 1.3, 2.0, 3.5]))

    def _pause_between_effects(self) -> None:
        self._node().pause_in = (self._world.random.randint(0, 30), self._world.random.uniform(0.5, 3.0))

    def _everything_down(self) -> None:
        self._world.note("faults", "the power goes everywhere")
        machines: list[Machine] = [*self._cluster.nodes.values(), self._cluster.coordinator]
        for machine in machines:
            machine.crash()
            self._later(0.1, 2.5, lambda machine=machine: self._revive(machine))  # type: ignore[misc]

    def _restart_coordinator(self) -> None:
        coordinator = self._cluster.coordinator
        if self._world.random.random() < 0.5:
            coordinator.crash_in = self._world.random.randint(0, 5)
        else:
            coordinator.crash()
        self._later(0.05, 3.0, lambda: self._revive(coordinator))

    def _pause_coordinator(self) -> None:
        self._cluster.coordinator.pause(self._world.random.uniform(0.2, 3.0))

    def _disable(self) -> None:
        node = self._node()
        if self._disabled and node.name not in self._disabled:
            return
        disabled = node.name not in self._disabled
        (self._disabled.add if disabled else self._disabled.discard)(node.name)
        self._set_disabled(node.name, disabled)

    def _set_disabled(self, name: str, disabled: bool) -> None:
        if (name in self._disabled) != disabled:
            return  # meanwhile it was decided otherwise
        self._world.note("operator", "disables" if disabled else "enables", name)

        def answered(answer: object | None) -> None:
            if answer is None:
                self._later(0.3, 0.6, lambda: self._set_disabled(name, disabled))

        self._cluster.tell_coordinator("operator", SetDisabled(name, disabled), answered)

    def _move(self) -> None:
        """An operator moves a replica to some node, which may be one that cannot have it, or has thought better of it."""
        if not self._cluster.configurations:
            return
        chance = self._world.random
        now = chance.choice(list(self._cluster.configurations.values()))
        outside = [name for name in self._cluster.nodes if name not in now.replicas]
        source, target = chance.choice(now.replicas), chance.choice([*outside, *outside, self._node().name])
        request: MoveReplica | WithdrawMove = MoveReplica(now.tablet, source, target)
        if now.leaving and chance.random() < 0.3:
            request = WithdrawMove(now.tablet, now.leaving, now.replicas[-1])
        self._world.note("operator", "wants", request)
        self._cluster.tell_coordinator("operator", request, lambda answer: None)
        if now.primary is not None and chance.random() < 0.6:
            self._later(0.0, 0.1, lambda: self._harm_one_of([source, target, now.primary.node]))  # type: ignore[union-attr]

    def _split(self) -> None:
        """An operator wants a tablet split, near its middle, at the first row of a group, or where it may not be."""
        chance = self._world.random
        if not self._cluster.configurations:
            return
        row = chance.choice([None, "g2:a", *(f"g{chance.randint(0, 6)}{between}" for between in ("", "", "x", "y"))])
        present = list(self._cluster.configurations.values())
        inside = [each for each in present if row and each.start < row and (each.end is None or row < each.end)]
        now = chance.choice(inside if inside and chance.random() < 0.9 else present)
        request = SplitTablet(now.tablet, now.range_version, row)
        self._world.note("operator", "wants", request)
        self._cluster.tell_coordinator("operator", request, lambda answer: None)
        if now.primary is not None and chance.random() < 0.7:
            primary = now.primary.node
            self._later(0.0, 0.006, lambda: self._harm_one_of([primary, primary, self._node().name]))

    def _split_again(self) -> None:
        if self._going and self._split_every is not None:
            self._split()
            self._world.after(self._world.random.expovariate(1 / self._split_every), self._split_again)

    def _split_decided(self) -> None:
        """The coordinator may end before it has told everybody, or anybody."""
        coordinator = self._cluster.coordinator
        if self._going and self._world.random.random() < 0.3:
            coordinator.crash_in = self._world.random.randint(0, len(self._cluster.nodes))
            self._later(0.05, 3.0, lambda: self._revive(coordinator))

    def _harm_one_of(self, names: list[str]) -> None:
        """Just when something is prepared, decided, or carried out: one of those who take part, or the coordinator."""
        chance, coordinator = self._world.random, self._cluster.coordinator
        node = self._cluster.nodes[chance.choice(names)]
        kind = chance.randrange(7)
        if kind == 0:
            node.crash()
            self._later(0.01, 2.0, lambda: self._revive(node))
        elif kind == 1:
            node.crash_in = chance.randint(0, 8)
            self._later(1.0, 3.0, lambda: self._revive(node))
        elif kind == 2:
            coordinator.crash_in = chance.randint(0, 3)
            self._later(0.05, 3.0, lambda: self._revive(coordinator))
        elif kind == 3:
            node.pause(chance.uniform(0.05, 3.0))
        elif kind == 4:
            self._block([(node.name, "coord"), ("coord", node.name)][chance.randint(0, 1) :])
        elif kind == 5:
            others = [name for name in [*self._cluster.nodes, "coord"] if name != node.name]
            self._block([(node.name, other) for other in others] + [(other, node.name) for other in others])
        else:
            node.sync_time = chance.choice([0.02, 0.2, 2.0])
            self._later(0.5, 3.0, lambda: setattr(node, "sync_time", 0.0005))

    # ---------------------------------------------------------------- disks

    def _slow_disk(self) -> None:
        node = self._cluster.nodes[self._node().name]
        node.sync_time = self._world.random.choice([0.02, 0.2, 2.0])
        self._world.note(node.name, "has a slow disk:", node.sync_time)
        self._later(0.5, 3.0, lambda: setattr(node, "sync_time", 0.0005))

    def _failing_disk(self) -> None:
        node = self._cluster.nodes[self._node().name]
        node.syncs_fail = True
        self._later(1.0, 3.0, lambda: self._revive(node))

    def _empty_disk(self) -> None:
        """Only where what it holds is held elsewhere as well. It may still have been the last copy when nobody had noticed
        yet: then nothing can be promised (`Cluster.lost`)."""
        node = self._cluster.nodes[self._node().name]
        if self._is_needed(node.name):
            return
        node.crash()
        node.empty_disk()
        self._later(0.1, 2.0, lambda: self._revive(node))

    def _is_needed(self, name: str) -> bool:
        """Whether some tablet's last copy may be on the node."""
        tablets = self._cluster.configurations
        return not tablets or any(set(self._cluster.holders(tablet)) <= {name} for tablet in tablets)

    def _damage_disk(self) -> None:
        """As with a disk that is emptied; some of it is still good. The process may go on, and find what lies still itself."""
        node = self._cluster.nodes[self._node().name]
        if self._is_needed(node.name):
            return
        if self._world.random.random() < 0.5:
            self._cluster.damage_disk(node)
            return
        node.crash()
        self._cluster.damage_disk(node)
        self._later(0.1, 2.0, lambda: self._revive(node))

    def flip_at_rest(self) -> None:
        """Bits flip on a node when nobody reads or writes any more: only a scrub finds them."""
        for node in self._cluster.nodes.values():
            if self._cluster.real_engine and node.alive and not self._is_needed(node.name):
                self._cluster.damage_disk(node)
                return

    # ---------------------------------------------------------------- network

    def _block(self, pairs: list[tuple[str, str]]) -> None:
        blocked = self._cluster.network.blocked
        self._world.note("network", "is CUT:", *(f"{a}→{b}" for a, b in pairs))
        blocked.update(pairs)

        def heal() -> None:
            self._world.note("network", "heals:", *(f"{a}→{b}" for a, b in pairs))
            blocked.difference_update(pairs)

        self._later(0.2, 4.0, heal)

    def _names(self) -> list[str]:
        return [*self._cluster.nodes, "coord", "client1", "client2", "client3"]

    def _cut_one_way(self) -> None:
        self._block([tuple(self._world.random.sample(list(self._cluster.nodes), 2))])  # type: ignore[list-item]

    def _cut_off(self) -> None:
        name = self._node().name
        others = [other for other in self._names() if other != name]
        picked = self._world.random.choice([others, [o for o in others if not o.startswith("client")]])
        self._block([(name, other) for other in picked] + [(other, name) for other in picked])

    def _cut_apart(self) -> None:
        """In two: a former primary may keep a secondary, and clients who read there, on its side."""
        names = self._names()
        one = [name for name in names if self._world.random.random() < 0.5]
        other = [name for name in names if name not in one]
        self._block([(a, b) for a in one for b in other] + [(b, a) for a in one for b in other])

    def _cut_from_coordinator(self) -> None:
        name = self._node().name
        self._block([(name, "coord"), ("coord", name)])

    def _lossy(self) -> None:
        self._cluster.network.loss = self._world.random.choice([0.001, 0.01, 0.05])
        self._world.note("network", "loses", self._cluster.network.loss)
        self._later(0.3, 2.0, lambda: setattr(self._cluster.network, "loss", 0.0))

    def _slow_network(self) -> None:
        self._cluster.network.slowness = self._world.random.choice([5.0, 50.0, 300.0])
        self._world.note("network", "is slower:", self._cluster.network.slowness)
        self._later(0.3, 2.0, lambda: setattr(self._cluster.network, "slowness", 1.0))

    # ---------------------------------------------------------------- the end

    def _supervise(self, times: int) -> None:
        """Start what is down: a process that was paused may come to its end only now."""
        for machine in (*self._cluster.nodes.values(), self._cluster.coordinator):
            self._revive(machine)
        coordinator = self._cluster.coordinator.process
        for node in coordinator._membership.nodes.values() if coordinator is not None else ():
            if node.disabled:  # an earlier word of the operator came after a later one
                self._set_disabled(node.name, False)
        if times:
            self._later(0.4, 0.6, lambda: self._supervise(times - 1))

    def heal(self) -> None:
        """No more faults: everything that was broken is mended."""
        self._going = False
        self._world.note("faults", "are over")
        network = self._cluster.network
        network.blocked.clear()
        network.loss, network.slowness = 0.0, 1.0
        for node in self._cluster.nodes.values():
            node.sync_time = 0.0005
            node.crash_in = node.pause_in = None
            node.syncs_fail = False
        self._cluster.coordinator.crash_in = None
        self._supervise(12)
        for name in sorted(self._disabled):
            self._disabled.discard(name)
            self._set_disabled(name, False)
