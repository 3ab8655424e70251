"""The messages of clients, nodes and the coordinator, as dataclasses. `kvstore.wire` turns them into frames.

Who speaks to whom:

- client → node: `Write`, `Get`, `GetRow`, `Scan`, `GetMap`; answers `Written`, `CellAnswer`, `Page`, `TabletMap`, or
  `Refused`. Nodes ask each other `Get`, `GetRow` and `Scan` too, and what `kvstore.questions` has.
- node ↔ node, about one tablet (all derive from `PeerMessage`): `Establish`, `Announce`, `Append`, `Acknowledge`,
  `PeerRefusal`, `CommitPoint`, `Join`, `JoinAccepted`, `CaughtUp`, `Relinquish`; about the pair: `Beacon`, `Grant`.
- node ↔ coordinator: `Register`, `Registered`, `Heartbeat`, `Configure`, `ChangeRequest`, `ChangeAnswer`,
  `ReplicaDamaged`; `ProposeSplit`, `SplitRequest`, `SplitDeclined`.
- client → coordinator: `GetMap`, answered with `TabletMap`. What operators and the supervisor say to it: `kvstore.control`.

A request carries an id that its answer repeats; the id is the frame's, not the message's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from kvstore.mutation import Bundle, Entry


class Member(NamedTuple):
    """One run of a node: a restart is a new incarnation, and an old one's messages are stragglers."""

    node: str
    incarnation: int


@dataclass(slots=True, frozen=True)
class Birth:
    """Where a tablet came from that was not there when the cluster was made: from the rows of tablet `parent` that are its own
    `start` and above, as they were after the parent's entry that ends at (`epoch`, `sequence`).

    `range_version` is the one that the parent's range got by that split, and the new tablet's first: each split of a tablet
    raises it by one, so a replica whose own is lower knows how many births it has not heard of.
    """

    parent: int
    epoch: int
    sequence: int
    range_version: int


@dataclass(slots=True, frozen=True)
class Configuration:
    """What the coordinator has durably decided about one tablet. Only the coordinator makes a new one, epoch + 1.

    `range_version` changes when [start, end) does. `primary` is None only in the first configuration of all, while the nodes
    still make their empty replicas. `since` is the epoch in which `primary` was put in the lead: configurations that agree
    in both belong to one leadership, whose log goes on without `Establish`. `replicas` is the order in which primaries are
    elected: every node that should hold the tablet, in the set or not. `former` names every run that led the tablet before
    and is not known to have ended (reaped, or replaced by a newer run on the same data folder): only these can still hold a
    lease. `leaving` is empty, or the node of `replicas` whose copy moves to the last of them: it goes when all the others
    are in the set. `born` is None for a tablet of the cluster's beginning, and never changes.
    """

    tablet: int
    start: str
    end: str | None
    range_version: int
    epoch: int
    primary: Member | None
    in_sync: tuple[Member, ...]
    learners: tuple[Member, ...] = ()
    replicas: tuple[str, ...] = ()
    former: tuple[Member, ...] = ()
    min_in_sync: int = 1
    since: int = 0
    leaving: str = ""
    born: Birth | None = None


@dataclass(slots=True)
class ReplicaReport:
    """What a node says of one replica that it holds, in `Register` and in heartbeats.

    `intact` is False when the replica cannot be trusted to hold what it acknowledged (damage found, or its learning was
    cut short): it is then never promoted. `epoch` and `sequence` are the last entry's in its log, `commit` the last it
    knows to be committed, `digest` the tablet's there (None: not stated). `known_epoch` is the epoch of the
    newest configuration of the tablet that the node knows. Of its `bytes`, `bulk_bytes` are of values that are not in memory.
    `range_version` is the replica's own: below a configuration's, it has not been split yet as that one says.
    """

    tablet: int
    intact: bool
    role: str
    epoch: int
    sequence: int
    commit: int
    cells: int = 0
    bytes: int = 0
    recovery: dict[str, int] | None = None
    digest: int | None = None
    known_epoch: int = 0
    bulk_bytes: int = 0
    range_version: int = 0


# ---------------------------------------------------------------- between nodes, about one tablet


@dataclass(slots=True)
class PeerMessage:
    """Base of what replicas of one tablet tell each other. `epoch` is the sender's for the tablet when it sent."""

    tablet: int
    epoch: int
    sender: Member


@dataclass(slots=True)
class Establish(PeerMessage):
    """A new primary to each other in-sync member, before it serves: make your log agree with mine.

    `commit` is the sender's commit point, `commit_epoch` the epoch of the entry that ends there; `history` is (epoch, last
    sequence) of every entry that it holds after that. The receiver keeps what agrees, cuts its log at the first
    difference, and acknowledges where it stands; what it lacks then follows as `Append`. It never cuts below what it
    knows to be committed. `configuration` is the one under which the sender leads.
    """

    configuration: Configuration | None = None
    commit: int = 0
    commit_epoch: int = 0
    history: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Announce(PeerMessage):
    """The tablet's configuration as the sender knows it: only the coordinator makes one, anybody may pass it on.

    A member or learner under it that has made it durable answers its primary with `Acknowledge`, from which the primary
    learns where it stands (after a connection was lost, or when the epoch moved on).
    """

    configuration: Configuration | None = None


