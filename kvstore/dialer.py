"""An outgoing connection that is there again after every break.

Node to peer, node to coordinator: one connection each, dialled by the one who sends, again and again with pauses that grow
to a bound. What is sent while it is down is dropped: the state machines above repeat what still matters when they are told
that it is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gevent

from kvstore import settings
from kvstore.codec import Malformed
from kvstore.errors import AuthenticationFailed, BadRequest
from kvstore.greenlets import Channel, dial
from kvstore.handshake import Role
from kvstore.mutation import Buffer

_PAUSE_LEAST = 0.02
_PAUSE_MOST = 0.25


class Dialer:
    """Keeps one connection to one other server, whose address may change."""

    def __init__(
        self,
        key: bytes,
        name: str,
        expected: str | None,
        *,
        on_up: Callable[[Channel], None],
        on_down: Callable[[], None],
        on_frames: Callable[[list[tuple[list[Any], bytes]]], None],
        report: Callable[[str], None],
    ) -> None:
        """`name` is ours, `expected` the name that the other must prove (None: any).

        `on_frames` is called with what was read, `on_up` and `on_down` by turns. `report(sentence)` is told once of each
        new reason why it cannot be reached.
        """
        self._key = key
        self._name = name
        self._expected = expected
        self._on_up = on_up
        self._on_down = on_down
        self._on_frames = on_frames
        self._report = report
        self._addresses: list[tuple[str, int]] = []
        self._channel: Channel | None = None
        self._stopped = False

    @property
    def up(self) -> bool:
        """Whether the connection stands."""
        return self._channel is not None and not self._channel.closed

    def aim(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Where the other listens: tried in turn. A standing connection to another place is closed."""
        if list(addresses) != self._addresses:
            self._addresses = list(addresses)
            self.drop()

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send a frame; it is dropped while the connection is down."""
        if self._channel is not None:
            self._channel.send(parts)

    def drop(self) -> None:
        """Close the connection, if there is one; it is dialled anew."""
        if self._channel is not None:
            self._channel.close()

    def stop(self) -> None:
        """Close the connection for good."""
        self._stopped = True
        self.drop()

    def run(self) -> None:
        """Dial, read, and dial again, until `stop`."""
        pause, turn, reported = _PAUSE_LEAST, 0, ""
        while not self._stopped:
            if not self._addresses:
                gevent.sleep(_PAUSE_LEAST)
                continue
            address = self._addresses[turn % len(self._addresses)]
            turn += 1
            try:
                channel = dial(address, self._key, Role.NODE, self._name, self._expected, settings.MAX_PEER_UNSENT)
            except (OSError, BadRequest, AuthenticationFailed) as error:
                if str(error) != reported:
                    reported = str(error)
                    self._report(f"{self._expected or 'coordinator'} at {address[0]}:{address[1]}: {error}")
                gevent.sleep(pause)
                pause = min(_PAUSE_MOST, pause * 2)
                continue
            pause, reported = _PAUSE_LEAST, ""
            turn -= 1  # what answered is tried first the next time
            self._use(channel)
            gevent.sleep(_PAUSE_LEAST)  # one that accepts and hangs up at once must not keep us busy

    def _use(self, channel: Channel) -> None:
        if self._stopped:
            channel.close()
            return
        self._channel = channel
        self._on_up(channel)
        try:
            while True:
                self._on_frames(channel.read())
        except (EOFError, OSError):
            pass
        except Malformed as error:
            self._report(f"{channel.partner.name}: {error}")
        finally:
            channel.close()
            self._channel = None
            self._on_down()
