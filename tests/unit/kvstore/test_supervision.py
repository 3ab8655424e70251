"""A server dies loudly, and a paused one listens before it judges."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import gevent
import pytest
from gevent import socket

from kvstore.supervision import CRASHED, PauseMeter, spawn, tick_for_ever

ROOT = Path(__file__).parents[3]
PROLOGUE = "import gevent\nfrom kvstore.supervision import crash_on_error, spawn\ncrash_on_error()\n"


def run(program: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "spawn('worker', lambda: 1 / 0)\ngevent.sleep(5)",
        "gevent.spawn(lambda: 1 / 0)\ngevent.sleep(5)",
        "gevent.get_hub().loop.run_callback(lambda: 1 / 0)\ngevent.sleep(5)",
        "gevent.spawn_later(0.01, lambda: 1 / 0)\ngevent.sleep(5)",
    ],
    ids=["a named greenlet", "any greenlet", "a callback of the loop", "a timer"],
)
def test_an_exception_that_nobody_handles_ends_the_process_at_once(program: str) -> None:
    begun = time.monotonic()
    status, said = run(program)
    assert status == CRASHED
    assert "ZeroDivisionError" in said
    assert time.monotonic() - begun < 5


def test_a_greenlet_that_is_killed_in_order_ends_nothing() -> None:
    status, said = run("g = spawn('w', gevent.sleep, 60)\ngevent.sleep(0)\ng.kill()\nprint('on')")
    assert (status, said) == (0, "")


def test_after_a_pause_what_has_arrived_is_read_before_the_tick() -> None:
    """A tick that went first would take a peer for silent whose message lies unread in the socket."""
    ours, theirs = socket.socketpair()
    events: list[str] = []

    def read() -> None:
        while theirs.recv(100):
            events.append("message")

    meter = PauseMeter()
    reader = spawn("reader", read)
    ticker = spawn("ticker", tick_for_ever, 0.01, lambda now: events.append("tick"), meter)
    gevent.sleep(0.05)
    assert "tick" in events
    events.clear()
    ours.sendall(b"x")
    time.sleep(0.3)  # the process is paused: timer and socket are ready when it wakes
    gevent.sleep(0.1)
    assert events[0] == "message"
    assert "tick" in events
    assert meter.longest > 0.25
    assert meter.take_recent() > 0.25
    assert meter.take_recent() == 0.0
    ticker.kill()
    reader.kill()
    ours.close()
    theirs.close()
