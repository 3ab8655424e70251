"""Tells the coordinator that a storage node's process is gone, so that nobody waits for its lease to run out.

From a thread: the coordinator may be away, or be dying itself, and the supervisor's loop waits for nobody. It is a
kindness, not a need: after a few seconds of trying it is left to the missing heartbeats.
"""

from __future__ import annotations

import logging
import threading
import time

from kvstore.admin import Admin
from kvstore.errors import StoreError

log = logging.getLogger("penncloud.supervisor")

TRY_FOR = 3.0
"""Seconds; by then the coordinator has missed the node's heartbeats anyway."""
PAUSE = 0.1


def tell_coordinator(coordinators: str, key_file: str, node: str, pid: int) -> None:
    """Say that process `pid`, which was node `node`, is gone. Returns at once."""
    threading.Thread(target=_tell, args=(coordinators, key_file, node, pid), name="notice", daemon=True).start()


def _tell(coordinators: str, key_file: str, node: str, pid: int) -> None:
    deadline = time.monotonic() + TRY_FOR
    while True:
        try:
            admin = Admin.connect(coordinators, key_file, timeout=1.0)
            try:
                admin.process_exited(node, pid)
            finally:
                admin.close()
            return
        except (StoreError, OSError) as error:
            if time.monotonic() > deadline:
                log.info("the coordinator was not told that %s is gone: %s", node, error)
                return
        time.sleep(PAUSE)
