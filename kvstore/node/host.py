"""What the machines of one node share: who it is, its engine, its leases, whom it reaches, and where effects go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore import errors
from kvstore.keys import GroupRule
from kvstore.messages import Configuration, Get, GetRow, Member, PeerMessage, Refused, Scan
from kvstore.node.effects import Effect, Forward, Reply, SendCoordinator, SendPeer, Token
from kvstore.node.lease import Leases
from kvstore.node.pace import Pace

if TYPE_CHECKING:
    from kvstore.node.replica import Replica


class Host:
    """One node, as its replicas see it."""

    def __init__(self, name: str, engine: Any, leases: Leases) -> None:
        self.name = name
        self.engine = engine
        self.leases = leases
        self.me = Member(name, 0)
        """This run of the node; incarnation 0 until the coordinator has given it one."""
        self.group_rule = GroupRule("")
        """Told by the coordinator before this run has any role. Until then none, which nobody takes for the cluster's rule."""
        self.links: set[str] = set()
        """The nodes that can be sent to."""
        self.out: list[Effect] = []
        self.synced = 0
        """Everything in the log up to here is on disk."""
        self.full = False
        self.failed = False
        self.unsynced: dict[Replica, None] = {}
        """Replicas with something in the log that is not on disk yet, or that wait for it to be."""
        self.gathering: dict[Replica, None] = {}
        """Replicas with writes that wait for an entry. (Dicts, for their order: a simulated run must be repeatable.)"""
        self.behind: dict[Replica, int] = {}
        """Replicas that know what is committed and have not applied it, and how often they were told."""
        self.reading: dict[Replica, None] = {}
        """Secondaries with reads to be asked about or answered."""
        self.forwarded: dict[Token, int] = {}
        """Reads that were passed on and are not answered yet, and the tablet that each concerns."""
        self.wake_log = False
        """Something was appended since the effects were taken last."""
        self.beacon_due = False
        """A lease is wanted sooner than the next regular beacon."""
        self.attempts = 0
        """Attempts at learning in this run. Not a replica's own count: one that was dropped and made again must not repeat
        a number that its primary remembers."""
        self.learning: set[int] = set()
        """Tablets that are catching up at this moment."""
        self.pace = Pace()

    def send(self, node: str, message: PeerMessage) -> None:
        """Send to `node` if it is connected; if not, it is told where things stand when it is."""
        if node in self.links:
            self.out.append(SendPeer(node, message))

    def tell_coordinator(self, message: Any) -> None:
        """Send to the coordinator, if it is connected."""
        self.out.append(SendCoordinator(message))

    def logged(self, replica: Replica) -> None:
        """`replica` appended to the log: it wants to hear when that is on disk."""
        self.wake_log = True
        self.unsynced[replica] = None

    def forward(self, token: Token, tablet: int, node: str, request: Get | GetRow | Scan) -> None:
        """Pass a read on to `node`, which leads the tablet."""
        self.forwarded[token] = tablet
        self.out.append(Forward(token, node, request))

    def refuse(
        self, token: Token, error: type[errors.StoreError], message: str, configuration: Configuration | None = None
    ) -> None:
        """Answer `token` with a `Refused` of that class."""
        self.out.append(Reply(token, Refused(error.__name__, message, configuration)))

    def refuse_all(
        self,
        source: Token,
        ids: list[int],
        error: type[errors.StoreError],
        message: str,
        configuration: Configuration | None = None,
    ) -> None:
        """The same for each of the writes (source, id) of a bundle."""
        for each in ids:
            self.refuse((source, each), error, message, configuration)
