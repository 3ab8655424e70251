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
    # another thread may be importing gevent at this moment: what has no `get_original` yet has patched nothing yet
    get_original = getattr(sys.modules.get("gevent.monkey"), "get_original", None)
    if get_original is not None:
        lock: LockType = get_original("_thread", "allocate_lock")()
        return lock
    return _thread.allocate_lock()
