"""A process's memory: how much there is, and how large values come by it."""

from __future__ import annotations

import ctypes
import os

from kvstore import settings

KEPT = 96 * settings.MIB
"""Freed memory that a process keeps for large values, in bytes."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc's allocator keep some of what was freed (`KEPT` bytes) and serve large values from it.

    By itself it asks the system for every block of some size and gives it back at once, and each 4 MiB value then costs a
    thousand page faults: as much as all copying of it. Other allocators are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * settings.MIB)
    mallopt(_M_TRIM_THRESHOLD, KEPT)


def resident_bytes() -> int:
    """This process's memory, in bytes."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
