"""The drive's worker in a front end: one thread (a greenlet, where gevent patched threads) that collects.

Every front end runs one; they need not know of each other (`collect`).
"""

from __future__ import annotations

import logging
import random
import threading

from drive.collect import Collector
from kvstore.client import Client
from kvstore.errors import StoreError
from penncloud_site.storage import store

log = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between two rounds, more or less a third, so that front ends do not go in step."""

_wake = threading.Event()


def nudge() -> None:
    """There is something to collect: begin the next round now. Only a hint, to this process's worker."""
    _wake.set()


def start() -> threading.Thread:
    """Start the worker of this process and return its thread, which ends only with the process."""
    thread = threading.Thread(target=_run, name="drive-worker", daemon=True)
    thread.start()
    return thread


def _run() -> None:
    collector: Collector | None = None
    while True:
        try:
            client: Client = store()
            collector = collector if collector and collector.store is client else Collector(client)
            collector.run_once()
        except StoreError as error:
            log.warning("the drive's worker could not reach the store and will try again: %r", error)
        except Exception:
            # One row that cannot be read must not stop collecting for ever, nor be passed over in silence.
            log.exception("the drive's worker failed and will try again")
        _wake.wait(random.uniform(INTERVAL * 2 / 3, INTERVAL * 4 / 3))
        _wake.clear()
