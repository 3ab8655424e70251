"""How fast one node copies what it lacks: not as fast as it can, since its disk and that of the primaries serve clients too.

A bucket of tokens, one for each byte: it fills with `COPY_RATE` and holds `COPY_BURST`. Whoever copies asks whether there is
anything in it, and tells afterwards how much came: nobody knows the size of a value that was not sent yet.
"""

from __future__ import annotations

from kvstore import settings

COPY_RATE = 64 * settings.MIB
"""Bytes of values a second, of all tablets that a node learns."""
COPY_BURST = 4 * settings.MIB


class Pace:
    """The bucket of one node."""

    def __init__(self) -> None:
        self._room = float(COPY_BURST)
        self._filled_at = 0.0

    def allows(self, now: float) -> bool:
        """Whether more may be asked for at this moment."""
        self._room = min(COPY_BURST, self._room + (now - self._filled_at) * COPY_RATE)
        self._filled_at = now
        return self._room > 0

    def took(self, size: int) -> None:
        """So many bytes came."""
        self._room -= size
