"""Three nodes on a bench: real `Node`s on simulated disks; the test is the network, the disk's pace, the clock and the
coordinator. Nothing happens by itself: `settle` lets everything go on that is not held back, `advance` lets time pass."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import google_crc32c

from kvstore import messages
from kvstore.messages import ChangeRequest, Configuration, Configure, Get, Member, Register, Registered, Write
from kvstore.mutation import Bundle, Op, Require, bundle_of, encode_mutation
from kvstore.node import effects
from kvstore.node.leadership import Leadership
from kvstore.node.node import Node
from kvstore.node.replica import Replica
from tests.simulation.disk import SimulatedDisk, SimulatedEngine

TABLET = 1
ALONE = 1 << 40
"""The id of a write that came alone."""
NAMES = ("n1", "n2", "n3")


def put(row: str, value: bytes, *, number: int, client: int = 7, column: str = "c", floor: int = 0) -> Bundle:
    """A mutation that puts one cell."""
    return mutation(number, client, [], [[Op.PUT, row, column, value]], floor)


def delete(row: str, *, number: int, client: int = 7, column: str = "c") -> Bundle:
    """A mutation that deletes one cell."""
    return mutation(number, client, [], [[Op.DELETE, row, column]])


def put_if(row: str, expected: bytes | None, value: bytes, *, number: int, client: int = 7) -> Bundle:
    """A compare-and-put."""
    require: list[Any] = [Require.ABSENT, row, "c"] if expected is None else [Require.VALUE, row, "c", expected]
    return mutation(number, client, [require], [[Op.PUT, row, "c", value]])


def put_large(row: str, value: bytes, *, number: int, client: int = 7) -> Bundle:
    """A put of a value that stays in the log."""
    operations = [[Op.PUT_BULK, row, "c", len(value), google_crc32c.value(value)]]
    return bundle_of(encode_mutation(client, number, 0, [], operations), bulk=value)


def mutation(number: int, client: int, requires: list[Any], operations: list[Any], floor: int = 0) -> Bundle:
    """Any mutation without bulk part."""
    return bundle_of(encode_mutation(client, number, floor, requires, operations))


class Trio:
    """The bench."""

    def __init__(self) -> None:
        self.now = 100.0
        self.disks = {name: SimulatedDisk(f"{name}-store") for name in NAMES}
        self.incarnations = dict.fromkeys(NAMES, 0)
        self.nodes: dict[str, Node] = {}
        self.held: set[tuple[str, str]] = set()
        """Directions in which messages wait."""
        self.mail: dict[tuple[str, str], deque[Any]] = {(a, b): deque() for a in NAMES for b in NAMES if a != b}
        self.stuck_disks: set[str] = set()
        """Nodes whose log does not reach the disk."""
        self.answers: dict[Any, Any] = {}
        self.valid_until: dict[Any, float] = {}
        self.asked: list[Any] = []
        """What nodes told the coordinator (heartbeats aside)."""
        self.configuration = Configuration(TABLET, "", None, 1, 1, None, (), replicas=NAMES, min_in_sync=1)
        self.children: list[Configuration] = []
        """The newest configurations of tablets that were split off."""
        for name in NAMES:
            self.start(name)
        self.tell(self.configuration)
        self.settle()

    # -- processes

    def start(self, name: str) -> Node:
        """Start a process on what is on its disk, registered as a new incarnation."""
        self.incarnations[name] += 1
        engine = SimulatedEngine(self.disks[name])
        node = Node(name, engine, boot_id=f"{name}.{self.incarnations[name]}", started=self.now)
        self.nodes[name] = node
        known = [self.configuration, *self.children] if self.configuration.in_sync else []
        node.from_coordinator(Registered(self.incarnations[name], "cluster", ".*", known, {}), self.now)
        for other in self.nodes:
            if other != name:
                node.peer_connected(other, self.now)
                self.nodes[other].peer_connected(name, self.now)
        return node

    def crash(self, name: str, *, keep_unsynced: bool = False) -> None:
        """The process ends; what its disk did not have is lost."""
        del self.nodes[name]
        disk = self.disks[name]
        if not keep_unsynced:
            del disk.records[disk.durable :]
        disk.durable = len(disk.records)
        for pair, queue in self.mail.items():
            if name in pair:
                queue.clear()

    def member(self, name: str) -> Member:
        """The present run of a node."""
        return Member(name, self.incarnations[name])

    def replica(self, name: str, tablet: int = TABLET) -> Replica:
        """A node's replica."""
        return self.nodes[name]._replicas[tablet]

    def leader(self, name: str, tablet: int = TABLET) -> Leadership:
        """A node's time as primary."""
        leadership = self.replica(name, tablet).leadership
        assert leadership is not None
        return leadership

    # -- configurations

    def lead(self, primary: str, in_sync: str = "", learners: str = "", to: str = "n1 n2 n3") -> Configuration:
        """Decide the next configuration, and tell it to the nodes `to`."""
        before = self.configuration
        leader = self.member(primary)
        led = before.primary == leader
        former = [m for m in (*before.former, before.primary) if m is not None and m != leader]
        self.configuration = replace(
            before,
            epoch=before.epoch + 1,
            primary=leader,
            in_sync=tuple(self.member(name) for name in (in_sync or primary).split()),
            learners=tuple(self.member(name) for name in learners.split()),
            former=tuple(m for m in former if m == self.member(m.node)),
            since=before.since if led else before.epoch + 1,
        )
        self.tell(self.configuration, to)
        return self.configuration

    def tell(self, configuration: Configuration, to: str = "n1 n2 n3") -> None:
        """The coordinator's word reaches the nodes `to`."""
        for name in to.split():
            if name in self.nodes:
                self.nodes[name].from_coordinator(Configure([configuration], {}), self.now)

    def serving(self, primary: str = "n1", in_sync: str = "n1 n2 n3", learners: str = "") -> Trio:
        """Let `primary` lead and get to the point where it serves."""
        self.lead(primary, in_sync, learners)
        self.settle()
        self.advance(1.5, step=0.25)  # longer than a process that has just started may not lead
        assert self.leader(primary).serving
        return self

    # -- what goes on

    def settle(self) -> None:
        """Deliver, sync and answer until nothing moves that is not held back."""
        for _ in range(1000):
            if not self._step():
                return
        raise AssertionError("it never comes to rest")

    def _step(self) -> bool:
        moved = False
        for name, node in list(self.nodes.items()):
            node.flush(self.now)
            for effect in node.take_effects():
                moved = True
                self._carry_out(name, effect)
            moved |= self.sync(name)
            node.apply_behind()
        for (source, target), queue in self.mail.items():
            while queue and (source, target) not in self.held and target in self.nodes:
                self.nodes[target].from_peer(queue.popleft(), self.now)
                moved = True
        return moved

    def sync(self, name: str, *, anyway: bool = False) -> bool:
        """Bring a node's log to its disk, if it is not stuck (or `anyway`); whether there was anything."""
        disk = self.disks[name]
        if (name in self.stuck_disks and not anyway) or disk.durable == len(disk.records):
            return False
        disk.durable = len(disk.records)
        self.nodes[name].synced(disk.durable, self.now)
        return True

    def _carry_out(self, name: str, effect: Any) -> None:
        if isinstance(effect, effects.SendPeer):
            if effect.node in self.nodes:
                self.mail[name, effect.node].append(effect.message)
        elif isinstance(effect, effects.Reply):
            self._answer(effect.token, effect.message)
            self.valid_until[effect.token] = effect.valid_until
        elif isinstance(effect, effects.Committed):
            asked: list[Any] = [(source, each) for source, ids in effect.groups for each in ids]
            for index, token in enumerate(asked):
                failed = effect.failed[index] if effect.failed is not None else 0
                answer = messages.Written(effect.outcomes[index], effect.epoch, effect.first + index, failed)
                self._answer(token, answer)
        elif isinstance(effect, effects.SendCoordinator):
            if not isinstance(effect.message, messages.Heartbeat | Register):
                self.asked.append(effect.message)
        elif isinstance(effect, effects.RequestPrimary):
            self._ask_primary(name, effect)
        elif isinstance(effect, effects.Forward):
            token = ("forwarded", name, effect.token)
            self.nodes[effect.node].client_request(token, effect.request, self.now, forwarded=True)

    def _ask_primary(self, name: str, effect: effects.RequestPrimary) -> None:
        if (name, effect.node) in self.held or effect.node not in self.nodes:
            return
        token = ("learner", name, effect.token)
        self.nodes[effect.node].client_request(token, effect.request, self.now)
        for answered in self.nodes[effect.node].take_effects():
            self._carry_out(effect.node, answered)
        if token in self.answers:
            self.nodes[name].primary_answered(effect.token, self.answers[token], self.now)

    def _answer(self, token: Any, message: Any) -> None:
        if isinstance(token, tuple) and token[0] == "forwarded":
            _, asked, token = token
            if not self.nodes[asked].forward_ended(token):
                return
        if isinstance(token, tuple) and token[1] == ALONE:
            token = token[0]
        assert token not in self.answers, f"{token} was answered twice"
        self.answers[token] = message

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass, with everything that it brings."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(self.now + step, end)
            for node in list(self.nodes.values()):
                node.tick(self.now)
            self.settle()

    # -- clients

    def write(self, name: str, token: Any, *bundles: Bundle, tablet: int = TABLET, version: int = 1) -> None:
        """Writes of one mutation each arrive as one bundle. The only one is answered as `token`, several as (`token`, 1),
        (`token`, 2) and so on. `version`: the range version that the client knows."""
        mutations = [mutation for bundle in bundles for mutation in bundle.mutations]
        encoded = [encode_mutation(*mutation) for mutation in mutations]
        together = bundle_of(*encoded, bulk=b"".join(bundle.bulk for bundle in bundles))
        ids = [ALONE] if len(mutations) == 1 else list(range(1, len(mutations) + 1))
        self.nodes[name].client_write(token, Write(tablet, version, ids, together), self.now)

    def read(
        self, name: str, token: Any, row: str, column: str = "c", *, tablet: int = TABLET, version: int = 1
    ) -> None:
        """A client's read arrives."""
        self.nodes[name].client_request(token, Get(tablet, version, row, column), self.now)

    def value_at(self, name: str, row: str, column: str = "c", *, tablet: int = TABLET) -> bytes | None:
        """What a replica holds, applied."""
        cell = self.replica(name, tablet).disk.tablet.get(row, column)
        return None if cell is None else self.replica(name, tablet).host.engine.read(cell)

    def changes_asked(self) -> list[ChangeRequest]:
        """What primaries asked of the coordinator."""
        return [asked for asked in self.asked if isinstance(asked, ChangeRequest)]