@dataclass(slots=True)
class Append(PeerMessage):
    """A primary to each in-sync member and learner: the next entries, and how far all is committed.

    `previous_epoch` and `previous` are the (epoch, sequence) just before `entries[0]`: the receiver refuses a gap.
    """

    previous_epoch: int = 0
    previous: int = 0
    entries: list[Entry] = field(default_factory=list)
    commit: int = 0


@dataclass(slots=True)
class Acknowledge(PeerMessage):
    """All entries up to `durable` are on the sender's disk, up to `logged` in its log; it has applied up to `applied`. Of a
    learner, `attempt` is the one that the stream belongs to; it is 0 of a member."""

    durable: int = 0
    applied: int = 0
    logged: int = 0
    attempt: int = 0


@dataclass(slots=True)
class PeerRefusal(PeerMessage):
    """The receiver did not act: its epoch is another (`epoch`), or the entries left a gap after (`last_epoch`, `last`).

    With a higher epoch comes the `configuration` that it belongs to, so that who led under the older one steps down.
    """

    reason: str = ""
    last_epoch: int = 0
    last: int = 0
    configuration: Configuration | None = None


@dataclass(slots=True)
class CommitPoint(PeerMessage):
    """A primary's commit point, when no entry carried it, with the tablet's digest there (None: not stated).

    A learner and a secondary apply up to it; one whose digest at that very sequence differs has diverged and must be
    rebuilt. Also the answer to `AskCommitPoint`.
    """

    commit: int = 0
    digest: int | None = None


@dataclass(slots=True)
class Join(PeerMessage):
    """A learner to its primary: stream new entries to me from now on. `attempt` grows with each time it starts over."""

    attempt: int = 0


@dataclass(slots=True)
class JoinAccepted(PeerMessage):
    """The stream to the learner begins after (`start_epoch`, `start`); what is older it must read from a snapshot, of
    about `cells` cells.

    `attempt` repeats the learner's. With `again` nothing was accepted: the stream was lost, and the learner starts over;
    with nothing at all if what it learnt `differs` though it has the same versions.
    """

    start_epoch: int = 0
    start: int = 0
    attempt: int = 0
    again: bool = False
    cells: int = 0
    differs: bool = False


@dataclass(slots=True)
class CaughtUp(PeerMessage):
    """A learner to its primary: the snapshot is installed and durable, and I have applied up to `applied`, where my digest
    is `digest`."""

    applied: int = 0
    digest: int = 0
    attempt: int = 0


@dataclass(slots=True)
class Relinquish(PeerMessage):
    """A primary that stepped down, to the members of the new configuration: I no longer serve the tablet under any epoch
    up to `epoch`, so a lease that you granted me for it need not be waited for."""


# ---------------------------------------------------------------- between nodes, about the pair


@dataclass(slots=True)
class Beacon:
    """Asks the receiver for a lease on each tablet of `tablets` (tablet → epoch) that the sender leads.

    `number` only grows; the sender remembers when it sent which.
    """

    sender: Member
    number: int
    tablets: dict[int, int]


@dataclass(slots=True)
class Grant:
    """The answer to beacon `number`: the sender will not lead these tablets for `GRANT_WAIT` from when it received it.

    A tablet whose epoch the grantor knows to be higher, or does not hold as member or learner, is left out.
    """

    sender: Member
    number: int
    tablets: dict[int, int]


# ---------------------------------------------------------------- nodes and the coordinator


@dataclass(slots=True)
class Register:
    """A node's first word to the coordinator, again after each lost connection.

    `store_id` names the data folder (another one: its disk is new and nothing that the node held is there any more);
    `boot_id` names the process. `incarnation` is 0, or what the coordinator gave this very process before.
    """

    node: str
    store_id: str
    boot_id: str
    incarnation: int
    address: str
    pid: int
    replicas: list[ReplicaReport]


@dataclass(slots=True)
class Registered:
    """The incarnation of this run of the node, and the configurations that concern it."""

    incarnation: int
    cluster: str
    group_rule: str
    configurations: list[Configuration]
    addresses: dict[str, str]


@dataclass(slots=True)
class Heartbeat:
    """Every `HEARTBEAT_INTERVAL`. `disk_age` is for how many seconds the log has wanted to reach the disk and did not;
    `full`: there is no room left for writes. The first heartbeat of a run is what makes the run count: a registration alone
    may be the last word of a process that has died since. `leaving`: the process is about to stop, and waits a moment for its
    roles to move away."""

    sender: Member
    disk_age: float
    replicas: list[ReplicaReport]
    figures: dict[str, float]
    full: bool = False
    leaving: bool = False


