"""A coordinator on a bench: the test plays the nodes and the clock."""

from __future__ import annotations

from typing import Any

from kvstore import settings
from kvstore.control import ProcessExited, SetDisabled
from kvstore.coordinator.coordinator import Coordinator
from kvstore.coordinator.creation import Creation
from kvstore.coordinator.effects import Journal, Reply, SendNode
from kvstore.messages import (
    ChangeAnswer,
    ChangeKind,
    ChangeRequest,
    Configuration,
    Heartbeat,
    Member,
    Register,
    Registered,
    ReplicaDamaged,
    ReplicaReport,
)

CREATION = Creation("test", r"[^:]*", [], 3, 1, 3, spread=False)


class Control:
    """The bench. A node is what it says of itself: its run, its data folder, its replica."""

    def __init__(self, creation: Creation = CREATION, *, nodes: str = "n1 n2 n3") -> None:
        self.now = 1000.0
        self.creation = creation
        self.journal: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.boots = dict.fromkeys(nodes.split(), 0)
        self.incarnations = dict.fromkeys(self.boots, 0)
        self.stores = {name: f"{name}-store" for name in self.boots}
        self.intact = dict.fromkeys(self.boots, True)
        self.disk_age = dict.fromkeys(self.boots, 0.0)
        self.bytes: dict[int, int] = {}
        """Of a tablet; 0 if nothing is said."""
        self.disk_free: dict[str, float] = {}
        """Of a node; unknown if nothing is said."""
        self.ranges: dict[tuple[str, int], int] = {}
        """The range version of a node's replica, where it has not split as the configuration says; it then has no replica of
        what was split off since."""
        self.leaving: set[str] = set()
        self.full: set[str] = set()
        """Nodes whose disks have no room."""
        self.up: set[str] = set()
        self.told: list[Configuration] = []
        self.effects: list[Any] = []
        self.coordinator = Coordinator(creation, [], self.now)
        self.take()

    def formed(self) -> Control:
        """Every node is there, and the tablets are led; no process is so young that it would have to wait."""
        for name in self.boots:
            self.boot(name)
        self.beat()
        assert self.tablet().primary is not None
        self.pass_time(settings.SEASONED + 0.2)
        return self

    # -- the coordinator

    def take(self) -> None:
        """Carry out its effects."""
        for effect in self.coordinator.take_effects():
            self.effects.append(effect)
            if isinstance(effect, Journal):
                self.journal.append(effect.record)
            elif isinstance(effect, Reply):
                self.answers.append(effect.message)
            elif isinstance(effect, SendNode):
                if isinstance(effect.message, Registered):
                    self.incarnations[str(effect.connection)] = effect.message.incarnation
                elif isinstance(effect.message, ChangeAnswer):
                    self.answers.append(effect.message)

    def restart(self, *, snapshot: bool = False) -> None:
        """The coordinator ends, and starts on its journal."""
        self.coordinator = Coordinator(
            self.creation, self.coordinator.snapshot() if snapshot else self.journal, self.now
        )
        self.take()

    def tablet(self, tablet: int = 1) -> Configuration:
        """The configuration as it stands."""
        return self.coordinator._configurations[tablet]

    def set_of(self, tablet: int = 1) -> list[str]:
        """The nodes in sync."""
        return sorted(member.node for member in self.tablet(tablet).in_sync)

    def leader(self, tablet: int = 1) -> str | None:
        """The node that leads."""
        primary = self.tablet(tablet).primary
        return primary.node if primary else None

    def status(self) -> Any:
        """What the console shows."""
        return self.coordinator.status(self.now)

    # -- the nodes

    def member(self, name: str) -> Member:
        """The node's present run."""
        return Member(name, self.incarnations[name])

    def register(self, name: str, *, same_process: bool = False) -> None:
        """A node's process registers; nothing more."""
        if not same_process:
            self.boots[name] += 1
        boot, store = f"{name}-{self.boots[name]}", self.stores[name]
        message = Register(name, store, boot, 0, f"{name}:1", self.boots[name], [])
        self.coordinator.from_node(name, message, self.now)
        self.take()

    def boot(self, name: str) -> None:
        """A new process: it registers and sends its first heartbeat."""
        self.register(name)
        self.up.add(name)
        self.leaving.discard(name)
        self.beat(name)

    def join(self, name: str) -> None:
        """A node that nobody has heard of starts."""
        self.boots[name] = self.incarnations[name] = 0
        self.stores[name], self.intact[name], self.disk_age[name] = f"{name}-store", True, 0.0
        self.boot(name)

    def beat(self, names: str = "") -> None:
        """Heartbeats of the nodes that are up, or of `names`."""
        for name in names.split() or sorted(self.up):
            reports = [
                self._report(name, c) for c in self.coordinator._configurations.values() if not self._unsplit(name, c)
            ]
            figures = {"disk_free": self.disk_free[name]} if name in self.disk_free else {}
            member, age = self.member(name), self.disk_age[name]
            full, leaving = name in self.full, name in self.leaving
            message = Heartbeat(member, age, reports, figures, full=full, leaving=leaving)
            self.coordinator.from_node(name, message, self.now)
            self.take()

    def _unsplit(self, name: str, configuration: Configuration) -> bool:
        """Whether the tablet's rows are still in the node's replica of its parent."""
        born = configuration.born
        return born is not None and self.ranges.get((name, born.parent), born.range_version) < born.range_version

    def _report(self, name: str, configuration: Configuration) -> ReplicaReport:
        tablet, version = configuration.tablet, configuration.range_version
        report = ReplicaReport(tablet, self.intact[name], "", 0, 0, 0, known_epoch=configuration.epoch)
        report.bytes, report.range_version = self.bytes.get(tablet, 0), self.ranges.get((name, tablet), version)
        return report

    def pass_time(self, seconds: float) -> None:
        """Time passes, with the heartbeats of those who are up."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.25
            self.beat()
            self.coordinator.tick(self.now)
            self.take()

    def kill(self, name: str, *, told: bool = False) -> None:
        """A node's process ends; `told`: the supervisor says so."""
        self.up.discard(name)
        if told:
            self.request(ProcessExited(name, self.boots[name]))

    def leave(self, name: str) -> None:
        """A node's process is told to stop, and says so."""
        self.leaving.add(name)
        self.beat(name)

    def request(self, message: Any) -> Any:
        """A request from outside, and its answer."""
        self.coordinator.request("token", message, self.now)
        self.take()
        return self.answers[-1]

    def disable(self, name: str, disabled: bool = True) -> None:
        """An operator's word."""
        self.request(SetDisabled(name, disabled))

    def ask(
        self,
        kind: ChangeKind,
        member: Member,
        *,
        epoch: int | None = None,
        sender: Member | None = None,
        tablet: int = 1,
    ) -> Any:
        """The primary asks for a change; the answer."""
        now = self.tablet(tablet)
        assert now.primary is not None
        message = ChangeRequest(tablet, now.epoch if epoch is None else epoch, sender or now.primary, kind, member)
        self.coordinator.from_node(now.primary.node, message, self.now)
        self.take()
        return self.answers[-1]

    def damaged(self, name: str) -> None:
        """A node says that its replica is damaged."""
        self.intact[name] = False
        self.coordinator.from_node(name, ReplicaDamaged(1, self.member(name), "test"), self.now)
        self.take()
