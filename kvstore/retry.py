"""What a client does after an attempt that brought no result: go on, wait, or give up, and with which error.

Pure: no socket, no clock; the client and the simulator drive it alike. The three outcomes of a write are kept apart
throughout: *done*, *refused* (nothing happened), *unknown*. Once one attempt of a write is unknown, no later refusal makes
it known again, since the earlier attempt may still be on its way: only an answer to the same number does.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvstore import errors, settings
from kvstore.messages import Refused

_GROWTH = 2.0

ERRORS: dict[str, type[errors.StoreError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.StoreError) and kind is not errors.RequirementFailed
}
"""What the `error` of a `Refused` may say. (`RequirementFailed` is a result, and comes as `Written`.)"""


@dataclass(slots=True, frozen=True)
class NoAnswer:
    """The request was sent, or may have been, and no answer will come: the connection broke, or it took too long."""

    reason: str


@dataclass(slots=True, frozen=True)
class NotSent:
    """The request never left: nothing happened."""

    reason: str


class Effort:
    """One request over all its attempts."""

    __slots__ = ("_last", "_pause", "_unknown", "_write")

    def __init__(self, *, write: bool) -> None:
        self._write = write
        self._unknown = False
        self._pause = settings.RETRY_PAUSE
        self._last: errors.StoreError = errors.Unavailable("the deadline had passed before the first attempt")

    @property
    def unknown(self) -> bool:
        """Whether an attempt of this write may have happened."""
        return self._unknown

    def failed(self, answer: Refused | NoAnswer | NotSent, *, learned: bool) -> float:
        """Take in the end of an attempt: how many seconds to wait before the next (at most: a newer map ends the wait).

        `learned`: whether the answer brought a newer configuration of the tablet; then the wait is 0. Raises the error
        when the same request can never succeed.
        """
        if isinstance(answer, NoAnswer):
            self._unknown |= self._write
            self._last = errors.Unavailable(answer.reason)
        elif isinstance(answer, NotSent):
            self._last = errors.Unavailable(answer.reason)
        else:
            self._refused(answer)
        if learned:
            self._pause = settings.RETRY_PAUSE
            return 0.0
        pause = self._pause
        self._pause = min(settings.RETRY_PAUSE_MOST, pause * _GROWTH)
        return pause

    def _refused(self, refusal: Refused) -> None:
        kind = ERRORS.get(refusal.error)
        if kind is None:
            raise errors.BadRequest(f"a node refused with an error that is not known here: {refusal.error}")
        error = kind(refusal.message)
        if isinstance(error, errors.FindOut):
            self._unknown |= self._write
        elif not isinstance(error, errors.TryAgain):
            raise error
        self._last = error

    def map_changed(self) -> None:
        """The tablet's configuration is another one now: begin again with short pauses."""
        self._pause = settings.RETRY_PAUSE

    def given_up(self) -> errors.StoreError:
        """The error for the caller when the deadline has come."""
        if self._unknown:
            return errors.OutcomeUnknown(f"the write may or may not have happened; last heard: {self._last}")
        if isinstance(self._last, errors.NotPrimary | errors.WrongTablet):
            return errors.Unavailable(f"no primary was found inside the deadline; last heard: {self._last}")
        return self._last
