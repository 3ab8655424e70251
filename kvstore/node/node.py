"""A whole storage node without sockets, clock, disk or threads: events in, effects out.

`Node` routes what comes in to the machines that decide: a `Replica` for each tablet, the `Leases` of all of them, a
`CatchUp` for each tablet that it is learning. The storage engine's calls are made synchronously; they only buffer: durable
is what `synced` has been told. The same class runs behind sockets (`kvstore.node.server`) and under the simulator.

What the driver promises:

- One call at a time, never re-entered. `now` is `clock.now()` of this machine, read *after* the event happened: a beacon's
  grant counts from there (trap 1), so a reading older than the message's arrival would end a grant too early.
- After one or more inputs: `flush(now)`, then `take_effects()`, carried out in order.
- `tick(now)` every 20 to 50 ms, and what has already arrived is fed before it: else a process that was paused takes its
  peers for silent.
- A message lost between two nodes shows as `peer_disconnected`, or at the latest as the next `peer_connected`: within the
  life of one connection messages arrive complete and in order.
- Requests from outside were checked for their form (`mutation.check_bundle`); that rows lie in the
  tablet and in one group is checked here.
"""

from __future__ import annotations

from typing import Any

from kvstore import errors, settings
from kvstore.keys import GroupRule
from kvstore.messages import (
    Acknowledge,
    Announce,
    Append,
    Beacon,
    CellAnswer,
    ChangeAnswer,
    Configuration,
    Configure,
    Establish,
    Get,
    GetMap,
    GetRow,
    Grant,
    Heartbeat,
    Member,
    PeerMessage,
    PeerRefusal,
    ProposeSplit,
    Register,
    Registered,
    Scan,
    TabletMap,
    Write,
)
from kvstore.node.births import Heard
from kvstore.node.catchup import CatchUpToken
from kvstore.node.effects import Effect, FlushAgain, Reply, SendPeer, StopServing, Token, WakeLog
from kvstore.node.handlers import HANDLERS
from kvstore.node.host import Host
from kvstore.node.lease import Leases
from kvstore.node.parting import part
from kvstore.node.reads import ReadRequest
from kvstore.node.replica import Replica, Role
from kvstore.node.rows import check_read, check_rows
from kvstore.node.secondary import CommitPointToken
from kvstore.questions import AskCommitPoint, ReadResults

PAUSE = 0.5
"""Seconds between two ticks after which this process must have been paused."""
DAMAGE_AGAIN = 0.5
"""Seconds after which a damaged replica that still has a part is reported again."""


