"""The greenlet of a front end that finishes what others left in the outbox.

Every front end runs one; they need not know of each other (`mail.delivery`). Under gevent a thread is a greenlet, so plain
`threading` is used and the same code runs in a plain process.
"""

from __future__ import annotations

import logging
import random
import threading

from kvstore.errors import StoreError
from mail.delivery import sweep
from penncloud_site.storage import store

EVERY = 10.0
"""Seconds between two sweeps of one front end, give or take a third so that front ends do not march in step."""

logger = logging.getLogger(__name__)


class Sweeper:
    """Sweeps again and again until stopped. A sweep that fails is logged; the next one comes all the same."""

    def __init__(self, every: float = EVERY) -> None:
        """`every`: seconds between two sweeps."""
        self.every = every
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail-sweeper", daemon=True)

    def start(self) -> None:
        """Begin. Returns at once."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Sweep no more; waits at most `timeout` seconds for a sweep under way. What it leaves, another finishes."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.wait(self.every * random.uniform(2 / 3, 4 / 3)):
            try:
                sweep(store())
            except StoreError as error:
                logger.warning("the outbox could not be swept: %s", error)
            except Exception:  # the loop's last line of defence: one odd record must not end all deliveries for good
                logger.exception("a sweep of the outbox failed; the next one is tried")


def start() -> Sweeper:
    """Start this process's sweeper. The front end calls it once, before it serves; the result can be stopped."""
    sweeper = Sweeper()
    sweeper.start()
    return sweeper
