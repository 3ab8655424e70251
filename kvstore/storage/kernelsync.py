"""fdatasync carried out by the kernel while the process goes on: Linux's native asynchronous I/O, for syncs alone.

`os.fdatasync` holds whoever calls it: the event loop, or a thread that must then get the interpreter back. The kernel can do
the same in a worker of its own (io_submit with IOCB_CMD_FDSYNC, Linux 4.18) and signal an eventfd, which an event loop watches
like a socket. Or one waits for a moment first: most syncs take a tenth of a millisecond, less than a turn of the loop. Nothing
but syncs goes this way; writes stay ordinary ones into the page cache.

The structures are those of <linux/aio_abi.h>, the numbers those of x86-64 and of the generic table that arm64 uses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from typing import NamedTuple


class _Numbers(NamedTuple):
    setup: int
    destroy: int
    getevents: int
    submit: int


_NUMBERS = {"x86_64": _Numbers(206, 207, 208, 209), "aarch64": _Numbers(0, 1, 4, 2)}
_FDSYNC = 3
_FLAG_EVENTFD = 1


class _Request(ctypes.Structure):
    """struct iocb."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Time(ctypes.Structure):
    """struct timespec."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Event(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


assert ctypes.sizeof(_Request) == 64
assert ctypes.sizeof(_Event) == 32
assert sys.byteorder == "little", "the kernel's structure has key and flags the other way round on big-endian machines"


class KernelSync:
    """One sync at a time. `eventfd` becomes readable when it is done."""

    def __init__(self) -> None:
        """`OSError` where the kernel does not offer this."""
        numbers = _NUMBERS.get(platform.machine())
        if numbers is None or not sys.platform.startswith("linux"):
            raise OSError("no asynchronous sync is known for this system")
        self._numbers = numbers
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._context = ctypes.c_ulong(0)
        self._call(numbers.setup, 1, ctypes.byref(self._context))
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._request = _Request(opcode=_FDSYNC, flags=_FLAG_EVENTFD, eventfd=self.eventfd)
        self._requests = (ctypes.POINTER(_Request) * 1)(ctypes.pointer(self._request))
        self._events = (_Event * 1)()
        self._busy = False
        # made once: to turn numbers into C's costs as much as the calls
        self._to_submit = (ctypes.c_long(numbers.submit), self._context, ctypes.c_long(1), self._requests)
        self._limit = _Time()
        one = ctypes.c_long(1)
        limit = ctypes.byref(self._limit)
        self._to_wait = (ctypes.c_long(numbers.getevents), self._context, one, one, self._events, limit)

    def _call(self, *arguments: object) -> int:
        found = self._libc.syscall(*arguments)
        if found < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return int(found)

    def begin(self, fd: int) -> None:
        """Begin an fdatasync of `fd`. `OSError` if the kernel does not take it."""
        assert not self._busy, "one sync at a time"
        self._request.fd = fd
        self._call(*self._to_submit)
        self._busy = True

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for the sync begun last; whether it is known to be done. `OSError` if it failed."""
        assert self._busy
        if not self._ended(seconds):
            # The signal may be that of a sync before this one: whoever does not wait for a signal leaves it, and the kernel
            # shows that a sync is done a moment before it signals. It is taken away, or whoever waits for it now would be
            # called at once, again and again; then one more look.
            self._take_signal()
            if not self._ended(0.0):
                return False
        self._busy = False
        result = self._events[0].result
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return True

    def _ended(self, seconds: float) -> bool:
        self._limit.seconds = whole = int(seconds)
        self._limit.nanoseconds = int((seconds - whole) * 1e9)
        try:
            return self._call(*self._to_wait) > 0
        except InterruptedError:
            # The process was stopped and goes on, or somebody traces it. That says nothing about the sync: taken for a
            # failure of the disk, it would end every node of a machine that was suspended.
            return False

    def _take_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.eventfd)

    def close(self) -> None:
        """Give it back. Waits for a sync under way."""
        self._call(self._numbers.destroy, self._context)
        os.close(self.eventfd)
