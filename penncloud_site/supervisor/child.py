"""One process under the supervisor: its state, its start, its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from .data_folder import DataFolder
from .pidfile import read_pid_file, remove_pid_file
from .plan import ProcessSpec
from .restarts import Restarts

LAUNCH = Path(__file__).with_name("launch.py")
CODE = Path(__file__).resolve().parents[2]
"""Where the packages are: the working directory of every process, so that `python -m` finds them."""
LOG_SIZE = 16 * 1024 * 1024
"""Bytes at which a log file is set aside as `.1` (replacing the one before)."""


class State(Enum):
    """Where a process stands."""

    DOWN = "down"  # not running, and not to be started: not yet, or an operator stopped it
    STARTING = "starting"  # runs, does not serve yet
    READY = "ready"  # serves
    STOPPING = "stopping"  # was told to end
    WAITING = "waiting"  # died; is started again when its pause is over


class Child:
    """One process. Times are of the monotonic clock."""

    def __init__(self, spec: ProcessSpec, folder: DataFolder, environment: Mapping[str, str]) -> None:
        self.spec = spec
        self.state = State.DOWN
        self.restarts = Restarts()
        self.wanted = False
        """Whether it is to be started again when it ends."""
        self.due = 0.0
        """WAITING: when to start it. STOPPING: when to kill it."""
        self.since = time.monotonic()
        """When it was started, or ended."""
        self._folder = folder
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it; to be called by the supervisor's main thread alone (see `launch`)."""
        assert self._process is None, f"{self.name} runs already"
        log = os.open(self._folder.log_file(self.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(LAUNCH), str(os.getpid()), *self.spec.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=CODE,
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone, which knows the order
            )
        finally:
            os.close(log)
        self.wanted = True
        self.state = State.STARTING
        self.since = time.monotonic()

    def signal(self, number: int) -> None:
        """Send a signal, if it runs. Until `reap` saw its end, its process id cannot be another's."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self, timeout: float) -> None:
        """Ask it to end; after `timeout` seconds it is due to be killed."""
        self.due = time.monotonic() + timeout
        self.state = State.STOPPING if self._process is not None else State.DOWN
        self.signal(signal.SIGTERM)

    def is_ready(self) -> bool:
        """Whether it serves: each process writes its pid file once it listens. (To connect would prove less: another
        program may have the port.)"""
        return self._process is not None and read_pid_file(self._folder.pid_file(self.name)) == self._process.pid

    def reap(self) -> tuple[int, int] | None:
        """(process id, exit status) if it has ended since the last look, else None. A status below 0 is a signal's."""
        if self._process is None or (status := self._process.poll()) is None:
            return None
        pid, self._process = self._process.pid, None
        remove_pid_file(self._folder.pid_file(self.name), pid)
        return pid, status

    def last_words(self) -> str:
        """The last line of its log that is not blank, at most 300 characters; "" if there is none."""
        try:
            with self._folder.log_file(self.name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                lines = log.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def rotate_log(self) -> None:
        """Set a log that grew over LOG_SIZE aside. The process writes on at the new end: its file is open for appending.
        Lines written in between the copy and the cut are lost; a log is not data."""
        path = self._folder.log_file(self.name)
        if path.exists() and path.stat().st_size > LOG_SIZE:
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)


def describe(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return "ended" if status == 0 else f"ended with exit status {status}"
