"""What visitors see when something went wrong: what happened, what is safe, and what to do.

None of these pages reads the store or the session: both may be what failed.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from kvstore.errors import FindOut, NoSpace, StoreError, TryAgain

log = logging.getLogger(__name__)

RETRY_SECONDS = 2
LARGEST_KEPT_FORM = 2**20  # bytes of a form that the page offers to send again


def _page(template: str, status: int, context: dict[str, Any] | None = None) -> HttpResponse:
    return HttpResponse(render_to_string(f"errors/{template}.html", context), status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: the request made no sense, or its session was ended while it ran."""
    return _page("400", 400, {"logged_out": isinstance(exception, SessionInterrupted)})


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403."""
    return _page("403", 403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: there is no such page, or none that this visitor may know of."""
    return _page("404", 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """500; if it was the store that failed outside of a view, the page for that."""
    error = sys.exc_info()[1]
    if isinstance(error, StoreError):
        return store_failure(request, error)
    return _page("500", 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: the form's token was not that of this browser."""
    log.warning("CSRF check failed for %s: %s", request.path, reason)
    response = _page("csrf", 403, {"form": _kept_form(request)})
    if request.headers.get("HX-Request") == "true":
        _say(response, "This page is too old to be used. Copy what you typed, then reload it.")
    return response


def locked_out(request: HttpRequest, response: Any = None, credentials: Any = None) -> HttpResponse:
    """429: too many wrong passwords."""
    return _page("locked_out", 429)


def store_failure(request: HttpRequest, error: Exception) -> HttpResponse:
    """503 for a store that is failing over: the page waits and goes on by itself.

    A GET is repeated by the page. A form is kept in the page, to be sent again by the visitor: after `FindOut` it may
    have been carried out already, and the page says so.
    """
    if not isinstance(error, TryAgain | FindOut):
        log.error("the store failed at %s %s", request.method, request.path, exc_info=error)
        return _page("500", 500)
    log.warning("the store did not answer %s %s: %s: %s", request.method, request.path, type(error).__name__, error)
    safe = request.method in ("GET", "HEAD")
    context = {"safe": safe, "unknown": isinstance(error, FindOut), "full": isinstance(error, NoSpace)}
    if request.headers.get("HX-Request") == "true":
        response = HttpResponse(status=503)
        if not safe:
            _say(response, render_to_string("errors/not_saved.txt", context).strip())
    else:
        response = _page("503", 503, context | {"form": _kept_form(request), "retry": RETRY_SECONDS})
    response["Retry-After"] = str(RETRY_SECONDS)
    response["Cache-Control"] = "no-store"
    return response


def _say(response: HttpResponse, message: str) -> None:
    """A toast. (`pages.toast` is for views; this module is imported by the middleware and stays independent.)"""
    response.headers["HX-Trigger"] = json.dumps({"toast": {"message": message, "undo": None, "level": "error"}})


def _kept_form(request: HttpRequest) -> dict[str, Any] | None:
    """The posted form, to be shown in the page so that nothing typed is lost; None if there is none to keep.

    Passwords are never sent back, files cannot be; such a form is not offered.
    """
    if request.method != "POST" or request.content_type != "application/x-www-form-urlencoded":
        return None
    fields = [(name, value) for name, values in request.POST.lists() for value in values]
    if sum(len(value) for _name, value in fields) > LARGEST_KEPT_FORM or any("password" in name for name, _ in fields):
        return None
    shown = [(name, value) for name, value in fields if name != "csrfmiddlewaretoken"]
    return {"action": request.get_full_path(), "fields": shown, "token": request.POST.get("csrfmiddlewaretoken", "")}
