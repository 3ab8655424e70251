"""A storage node and a coordinator on simulated machines: what `kvstore.node.server` and `kvstore.coordinator.server` do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvstore import messages, settings, wire
from kvstore.coordinator import effects as decided
from kvstore.coordinator.coordinator import Coordinator
from kvstore.coordinator.creation import Creation
from kvstore.errors import Unavailable
from kvstore.mutation import bundle_of, encode_mutation
from kvstore.node import effects
from kvstore.node.node import Node
from tests.simulation.disk import SimulatedDisk, SimulatedEngine
from tests.simulation.machine import Machine
from tests.simulation.network import Connection
from tests.simulation.real_disk import RealDisk, WatchedEngine

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

Answer = Callable[[object], None]


def _as_it_arrives(message: object) -> object:
    """What the other side makes of a message to it. Entries go by their bytes: who receives them decodes them when he applies
    them, and shares nothing with who sent them."""
    if not isinstance(message, messages.Append):
        return message
    sent = b"".join(map(bytes, wire.encode(message)))
    length, _ = wire.FRAME.unpack_from(sent)
    head = wire.FRAME.size + length
    return wire.decode(sent[wire.FRAME.size : head], sent[head:])[1]


class NodeMachine(Machine):
    """A storage node: process, disk, and a connection to each peer and to the coordinator."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster.world, name)
        self.cluster = cluster
        self.disk = self._new_disk(0)
        self.engine: SimulatedEngine | WatchedEngine | None = None
        self.sync_time = 0.0005
        """Seconds that a sync takes, about."""
        self.syncs_fail = False
        self._syncing = False
        self._wanting_since: float | None = None
        self._links: dict[str, Connection] = {}
        self.waiting_answers: list[tuple[list[bool], Callable[[object], None]]] = []
        self._coordinator: Connection | None = None
        self._arriving: list[tuple[Answer, messages.Write]] = []
        """Writes that will reach the process as one bundle."""

    # ---------------------------------------------------------------- life

    def make_process(self) -> Node:
        self.engine = self.disk.open(lambda: self.clock)
        self.engine.on_moved = lambda tablet, replica: self.cluster.moved(self, tablet, replica)
        for tablet, replica in self.engine.tablets.items():
            self.cluster.moved(self, tablet, replica)
        self._syncing, self._wanting_since, self.syncs_fail = False, None, False
        boot = f"{self.name}-boot-{self.boot}"
        address, pid = f"{self.name}:1", self.boot
        node = Node(self.name, self.engine, boot_id=boot, started=self.clock, address=address, pid=pid)
        self.engine.on_corrupt = lambda tablet, why: node.replica_damaged(tablet, why, self.clock)
        self.world.after(0.0, self._connect_coordinator, self.boot)
        for peer in self.cluster.nodes:
            if peer != self.name:
                self.world.after(0.0, self._connect, peer, self.boot)
        self._beat(self.boot)
        return node

    def ended(self) -> None:
        self._arriving = []
        for link in self._links.values():
            link.up = False
        self._links.clear()
        if self._coordinator is not None:
            self._coordinator.up = False
            self._coordinator = None
        self.disk.crash(self.world.random)
        for peer in self.cluster.nodes.values():
            leading_here = peer._links.get(self.name)
            if leading_here is not None:
                leading_here.breaks(self.world.random.uniform(0.0, 0.01))
        self.cluster.coordinator.node_gone(self.name)
        self.cluster.process_ended(self)

    def join(self) -> None:
        """The machine is there for the first time, if no accident has started it already."""
        if not self.alive:
            self.start()

    def empty_disk(self) -> None:
        """The folder is made anew: nothing that was there is there any more."""
        assert self.process is None
        self.world.note(self.name, "gets an EMPTY DISK")
        self.disk = self._new_disk(self.boot)

    def _new_disk(self, number: int) -> SimulatedDisk | RealDisk:
        kind = RealDisk if self.cluster.real_engine else SimulatedDisk
        return kind(f"{self.name}-store-{number}")

    # ---------------------------------------------------------------- connections

    def _again(self, what: Callable[..., None], *arguments: Any) -> None:
        self.world.after(self.world.random.uniform(0.05, 0.2), what, *arguments)

    def _connect(self, peer: str, boot: int) -> None:
        if boot != self.boot or self.process is None:
            return
        target = self.cluster.nodes[peer]
        network = self.cluster.network
        if not target.alive or not network.reaches(self.name, peer) or not network.reaches(peer, self.name):
            self._again(self._connect, peer, boot)
            return

        def deliver(message: object) -> None:
            target.put(lambda node, now: node.from_peer(message, now))

        def broken() -> None:
            self.put(lambda node, now: node.peer_disconnected(peer, now))
            self._again(self._connect, peer, boot)

        self._links[peer] = Connection(network, self, target, deliver, broken)
        self.put(lambda node, now: node.peer_connected(peer, now))

    def _connect_coordinator(self, boot: int) -> None:
        if boot != self.boot or self.process is None:
            return
        target, network = self.cluster.coordinator, self.cluster.network
        reached = network.reaches(self.name, target.name) and network.reaches(target.name, self.name)
        if not target.alive or not reached:
            self._again(self._connect_coordinator, boot)
            return
        there = target.accept(self)

        def deliver(message: object) -> None:
            target.put(lambda coordinator, now: coordinator.from_node(there, message, now))

        def broken() -> None:
            if self._coordinator is connection:
                self._coordinator = None
                self._again(self._connect_coordinator, boot)
            if there.outgoing is not None:
                there.outgoing.breaks(self.world.random.uniform(0.0, 0.3))

        connection = self._coordinator = Connection(network, self, target, deliver, broken)
        there.partner = connection
        self.put(self._register)

    def _register(self, node: Node, now: float) -> None:
        if self._coordinator is not None:
            self._coordinator.send(node.register_message(now))

    def coordinator_lost(self) -> None:
        """The coordinator's end of the connection broke."""
        if self._coordinator is not None:
            self._coordinator.breaks(self.world.random.uniform(0.0, 0.3))

    # ---------------------------------------------------------------- writes

    def write_arrives(self, reply: Answer, write: messages.Write) -> None:
        """A client's write of one mutation. Most that arrive within a moment come as one bundle, repeats among them."""
        chance = self.world.random
        first = self._arriving[0][1] if self._arriving else None
        if first is not None and (first.tablet, first.range_version) == (write.tablet, write.range_version):
            self._arriving.append((reply, write))
            return
        together = [(reply, write)]
        if first is None and chance.random() < 0.7:
            self._arriving = together
            self.world.after(chance.uniform(0.0, 0.005), self._bundle_arrives, together, self.boot)
        else:
            self._bundle_arrives(together, self.boot)

    def _bundle_arrives(self, together: list[tuple[Answer, messages.Write]], boot: int) -> None:
        if boot != self.boot or self.process is None:
            return
        if self._arriving is together:
            self._arriving = []
        writes = [write for _, write in together]
        mutations = [encode_mutation(*mutation) for write in writes for mutation in write.bundle.mutations]
        bundle = bundle_of(*mutations, bulk=b"".join(write.bundle.bulk for write in writes))
        ids = list(range(len(together)))
        write = messages.Write(writes[0].tablet, writes[0].range_version, ids, bundle)
        replies = tuple(reply for reply, _ in together)
        self.put(lambda process, now: process.client_write(replies, write, now))

    # ---------------------------------------------------------------- turns

    def settle_turn(self) -> None:
        self.process.flush(self.clock)
        if self.process.is_behind and self.world.random.random() < 0.5:
            self.process.apply_behind()
        self.cluster.check_primaries(self)

    def carry_out(self, effect: Any) -> None:
        _CARRIERS[type(effect)](self, effect)

    def _send_peer(self, effect: effects.SendPeer) -> None:
        link = self._links.get(effect.node)
        if link is not None:
            link.send(_as_it_arrives(effect.message))

    def _send_coordinator(self, effect: effects.SendCoordinator) -> None:
        if self._coordinator is not None:
            self._coordinator.send(effect.message)

    def _reply(self, effect: effects.Reply) -> None:
        answer: Any = effect.token
        if isinstance(answer, tuple):  # of a write: those who are answered, and which of them
            answer = answer[0][answer[1]]
        late = effect.valid_until < self.clock
        answer(effects.NOT_PRIMARY_ANY_MORE if late else effect.message)

    def _committed(self, effect: effects.Committed) -> None:
        groups: list[tuple[Any, list[int]]] = effect.groups
        asked = [replies[each] for replies, ids in groups for each in ids]
        for index, answer in enumerate(asked):
            failed = effect.failed[index] if effect.failed is not None else 0
            answer(messages.Written(effect.outcomes[index], effect.epoch, effect.first + index, failed))

    def _forward(self, effect: effects.Forward) -> None:
        answer: Any = effect.token
        boot = self.boot
        gone = messages.Refused(Unavailable.__name__, "the primary cannot be reached")

        def answered(message: object | None) -> None:
            if boot == self.boot and self.process is not None and self.process.forward_ended(answer):
                answer(gone if message is None else message)

        self.cluster.ask(self, effect.node, effect.request, answered, forwarded=True)

    def _request_primary(self, effect: effects.RequestPrimary) -> None:
        def answered(message: object) -> None:
            self.put(lambda node, now: node.primary_answered(effect.token, message, now))

        boot = self.boot
        self.cluster.ask(self, effect.node, effect.request, lambda a: answered(a) if boot == self.boot else None)

    def _flush_again(self, effect: effects.FlushAgain) -> None:
        self._wake()

    def _wake_log(self, effect: effects.WakeLog) -> None:
        if self._wanting_since is None:
            self._wanting_since = self.clock
        if not self._syncing:
            self._sync(self.boot)

    def _stop_serving(self, effect: effects.StopServing) -> None:
        self.world.note(self.name, "stops:", effect.reason)
        self.crash()

    # ---------------------------------------------------------------- disk and time

    def _sync(self, boot: int) -> None:
        if boot != self.boot or self.process is None:
            return
        self._syncing = self.disk.waiting
        if not self._syncing:
            self._wanting_since = None
            return
        took = self.sync_time * self.world.random.uniform(0.5, 3.0)
        self.world.after(took, self._synced, boot, self.disk.begin_sync())

    def _synced(self, boot: int, begun: int) -> None:
        if boot != self.boot or self.process is None:
            return
        if self.syncs_fail:
            self.put(lambda node, now: node.log_failed("fsync failed"))
            return
        upto = self.disk.end_sync(begun)
        if self.paused:
            self._wanting_since = None
        self.put(lambda node, now: self._durable(node, upto, now))
        self._sync(boot)

    def _durable(self, node: Node, upto: int, now: float) -> None:
        self._wanting_since = now if self._syncing else None
        node.synced(upto, now)

    def _beat(self, boot: int) -> None:
        if boot != self.boot:
            return
        self.put(self._heartbeat)
        self.world.after(self.of_clock(settings.HEARTBEAT_INTERVAL), self._beat, boot)

    def _heartbeat(self, node: Node, now: float) -> None:
        synced = self.disk.maintain()
        if synced > node._host.synced:
            node.synced(synced, now)  # it may have synced what was just appended, and nothing else will say so
        age = 0.0 if self._wanting_since is None else now - self._wanting_since
        heartbeat = node.heartbeat(now, age, {})
        if heartbeat is not None and self._coordinator is not None:
            self._coordinator.send(heartbeat)


