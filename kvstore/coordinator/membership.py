"""Which nodes there are, which run of each counts, and who is alive.

A *run* is one life of a node's process. It gets its number, its incarnation, durably when it registers, and counts from its
first heartbeat on: the registration may be the last word of a process that died since, read late, and must not take the
place of a run that lives. Runs on one data folder exclude each other (the folder is locked), so when a later one counts, an
earlier one on the same folder has ended. One on another folder tells nothing about it: the old machine may still be
running somewhere, cut off.

Alive is who sent a heartbeat within `HEARTBEAT_DEAD` and is not known to have ended. A coordinator that has just started
has heard nobody: for `COORDINATOR_GRACE` a node that it has not heard yet is neither alive nor dead (trap 10).

*Missing* is who is not sound: not alive, or alive with a disk that is full or stalled, so that it can hold nothing new. It is
missing for as long as this coordinator has listened since: neither the time before it started nor one in which it was itself
paused counts. Who was disabled by an operator is not missing, whether its process runs or not; of who is enabled it counts from
then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kvstore import settings
from kvstore.messages import Birth, Heartbeat, Member, Register, ReplicaReport

Record = dict[str, Any]

_LISTENING = 0.5
"""Seconds between two looks at the clock above which this process was paused: it could not hear anybody meanwhile."""


@dataclass(slots=True)
class Run:
    """What is durably known of one run of a node."""

    incarnation: int
    boot_id: str
    store_id: str
    address: str
    pid: int
    ended: bool = False


@dataclass(slots=True)
class Node:
    """One node. The lower half is what was heard since this coordinator started, and is not durable."""

    name: str
    runs: dict[int, Run] = field(default_factory=dict)
    current: int = 0
    """The incarnation that counts; 0 until one does."""
    disabled: bool = False
    heard_at: float | None = None
    disk_age: float = 0.0
    full: bool = False
    leaving: bool = False
    reports: dict[int, ReplicaReport] = field(default_factory=dict)
    said: tuple[tuple[int, bool, int, int], ...] = ()
    """What of the reports elections look at."""
    figures: dict[str, float] = field(default_factory=dict)
    vouched: dict[int, int] = field(default_factory=dict)
    """The epoch in which a tablet's primary said that this run has caught up, by tablet."""
    first_heard_at: float | None = None
    """When the run that counts was heard first."""
    missed_from: float = 0.0
    """For how long this coordinator had listened when it heard last that the node is sound, or an operator enabled it."""
    faults: list[float] = field(default_factory=list)
    """When it lost its part in a set though nobody had asked it to."""


