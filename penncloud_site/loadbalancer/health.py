"""Asks every front end twice a second whether it is well, and lets requests wait for one that is.

A health check is a real request, `GET /healthz`, on a connection of its own: what it proves is that the front end
accepts connections and its loop turns. It says nothing of the store, on purpose: with the store away every front end
would be put out, and users would lose the pages that explain it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import gevent
from gevent.event import Event

from . import limits
from .backends import Backend, BackendTable, Health
from .connection import BackendConnection, BackendFailed, BackendPool
from .http1 import End, ResponseHead

log = logging.getLogger("penncloud.loadbalancer")

_PROBE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUser-Agent: PennCloud-health\r\nConnection: close\r\n\r\n"


def probe(backend: Backend) -> None:
    """One health check; returns if it was answered with 200 within PROBE_TIMEOUT.

    :raises OSError: the connection was refused or timed out.
    :raises BackendFailed: anything else was the answer, or none.
    """
    connection = BackendConnection(backend)
    try:
        connection.begin(expect_body=True)
        connection.send(_PROBE)
        event = connection.next_event(limits.PROBE_TIMEOUT)
        if not isinstance(event, ResponseHead):
            raise BackendFailed("no answer to the health check")
        if event.status != 200:
            raise BackendFailed(f"the health check was answered with {event.status}")
        while not isinstance(connection.next_event(limits.PROBE_TIMEOUT), End | None):
            pass
    finally:
        connection.close()


class HealthWatch:
    """One greenlet for each front end, and the event that waiting requests wait for."""

    def __init__(self, table: BackendTable, pool: BackendPool) -> None:
        self._table = table
        self._pool = pool
        self._some_healthy = Event()
        self._probe_now = {backend.name: Event() for backend in table.backends}
        self._greenlets = [gevent.spawn(self._watch, backend) for backend in table.backends]
        for greenlet in self._greenlets:
            greenlet.link_exception(self._die_loudly)

    @staticmethod
    def _die_loudly(greenlet: gevent.Greenlet) -> None:
        """Without its health checks the balancer would go on blindly: better to be restarted."""
        log.critical("the health checks died: %r", greenlet.exception)
        raise SystemExit(1)

    def choose(self, tried: Collection[Backend]) -> Backend | None:
        """A front end for a request that failed at `tried` already. Waits up to WAIT_FOR_HEALTHY for one; None: none.

        One that failed this request is not asked again at once, when there is no other: it gets PROBE_INTERVAL to be
        found out or to come back.
        """
        chosen = self._table.choose(without=tried)
        if chosen is None and tried:
            gevent.sleep(limits.PROBE_INTERVAL)
        if chosen is None:
            chosen = self._table.choose()
        if chosen is None and self._some_healthy.wait(limits.WAIT_FOR_HEALTHY):
            chosen = self._table.choose()
        return chosen

    def connection_failed(self, backend: Backend) -> None:
        """A request could not connect: the front end is out until a health check, made at once, says otherwise."""
        if self._table.connection_failed(backend):
            self._went_out(backend, "it refuses connections")
        self._probe_now[backend.name].set()

    def stop(self) -> None:
        gevent.killall(self._greenlets)

    def _watch(self, backend: Backend) -> None:
        while True:
            self._probe_now[backend.name].clear()
            self._probe(backend)
            self._probe_now[backend.name].wait(limits.PROBE_INTERVAL)

    def _probe(self, backend: Backend) -> None:
        try:
            probe(backend)
        except (OSError, BackendFailed) as error:
            refused = isinstance(error, ConnectionRefusedError)
            if self._table.probe_failed(backend, refused=refused):
                self._went_out(backend, str(error))
        else:
            if self._table.probe_succeeded(backend):
                log.info("%s is healthy", backend.name)
            self._some_healthy.set()

    def _went_out(self, backend: Backend, why: str) -> None:
        log.warning("%s is out: %s", backend.name, why)
        self._pool.forget(backend)
        if not any(other.health is Health.HEALTHY for other in self._table.backends):
            self._some_healthy.clear()
