"""The balancer as a process: accepts clients, serves them until they go, stops without dropping anybody.

SIGTERM and SIGINT drain it: nothing new is accepted, idle connections close, requests in hand get DRAIN_TIMEOUT.
Exit status 0 after a drain, 1 when a port cannot be had.
"""

from __future__ import annotations

import logging
import signal
import time
from dataclasses import dataclass

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer

from . import limits, pages
from .backends import BackendTable
from .connection import BackendPool, ClientConnection, ClientGone, ClientTooSlow
from .exchange import Balancer, Exchange
from .health import HealthWatch
from .http1 import Refused
from .status import status_server

log = logging.getLogger("penncloud.loadbalancer")
access_log = logging.getLogger("penncloud.access")


@dataclass(frozen=True)
class Options:
    """How a balancer is started."""

    bind: str
    port: int
    frontends: tuple[tuple[str, int], ...]
    status_port: int | None = None


class CannotListen(Exception):
    """A port is taken or may not be used; the text is a sentence for the operator."""


class Server:
    """All of a balancer but its options."""

    def __init__(self, options: Options) -> None:
        table = BackendTable.of(options.frontends)
        pool = BackendPool()
        self.balancer = Balancer(table, pool, HealthWatch(table, pool))
        self._options = options
        self._idle: set[ClientConnection] = set()
        self._stop = Event()
        self._clients = Pool(limits.MAX_CLIENT_CONNECTIONS)
        self._listener = StreamServer((options.bind, options.port), self._serve, spawn=self._clients, backlog=1024)
        self._status = status_server(self.balancer, options.status_port) if options.status_port else None

    def listen(self) -> None:
        """Take the ports, and serve from here on.

        :raises CannotListen: one of them cannot be had.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._stop.set)
        try:
            self._listener.start()
        except OSError as error:
            raise CannotListen(f"Cannot listen on {self._options.bind}:{self._options.port}: {error}.") from error
        if self._status is not None:
            try:
                self._status.start()
            except OSError as error:
                raise CannotListen(f"Cannot listen on 127.0.0.1:{self._options.status_port}: {error}.") from error
        log.info("listening on %s:%d", self._options.bind, self._options.port)

    def run(self) -> None:
        """Serve until a signal says stop, then drain."""
        self._stop.wait()
        self._drain()

    def _drain(self) -> None:
        log.info("stopping: %d requests in hand", self.balancer.in_hand)
        self.balancer.draining = True
        self._listener.close()
        for client in list(self._idle):
            client.close()
        self._clients.join(timeout=limits.DRAIN_TIMEOUT)
        self._clients.kill(timeout=0.2)
        self.balancer.watch.stop()

    def _serve(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """One client's connection, from its first request to its last."""
        client = ClientConnection(sock, address[0])
        self.balancer.connections += 1
        try:
            while self._serve_one(client):
                pass
        except ClientGone:
            pass
        finally:
            self.balancer.connections -= 1
            client.close()

    def _serve_one(self, client: ClientConnection) -> bool:
        """The next request of the connection; whether another one may follow."""
        self._idle.add(client)
        try:
            request = client.next_request()
        except ClientTooSlow:
            request = Refused(408, "The request did not arrive in time.")
        finally:
            self._idle.discard(client)
        if request is None:
            return False
        if isinstance(request, Refused):
            access_log.info('%s "-" %d 0 0ms - %s', client.address, request.status, request.reason)
            client.send(pages.response(pages.refusal(request.status, request.reason), method=None, keep_alive=False))
            client.close_after_answer()
            return False
        exchange = Exchange(self.balancer, client, request)
        self.balancer.in_hand += 1
        begun = time.monotonic()
        try:
            return exchange.run() and not self.balancer.draining
        finally:
            self.balancer.in_hand -= 1
            access_log.info(exchange.log_line(time.monotonic() - begun))
