"""Every size and time limit of the load balancer. Sizes in bytes, times in seconds."""

from __future__ import annotations

MAX_HEAD = 32 * 1024
"""Request line and headers together; more is answered with 431."""

MAX_TARGET = 8000
"""The request target (path and query) alone; more is answered with 414. pywsgi takes a request line of 8,192."""

MAX_HEADERS = 90
"""Header lines of one request; more is answered with 431. pywsgi takes 100, and we add some."""

MAX_CHUNK_OVERHEAD = 16 * 1024
"""Bytes of a chunked body (extensions, trailers) that may arrive in a row without one byte of content."""

MAX_RESPONSE_HEAD = 64 * 1024
"""Status line and headers that a front end may send."""

RECEIVE_SIZE = 128 * 1024
"""The most that is read from a socket at a time: with one such piece on its way in each direction, this bounds what
an exchange holds in memory beside BUFFERED_BODY."""

BUFFERED_BODY = 256 * 1024
"""A request or an answer whose announced length is at most this is read to its end before it is passed on. So a
small form that breaks off never reaches a front end, and an answer that breaks off can be asked for again."""

MAX_CLIENT_CONNECTIONS = 4096
"""Connections of clients served at a time; the next ones wait in the kernel's queue."""

MAX_IDLE_PER_BACKEND = 64
"""Idle connections kept open to each front end."""

HEAD_TIMEOUT = 10.0
"""From the first byte of a request until its head is complete; then 408."""

KEEP_ALIVE_TIMEOUT = 75.0
"""How long a client's connection may idle between two requests."""

BODY_IDLE_TIMEOUT = 60.0
"""The longest pause inside a request's body; then 408."""

SEND_TIMEOUT = 120.0
"""How long one piece (at most RECEIVE_SIZE) may take to be taken by the other side."""

CONNECT_TIMEOUT = 2.0
"""For a TCP connection to a front end."""

RESPONSE_TIMEOUT = 90.0
"""From the last byte of a request until the head of the answer, and between two pieces of its body; then 504."""

HEALTH_GLANCE = 0.5
"""While an answer is awaited, how often we look whether its front end still counts as healthy."""

PROBE_INTERVAL = 0.5
"""Between two health checks of a front end."""

PROBE_TIMEOUT = 1.0
"""For one health check. A front end may be busy with a password hash or a long page: not every delay is a death."""

PROBE_FAILURES = 3
"""So many failed health checks in a row put a front end out (a refused connection does at once)."""

WAIT_FOR_HEALTHY = 6.0
"""How long a request waits for any front end to become healthy before it is answered with 503."""

MAX_ATTEMPTS = 4
"""How often one request is tried in all."""

LINGER_TIMEOUT = 5.0
"""After an answer given before the request's body was read: how long the rest of the body is read and dropped, so
that the client sees the answer and not a reset connection."""

DRAIN_TIMEOUT = 1.5
"""On SIGTERM: how long requests in hand may take to finish."""

assert HEALTH_GLANCE < RESPONSE_TIMEOUT
assert PROBE_INTERVAL < WAIT_FOR_HEALTHY, "a waiting request must live to see the next health check"
assert BUFFERED_BODY >= RECEIVE_SIZE
