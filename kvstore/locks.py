"""The interpreter's own lock, for sections of a few steps in which nobody waits for anything.

In a process that gevent has patched, `threading.Lock` is gevent's: made to let other greenlets run while one waits, and many
times as dear. A section that cannot switch greenlets needs no such thing, only what keeps plain threads apart.
"""

from __future__ import annotations

import _thread
import sys
from _thread import LockType


def native_lock() -> LockType:
    """A lock of the interpreter itself, patched or not. Never wait for anything while you hold it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        lock: LockType = monkey.get_original("_thread", "allocate_lock")()
        return lock
    return _thread.allocate_lock()