_CARRIERS: dict[type, Callable[[NodeMachine, Any], None]] = {
    effects.SendPeer: NodeMachine._send_peer,
    effects.SendCoordinator: NodeMachine._send_coordinator,
    effects.Reply: NodeMachine._reply,
    effects.Committed: NodeMachine._committed,
    effects.Forward: NodeMachine._forward,
    effects.RequestPrimary: NodeMachine._request_primary,
    effects.FlushAgain: NodeMachine._flush_again,
    effects.WakeLog: NodeMachine._wake_log,
    effects.StopServing: NodeMachine._stop_serving,
}


class NodeConnection:
    """The coordinator's end of a node's connection."""

    def __init__(self, node: NodeMachine) -> None:
        self.node = node
        self.partner: Connection | None = None
        self.outgoing: Connection | None = None


class CoordinatorMachine(Machine):
    """The coordinator: process, journal, connections of nodes."""

    def __init__(self, cluster: Cluster, creation: Creation) -> None:
        super().__init__(cluster.world, "coord")
        self.cluster = cluster
        self._creation = creation
        self.journal: list[dict[str, Any]] = []
        self._connections: dict[str, NodeConnection] = {}

    def make_process(self) -> Coordinator:
        if self.journal and self.world.random.random() < 0.5:
            # what a snapshot restores is what the records restore
            self.journal = Coordinator(None, self.journal, self.clock).snapshot()
        return Coordinator(self._creation, list(self.journal), self.clock)

    def ended(self) -> None:
        for connection in self._connections.values():
            if connection.outgoing is not None:
                connection.outgoing.up = False
            connection.node.coordinator_lost()
        self._connections.clear()

    def accept(self, node: NodeMachine) -> NodeConnection:
        """A node connects."""
        there = NodeConnection(node)

        def deliver(message: object) -> None:
            node.put(lambda process, now: process.from_coordinator(message, now))

        def broken() -> None:
            self.put(lambda coordinator, now: coordinator.node_disconnected(there, now))
            node.coordinator_lost()

        there.outgoing = Connection(self.cluster.network, self, node, deliver, broken)
        self._connections[node.name] = there
        return there

    def node_gone(self, name: str) -> None:
        """A node's process ended, and its connection with it."""
        connection = self._connections.pop(name, None)
        if connection is not None and connection.outgoing is not None:
            connection.outgoing.breaks(self.world.random.uniform(0.0, 0.01))

    def carry_out(self, effect: Any) -> None:
        if isinstance(effect, decided.Journal):
            # on disk before anything after it happens; a crash comes before it or after it
            self.journal.append(effect.record)
            self.cluster.decided(effect.record)
        elif isinstance(effect, decided.SendNode):
            connection: Any = effect.connection
            if connection.outgoing is not None:
                connection.outgoing.send(effect.message)
        else:
            answer: Any = effect.token
            answer(effect.message)
