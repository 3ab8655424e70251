"""One replica of one tablet: its log positions, its role, and what it does when it follows.

A role changes only in `learn`, when a configuration with a higher epoch comes; from the coordinator or passed on by another
node is the same: only the coordinator makes them. The epoch is in the log, and the log on disk, before anything is said or
acknowledged under it (trap 8). Stepping down needs no disk and happens at once.

As a secondary it logs what its primary sends, in order, without gaps, acknowledges what is on disk, and applies up to the
commit point that it is told. It obeys one sender: the very run that its configuration names as primary.

Relies on the engine for what is in the log and what is applied. Leaves out leading (`leadership`) and learning (`catchup`).
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from kvstore.messages import (
    Acknowledge,
    Announce,
    Append,
    CommitPoint,
    Configuration,
    Establish,
    Member,
    PeerMessage,
    PeerRefusal,
    Relinquish,
    ReplicaDamaged,
    ReplicaReport,
)
from kvstore.mutation import Entry
from kvstore.node.catchup import CatchUp
from kvstore.node.leadership import Leadership
from kvstore.node.secondary import SecondaryReads

if TYPE_CHECKING:
    from kvstore.node.host import Host


MOST_BEHIND = 4
"""Times that a replica is told of a commit point before it applies at once."""


class Role(Enum):
    """What the newest configuration that this node knows makes of its replica."""

    OUTSIDER = "none"  # holds data, has no part: waits to be named
    LEARNER = "learner"  # catching up; holds nothing that counts
    SECONDARY = "secondary"  # in the in-sync set, follows
    PRIMARY = "primary"  # leads; `leadership.serving` tells whether it already serves


class Replica:
    """A replica. `disk` is the engine's side of it."""

    def __init__(self, host: Host, tablet: int, made_at: int) -> None:
        """`made_at`: the log position that makes the replica itself durable; 0 if it was found on disk."""
        self.host = host
        self.tablet = tablet
        self.disk: Any = host.engine.tablets[tablet]
        self.configuration: Configuration | None = None
        self.role = Role.OUTSIDER
        self.leadership: Leadership | None = None
        self.catchup: CatchUp | None = None
        self.secondary_reads = SecondaryReads(self)
        self.damaged: str = self.disk.damage
        """Why this replica is not to be trusted; empty while it is."""
        self.last: int = self.disk.last
        self.last_epoch: int = self.disk.last_epoch
        self.durable = self.last
        """Entries up to here are on disk."""
        self.known_commit: int = self.disk.commit
        """The highest commit point that a primary told."""
        self._unsynced: deque[tuple[int, int]] = deque()
        self._made_at = made_at
        self._settled_at = made_at
        """When the log is on disk up to here, the epoch and the latest cut are: before that nothing may be acknowledged."""
        self._told_settled = True
        self._established: tuple[Member | None, int] | None = None
        """The leadership (primary, since) with whose log this replica's is known to agree."""
        self._owes_answer = False
        self.was_whole = False
        """When the tablet was split last, this replica had all that a member has."""

    # ---------------------------------------------------------------- what is known about it

    @property
    def primary(self) -> Member | None:
        """The run that leads the tablet, as far as this node knows."""
        return self.configuration.primary if self.configuration is not None else None

    def next_attempt(self) -> int:
        """A number for an attempt at learning, greater than all before in this run, of former copies too."""
        self.host.attempts += 1
        return self.host.attempts

    def tell_primary(self, message: PeerMessage) -> None:
        """Send to the primary, if it is known and connected."""
        if self.primary is not None:
            self.host.send(self.primary.node, message)

    @property
    def epoch(self) -> int:
        """The epoch of the newest configuration that this replica has logged."""
        return self.configuration.epoch if self.configuration is not None else int(self.disk.epoch)

    @property
    def epoch_is_durable(self) -> bool:
        """Whether the epoch (and the latest cut) is on disk."""
        return self.host.synced >= self._settled_at

    @property
    def intact(self) -> bool:
        """Whether this replica can be trusted to hold what it has acknowledged."""
        return bool(self.disk.intact) and not self.damaged

    def report(self) -> ReplicaReport | None:
        """What the coordinator is told; None while the replica itself is not on disk yet."""
        if self.host.synced < self._made_at:
            return None
        disk = self.disk
        return ReplicaReport(
            tablet=self.tablet,
            intact=self.intact,
            role=self.role.value,
            epoch=self.last_epoch,
            sequence=self.last,
            commit=disk.commit,
            cells=disk.tablet.cells,
            bytes=disk.tablet.bytes,
            recovery=self.catchup.progress if self.catchup is not None and not self.catchup.finished else None,
            digest=disk.tablet.digest,
            known_epoch=self.configuration.epoch if self.configuration is not None else 0,
            bulk_bytes=sum(disk.tablet.bulk_bytes.values()),
            range_version=disk.range_version,
        )

    # ---------------------------------------------------------------- configurations

    def learn(self, configuration: Configuration, now: float) -> None:
        """Take up what `configuration` makes of this replica, if it is newer than what is known."""
        if configuration.epoch <= self.epoch and (self.configuration is not None or configuration.epoch < self.epoch):
            return
        before, self.configuration = self.configuration, configuration
        if configuration.epoch > self.disk.epoch:
            self._settle(self.host.engine.append_epoch(self.tablet, configuration.epoch))
        same_lead = before is not None and _lead(before) == _lead(configuration)
        if self.leadership is not None and not (same_lead and configuration.primary == self.host.me):
            self._step_down(before, configuration)
        self.role = self._role_in(configuration)
        self.secondary_reads.refuse_all(configuration)
        if self.role != Role.LEARNER and self.catchup is not None:
            self._stop_learning(same_lead)
        if self.role == Role.PRIMARY and self.leadership is not None:
            self.leadership.reconfigure(configuration, now)
        elif self.role == Role.PRIMARY and self.intact:
            self.leadership = Leadership(self, configuration, now)
        elif self.role == Role.LEARNER and (self.catchup is None or not same_lead):
            if self.catchup is not None:
                self.catchup.stop()
            self._established = None
            self.catchup = CatchUp(self)
            self.damaged = ""  # learning begins with nothing that could be wrong
        if self.role in (Role.PRIMARY, Role.SECONDARY) and not self.intact:
            self.report_damage("the replica was learning when it was last used")
        self._told_settled = False
        self._owes_answer = True
        if self.host.synced >= self._settled_at:
            self.on_synced(now)

    @property
    def replaced(self) -> bool:
        """Whether other nodes hold all that this one should have held, durably, and it is not among them: the set is full
        without it. While it is not, even an old copy may be all that is left to look into after a catastrophe."""
        configuration = self.configuration
        if configuration is None or self.host.name in configuration.replicas:
            return False
        assert self.role == Role.OUTSIDER, "only who belongs to a tablet has a part in it"
        return len(configuration.in_sync) == len(configuration.replicas)

    def _role_in(self, configuration: Configuration) -> Role:
        if configuration.primary == self.host.me:
            return Role.PRIMARY
        if self.host.me in configuration.in_sync:
            return Role.SECONDARY
        return Role.LEARNER if self.host.me in configuration.learners else Role.OUTSIDER

    def _step_down(self, before: Configuration | None, configuration: Configuration) -> None:
        assert self.leadership is not None
        assert before is not None
        leadership, self.leadership = self.leadership, None
        leadership.step_down(configuration)
        self.relinquish(before, configuration)

    def relinquish(self, led: Configuration, newest: Configuration) -> None:
        """No answer is given any more under `led`: the members of `newest` need not wait for what they granted."""
        self.host.leases.lay_down(self.tablet)
        for member in newest.in_sync:
            if member != self.host.me:
                self.host.send(member.node, Relinquish(self.tablet, led.epoch, self.host.me))

    def give_up(self) -> None:
        """This node serves nothing any more."""
        self.role = Role.OUTSIDER
        if self.leadership is not None and self.configuration is not None:
            self.leadership.step_down(self.configuration)
        self.leadership = self.catchup = None

    def _stop_learning(self, same_lead: bool) -> None:
        assert self.catchup is not None
        if self.role == Role.SECONDARY and same_lead and self.catchup.finished and self.configuration is not None:
            self._established = _lead(self.configuration)
        self.catchup.stop()
        self.catchup = None

    # ---------------------------------------------------------------- splitting

    def parted(self) -> None:
        """The configuration that came of a split is taken up."""
        if self.catchup is not None:
            self.catchup.narrowed(self.was_whole)

    def missed(self, now: float) -> None:
        """Messages of a higher epoch were ignored, for this replica could not act under it yet: now it can."""
        if self.leadership is not None:
            self.leadership.missed(now)
        elif self.configuration is not None:
            here = self.tablet, self.epoch, self.host.me
            self.tell_primary(PeerRefusal(*here, "a gap", self.last_epoch, self.last))

    # ---------------------------------------------------------------- the log

    def distrust(self) -> None:
        """What is here is wrong although its versions are right: learning is to begin with nothing."""
        self.damaged = "its digest differs"  # nobody need be told: it holds nothing that counts
        self.host.engine.mark_damaged(self.tablet, self.damaged)
        self.damaged = ""

    def _settle(self, lsn: int) -> None:
        self._settled_at = max(self._settled_at, lsn)
        self.host.logged(self)

    def settle(self, lsn: int) -> None:
        """Nothing is acknowledged before the log is on disk up to `lsn`."""
        self._settle(lsn)
        self._told_settled = False

    def append_own(self, entry: Entry, now: float) -> None:
        """As primary: log an entry, and send it at the same time."""
        assert self.leadership is not None
        previous, previous_epoch = self.last, self.last_epoch
        assert entry.first == previous + 1
        self._log(entry)
        self.leadership.entry_logged(entry, previous_epoch, previous, now)

    def _log(self, entry: Entry) -> None:
        # the commit point that is *applied*, not the one that is known: a learner compares what it has applied with the
        # primary's cells, and replay must not be further than it was then
        lsn = self.host.engine.append_entry(self.tablet, entry, self.disk.commit)
        self.last = last = entry.last
        self.last_epoch = entry.epoch
        self._unsynced.append((lsn, last))
        self.host.logged(self)

    def begin_stream(self, start: int, start_epoch: int) -> None:
        """As learner: the log goes on after `start`; what it held is in the snapshot or gone."""
        self.last, self.last_epoch, self.durable = start, start_epoch, start
        self._unsynced.clear()

    def on_synced(self, now: float) -> bool:
        """The log is on disk up to `host.synced`. Whether nothing more of this replica waits for it."""
        synced = self.host.synced
        unsynced = self._unsynced
        grown = False
        while unsynced and unsynced[0][0] <= synced:
            self.durable = unsynced.popleft()[1]
            grown = True
        if synced >= self._settled_at:
            if self.leadership is not None:
                if not self._told_settled:
                    self.leadership.epoch_durable(now)
                elif grown:
                    self.leadership.advance(now)
            elif grown or self._owes_answer or not self._told_settled:
                self._acknowledge()
            self._told_settled = True
            if self.catchup is not None:
                self.catchup.on_synced(now)
        # a sync that came before the learner's newest values must not be the last that it hears of: it would wait for ever
        learnt = self.catchup is None or synced >= self.catchup.installed_at
        return not unsynced and self._told_settled and learnt and synced >= self._made_at

    def apply(self, upto: int) -> None:
        """Apply logged entries up to the commit point `upto`."""
        self.known_commit = max(self.known_commit, upto)
        self.host.engine.apply(self.tablet, upto)

    def logged_between(self, after: int, upto: int) -> list[Entry]:
        """The entries that are logged, not applied, and lie above `after` and not above `upto`."""
        entries = [logged.entry for logged in self.disk.logged]
        return [entry for entry in entries if entry.first > after and entry.last <= upto]

    def committed(self, commit: int) -> None:
        """Everything up to `commit` is committed. It is applied when those who wait for it have been told: now nobody waits
        for it, and whoever looks has it applied first."""
        self.known_commit = max(self.known_commit, commit)
        behind = self.host.behind.get(self, 0) + 1
        if behind < MOST_BEHIND:
            self.host.behind[self] = behind
        else:
            del self.host.behind[self]
            self.apply_known()

    def apply_known(self) -> None:
        """Apply what is logged and known to be committed; held back while this replica is learning."""
        upto = min(self.known_commit, self.last)
        if upto > self.disk.commit and (self.catchup is None or self.catchup.finished):
            self.host.engine.apply(self.tablet, upto)

    # ---------------------------------------------------------------- following

    @property
    def follows(self) -> bool:
        """Whether the log agrees with the primary's, so that positions in it mean something to it."""
        if self.configuration is None or self.damaged:
            return False
        if self.role == Role.LEARNER:
            return self.catchup is not None and self.catchup.streaming
        return self.role == Role.SECONDARY and self._established == _lead(self.configuration)

    @property
    def serves_secondary_reads(self) -> bool:
        """Whether this is a whole member of the set whose log agrees with its primary's."""
        return self.role == Role.SECONDARY and self.follows and self.intact and self.epoch_is_durable

    def _acknowledge(self) -> None:
        if not self.follows or not self.epoch_is_durable:
            return
        assert self.configuration is not None
        self._owes_answer = False
        epoch, applied = self.configuration.epoch, self.disk.commit
        attempt = self.catchup.attempt if self.catchup is not None else 0
        self.tell_primary(Acknowledge(self.tablet, epoch, self.host.me, self.durable, applied, self.last, attempt))

    def link_changed(self, node: str, now: float) -> None:
        """A connection to `node` is new, or gone: what was said last may be lost."""
        if self.leadership is not None:
            self.leadership.link_changed(node, now)
        elif self.primary is not None and self.primary.node == node:
            self._acknowledge()

    def accepts(self, message: PeerMessage) -> bool:
        """Whether `message` comes from the run that leads this replica, under this very epoch. If it is behind, it is told;
        a straggler of another run is ignored."""
        configuration = self.configuration
        if configuration is None:
            return False
        if message.epoch != configuration.epoch:
            self._refuse(message, "another epoch")
            return False
        return message.sender == configuration.primary

    def _refuse(self, message: PeerMessage, reason: str) -> None:
        newer = self.configuration if self.epoch > message.epoch else None
        refusal = PeerRefusal(
            self.tablet, self.epoch, self.host.me, reason, self.last_epoch, self.last, configuration=newer
        )
        self.host.send(message.sender.node, refusal)

    def establish(self, message: Establish, now: float) -> None:
        """A new primary's log is the log: keep what agrees, cut what differs."""
        if not self.accepts(message) or self.role != Role.SECONDARY or self.damaged:
            return
        assert self.configuration is not None
        if self._established != _lead(self.configuration):
            self._agree(message)
            self._established = _lead(self.configuration)
        # one that comes again, or late, cuts nothing: entries were logged since, and acknowledged
        self._owes_answer = True
        self._acknowledge()

    def _agree(self, message: Establish) -> None:
        """Cut this log where its (epoch, sequence) history leaves the primary's (trap 16)."""
        theirs = [point for point in message.history if point[1] > self.disk.commit]
        common = max(self.disk.commit, message.commit)
        at = 0
        for entry in list(self.disk.tail):
            if entry.last <= message.commit:
                continue
            if at >= len(theirs) or theirs[at] != (entry.epoch, entry.last):
                break
            common = entry.last
            at += 1
        assert common >= self.disk.commit, "a new primary lacks what was committed"
        assert common <= self.last, "a member of the in-sync set lacks what was committed"
        if common < self.last:
            self.settle(self.host.engine.append_cut(self.tablet, common))
            self.cut_to(common)

    def cut_to(self, sequence: int) -> None:
        """The log ends at `sequence`: what was behind it never was."""
        self.last = sequence
        tail = self.disk.tail
        self.last_epoch = tail[-1].epoch if tail else self.disk.commit_epoch
        while self._unsynced and self._unsynced[-1][1] > sequence:
            self._unsynced.pop()
        self.durable = min(self.durable, sequence)

    def announced(self, message: Announce, now: float) -> None:
        """The primary tells its configuration (already learnt), and asks where this replica stands."""
        if self.accepts(message):
            self._owes_answer = True
            self._acknowledge()
            if self.catchup is not None:
                self.catchup.announced(now)

    def append(self, message: Append, now: float) -> None:
        """Log what the primary sends, if it follows directly on what is here."""
        if not self.accepts(message) or not self.follows:
            return
        previous_epoch, previous = message.previous_epoch, message.previous
        for entry in message.entries:
            last = entry.last
            if last > self.last:
                if previous != self.last or previous_epoch != self.last_epoch or entry.first != self.last + 1:
                    self._missed_something(message)
                    return
                self._log(entry)
            elif last <= self.durable:
                self._owes_answer = True  # it came again: the answer may have been lost
            previous, previous_epoch = last, entry.epoch
        self._commit_told_with_entries(message.commit)
        if self._owes_answer:
            self._acknowledge()

    def _missed_something(self, message: PeerMessage) -> None:
        if self.catchup is not None and not self.catchup.finished:
            self.catchup.start_over()
        else:
            self._refuse(message, "a gap")

    def commit_point(self, message: CommitPoint, now: float) -> None:
        """The primary tells how far all is committed, and what the tablet's digest is there."""
        if not self.accepts(message) or not self.follows:
            return
        if message.commit > self.last:
            self._missed_something(message)
            return
        self._commit_told(message.commit)
        learning = self.catchup is not None and not self.catchup.finished
        if message.digest is None or learning or self.disk.commit != message.commit:
            return
        if self.disk.tablet.digest != message.digest:
            self.report_damage(f"its digest at {message.commit} differs from the primary's")

    def _commit_told_with_entries(self, commit: int) -> None:
        """What was committed before is applied when these entries are on their way to the disk and acknowledged: the
        primary, and everybody who writes, waits for that and not for this (`Node.apply_behind`)."""
        if self.catchup is not None:
            self._commit_told(commit)
        else:
            self.committed(commit)

    def _commit_told(self, commit: int) -> None:
        self.host.behind.pop(self, None)
        self.known_commit = max(self.known_commit, commit)
        if self.catchup is not None:
            self.catchup.stream_moved()
        self.apply_known()

    # ---------------------------------------------------------------- damage

    def report_damage(self, reason: str) -> None:
        """This replica is not to be trusted any more: say so, and take no further part until it has learnt anew."""
        if not self.damaged:
            self.damaged = reason  # first: the engine may call back
            self.host.engine.mark_damaged(self.tablet, reason)
            self.host.wake_log = True
            if self.leadership is not None and self.configuration is not None:
                # what it holds must neither be served nor become the others'
                leadership, self.leadership = self.leadership, None
                leadership.step_down(self.configuration)
                self.relinquish(self.configuration, self.configuration)
            if self.catchup is not None:
                self.catchup.stop()
                self.catchup = None
        self.host.tell_coordinator(ReplicaDamaged(self.tablet, self.host.me, self.damaged))


def _lead(configuration: Configuration) -> tuple[Member | None, int]:
    """What makes a leadership: who leads, and from which epoch on."""
    return configuration.primary, configuration.since
