"""Real processes for tests: start, await, find a free port, end. Nothing here sleeps where it can look.

Ports are taken below the range from which the system picks those of outgoing connections: one of these could take a port
in the moment in which the process that it was found for restarts.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent
FIRST_PORT, LAST_PORT = 12_000, 32_000
BLOCK = 100

Answer = TypeVar("Answer")


def wait_for(condition: Callable[[], Answer], what: str, timeout: float = 30.0) -> Answer:
    """What `condition` returns once that is true; fails, naming `what`, if it is not so within `timeout` seconds.
    An `OSError` of the condition counts as not yet."""
    deadline = time.monotonic() + timeout
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = answer = condition()
        except OSError as error:
            last = error
        else:
            if answer:
                return answer
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {timeout:g} s; the last look gave {last!r}")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port_block(size: int = BLOCK) -> int:
    """The first of `size` ports in a row that are free, at a random place: test runs side by side do not meet."""
    for _ in range(100):
        first = random.randrange(FIRST_PORT, LAST_PORT - size)
        if all(port_is_free(port) for port in range(first, first + size)):
            return first
    raise AssertionError("there is no block of free ports")


def accepts(port: int) -> bool:
    """Whether something listens on 127.0.0.1:`port`."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def is_alive(pid: int) -> bool:
    """Whether the process runs (one that ended and was not reaped yet does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def start(
    *arguments: object, log: Path, env: dict[str, str] | None = None, before: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """This Python with `arguments`, in the repository, its output appended to `log`, in a session of its own.

    `before`: a command that becomes the one that is written after it, in the same process, as `env` and `nice` do."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [*before, sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, timeout: float = 10.0) -> int:
    """Send the signal and wait for the end, killing it when it takes too long; the exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextmanager
def running(*arguments: object, log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """As `start`; ended when the block is left."""
    process = start(*arguments, log=log, env=env)
    try:
        yield process
    finally:
        end(process)
