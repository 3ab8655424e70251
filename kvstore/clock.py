"""The one clock.

`CLOCK_BOOTTIME` counts a suspended machine's time too. Only differences of one process's own readings are ever compared:
never two machines' clocks, never wall time (which users see, and which no decision rests on).
"""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since this machine booted, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
