"""What keeps a server process honest: greenlets that die loudly, a meter of the loop's pauses, a pid file.

An exception that nobody handles, in a greenlet or in a callback of the loop, ends the process at once with status 70 and
its traceback on standard error. A server that has lost one of its greenlets would look alive and not be: it is better
dead, seen to be dead, and started again.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent

from kvstore import clock

CRASHED = 70
"""Exit status after an unexpected exception (EX_SOFTWARE of sysexits.h)."""
_LATE = 0.1


def say(sentence: str) -> None:
    """One line on standard error, for whoever starts the process."""
    print(sentence, file=sys.stderr, flush=True)


def note(sentence: str) -> None:
    """One line on standard error with the time of day, for whoever reads the running process's log."""
    say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}")


def die(reason: str) -> None:
    """End the process now, without cleaning up: what is on disk is what a crash would leave, and that is provided for."""
    note(reason)
    os._exit(CRASHED)


def crash_on_error() -> None:
    """From here on, an exception that ends a greenlet or a callback of this thread's loop ends the process."""

    def handle_error(context: Any, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None and issubclass(kind, gevent.GreenletExit):
            return
        text = "".join(traceback.format_exception(kind, value, trace))
        die(f"unexpected error in {context!r}\n{text}")

    gevent.get_hub().handle_error = handle_error


def spawn(name: str, function: Callable[..., None], *arguments: Any) -> gevent.Greenlet:
    """Start a greenlet that bears `name`. `crash_on_error` must have been called: what it does not catch is fatal."""
    greenlet = gevent.Greenlet(function, *arguments)
    greenlet.name = name
    greenlet.start()
    return greenlet


class PauseMeter:
    """How long the loop was kept from going round, at worst.

    A slice of Python that goes on for long delays heartbeats and beacons; the longest shows here.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds, since the process began."""
        self._recent = 0.0

    def late(self, seconds: float) -> None:
        """A timer of the loop came so much later than it was due."""
        self._recent = max(self._recent, seconds)
        self.longest = max(self.longest, seconds)

    def take_recent(self) -> float:
        """The longest pause in seconds since this was last asked."""
        recent, self._recent = self._recent, 0.0
        return recent


def tick_for_ever(interval: float, tick: Callable[[float], None], meter: PauseMeter | None = None) -> None:
    """Call `tick(now)` every `interval` seconds, never before what has already arrived was dealt with.

    After a pause of the whole process the timer and the sockets are ready together. A tick that went first would take
    everybody for silent whose messages lie unread: so a late one lets the readers run, and comes a turn later.
    """
    while True:
        late = _LATE + 1.0
        while late > _LATE:
            due = clock.now() + interval
            gevent.sleep(interval)
            now = clock.now()
            late = now - due
            if meter is not None:
                meter.late(late)
        tick(now)


def write_pid_file(path: str | os.PathLike[str]) -> None:
    """Write this process's id into `path` (its folder is made), and remove the file when the process ends in order."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(f"{os.getpid()}\n")
    temporary.replace(file)  # whoever reads it never sees half a number
    atexit.register(_remove_pid_file, file, os.getpid())


def _remove_pid_file(file: Path, pid: int) -> None:
    try:
        if file.read_text().strip() == str(pid):
            file.unlink()
    except OSError:
        pass
