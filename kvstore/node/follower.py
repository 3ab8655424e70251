"""What a primary knows of one other replica of its tablet."""

from __future__ import annotations

from dataclasses import dataclass

from kvstore.messages import Member


@dataclass(slots=True, eq=False)
class Follower:
    """One run of one node, as its primary sees it.

    A follower's *position* is the sequence up to which entries were sent to it; None while that is not known: after a
    promotion, or after a connection was lost. It is then asked with `Establish` or `Announce`, and its first acknowledgement
    tells. Nothing is sent to an unknown position: it would only be refused as a gap.
    """

    member: Member
    in_sync: bool
    """It is in the configuration's in-sync set."""
    heard: float
    """When it last acknowledged something new, or began to owe something."""
    since: float
    """From when its silence counts: it became required, or this process woke from a pause."""
    established: bool = False
    """Its log agrees with this primary's: it has answered `Establish`, or it learnt everything from this very primary."""
    asked: bool = False
    """The coordinator was asked to take this learner in: from that moment it counts like a member (trap 7), for the answer
    may be lost and the coordinator may already promote it."""
    position: int | None = None
    acked: int = 0
    """It holds everything up to here on disk."""
    commit_told: int = -1
    """The commit point that it was told last."""
    questioned: float = 0.0
    """When its position was asked for last."""
    attempt: int = 0
    """The learner's attempt that is being streamed to; 0 when none is."""
    streamed: int = 0
    """The highest attempt that was ever streamed to: an older `Join` is a straggler."""
    caught_up: bool = False
    """The learner says that it has everything but what is on its way."""

    @property
    def streaming(self) -> bool:
        """Whether it is sent entries: as a member, or as a learner that joined."""
        return self.in_sync or self.attempt > 0

    @property
    def required(self) -> bool:
        """Whether nothing is committed without it."""
        return self.in_sync or self.asked
