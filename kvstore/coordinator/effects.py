"""What a `Coordinator` wants done, in order."""

from __future__ import annotations

from dataclasses import dataclass

Connection = object
"""Names a node's connection: chosen by the driver, never looked into."""


@dataclass(slots=True)
class Journal:
    """Append `record` (plain msgpack data) to the journal. It must be durable before any later effect is carried out."""

    record: dict[str, object]


@dataclass(slots=True)
class SendNode:
    """Send `message` on `connection`, if it still stands."""

    connection: Connection
    message: object


@dataclass(slots=True)
class Reply:
    """Answer the request `token`."""

    token: object
    message: object


Effect = Journal | SendNode | Reply
