"""Every error the store can give, sorted by what a caller should do about it.

The tree has three branches below :class:`StoreError`:

- :class:`TryAgain`: nothing happened, and the same request may succeed a moment later. The client retries these by
  itself until the caller's deadline; one that reaches the caller means that the deadline came first.
- :class:`GiveUp`: nothing happened, and the same request will never succeed. The message says what to change.
- :class:`FindOut`: the write may or may not have happened. The client resolves it by asking again with the same
  mutation number; one that reaches the caller means that it could not find out inside the deadline.

No error is ever turned into an empty answer.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of every error of the store."""


class TryAgain(StoreError):
    """Nothing happened; the same request may succeed later."""


class NotPrimary(TryAgain):
    """The node asked does not lead the tablet (any more, or not yet)."""


class WrongTablet(TryAgain):
    """The tablet id or its range version is not what the node has: the caller's tablet map is old."""


class Unavailable(TryAgain):
    """No node that may answer could be reached inside the deadline. Nothing happened."""


class NotEnoughReplicas(TryAgain):
    """The in-sync set is below `min_in_sync`; writes are refused until a replica is back."""


class NoSpace(TryAgain):
    """A replica's disk is nearly full; writes are refused, reads go on."""


class Overloaded(TryAgain):
    """A node has too many requests waiting and refused this one before looking at it."""


class GiveUp(StoreError):
    """Nothing happened, and the same request will not succeed."""


class BadRequest(GiveUp):
    """The request is malformed: the message says which argument and why."""


class ValueTooLarge(BadRequest):
    """A value over `MAX_VALUE` bytes, a key over `MAX_KEY` bytes, or a batch over `MAX_BATCH` bytes."""


class CrossTabletBatch(BadRequest):
    """The rows of one batch do not lie in one group, so they cannot be applied atomically."""


class AuthenticationFailed(GiveUp):
    """The other side does not hold the cluster key."""


class RequirementFailed(GiveUp):
    """A `require` of a batch did not hold; nothing of the batch was applied.

    `row` and `column` name the first requirement that failed.
    """

    def __init__(self, row: str = "", column: str = "") -> None:
        super().__init__(f"requirement on row {row!r}, column {column!r} does not hold")
        self.row = row
        self.column = column


class FindOut(StoreError):
    """The outcome is unknown."""


class OutcomeUnknown(FindOut):
    """The deadline passed after the write was sent: it may have happened. Reading tells."""


class StorageFailure(StoreError):
    """A node's own disk or log failed in a way that it must not go on after (see `kvstore.storage`)."""
