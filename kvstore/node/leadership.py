"""What a replica does while it leads its tablet: from being named primary until a higher epoch says otherwise.

In the order of its life: it makes its log agree with every other in-sync member (`Establish`), waits for the promises it gave
to others to run out, and serves when all it holds is committed (trap 15). From then on it gathers writes into entries, sends
them to all followers and the log at once, and answers when every required follower has them on disk. It asks the coordinator
to remove who is silent and to add who has caught up, and counts differently only once a configuration says so (trap 7).

Relies on `Replica` for the log and on `Host` for sending. Leaves out reads (`kvstore.node.reads`) and who is required to
hold what when a configuration changes hands (`kvstore.node.replica`).
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from kvstore import errors, settings
from kvstore.messages import (
    Acknowledge,
    Announce,
    Append,
    CaughtUp,
    ChangeKind,
    ChangeRequest,
    CommitPoint,
    Configuration,
    Establish,
    Join,
    JoinAccepted,
    Member,
    PeerRefusal,
    ProposeSplit,
    SplitDeclined,
)
from kvstore.mutation import Entry
from kvstore.node.effects import Token
from kvstore.node.follower import Follower
from kvstore.node.gathering import Gathering
from kvstore.node.reads import ReadRequest, answer_read
from kvstore.node.splitting import NoCut, Preparation, wanted_cut

if TYPE_CHECKING:
    from kvstore.node.replica import Replica

QUESTION_AGAIN = 0.3
"""Seconds after which an unanswered `Establish` or `Announce`, or request to the coordinator, is repeated."""


class Leadership:
    """One replica's time as primary. `serving` is whether clients may be answered."""

    def __init__(self, replica: Replica, configuration: Configuration, now: float) -> None:
        self._replica = replica
        self._host = replica.host
        self.followers: dict[Member, Follower] = {}
        self.serving = False
        self.lease_until = -math.inf
        """When the first of the needed leases runs out; inf when none is needed."""
        replica.apply_known()
        self.commit = replica.disk.commit
        """Everything up to here is committed: answered at once, and applied before anybody looks (`Node.apply_behind`)."""
        self.must_commit = replica.last
        """All that this replica held when it was promoted: committed before it serves."""
        self.gathering = Gathering(replica)
        self._parked: deque[tuple[Token, ReadRequest]] = deque()
        self._change: ChangeRequest | None = None
        self._change_sent = 0.0
        self._split: Preparation | None = None
        self._committed_at = now
        self.configuration = configuration
        self.reconfigure(configuration, now)

    # ---------------------------------------------------------------- configurations

    def reconfigure(self, configuration: Configuration, now: float) -> None:
        """A configuration of this leadership: take in who follows now. Entries already logged keep their epoch."""
        # under one that never came here a learner may have been out: then it dropped, or cut, what it had learnt
        skipped = configuration.epoch > self.configuration.epoch + 1
        if configuration.range_version != self.configuration.range_version:
            self._refuse_waiting(configuration)
        self.configuration = configuration
        self._split = None  # whatever was decided
        self._host.gathering[self._replica] = None
        self._change = None  # it named an older epoch: it can no longer succeed
        before = self.followers
        self.followers = {}
        for member in configuration.in_sync:
            if member != self._host.me:
                follower = before.get(member) or Follower(member, True, now, now)
                follower.in_sync, follower.asked = True, False
                self.followers[member] = follower
        for member in configuration.learners:
            known = before.get(member)
            if known is None or known.in_sync or skipped:
                # one that was taken out starts over, whatever it believes to hold (trap 17)
                known = Follower(member, False, now, now)
            # it says again that it has caught up, under this epoch, if it still has: the epoch may have moved on because it
            # found damage, and begins anew
            known.asked = known.caught_up = False
            self.followers[member] = known
        for follower in self.followers.values():
            follower.commit_told = -1  # who has heard of this epoch takes no word of the one before
        self._recount_leases()
        self._host.beacon_due = True

    def _refuse_waiting(self, newest: Configuration) -> None:
        """The tablet was split: what waits was asked of a range that is no more. Nothing of it has happened."""
        assert self._replica.last == self.commit, "a tablet is split when nothing is on its way"
        self.gathering.refuse_waiting(errors.WrongTablet, "the tablet was split", newest)
        for token, _ in self._parked:
            self._host.refuse(token, errors.WrongTablet, "the tablet was split", newest)
        self._parked.clear()

    def epoch_durable(self, now: float) -> None:
        """This replica's log has the epoch: from now on the others may be told under it."""
        for follower in self.followers.values():
            self._question(follower, now)
        self.advance(now)
        self._answer_parked(now)

    def step_down(self, newest: Configuration) -> None:
        """Lead no more. What was not logged is refused; of what was logged and not committed nothing is known."""
        self.serving = False
        self.gathering.give_up(newest)
        for token, _ in self._parked:
            self._host.refuse(token, errors.NotPrimary, "the tablet has another primary", newest)
        self._parked.clear()

    # ---------------------------------------------------------------- followers' positions

    def link_changed(self, node: str, now: float) -> None:
        """A connection to `node` is new, or gone: what was sent before may be lost."""
        for follower in self.followers.values():
            if follower.member.node == node:
                follower.position, follower.commit_told = None, -1
                self._question(follower, now)

    def missed(self, now: float) -> None:
        """Messages of followers were ignored while this replica could not act under their epoch."""
        for follower in self.followers.values():
            follower.position, follower.commit_told = None, -1
            self._question(follower, now)

    def _question(self, follower: Follower, now: float) -> None:
        """Tell a follower under which configuration this replica leads, and learn where it stands."""
        if not self._replica.epoch_is_durable or not (self.serving or self._replica.intact):
            return  # a damaged log must not become the others'
        follower.questioned = now
        replica, host = self._replica, self._host
        epoch = self.configuration.epoch
        if follower.in_sync and not follower.established:
            history = [(entry.epoch, entry.last) for entry in replica.disk.tail]
            commit, commit_epoch = replica.disk.commit, replica.disk.commit_epoch
            message = Establish(replica.tablet, epoch, host.me, self.configuration, commit, commit_epoch, history)
            host.send(follower.member.node, message)
        else:
            host.send(follower.member.node, Announce(replica.tablet, epoch, host.me, self.configuration))

    def _send_from(self, follower: Follower, sequence: int) -> None:
        """`follower` has logged up to `sequence`: send what comes after."""
        # it may have said so before it acknowledged more: a straggler of an earlier connection
        sequence = max(sequence, follower.acked)
        follower.position = sequence
        if sequence < self._replica.disk.commit:
            assert not follower.required, "a required member cannot be behind the commit point"
            self._start_over(follower, follower.attempt)
            return
        previous, previous_epoch = self._replica.disk.commit, self._replica.disk.commit_epoch
        tail = self._replica.disk.tail
        if sequence != previous and all(entry.last != sequence for entry in tail):
            follower.position = (
                None  # no entry ends there: it spoke of the log that it had before it learnt; `tick` asks
            )
            return
        for entry in tail:
            if entry.first > sequence:
                self._send_append(follower, self._append_of(entry, previous_epoch, previous))
            previous, previous_epoch = entry.last, entry.epoch

    def _append_of(self, entry: Entry, previous_epoch: int, previous: int) -> Append:
        replica, epoch = self._replica, self.configuration.epoch
        return Append(replica.tablet, epoch, self._host.me, previous_epoch, previous, [entry], self.commit)

    def _send_append(self, follower: Follower, append: Append) -> None:
        follower.position = append.entries[-1].last
        follower.commit_told = append.commit
        self._host.send(follower.member.node, append)

    def entry_logged(self, entry: Entry, previous_epoch: int, previous: int, now: float) -> None:
        """A new entry is in this replica's log buffer: send it to everybody whose position is just before it."""
        append = self._append_of(entry, previous_epoch, previous)  # one for all: it is put into a frame once
        for follower in self.followers.values():
            if follower.acked == previous:
                follower.heard = now  # it owed nothing until now
            if follower.position == previous:
                self._send_append(follower, append)

    def acknowledged(self, message: Acknowledge, now: float) -> None:
        """A follower says what it holds. Counted only under the very epoch of this configuration: under another one it may
        have cut its log since."""
        follower = self.followers.get(message.sender)
        if follower is None or message.epoch != self.configuration.epoch or not self._replica.epoch_is_durable:
            return
        if not follower.streaming:
            return
        if not follower.in_sync and message.attempt != follower.attempt:
            return  # of an earlier stream, late: that held more than this one does by now
        if not follower.established:
            follower.established = True
            self._host.beacon_due = True
        if message.durable > follower.acked:
            follower.heard = now
        follower.acked = max(follower.acked, message.durable)
        if follower.position is None:
            self._send_from(follower, message.logged)
        self._ask_to_add(follower, now)
        self.advance(now)

    def refused(self, message: PeerRefusal, now: float) -> None:
        """A follower could not follow: it has not heard of the epoch, or something on the way to it was lost."""
        follower = self.followers.get(message.sender)
        if follower is None:
            return
        if message.epoch < self.configuration.epoch:
            self._question(follower, now)
        elif message.epoch == self.configuration.epoch and follower.established and follower.streaming:
            self._send_from(follower, message.last)
        elif message.epoch == self.configuration.epoch and not follower.established:
            self._question(follower, now)  # the first was ignored: it had to wait for the other half of a split

    # ---------------------------------------------------------------- committing

    def advance(self, now: float) -> None:
        """Move the commit point to what everybody required has on disk; begin to serve when it is time."""
        replica = self._replica
        upto = replica.durable
        for follower in self.followers.values():
            if follower.required and follower.acked < upto:
                upto = follower.acked
        if upto > self.commit and replica.epoch_is_durable:
            committed = replica.logged_between(self.commit, upto)
            if committed:
                self._committed_at = now
                self.commit = committed[-1].last
                self.gathering.committed(committed)
                replica.committed(self.commit)
        if not self.serving:
            self._begin_serving(now)
        elif self._split is not None:
            self._prepare_split(now)
        elif self.gathering.waiting:
            self._host.gathering[replica] = None

    def _begin_serving(self, now: float) -> None:
        replica = self._replica
        if not replica.intact or not replica.epoch_is_durable or self.commit < self.must_commit:
            return
        if any(f.required and not f.established for f in self.followers.values()):
            return
        if now < self._host.leases.free_at(replica.tablet, self._host.me, self.configuration.former):
            return
        self.serving = True
        replica.apply_known()
        self._host.gathering[replica] = None
        self._host.beacon_due = True
        for follower in self.followers.values():
            # with the digest: who differs from what is about to be served is rebuilt (trap 22)
            self._tell_commit(follower)
            if not follower.streaming:
                self._question(follower, now)  # a learner may have asked to join too early
        self._answer_parked(now)

    def _tell_commit(self, follower: Follower) -> None:
        replica = self._replica
        if follower.position is None or follower.position < replica.disk.commit:
            return
        commit = replica.disk.commit
        follower.commit_told = commit
        point = CommitPoint(replica.tablet, self.configuration.epoch, self._host.me, commit, replica.disk.tablet.digest)
        self._host.send(follower.member.node, point)

    # ---------------------------------------------------------------- reads

    def read(self, token: Token, request: ReadRequest, now: float) -> None:
        """Answer a read from the committed cells, if nobody else can serve by now; else let it wait until that is known."""
        if len(self._parked) >= settings.MAX_WAITING:
            self._host.refuse(token, errors.Overloaded, "too many requests wait for this tablet", self.configuration)
        elif not self.serving or now > self.lease_until:
            self._parked.append((token, request))
        else:
            # first the value, last the lease: the driver reads the clock again after this (trap 3)
            answer_read(self._replica, token, request, self.lease_until)

    def _answer_parked(self, now: float) -> None:
        if self._parked:
            self._replica.apply_known()
        while self._parked and self.serving and now <= self.lease_until:
            token, request = self._parked.popleft()
            answer_read(self._replica, token, request, self.lease_until)

    def lease_renewed(self, now: float) -> None:
        """A follower granted more time."""
        self._recount_leases()
        self._answer_parked(now)

    def _lease_of(self, follower: Follower) -> float:
        return self._host.leases.held_until(self._replica.tablet, follower.member)

    def _recount_leases(self) -> None:
        needed = [self._lease_of(f) for f in self.followers.values() if f.required]
        self.lease_until = min(needed, default=math.inf)

    # ---------------------------------------------------------------- learners

    def join(self, message: Join, now: float) -> None:
        """A learner wants the stream. It begins at the commit point, so with every entry that is on its way: a snapshot
        that is read from now on holds everything before (trap 19)."""
        follower = self.followers.get(message.sender)
        if follower is None or follower.in_sync or follower.asked or message.epoch != self.configuration.epoch:
            return
        if message.attempt <= follower.streamed or not self.serving:
            return
        replica = self._replica
        start, start_epoch = replica.disk.commit, replica.disk.commit_epoch
        follower.attempt = follower.streamed = message.attempt
        follower.established, follower.caught_up = True, False
        follower.acked = start
        epoch, cells = self.configuration.epoch, replica.disk.tablet.cells
        accepted = JoinAccepted(replica.tablet, epoch, self._host.me, start_epoch, start, message.attempt, cells=cells)
        self._host.send(message.sender.node, accepted)
        self._send_from(follower, start)
        self._host.beacon_due = True

    def _start_over(self, follower: Follower, attempt: int, differs: bool = False) -> None:
        """The stream to a learner is lost: entries that it lacks are committed and out of this replica's hands. Or what
        it learnt `differs`."""
        assert not follower.required
        follower.attempt, follower.caught_up, follower.position = 0, False, None
        replica = self._replica
        epoch, me = self.configuration.epoch, self._host.me
        again = JoinAccepted(replica.tablet, epoch, me, attempt=attempt, again=True, differs=differs)
        self._host.send(follower.member.node, again)

    def caught_up(self, message: CaughtUp, now: float) -> None:
        """A learner says that it has everything up to what is on its way."""
        follower = self.followers.get(message.sender)
        if follower is None or message.epoch != self.configuration.epoch or follower.required:
            return
        if message.attempt != follower.attempt:
            self._start_over(follower, message.attempt)  # an attempt that this primary no longer streams to
            return
        if message.applied == self._replica.disk.commit and message.digest != self._replica.disk.tablet.digest:
            self._start_over(follower, follower.attempt, differs=True)
            return
        follower.caught_up = True
        self._ask_to_add(follower, now)

    def _ask_to_add(self, follower: Follower, now: float) -> None:
        if not follower.caught_up or follower.required or self._change is not None or not self.serving:
            return
        if follower.acked < self.commit or follower.position is None:
            return
        # from here on it counts, before the request is sent: the answer may be lost (trap 7)
        follower.asked, follower.since = True, now
        self._recount_leases()
        self._host.beacon_due = True
        self._ask(ChangeKind.ADD, follower, "caught up", now)

    # ---------------------------------------------------------------- splitting

    @property
    def gathers(self) -> bool:
        """Whether writes may become entries."""
        return self.serving and self._split is None and self._replica.epoch_is_durable

    @property
    def asks_for_nothing(self) -> bool:
        """Whether no other change of the configuration is wanted: a split that was asked for would fail with it."""
        return self._change is None

    def split(self, message: ProposeSplit, now: float) -> None:
        """The coordinator proposes a split. One that is under way goes on."""
        if not self.serving or self._split is not None or message.epoch != self.configuration.epoch:
            return
        self._replica.apply_known()
        try:
            row = wanted_cut(self._replica, message.row, self._host.group_rule)
        except NoCut as reason:
            epoch, me = self.configuration.epoch, self._host.me
            self._host.tell_coordinator(SplitDeclined(message.tablet, epoch, me, message.row, str(reason)))
            return
        self._split = Preparation(row, now)
        self._prepare_split(now)

    def _prepare_split(self, now: float) -> None:
        if self._split is not None and not self._split.go_on(self, self._replica, now):
            self._split = None
            self._host.gathering[self._replica] = None

    # ---------------------------------------------------------------- asking the coordinator

    def _ask(self, kind: ChangeKind, follower: Follower, reason: str, now: float) -> None:
        replica = self._replica
        self._change = ChangeRequest(
            replica.tablet, self.configuration.epoch, self._host.me, kind, follower.member, reason
        )
        self._change_sent = now
        self._host.tell_coordinator(self._change)

    def tick(self, now: float) -> None:
        """What only time brings about."""
        if not self.serving:
            self._begin_serving(now)
        for follower in self.followers.values():
            lost = follower.position is None and follower.streaming
            if lost and now - follower.questioned > QUESTION_AGAIN:
                self._question(follower, now)
            if follower.required and self._silence(follower, now) > settings.SECONDARY_SILENT:
                self._ask_to_remove(follower, now)
            else:
                self._ask_to_add(follower, now)
        self._notify_commit(now)
        self._prepare_split(now)
        if self._change is not None and now - self._change_sent > QUESTION_AGAIN:
            self._change_sent = now
            self._host.tell_coordinator(self._change)
        self._answer_parked(now)

    def _silence(self, follower: Follower, now: float) -> float:
        """For how long a follower has kept the tablet waiting: for an acknowledgement, or for a lease."""
        leased = max(follower.since, self._lease_of(follower) - settings.LEASE)
        owes = not follower.established or follower.acked < self._replica.last
        return now - min(leased, max(follower.heard, follower.since) if owes else now)

    def _ask_to_remove(self, follower: Follower, now: float) -> None:
        if self._change is not None and self._change.kind == ChangeKind.REMOVE:
            return  # one at a time: the next one's epoch is not known before
        self._ask(ChangeKind.REMOVE, follower, f"silent for {self._silence(follower, now):.1f} s", now)

    def _notify_commit(self, now: float) -> None:
        if now - self._committed_at < settings.COMMIT_NOTICE:
            return
        for follower in self.followers.values():
            if follower.established and follower.commit_told < self.commit:
                self._tell_commit(follower)

    def after_pause(self, now: float) -> None:
        """This process did not run for a while: nobody's silence meanwhile says anything."""
        for follower in self.followers.values():
            follower.since = now
