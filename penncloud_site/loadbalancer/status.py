"""What operators see of the balancer: JSON on a loopback port of its own, `GET /` and nothing else.

    {"frontends": [{"address": "127.0.0.1:7481", "state": "healthy" | "out" | "untried", "healthy": true,
                    "active": 0, "served": 12, "failures": 0}, …],
     "connections": 3, "in_hand": 0, "draining": false, "uptime": 61.2, "pid": 4711}

`active`: requests in hand. `served` and `failures` count since the balancer started. `uptime` is in seconds. Nothing
in it is secret, and it is served on 127.0.0.1 alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from gevent.pywsgi import WSGIServer

from .backends import Health
from .exchange import Balancer


def report(balancer: Balancer) -> dict[str, Any]:
    """The figures as they stand."""
    return {
        "frontends": [
            {
                "address": backend.name,
                "state": backend.health.value,
                "healthy": backend.health is Health.HEALTHY,
                "active": backend.active,
                "served": backend.served,
                "failures": backend.failures,
            }
            for backend in balancer.table.backends
        ],
        "connections": balancer.connections,
        "in_hand": balancer.in_hand,
        "draining": balancer.draining,
        "uptime": round(time.monotonic() - balancer.started, 1),
        "pid": os.getpid(),
    }


def status_server(balancer: Balancer, port: int) -> WSGIServer:
    """A server, not yet started, for the report on 127.0.0.1:`port`."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = environ["PATH_INFO"] == "/" and environ["REQUEST_METHOD"] in ("GET", "HEAD")
        body = json.dumps(report(balancer) if found else {"error": "only GET / is served here"}).encode()
        start_response("200 OK" if found else "404 Not Found", [("Content-Type", "application/json")])
        return [body]

    return WSGIServer(("127.0.0.1", port), application, log=None)
