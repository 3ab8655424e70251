"""What happens to every request before and after its view."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib.sessions import middleware as sessions_middleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware import gzip

from kvstore.errors import StoreError
from penncloud_site import sessions
from penncloud_site.error_pages import store_failure

GetResponse = Callable[[HttpRequest], HttpResponseBase]

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT")


class ForwardedMiddleware:
    """Believes X-Forwarded-For and -Proto when the load balancer sent them, and removes them otherwise.

    The balancer drops what a visitor sent and writes its own, so the last address is the visitor's. Where the site is only
    reached by https (`PENNCLOUD_HTTPS`), that is the scheme, whatever the last stretch inside spoke.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.META.get("REMOTE_ADDR") in settings.PENNCLOUD["TRUSTED_PROXIES"]:
            visitor = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
            if visitor:
                request.META["REMOTE_ADDR"] = visitor
            if settings.HTTPS:
                # The balancer speaks http with the proxy that ends TLS, and says so; the visitor does not. Left at that,
                # HSTS would never be sent, and every form be refused because its Origin is https.
                request.META["HTTP_X_FORWARDED_PROTO"] = "https"
        else:
            for header in FORWARDED:
                request.META.pop(header, None)
        return self.get_response(request)


def client_address(request: HttpRequest) -> str:
    """The visitor's address, as lock-outs count it."""
    return request.META.get("REMOTE_ADDR", "")


class PageCompressionMiddleware(gzip.GZipMiddleware):
    """Compresses pages, and nothing else: a download must keep its length and go out as it is read.

    (Django's adds a random number of bytes, so that the length tells nothing of a secret in the page.)
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        is_page = response.get("Content-Type", "").startswith("text/html") and not response.streaming
        return super().process_response(request, response) if is_page else response


class StoreFailureMiddleware:
    """Turns a failure of the store in a view into the page that says so, waits and goes on by itself."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return store_failure(request, exception) if isinstance(exception, StoreError) else None


class SessionMiddleware(sessions_middleware.SessionMiddleware):
    """Django's, except that a store that fails while the session is saved gives the same page as in a view."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        try:
            return super().process_response(request, response)
        except StoreError as error:
            return store_failure(request, error)


class PrivateMiddleware:
    """Pages made for one person are kept by no cache, and an active person's session does not run out."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not response.has_header("Cache-Control"):
            # no-store, not no-cache: after a log-out, the back button must not show the mail that was open.
            response["Cache-Control"] = "private, no-store"
        if request.session.accessed and response.status_code < 500 and sessions.needs_renewal(request.session):
            request.session.modified = True
        return response