class Node:
    """A storage node. `name` is its id in configurations."""

    def __init__(
        self, name: str, engine: Any, *, boot_id: str, started: float, address: str = "", pid: int = 0
    ) -> None:
        """`engine`: an open `kvstore.storage.engine.Engine`. `boot_id`: made at random for this process. `started`: the
        clock's reading when the process began; what it promised in an earlier life may hold for `GRANT_WAIT` from then.
        `address` ("host:port") and `pid` go into the registration."""
        self.name = name
        self._engine = engine
        self._boot_id, self._address, self._pid = boot_id, address, pid
        self._host = Host(name, engine, Leases(started))
        self._replicas: dict[int, Replica] = {tablet: Replica(self._host, tablet, 0) for tablet in engine.tablets}
        self._configurations: dict[int, Configuration] = {}
        """What this node acts under; what it has heard may be newer (`kvstore.node.births`)."""
        self._heard = Heard()
        self._ignored: set[int] = set()
        """Tablets of which messages came that could not be acted on before a split is heard of in full."""
        self._addresses: dict[str, str] = {}
        self._ticked = started
        self._beaconed = started
        self._damage_told = started
        self._disk_age = 0.0
        self._leaving = False
        self._figures: dict[str, float] = {}

    # -- registration and the coordinator

    def register_message(self, now: float) -> Register:
        """What to send first on every new connection to the coordinator."""
        incarnation = self._host.me.incarnation
        store = self._engine.store_id
        return Register(self.name, store, self._boot_id, incarnation, self._address, self._pid, self._reports())

    def from_coordinator(self, message: Registered | Configure | ChangeAnswer | ProposeSplit, now: float) -> None:
        """A message of the coordinator. After `Registered` a heartbeat is sent at once, as an effect."""
        if self._host.failed:
            return
        self.apply_behind()
        if isinstance(message, ChangeAnswer):
            self._learn(message.configuration, now)
            return
        if isinstance(message, ProposeSplit):
            replica = self._replicas.get(message.tablet)
            if replica is not None and replica.leadership is not None:
                replica.leadership.split(message, now)
            return
        if isinstance(message, Registered):
            if self._host.me.incarnation not in (0, message.incarnation):
                self.log_failed("the coordinator numbers this process anew: it has lost its state")
                return
            self._host.me = Member(self.name, message.incarnation)
            self._host.group_rule = GroupRule(message.group_rule)
        elif self._host.me.incarnation == 0:
            return  # sent to an earlier run on the same connection's name: this one is not registered yet
        self._addresses = dict(message.addresses)
        for configuration in message.configurations:
            self._learn(configuration, now)
        if isinstance(message, Registered):
            # until a heartbeat says that it lives, the coordinator takes this run for one that died registering
            self._host.tell_coordinator(self.heartbeat(now, self._disk_age, self._figures))

    def heartbeat(self, now: float, disk_age: float, figures: dict[str, float]) -> Heartbeat | None:
        """What to send every `HEARTBEAT_INTERVAL`; None before the first registration. `disk_age` in seconds."""
        self._disk_age, self._figures = disk_age, figures
        if self._host.me.incarnation == 0 or self._host.failed:
            return None
        self.apply_behind()
        return Heartbeat(self._host.me, disk_age, self._reports(), figures, self._host.full, self._leaving)

    def _reports(self) -> list[Any]:
        self.apply_behind()
        reports = [replica.report() for replica in self._replicas.values()]
        return [report for report in reports if report is not None]

    def _learn(self, configuration: Configuration, now: float) -> None:
        """A configuration, whoever passed it on: only the coordinator makes them."""
        if self._host.me.incarnation == 0 or not self._heard.hear(configuration):
            return
        while (ready := self._heard.ready(self._range_versions())) is not None:
            self._take_up(self._heard.newest(ready), now)

    def _range_versions(self) -> dict[int, int]:
        return {tablet: replica.disk.range_version for tablet, replica in self._replicas.items()}

    def _part(self, replica: Replica) -> bool:
        """Part the replica as its tablet was, as often as that was; whether it was."""
        births = self._heard.births(replica.tablet, replica.disk.range_version)
        assert births is not None, f"tablet {replica.tablet} has another range, and nobody says whose its rows are"
        for child in births:
            other = part(replica, child)
            if other is not None:
                self._replicas[child.tablet] = other
        return bool(births)

    def _take_up(self, configuration: Configuration, now: float) -> None:
        """Act under a configuration."""
        tablet = configuration.tablet
        known = self._configurations.get(tablet)
        was_parted = tablet in self._replicas and self._part(self._replicas[tablet])
        self._configurations[tablet] = configuration
        if tablet not in self._replicas and self._should_make(configuration):
            self._engine.create_tablet(tablet, configuration.start, configuration.end, configuration.range_version)
            made_at = self._engine.append_epoch(tablet, configuration.epoch)
            replica = self._replicas[tablet] = Replica(self._host, tablet, made_at)
            self._host.logged(replica)
        if tablet in self._replicas:
            replica = self._replicas[tablet]
            replica.learn(configuration, now)
            if was_parted:
                replica.parted()
            if tablet in self._ignored:
                replica.missed(now)
            self._drop_if_replaced(replica)
        self._ignored.discard(tablet)
        if known is not None and known.primary != configuration.primary:
            self._recall(configuration)

    def _drop_if_replaced(self, replica: Replica) -> None:
        """Drop a copy that another node has taken the place of. What was promised as a member is kept (`Leases` are the
        node's), and a configuration that names this node again makes it learn from nothing."""
        if replica.replaced:
            del self._replicas[replica.tablet]
            self._host.unsynced.pop(replica, None)
            self._host.gathering.pop(replica, None)
            self._host.behind.pop(replica, None)
            self._engine.drop_tablet(replica.tablet)
            self._host.wake_log = True

    def _recall(self, configuration: Configuration) -> None:
        """The tablet has another primary: reads that were passed on to the former are asked of this one. The former may
        hang, its connections open: its answers would never come, and those who asked would wait out their deadline."""
        forwarded = self._host.forwarded
        for token in [token for token, tablet in forwarded.items() if tablet == configuration.tablet]:
            del forwarded[token]
            self._host.refuse(token, errors.NotPrimary, "the tablet has another primary", configuration)

    def forward_ended(self, token: Token) -> bool:
        """The answer to a `Forward` is here, or its connection was lost: whether `token` still waits for that."""
        return self._host.forwarded.pop(token, None) is not None

    def _should_make(self, configuration: Configuration) -> bool:
        """Whether an empty replica is what this node should have: at the tablet's making, or to learn. A member of the
        in-sync set that has none has lost it; an empty one in its place would lose what was acknowledged."""
        making = configuration.primary is None and not configuration.in_sync
        return (making and self.name in configuration.replicas) or self._host.me in configuration.learners

    # -- peers

    def from_peer(self, message: PeerMessage | Beacon | Grant, now: float) -> None:
        """A message of another node."""
        if self._host.failed or self._host.me.incarnation == 0:
            return
        if type(message) is not Append and type(message) is not Acknowledge:
            self.apply_behind()
            if isinstance(message, Beacon):
                self._beacon_came(message, now)
                return
            if isinstance(message, Grant):
                for tablet in self._host.leases.granted(message):
                    leadership = self._replicas[tablet].leadership
                    if leadership is not None:
                        leadership.lease_renewed(now)
                return
            if isinstance(message, Announce | Establish | PeerRefusal) and message.configuration is not None:
                self._learn(message.configuration, now)
        handler = HANDLERS[type(message)]
        replica = self._replicas.get(message.tablet)
        if self._heard.waiting and self._must_wait(message, replica):
            self._ignored.add(message.tablet)  # a refusal would be answered with what was just heard, for ever
        elif replica is not None:
            handler(replica, message, now)

    def _must_wait(self, message: PeerMessage, replica: Replica | None) -> bool:
        """Whether the message is of an epoch that was heard of, and cannot be acted under yet."""
        return message.tablet in self._heard.waiting and message.epoch > (replica.epoch if replica is not None else 0)

    def _beacon_came(self, beacon: Beacon, now: float) -> None:
        granted: dict[int, int] = {}
        for tablet, epoch in beacon.tablets.items():
            replica = self._replicas.get(tablet)
            if replica is None or replica.configuration is None:
                continue
            if replica.epoch > epoch:
                # who leads under an older epoch hears of it here, if the coordinator cannot reach it
                news = Announce(tablet, replica.epoch, self._host.me, replica.configuration)
                self._host.send(beacon.sender.node, news)
            elif self._may_grant(replica, beacon.sender, epoch) and self._host.leases.give(
                tablet, epoch, beacon.sender, now
            ):
                granted[tablet] = epoch
        if granted and beacon.sender.node in self._host.links:
            self._host.out.append(SendPeer(beacon.sender.node, Grant(self._host.me, beacon.number, granted)))

    def _may_grant(self, replica: Replica, sender: Member, epoch: int) -> bool:
        follows = replica.role in (Role.SECONDARY, Role.LEARNER)
        return follows and replica.epoch == epoch and replica.primary == sender and replica.epoch_is_durable

    def peer_connected(self, node: str, now: float) -> None:
        """What is sent to `node` from now on arrives, in order, until the connection is lost."""
        self._host.links.add(node)
        self._link_changed(node, now)
        self._host.beacon_due = True

    def peer_disconnected(self, node: str, now: float) -> None:
        """The connection on which this node sends to `node` is gone; what was sent last may be lost."""
        self._host.links.discard(node)
        self._link_changed(node, now)

    def _link_changed(self, node: str, now: float) -> None:
        if not self._host.failed:
            for replica in self._replicas.values():
                replica.link_changed(node, now)

    def primary_answered(self, token: Token, message: object | None, now: float) -> None:
        """The answer to a `RequestPrimary` (a `Refused` included), or None: the connection was lost."""
        assert isinstance(token, CatchUpToken | CommitPointToken)
        replica = self._replicas.get(token.tablet)
        if replica is None or self._host.failed:
            return
        if isinstance(token, CommitPointToken):
            replica.secondary_reads.answered(token, message)
        elif replica.catchup is not None:
            replica.catchup.answered(token, message, now)

    # -- clients

    def client_request(
        self,
        token: Token,
        request: ReadRequest | GetMap,
        now: float,
        forwarded: bool = False,
    ) -> None:
        """A client's request, other than a write. `token` is answered exactly once, unless the process dies. `forwarded`:
        another node passed it on, so that it is not passed on again (two nodes of different epochs would play it back and
        forth)."""
        self.apply_behind()
        if isinstance(request, GetMap):
            configurations = self._heard.all()
            map_ = TabletMap(configurations, dict(self._addresses), self._host.group_rule.pattern)
            self._host.out.append(Reply(token, map_))
            return
        configuration = self._configurations.get(request.tablet)
        replica = self._replicas.get(request.tablet)
        if configuration is None:
            self._host.refuse(token, errors.WrongTablet, f"node {self.name} knows no tablet {request.tablet}")
        elif (
            not isinstance(request, ReadResults | AskCommitPoint)
            and request.range_version != configuration.range_version
        ):
            self._host.refuse(token, errors.WrongTablet, "the tablet's range is another", configuration)
        elif replica is None or replica.leadership is None or self._host.failed:
            self._not_leading(token, request, replica, configuration, forwarded)
        elif isinstance(request, ReadResults | AskCommitPoint) and request.epoch != configuration.epoch:
            self._host.refuse(token, errors.NotPrimary, "the epoch is another", configuration)
        else:
            if self._may_read(token, request, configuration):
                replica.leadership.read(token, request, now)

    def client_write(self, source: Token, write: Write, now: float) -> None:
        """Writes that came together. Each is answered by itself, exactly once unless the process dies: the token of one is
        (`source`, its id)."""
        host = self._host
        configuration = self._configurations.get(write.tablet)
        replica = self._replicas.get(write.tablet)
        if configuration is None:
            message = f"node {self.name} knows no tablet {write.tablet}"
            host.refuse_all(source, write.ids, errors.WrongTablet, message)
        elif write.range_version != configuration.range_version:
            host.refuse_all(source, write.ids, errors.WrongTablet, "the tablet's range is another", configuration)
        elif replica is None or replica.leadership is None or host.failed:
            message = f"node {self.name} does not lead the tablet"
            host.refuse_all(source, write.ids, errors.NotPrimary, message, configuration)
        else:
            try:
                for mutation in write.bundle.mutations:
                    check_rows(mutation, configuration, host.group_rule)
            except errors.StoreError as error:
                host.refuse_all(source, write.ids, type(error), str(error), configuration)
                return
            replica.leadership.gathering.submit(source, write, configuration)

    def _may_read(self, token: Token, request: ReadRequest, configuration: Configuration) -> bool:
        """Whether what is asked for lies in the tablet; if not, `token` is refused."""
        try:
            check_read(request, configuration)
        except errors.StoreError as error:
            self._host.refuse(token, type(error), str(error), configuration)
            return False
        return True

    def _not_leading(
        self, token: Token, request: object, replica: Replica | None, configuration: Configuration, forwarded: bool
    ) -> None:
        primary = configuration.primary
        follows = replica is not None and replica.role == Role.SECONDARY and not self._host.failed
        if follows and primary is not None and not forwarded and isinstance(request, Get | GetRow | Scan):
            assert replica is not None
            if not isinstance(request, Get) or not replica.serves_secondary_reads:
                self._host.forward(token, configuration.tablet, primary.node, request)
            elif self._may_read(token, request, configuration):
                replica.secondary_reads.take(token, request)
        else:
            message = f"node {self.name} does not lead the tablet"
            self._host.refuse(token, errors.NotPrimary, message, configuration)

    # -- the log

    def synced(self, lsn: int, now: float) -> None:
        """Everything appended up to `lsn` is on disk."""
        if self._host.failed:
            return
        host = self._host
        host.synced = max(host.synced, lsn)
        for replica in list(host.unsynced):
            if replica.on_synced(now):
                host.unsynced.pop(replica, None)

    def log_failed(self, reason: str) -> None:
        """The log could not be made durable. It is never tried again: the node stops serving (trap 23)."""
        if self._host.failed:
            return
        self._host.failed = True
        for replica in self._replicas.values():
            replica.give_up()
        self._host.out.append(StopServing(reason))

    def out_of_space(self, full: bool) -> None:
        """Whether there is no room for writes any more (trap 27): they are refused with `NoSpace`, reads go on."""
        self._host.full = full

    def replica_damaged(self, tablet: int, reason: str, now: float) -> None:
        """The engine found damage in a tablet's data (its `on_corrupt`): the replica must be rebuilt from another."""
        if tablet in self._replicas:
            self._replicas[tablet].report_damage(reason)

    # -- time

    def flush(self, now: float) -> None:
        """After a round of inputs: waiting writes become entries, entries are sent."""
        host = self._host
        if host.gathering and not host.failed:
            for replica in host.gathering:
                leadership = replica.leadership
                if leadership is not None and leadership.gathers:
                    leadership.gathering.close_entries(leadership.configuration, now)
            host.gathering.clear()
        if host.reading and not host.failed:
            reading, host.reading = host.reading, {}
            for replica in reading:
                replica.secondary_reads.flush(now)
        if host.beacon_due and not host.failed:
            self._send_beacons(now)

    @property
    def is_behind(self) -> bool:
        """Whether `apply_behind` has something to do."""
        return bool(self._host.behind)

    def apply_behind(self) -> None:
        """Apply what is known to be committed. The driver calls it when answers and acknowledgements have left; whatever looks
        at cells, results or commit points calls it first. Only writes, entries and acknowledgements meet a replica that is
        behind."""
        if self._host.behind and not self._host.failed:
            behind, self._host.behind = self._host.behind, {}
            for replica in behind:
                replica.apply_known()

    def tick(self, now: float) -> None:
        """Every 20 to 50 ms: beacons, silent members, commit notices, lost requests to the coordinator."""
        if self._host.failed:
            return
        self.apply_behind()
        paused = now - self._ticked > PAUSE
        self._ticked = now
        tell_damage = now - self._damage_told > DAMAGE_AGAIN
        for replica in self._replicas.values():
            if replica.leadership is not None:
                if paused:
                    replica.leadership.after_pause(now)
                replica.leadership.tick(now)
            if replica.catchup is not None:
                replica.catchup.tick(now)
            replica.secondary_reads.tick(now)
            if tell_damage and replica.damaged and replica.configuration is not None:
                replica.report_damage(replica.damaged)
        if tell_damage:
            self._damage_told = now
        if now - self._beaconed >= settings.BEACON_INTERVAL:
            self._send_beacons(now)

    def _send_beacons(self, now: float) -> None:
        self._host.beacon_due = False
        self._beaconed = now
        tablets: dict[str, dict[int, int]] = {}
        for tablet, replica in self._replicas.items():
            if replica.leadership is not None and replica.epoch_is_durable:
                for member in replica.leadership.followers:
                    tablets.setdefault(member.node, {})[tablet] = replica.epoch
        for node, led in tablets.items():
            if node in self._host.links:
                self._host.out.append(SendPeer(node, self._host.leases.beacon(self._host.me, node, led, now)))

    def take_effects(self) -> list[Effect]:
        """The effects since the last call, in the order in which they must be carried out."""
        out, self._host.out = self._host.out, []
        if self._host.wake_log:
            self._host.wake_log = False
            out.append(WakeLog())
        if self._host.reading:
            out.append(FlushAgain())
        return out

    @property
    def answer_is_large(self) -> bool:
        """Whether the newest effect answers with a large value: it is best carried out before anything else is asked."""
        out = self._host.out
        if not out or type(out[-1]) is not Reply or type(out[-1].message) is not CellAnswer:
            return False
        return len(out[-1].message.value) >= settings.BULK_VALUE

    def leave(self) -> None:
        """The process is about to stop: heartbeats say so from now on, and the coordinator moves its roles to others."""
        self._leaving = True

    @property
    def idle(self) -> bool:
        """Whether no tablet is led by, or waits for, this node: it may stop without anybody noticing."""
        return all(replica.role not in (Role.PRIMARY, Role.SECONDARY) for replica in self._replicas.values())
