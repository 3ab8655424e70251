"""What may be sent again after a front end failed. Pure.

The order of an exchange is connect, send, first byte of the answer, rest of the answer. How far it came decides:

- Before one byte of the request was sent: anything may be repeated, no front end knows of it.
- After that, before the client got a byte of the answer: GET, HEAD and OPTIONS, which change nothing; and a request
  with an `Idempotency-Key` header, whose sender promises that doing it twice is doing it once. Both only if we hold the
  whole body.
- After the client got a byte of the answer: nothing. (A download may be gone on with: see `resume`.)

A POST without a key whose bytes were sent may have been carried out, and is never repeated.
"""

from __future__ import annotations

from enum import IntEnum

from .http1 import RequestHead

HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
IDEMPOTENCY_KEY = b"idempotency-key"


class Stage(IntEnum):
    """How far an attempt had come."""

    NOTHING_SENT = 0
    SENT = 1  # at least one byte may have reached the front end
    ANSWERING = 2  # the client has seen a byte of the answer


def may_repeat(head: RequestHead, stage: Stage, *, body_held: bool) -> bool:
    """May the request go to another front end? `body_held`: we have the whole body (an empty one counts)."""
    if stage is Stage.ANSWERING:
        return False
    if stage is Stage.NOTHING_SENT:
        return True
    return body_held and is_harmless(head)


def is_harmless(head: RequestHead) -> bool:
    """Whether doing it twice is doing it once."""
    return head.method in HARMLESS or any(name.lower() == IDEMPOTENCY_KEY for name, _ in head.headers)
