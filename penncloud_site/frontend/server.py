"""Starting and stopping of a front end. Everything here runs after gevent's patching.

SIGTERM and SIGINT stop it gracefully: nothing new is accepted (the balancer sees refused connections, puts this front
end out and closes its idle connections), requests in hand get STOP_TIMEOUT, the workers of mail and drive end after
the step they are in. What is cut off after that is repeated: every step of a worker is idempotent.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import signal
import socket
import sys
from pathlib import Path

import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIHandler, WSGIServer

from kvstore.memory import keep_freed_memory
from penncloud_site.supervisor.addresses import port
from penncloud_site.supervisor.pidfile import write_pid_file

from .application import FrontendApplication

log = logging.getLogger("penncloud.frontend")
access_log = logging.getLogger("penncloud.access")

STOP_TIMEOUT = 1.5
"""Seconds that requests in hand get at a stop."""

BACKLOG = 1024

WORKERS = ("mail.workers", "drive.workers", "penncloud_site.workers")
"""Modules with `start()`, which spawns greenlets that carry out what waits in an outbox, and returns."""


class Handler(WSGIHandler):
    """pywsgi's, with an access line that leaves out the query: it may hold what somebody searched for."""

    def format_request(self) -> str:
        took = f"{(self.time_finish - self.time_start) * 1000:.0f}ms" if self.time_finish else "-"
        visitor = self.environ.get("HTTP_X_FORWARDED_FOR", "-") if self.environ else "-"
        request = " ".join((self.requestline or "").split("?", 1)[0].split()[:2])
        return f'{visitor} "{request}" {(self._orig_status or "000").split()[0]} {self.response_length} {took}'

    def log_request(self) -> None:
        if self.environ and self.environ.get("PATH_INFO") == "/healthz":
            return  # twice a second from each balancer
        access_log.info(self.format_request())


def parsed(argv: list[str]) -> argparse.Namespace:
    """The options; argparse ends the process with a sentence when they are wrong."""
    parser = argparse.ArgumentParser(prog="manage.py frontend", description="Runs one front end in the foreground.")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, required=True, help="port to listen on")
    parser.add_argument("--pid-file", type=Path, help="write the process id there")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Serve until told to stop. The exit status: 0 after a stop, 1 if it cannot start."""
    options = parsed(argv)
    keep_freed_memory()  # files are streamed through here in values of 4 MiB
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    from penncloud_site.wsgi import application as site  # Django starts here

    application = FrontendApplication(site)
    try:
        listener = _listener(options.bind, options.port)
    except OSError as error:
        print(f"Cannot listen on {options.bind}:{options.port}: {error.strerror}.", file=sys.stderr)
        return 1
    server = WSGIServer(listener, application, handler_class=Handler, log=None, error_log=log)
    server.start()
    start_workers()
    if options.pid_file:
        write_pid_file(options.pid_file)
    log.info("listening on %s:%d", options.bind, options.port)
    stop.wait()
    log.info("stopping")
    application.stopping = True
    server.stop(timeout=STOP_TIMEOUT)
    return 0


def _listener(bind: str, number: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((bind, number))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def start_workers() -> None:
    """Start the outbox workers of every product that has some."""
    for name in WORKERS:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name).start()