@dataclass(slots=True)
class Configure:
    """Configurations that concern the receiver, as they are durably decided, and where every live node listens."""

    configurations: list[Configuration]
    addresses: dict[str, str]


class ChangeKind(IntEnum):
    """What a primary asks of the coordinator."""

    REMOVE = 0  # take a member out of the in-sync set: it does not answer
    ADD = 1  # take a learner into the in-sync set: it holds everything


@dataclass(slots=True)
class ChangeRequest:
    """A primary asks for a new configuration. Refused when the tablet's epoch is no longer `epoch`."""

    tablet: int
    epoch: int
    sender: Member
    kind: ChangeKind
    member: Member
    reason: str = ""


@dataclass(slots=True)
class ChangeAnswer:
    """The tablet's configuration as it stands after a `ChangeRequest`, whether that was done or refused."""

    done: bool
    configuration: Configuration


@dataclass(slots=True)
class ProposeSplit:
    """The coordinator to a tablet's primary: ask for a split at `row`, or near the middle of the tablet's bytes. A hint: it may
    be lost, repeated, or declined, and obliges nobody."""

    tablet: int
    epoch: int
    row: str | None


@dataclass(slots=True)
class SplitRequest:
    """A primary asks that its tablet be cut so that `row` begins a new one. All that it ever logged up to (`log_epoch`,
    `sequence`) is committed and on every member's disk, and it logs nothing more under `epoch`, whatever the answer.

    So the answer is a configuration of a higher epoch, always: a request that cannot be granted is answered with one that
    changes nothing else. Were it a mere refusal, a repeated request might be granted after it, and cut off what the primary had
    logged since.
    """

    tablet: int
    epoch: int
    sender: Member
    row: str
    log_epoch: int
    sequence: int


@dataclass(slots=True)
class SplitDeclined:
    """A primary's answer to a `ProposeSplit` that it does not follow, and why. Nothing was asked, and nothing happened."""

    tablet: int
    epoch: int
    sender: Member
    row: str | None
    reason: str


@dataclass(slots=True)
class ReplicaDamaged:
    """A node says that its replica is not to be trusted: take it out of every set and let it learn anew."""

    tablet: int
    sender: Member
    reason: str


# ---------------------------------------------------------------- clients


@dataclass(slots=True)
class GetMap:
    """Asks a node or the coordinator for the tablet map."""


@dataclass(slots=True)
class TabletMap:
    """Every tablet's configuration as the answerer knows it, and where the nodes listen. Higher epochs win.

    `group_rule` is empty when the answerer has not been told it since it started."""

    configurations: list[Configuration]
    addresses: dict[str, str]
    group_rule: str


@dataclass(slots=True)
class Write:
    """Apply the bundle's mutations to the tablet. Each is a request of its own: `ids` are their request ids, in order."""

    tablet: int
    range_version: int
    ids: list[int]
    bundle: Bundle


@dataclass(slots=True)
class Written:
    """The mutation's result: committed for good. `outcome` as in `kvstore.mutation.Outcome`; `failed` is the index of the
    requirement that did not hold, when one did not."""

    outcome: int
    epoch: int
    sequence: int
    failed: int = 0


@dataclass(slots=True)
class Get:
    """Read one cell."""

    tablet: int
    range_version: int
    row: str
    column: str


@dataclass(slots=True)
class CellAnswer:
    """The cell, or `epoch` 0 when it is absent. A value of `BULK_VALUE` and more comes in the frame's bulk part."""

    epoch: int
    sequence: int
    value: bytes


@dataclass(slots=True)
class GetRow:
    """Read the columns of one row that lie in [start, end) and begin with `prefix`; at most a page of them."""

    tablet: int
    range_version: int
    row: str
    prefix: str
    start: str
    end: str | None
    limit: int | None
    reverse: bool
    keys_only: bool


@dataclass(slots=True)
class Scan:
    """Read a page of cells of the tablet in order, from just after (or from) a key.

    The range is of (row, column) pairs: from `start` (`start_column`) inclusive to `end` exclusive. `reverse` goes down
    from just below (`end`, `end_column`). `after_column` None: from the row's first column.
    """

    tablet: int
    range_version: int
    start: str
    start_column: str
    end: str | None
    end_column: str | None
    limit: int | None
    reverse: bool
    keys_only: bool


@dataclass(slots=True)
class Page:
    """Cells in order: (row, column, epoch, sequence, size, value); `more` when the page ended before the range did.

    `commit` is the commit point at which it was read: one page is a consistent cut of the tablet.
    """

    cells: list[tuple[str, str, int, int, int, bytes]]
    more: bool
    commit: int


@dataclass(slots=True)
class Refused:
    """A request that was not carried out, and nothing happened. `error` is the class name of a `kvstore.errors` error.

    `configuration`: the tablet's newest configuration that the answerer knows, so that the client can go on at once.
    """

    error: str
    message: str
    configuration: Configuration | None = None
