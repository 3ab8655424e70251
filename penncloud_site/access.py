"""Who may use a view. Access is decided here, and nowhere else in the site."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect

View = Callable[..., HttpResponseBase]


def member(view: View) -> View:
    """Only for those who are logged in; the others are sent to log in and come back."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        return _to_login(request)

    return guarded


def operator(view: View) -> View:
    """Only for operators; to everybody else there is no such page."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and request.user.is_operator:
            return view(request, *args, **kwargs)
        raise Http404

    return guarded


def _to_login(request: HttpRequest) -> HttpResponse:
    """To the log-in page, and afterwards back to the page that the visitor was on."""
    htmx = getattr(request, "htmx", None)
    if not htmx:
        return redirect_to_login(request.get_full_path())
    # A fragment's own address is no page to come back to: that is the one in the address bar.
    query = urlencode({"next": htmx.current_url_abs_path or "/"})
    return HttpResponseClientRedirect(f"{resolve_url('accounts:login')}?{query}")
