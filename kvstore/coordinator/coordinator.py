"""The whole coordinator without sockets, clock, disk or threads: events in, effects out.

It decides only from its durable state, from who is alive, and from what nodes report about their replicas. Every decision
is a `Journal` effect that stands before whatever tells anybody. What the driver promises: one call at a time; `now` is
`clock.now()`, read after the event happened; effects are carried out in order, each record durable before the effect after
it; `tick` every 20 to 50 ms, and messages that have arrived are fed before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from kvstore import rebuild_after, settings, split_above
from kvstore.control import (
    Done,
    GetStatus,
    MoveReplica,
    ProcessExited,
    SetDisabled,
    SetRebuildAfter,
    SetSplitAbove,
    SetSpread,
    SplitTablet,
    Status,
    WasSplit,
    WithdrawMove,
)
from kvstore.coordinator import moving, placement, spreading
from kvstore.coordinator.creation import Creation
from kvstore.coordinator.decisions import configurations_in, configurations_record
from kvstore.coordinator.effects import Connection, Effect, Journal, Reply, SendNode
from kvstore.coordinator.handback import hand_back
from kvstore.coordinator.membership import Membership
from kvstore.coordinator.rebuilding import rebuildings
from kvstore.coordinator.report import status_report
from kvstore.coordinator.splitting import Splitting, Told, came_of, check_row, follow, halves, may_ask, refused
from kvstore.errors import BadRequest, StoreError
from kvstore.keys import GroupRule
from kvstore.messages import (
    ChangeAnswer,
    ChangeKind,
    ChangeRequest,
    Configuration,
    Configure,
    GetMap,
    Heartbeat,
    Refused,
    Register,
    Registered,
    ReplicaDamaged,
    SplitDeclined,
    SplitRequest,
    TabletMap,
)

_PLACE_INTERVAL = 0.25
"""Seconds after which all tablets are looked at even if nothing has changed: a thousand of them take tens of milliseconds."""


class Coordinator:
    """The control plane's decisions."""

    def __init__(self, creation: Creation | None, records: Iterable[dict[str, Any]], now: float) -> None:
        """`records`: the journal, snapshot first. When it is empty a cluster is made as `creation` says (`BadRequest` when
        that is malformed, or missing); when it is not, `creation` is not looked at."""
        self._out: list[Effect] = []
        self._started = now
        self._cluster: dict[str, Any] = {}
        self._membership = Membership(now)
        self._configurations: dict[int, Configuration] = {}
        self._changed_at: dict[int, float] = {}
        """When each tablet's configuration was decided, or when this coordinator began: its steadiness counts from there."""
        self._handed_back_at = now
        self._configured = 0
        self._decided_for: tuple[object, ...] | None = None
        self._placed_at = -math.inf
        self._placed_for: tuple[object, ...] | None = None
        self._connections: dict[Connection, str] = {}
        self._splitting = Splitting()
        for record in records:
            self._restore(record)
        if not self._cluster:
            if creation is None:
                raise BadRequest("there is no cluster here yet, and nothing says what a new one is to be")
            creation.check()
            self._record(
                {
                    "kind": "cluster",
                    "cluster": creation.cluster,
                    "group_rule": creation.group_rule,
                    "splits": list(creation.splits),
                    "replication": creation.replication,
                    "min_in_sync": creation.min_in_sync,
                    "nodes_expected": creation.nodes_expected,
                    "rebuild_after": creation.rebuild_after,
                    "spread": creation.spread,
                    "split_above": creation.split_above,
                }
            )

    # -- the journal

    def _restore(self, record: dict[str, Any]) -> None:
        if record["kind"] == "cluster":
            self._cluster = record
        elif record["kind"] == "configurations":
            self._configured += 1
            for configuration in configurations_in(record):
                self._configurations[configuration.tablet] = configuration
                self._changed_at[configuration.tablet] = self._membership.now
                if configuration.born is not None:
                    self._membership.born(configuration.tablet, configuration.born)
        elif record["kind"] == "rebuild_after":
            self._cluster = {**self._cluster, "rebuild_after": record["seconds"]}
        elif record["kind"] == "spread":
            self._cluster = {**self._cluster, "spread": record["on"]}
        elif record["kind"] == "split_above":
            self._cluster = {**self._cluster, "split_above": record["bytes"]}
        else:
            self._membership.restore(record)

    def _record(self, record: dict[str, Any]) -> None:
        """Carry out a decision and have it made durable."""
        self._restore(record)
        self._out.append(Journal(record))

    def snapshot(self) -> list[dict[str, Any]]:
        """Records from which the durable state, as of all `Journal` effects so far, is restored."""
        records = [self._cluster, *self._membership.snapshot()]
        if self._configurations:
            records.append(configurations_record(self._configurations.values()))
        return records

    # -- nodes

    def from_node(
        self,
        connection: Connection,
        message: Register | Heartbeat | ChangeRequest | ReplicaDamaged | SplitRequest | SplitDeclined,
        now: float,
    ) -> None:
        """A message of a node. `connection` is remembered from a `Register`, for what is to be sent to that run."""
        self._membership.clock(now)
        if isinstance(message, Register):
            self._register(connection, message)
        elif isinstance(message, Heartbeat):
            counts, record = self._membership.heartbeat(message)
            if record is not None:
                self._out.append(Journal(record))
                self._create_tablets()
                self._tell_everybody([])
            if counts:
                self._decide()
        elif isinstance(message, ChangeRequest):
            self._change(connection, message)
        elif isinstance(message, SplitRequest):
            self._split(connection, message)
        elif isinstance(message, SplitDeclined):
            self._answer(self._splitting.declined(message))
        else:
            self._damaged(message)

    def _register(self, connection: Connection, message: Register) -> None:
        incarnation, record = self._membership.register(message)
        if record is not None:
            self._out.append(Journal(record))
        self._connections[connection] = message.node
        rule, name = self._cluster["group_rule"], self._cluster["cluster"]
        configurations = list(self._configurations.values())
        self._out.append(SendNode(connection, Registered(incarnation, name, rule, configurations, self._addresses())))

    def node_disconnected(self, connection: Connection, now: float) -> None:
        """The connection is gone. That says nothing about the node: only missed heartbeats do."""
        self._connections.pop(connection, None)

    def _change(self, connection: Connection, request: ChangeRequest) -> None:
        now = self._configurations.get(request.tablet)
        if now is None:
            return
        following, _ = placement.change(now, request, self._membership)
        if following is not None:
            if request.kind == ChangeKind.ADD:
                self._membership.vouch(request.member, request.tablet, following.epoch)
            self._adopt([following])
        newest = self._configurations[request.tablet]
        self._out.append(SendNode(connection, ChangeAnswer(following is not None, newest)))

    def _damaged(self, message: ReplicaDamaged) -> None:
        now = self._configurations.get(message.tablet)
        if now is None or self._membership.run_of(message.sender.node) != message.sender:
            return
        self._membership.damaged(message.sender, message.tablet)
        again = placement.restart_learning(now, message.sender, self._membership)
        if again is not None:
            self._adopt([again])
        self._decide()

    def _split(self, connection: Connection, request: SplitRequest) -> None:
        """Every answer is a configuration of a higher epoch: what cannot be granted never will be."""
        now = self._configurations.get(request.tablet)
        if now is None:
            return
        if not may_ask(now, request, self._membership):
            newest = list(self._configurations.values())
            self._out.append(SendNode(connection, Configure(newest, self._addresses())))
            return
        rule = GroupRule(self._cluster["group_rule"])
        try:
            parent, child = halves(now, request, max(self._configurations) + 1, rule, self._membership)
        except BadRequest as error:
            self._adopt([follow(now, self._membership)], [f"tablet {now.tablet} is not split: {error}"])
            return
        words = f"tablet {now.tablet} is split at {request.row!r}: the rows from there on are tablet {child.tablet}"
        self._adopt([parent, child], [words])
        self._answer(self._splitting.done(child))

    def _answer(self, told: Iterable[Told]) -> None:
        self._out.extend(Reply(token, answer) for token, answer in told)

    def _addresses(self) -> dict[str, str]:
        nodes = self._membership.nodes.values()
        return {node.name: node.runs[node.current].address for node in nodes if node.current}

    # -- decisions

    def _create_tablets(self) -> None:
        """When as many nodes as expected are there for the first time: the tablets."""
        counting = sorted(name for name, node in self._membership.nodes.items() if node.current)
        if self._configurations or len(counting) < self._cluster["nodes_expected"]:
            return
        starts = ["", *self._cluster["splits"]]
        replication, least = self._cluster["replication"], self._cluster["min_in_sync"]
        self._adopt(placement.first_configurations(starts, counting, replication, least))

    def _known(self) -> tuple[object, ...]:
        """Equal to an earlier one if nothing that decisions are made from has changed since, but for times that run on."""
        return self._configured, self._membership.condition()

    def _decide(self) -> None:
        """Let every tablet follow what is known of the nodes, if anything is known that was not the last time."""
        known = self._known()
        if known == self._decided_for:
            return
        self._decided_for = known
        changed = []
        for configuration in self._configurations.values():
            following = placement.decide(configuration, self._membership)
            if following is not None:
                changed.append(following)
        if changed:
            self._adopt(changed)

    def _adopt(self, configurations: list[Configuration], because: Sequence[str] = ()) -> None:
        """New configurations: durable first, then told to everybody. `because`: sentences for the chronicle."""
        for configuration in configurations:
            before = self._configurations.get(configuration.tablet)
            begins = configuration.since if configuration.born is not None else 1
            assert configuration.epoch == (before.epoch + 1 if before else begins)
            if before is not None:
                self._note_faults(before, configuration)
        record = configurations_record(configurations)
        self._record({**record, "because": list(because)} if because else record)
        self._tell_everybody(configurations)

    def _note_faults(self, before: Configuration, after: Configuration) -> None:
        """Who is no longer in the set, and was not asked to go, has failed."""
        for name in {member.node for member in before.in_sync} - {member.node for member in after.in_sync}:
            node = self._membership.nodes[name]
            moved = before.leaving == name and name not in after.replicas
            if not node.disabled and not node.leaving and not moved:
                self._membership.faulted(name)

    def _place(self) -> None:
        """What nobody waits for: moves are ended, replicas of missing nodes rebuilt, leads handed back, data is spread."""
        configurations, after = self._configurations, self._cluster.get("rebuild_after", settings.REBUILD_AFTER)
        self._take(moving.steps(configurations.values(), self._membership, after))
        if after is not None:
            found = rebuildings(configurations.values(), self._membership, after)
            if found:
                words = [
                    f"tablet {each.configuration.tablet}: the replica of {each.missing} is rebuilt on {each.spare}: "
                    f"{self._membership.missing_in_words(each.missing, after)}"
                    for each in found
                ]
                self._adopt([each.configuration for each in found], words)
        if self._membership.now - self._handed_back_at >= settings.HAND_BACK_PAUSE:
            back = hand_back(configurations.values(), self._changed_at, self._membership)
            if back is not None and back.primary is not None:
                self._handed_back_at = self._membership.now
                words = [f"tablet {back.tablet}: the lead goes back to {back.primary.node}, the first in its order"]
                self._adopt([back], words)
        if self._cluster.get("spread", settings.SPREAD):
            step = spreading.next_step(configurations.values(), self._changed_at, self._membership)
            self._take([step] if step is not None else [])

    def _propose(self) -> None:
        """Have primaries ask for the splits that somebody waits for, or that are due."""
        self._answer(self._splitting.given_up(self._membership.now))
        above = self._cluster.get("split_above", settings.SPLIT_ABOVE)
        for primary, proposal in self._splitting.proposals(self._configurations.values(), self._membership, above):
            ways = [connection for connection, name in self._connections.items() if name == primary.node]
            self._out.extend(SendNode(way, proposal) for way in ways[-1:])

    def _take(self, steps: list[moving.Step]) -> None:
        if steps:
            self._adopt([step.configuration for step in steps], [step.words for step in steps])

    def _tell_everybody(self, configurations: list[Configuration]) -> None:
        for connection in self._connections:
            self._out.append(SendNode(connection, Configure(configurations, self._addresses())))

    def tick(self, now: float) -> None:
        """Every 20 to 50 ms: notice who has fallen silent, decide what follows."""
        self._membership.clock(now)
        late = now - self._placed_at >= _PLACE_INTERVAL
        if late:
            self._decided_for = None  # whatever `condition` may not tell
        self._decide()
        known = self._known()
        if late or known != self._placed_for:
            self._placed_at, self._placed_for = now, known
            self._place()
            self._propose()

    # -- requests

    def request(
        self,
        token: object,
        message: GetMap
        | GetStatus
        | SetDisabled
        | ProcessExited
        | SetRebuildAfter
        | SetSpread
        | SetSplitAbove
        | MoveReplica
        | WithdrawMove
        | SplitTablet,
        now: float,
    ) -> None:
        """A client's, console's or supervisor's request, answered once with `Reply`."""
        self._membership.clock(now)
        if isinstance(message, GetMap):
            configurations = list(self._configurations.values())
            self._out.append(Reply(token, TabletMap(configurations, self._addresses(), self._cluster["group_rule"])))
            return
        if isinstance(message, GetStatus):
            self._out.append(Reply(token, Status(self.status(now))))
            return
        if isinstance(message, SetRebuildAfter):
            self._out.append(Reply(token, self._told_to_rebuild_after(message.seconds)))
            return
        if isinstance(message, SetSpread):
            self.spread(message.on)
            self._out.append(Reply(token, Done()))
            return
        if isinstance(message, MoveReplica | WithdrawMove):
            self._out.append(Reply(token, self._told_to_move(message)))
            return
        if isinstance(message, SetSplitAbove):
            self._out.append(Reply(token, self._told_to_split_above(message.bytes)))
            return
        if isinstance(message, SplitTablet):
            self._told_to_split(token, message)
            return
        if isinstance(message, SetDisabled):
            if message.node not in self._membership.nodes:
                self._out.append(Reply(token, Refused(BadRequest.__name__, f"there is no node {message.node!r}")))
                return
            record = self._membership.set_disabled(message.node, message.disabled)
        else:
            record = self._membership.process_exited(message.node, message.pid)
        if record is not None:
            self._out.append(Journal(record))
            self._decide()
        self._out.append(Reply(token, Done()))

    def _told_to_rebuild_after(self, seconds: float | None) -> Done | Refused:
        try:
            self.rebuild_after(seconds)
        except BadRequest as error:
            return Refused(BadRequest.__name__, str(error))
        return Done()

    def rebuild_after(self, seconds: float | None) -> None:
        """From now on replicas are rebuilt elsewhere after so many seconds; None: never. `BadRequest`."""
        rebuild_after.check(seconds)
        if seconds != self._cluster.get("rebuild_after", settings.REBUILD_AFTER):
            self._record({"kind": "rebuild_after", "seconds": seconds})

    def _told_to_split_above(self, size: int | None) -> Done | Refused:
        try:
            self.split_above(size)
        except BadRequest as error:
            return refused(error)
        return Done()

    def split_above(self, size: int | None) -> None:
        """From now on tablets with more bytes in memory are split by themselves; None: never. `BadRequest`."""
        split_above.check(size)
        if size != self._cluster.get("split_above", settings.SPLIT_ABOVE):
            self._record({"kind": "split_above", "bytes": size})

    def _told_to_split(self, token: object, message: SplitTablet) -> None:
        """Answered when it has come about, was declined, or takes too long."""
        now = self._configurations.get(message.tablet)
        try:
            if now is None:
                raise BadRequest(f"there is no tablet {message.tablet}")
            if now.range_version != message.range_version:
                child = came_of(message, self._configurations.values())
                if child is None:
                    raise BadRequest(f"tablet {message.tablet} never had the range version {message.range_version}")
                self._answer([(token, WasSplit(child.tablet, child.start))])
                return
            if message.row is not None:
                check_row(now, message.row, GroupRule(self._cluster["group_rule"]))
            self._splitting.wanted(token, message, now, self._membership.now)
        except StoreError as error:
            self._answer([(token, refused(error))])
            return
        self._propose()

    def spread(self, on: bool) -> None:
        """From now on replicas and leads are spread over the nodes that are there, or stay where they are."""
        if on != self._cluster.get("spread", settings.SPREAD):
            self._record({"kind": "spread", "on": on})

    def _told_to_move(self, message: MoveReplica | WithdrawMove) -> Done | Refused:
        now = self._configurations.get(message.tablet)
        if now is None:
            return Refused(BadRequest.__name__, f"there is no tablet {message.tablet}")
        try:
            if isinstance(message, WithdrawMove):
                if not moving.is_withdrawn(now, message.source, message.target):
                    self._take([moving.withdraw(now, message.source, message.target, self._membership)])
            elif not moving.is_so(now, message.source, message.target, self._membership):
                moving.check(now, message.source, message.target, self._membership)
                words = f"tablet {now.tablet}: its replica on {message.source} moves to {message.target}, as an operator asked"
                self._take([moving.Step(moving.begin(now, message.source, message.target, self._membership), words)])
        except BadRequest as error:
            return Refused(BadRequest.__name__, str(error))
        return Done()

    def status(self, now: float) -> dict[str, object]:
        """What `Admin.status` shows: see `kvstore.coordinator.report`."""
        self._membership.clock(now)
        return status_report(self._cluster, self._membership, self._configurations, now, now - self._started)

    def take_effects(self) -> list[Effect]:
        """The effects since the last call, in the order in which they must be carried out."""
        out, self._out = self._out, []
        return out
