"""The body of a large request on its way to a front end, beside the exchange that awaits the answer.

It runs as a greenlet of its own, because a front end may answer before it has read everything (a file too large, a
login that ran out), and because the answer must not wait for a send that waits for the answer. One piece is in hand at
a time: a front end that writes slowly to the store slows the client down.
"""

from __future__ import annotations

import gevent

from .connection import BackendConnection, BackendFailed, ClientConnection, ClientGone, ClientTooSlow
from .headers import LAST_CHUNK, chunk
from .http1 import End, Refused


class Upload:
    """Carries one request's body; `client_error` says afterwards what the client did wrong, if it did."""

    def __init__(self, client: ClientConnection, connection: BackendConnection, *, chunked: bool) -> None:
        self._client = client
        self._connection = connection
        self._chunked = chunked
        self.client_error: ClientGone | ClientTooSlow | Refused | None = None
        self.complete = False
        """Whether the whole body was read from the client and sent."""
        self._greenlet = gevent.spawn(self._carry)

    @property
    def running(self) -> bool:
        """Whether there may be more to come."""
        return not self._greenlet.dead

    def stop(self) -> None:
        """Stop, wherever it is; returns when it has."""
        self._greenlet.kill()

    def _carry(self) -> None:
        try:
            self.client_error = self._carry_all()
        except (ClientGone, ClientTooSlow) as error:
            self.client_error = error
        except BackendFailed:
            return  # the front end may have answered before it went: whoever reads the answer finds out
        if self.client_error is not None:
            # Cut the front end off, so that it sees a broken upload and not a quiet client.
            self._connection.abort()

    def _carry_all(self) -> Refused | None:
        while True:
            event = self._client.next_body_event()
            if isinstance(event, Refused):
                return event
            if isinstance(event, End):
                break
            self._connection.send(chunk(event.data) if self._chunked else event.data)
        if self._chunked:
            self._connection.send(LAST_CHUNK)
        self.complete = True
        return None
