"""The site's worker in a front end: removes the sessions and cache entries that have expired.

Every front end runs one; they need not know of each other, since each removal is conditional
(:func:`penncloud_site.sessions.clear_expired`). Under gevent a thread is a greenlet.
"""

from __future__ import annotations

import logging
import random
import threading

from kvstore.errors import StoreError
from penncloud_site import cache, sessions

log = logging.getLogger(__name__)

INTERVAL = 6 * 3600.0
"""Seconds between two rounds, more or less a third, so that front ends do not go in step."""


def start(interval: float = INTERVAL) -> threading.Thread:
    """Start the worker of this process and return its thread, which ends only with the process."""
    thread = threading.Thread(target=_run, args=(interval,), name="site-worker", daemon=True)
    thread.start()
    return thread


def clear_expired() -> None:
    """One round. A failure is logged: the next round comes all the same."""
    try:
        ended, dropped = sessions.clear_expired(), cache.clear_expired()
    except StoreError as error:
        log.warning("expired sessions could not be removed now: %s", error)
    except Exception:
        # One row that cannot be read must not stop the removing for ever, nor be passed over in silence.
        log.exception("removing expired sessions failed")
    else:
        log.info("removed %d expired sessions and %d expired cache entries", ended, dropped)


def _run(interval: float) -> None:
    pause = threading.Event()  # never set: a wait that lets other greenlets run
    while True:
        pause.wait(random.uniform(interval * 2 / 3, interval * 4 / 3))
        clear_expired()