class Membership:
    """All nodes. Methods that change something durable return the journal record of it; `restore` takes those back."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._now = now
        self._listened = 0.0
        self.nodes: dict[str, Node] = {}
        self._births: dict[int, Birth] = {}
        self._changes = 0

    def condition(self) -> tuple[object, ...]:
        """Equal to an earlier one if nothing has changed since of what is known here, but for times that run on."""
        nodes = [
            (
                name,
                self.alive(name),
                self.unheard(name),
                self.fit(name),
                self.sound(name),
                self.seasoned(name),
                node.said,
            )
            for name, node in self.nodes.items()
        ]
        return self._changes, *nodes

    def clock(self, now: float) -> None:
        """What follows is judged as of `now`."""
        if now > self._now:
            self._listened += min(now - self._now, _LISTENING)
            self._now = now

    @property
    def now(self) -> float:
        """The moment as of which everything is judged."""
        return self._now

    # ---------------------------------------------------------------- durable changes

    def register(self, message: Register) -> tuple[int, Record | None]:
        """The incarnation of the run that registers, and the record of it if it is new."""
        node = self.nodes.get(message.node)
        for run in node.runs.values() if node else ():
            if run.boot_id == message.boot_id:
                return run.incarnation, None
        incarnation = max(node.runs, default=0) + 1 if node else 1
        record = {
            "kind": "run",
            "node": message.node,
            "incarnation": incarnation,
            "boot_id": message.boot_id,
            "store_id": message.store_id,
            "address": message.address,
            "pid": message.pid,
        }
        self.restore(record)
        return incarnation, record

    def heartbeat(self, message: Heartbeat) -> tuple[bool, Record | None]:
        """Whether the heartbeat is of the run that counts, and the record if it counts only from now on."""
        node = self.nodes.get(message.sender.node)
        incarnation = message.sender.incarnation
        if node is None or incarnation not in node.runs or incarnation < node.current:
            return False, None
        if node.runs[incarnation].ended:
            return False, None  # sent before it ended
        record: Record | None = None
        if incarnation > node.current:
            record = {"kind": "counts", "node": node.name, "incarnation": incarnation}
            self.restore(record)
        if node.heard_at is None:
            node.first_heard_at = self._now
        node.heard_at = self._now
        node.disk_age, node.full, node.figures = message.disk_age, message.full, message.figures
        if self.sound(node.name):
            node.missed_from = self._listened
        node.leaving = message.leaving
        node.reports = {report.tablet: report for report in message.replicas}
        node.said = tuple((r.tablet, r.intact, r.range_version, r.known_epoch) for r in message.replicas)
        return True, record

    def process_exited(self, name: str, pid: int) -> Record | None:
        """The supervisor reaped a process: the record, if it was the run that counts."""
        node = self.nodes.get(name)
        run = node.runs.get(node.current) if node else None
        if run is None or run.pid != pid or run.ended:
            return None
        record = {"kind": "ended", "node": name, "incarnation": run.incarnation}
        self.restore(record)
        return record

    def set_disabled(self, name: str, disabled: bool) -> Record | None:
        """An operator takes a node out of service or back; KeyError if there is none of that name."""
        if self.nodes[name].disabled == disabled:
            return None
        record = {"kind": "disabled", "node": name, "disabled": disabled}
        self.restore(record)
        return record

    def restore(self, record: Record) -> None:
        """Carry out a journal record: now, when it is made, or after a restart."""
        self._changes += 1
        node = self.nodes.setdefault(record["node"], Node(record["node"]))
        kind = record["kind"]
        if kind == "run":
            incarnation = record["incarnation"]
            node.runs[incarnation] = Run(
                incarnation, record["boot_id"], record["store_id"], record["address"], record["pid"]
            )
        elif kind == "counts":
            self._count(node, record["incarnation"])
        elif kind == "ended":
            node.runs[record["incarnation"]].ended = True
        else:
            assert kind == "disabled", f"a journal record of the unknown kind {kind!r}"
            node.disabled = record["disabled"]
            node.missed_from = self._listened

    def _count(self, node: Node, incarnation: int) -> None:
        store = node.runs[incarnation].store_id
        for run in node.runs.values():
            if run.incarnation < incarnation and run.store_id == store:
                run.ended = True
        node.current = incarnation
        node.first_heard_at = None
        node.heard_at, node.reports, node.said, node.figures, node.vouched = None, {}, (), {}, {}

    def snapshot(self) -> Iterator[Record]:
        """Records that restore all this."""
        for node in self.nodes.values():
            for run in node.runs.values():
                yield {
                    "kind": "run",
                    "node": node.name,
                    "incarnation": run.incarnation,
                    "boot_id": run.boot_id,
                    "store_id": run.store_id,
                    "address": run.address,
                    "pid": run.pid,
                }
            if node.current:
                yield {"kind": "counts", "node": node.name, "incarnation": node.current}
            for run in node.runs.values():
                if run.ended:
                    yield {"kind": "ended", "node": node.name, "incarnation": run.incarnation}
            yield {"kind": "disabled", "node": node.name, "disabled": node.disabled}

    # ---------------------------------------------------------------- what placement asks

    def run_of(self, name: str) -> Member | None:
        """The run of a node that counts; None if none ever did."""
        node = self.nodes.get(name)
        return Member(name, node.current) if node is not None and node.current else None

    def has_ended(self, member: Member) -> bool:
        """Whether this run is known to have ended: nothing that it was granted need be waited for."""
        node = self.nodes.get(member.node)
        run = node.runs.get(member.incarnation) if node else None
        return run is not None and run.ended

    def alive(self, name: str) -> bool:
        """Whether the node was heard within `HEARTBEAT_DEAD`."""
        node = self.nodes.get(name)
        if node is None or not node.current or node.runs[node.current].ended or node.heard_at is None:
            return False
        return self._now - node.heard_at <= settings.HEARTBEAT_DEAD

    def unheard(self, name: str) -> bool:
        """Whether nothing can be said about the node yet: this coordinator has just started and not heard it."""
        node = self.nodes.get(name)
        if node is None or node.heard_at is not None:
            return False
        if node.current and node.runs[node.current].ended:
            return False  # known from the time before
        return self._now - self._started < settings.COORDINATOR_GRACE

    def missing_for(self, name: str) -> float:
        """For how many seconds of this coordinator's listening the node has been missing; 0 if it is not."""
        node = self.nodes.get(name)
        if node is None or node.disabled or self.sound(name):
            return 0.0
        return max(0.0, self._listened - node.missed_from - settings.HEARTBEAT_DEAD)

    def missing_in_words(self, name: str, seconds: float) -> str:
        """That the node, which is missing, has been so for so long, and what is the matter now."""
        if not self.alive(name):
            return f"{name} has been gone for {seconds:g} s"
        return (
            f"{name} has been of no use for {seconds:g} s: its disk {'is full' if self.nodes[name].full else 'stalls'}"
        )

    def fit(self, name: str) -> bool:
        """Whether the node may take part: it is sound, not about to stop, and nobody disabled it."""
        node = self.nodes.get(name)
        return node is not None and not node.disabled and not node.leaving and self.sound(name)

    def sound(self, name: str) -> bool:
        """Whether the node can do its work: alive, its log reaches the disk (trap 5), and it has room."""
        node = self.nodes.get(name)
        return node is not None and self.alive(name) and node.disk_age <= settings.DISK_STALL and not node.full

    def punctual(self, name: str) -> bool:
        """Whether the node is fit, and no heartbeat of it is late."""
        heard = self.nodes[name].heard_at if name in self.nodes else None
        return self.fit(name) and heard is not None and self._now - heard <= settings.HEARTBEAT_SUSPECT

    def seasoned(self, name: str) -> bool:
        """Whether the node's process has lived so long that it may lead at once (`kvstore.node.lease`): nothing that its former
        life promised holds any more. Nothing depends on this but how long a tablet waits."""
        node = self.nodes.get(name)
        if node is None or node.heard_at is None or node.first_heard_at is None:
            return False
        return self._now - node.first_heard_at >= settings.SEASONED

    def faulted(self, name: str) -> None:
        """The node lost its part in a set, and nobody had asked it to. Several at the same time are one fault."""
        faults = self.nodes[name].faults
        if not faults or self._now - faults[-1] > settings.HEARTBEAT_DEAD:
            faults.append(self._now)
        while self._now - faults[0] > settings.FAULT_REMEMBERED:
            del faults[0]

    def steady_after(self, name: str) -> float:
        """The moment from which leads may be handed back to the node: later and later, the more often it failed."""
        node = self.nodes.get(name)
        faults = [at for at in node.faults if self._now - at <= settings.FAULT_REMEMBERED] if node else []
        if not faults:
            return self._started
        wait = settings.LEAD_STEADY * 2.0 ** (len(faults) - 1)
        return faults[-1] + min(wait, settings.LEAD_STEADY_MOST)

    def same_store(self, member: Member) -> bool:
        """Whether the node's run that counts works on the data folder that `member` worked on."""
        node = self.nodes.get(member.node)
        if node is None or not node.current or member.incarnation not in node.runs:
            return False
        return node.runs[node.current].store_id == node.runs[member.incarnation].store_id

    def vouch(self, member: Member, tablet: int, epoch: int) -> None:
        """The primary says that `member` holds everything. Its own reports from before `epoch`, which may still be on their
        way, say that it is learning: they count no more."""
        self._changes += 1
        self.nodes[member.node].vouched[tablet] = epoch

    def born(self, tablet: int, birth: Birth) -> None:
        """The tablet was split off another."""
        self._changes += 1
        self._births[tablet] = birth

    def intact(self, name: str, tablet: int) -> bool:
        """Whether the node's replica holds what it acknowledged, as far as the node itself knows.

        Until it has split its replica of a tablet, that is also its replica of those that were split off.
        """
        node = self.nodes.get(name)
        while node is not None:
            report = node.reports.get(tablet)
            if report is not None:
                return report.intact or report.known_epoch < node.vouched.get(tablet, 0)
            if tablet in node.vouched:
                return True  # it learnt so fast that no heartbeat has named the replica yet
            birth = self._births.get(tablet)
            if birth is None:
                return False
            whole = node.reports.get(birth.parent)
            if whole is not None and whole.range_version >= birth.range_version:
                return False  # it has split, and has no such replica
            # (in a loop: where rows come in order, the last tablet is split again and again, a thousand births deep)
            tablet = birth.parent
        return False

    def damaged(self, member: Member, tablet: int) -> None:
        """The run says that its replica is damaged."""
        self._changes += 1
        node = self.nodes[member.node]
        node.vouched.pop(tablet, None)
        if tablet in node.reports:
            node.reports[tablet].intact = False
