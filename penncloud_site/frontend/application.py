"""The WSGI application of a front end: Django, with a thin layer before it.

- `/healthz` is answered with 503 once the process is stopping. Before that it is answered here too, without Django:
  it must work whatever host names the site is allowed to be called by, and while the store is away. It proves that the
  event loop turns.
- A body in chunks, with no announced length, is refused with 411: Django reads exactly Content-Length bytes and would
  take such a body for an empty one, which is worse than an error. Browsers never send one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApplication = Callable[[Environ, StartResponse], Iterable[bytes]]


class FrontendApplication:
    """Wraps `site`, the WSGI application of the site."""

    def __init__(self, site: WSGIApplication) -> None:
        self._site = site
        self.stopping = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/healthz":
            if self.stopping:
                return _plain(start_response, "503 Service Unavailable", b"stopping\n")
            return _plain(start_response, "200 OK", b"ok\n")
        if environ.get("HTTP_TRANSFER_ENCODING"):
            return _plain(start_response, "411 Length Required", b"The length of the body must be given.\n")
        return self._site(environ, start_response)


def _plain(start_response: StartResponse, status: str, text: bytes) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]
