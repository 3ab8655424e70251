"""What the balancer itself says to a user, when no front end can. Pure.

The pages stand alone: no style sheet, no script, no request to anybody, since all of these would have to come from the
very front ends that are missing. Their words follow one rule: what happened, what is safe, what to do.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True)
class Page:
    """One error page. `refresh`: seconds after which the browser asks again by itself (never for a form)."""

    status: int
    title: str
    text: str
    refresh: int | None = None
    retry_after: int | None = None


RECONNECTING = Page(
    503,
    "Reconnecting…",
    "PennCloud is starting up or changing over to another machine. Nothing that was saved is lost. "
    "This page asks again by itself in a moment.",
    refresh=2,
    retry_after=2,
)
RECONNECTING_FORM = Page(
    503,
    "Reconnecting…",
    "PennCloud is starting up or changing over to another machine. What you sent was not carried out, and your text "
    "is kept: go back to it with your browser's Back button and send it again in a moment.",
    retry_after=2,
)
INTERRUPTED = Page(
    502,
    "Reconnecting…",
    "The connection inside PennCloud broke off. This page asks again by itself in a moment.",
    refresh=1,
    retry_after=1,
)
INTERRUPTED_FORM = Page(
    502,
    "Reconnecting…",
    "The connection inside PennCloud broke off while it worked on what you sent, so it cannot be told whether that was "
    "carried out. Your text is kept: go back to it with your browser's Back button, look whether it is done "
    "already, and if not, send it again.",
    retry_after=1,
)
TOO_SLOW = Page(
    504,
    "This takes too long",
    "PennCloud did not answer in time. What was saved before is safe. Look whether your last step was carried out "
    "before you repeat it.",
    retry_after=5,
)


def refusal(status: int, reason: str) -> Page:
    """A request that was not understood or is not allowed; `reason` is one plain sentence."""
    return Page(status, HTTPStatus(status).phrase, reason)


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{refresh}<title>{title} · PennCloud</title>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
</main>
</body>
</html>
"""


def response(page: Page, *, method: str | None, keep_alive: bool) -> bytes:
    """The page as a complete HTTP answer. `method` None: the request could not even be read."""
    refresh = f'<meta http-equiv="refresh" content="{page.refresh}">\n' if page.refresh is not None else ""
    body = _TEMPLATE.format(title=html.escape(page.title), text=html.escape(page.text), refresh=refresh).encode()
    lines = [
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options: nosniff",
    ]
    if page.retry_after is not None:
        lines.append(f"Retry-After: {page.retry_after}")
    lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    return head if method == "HEAD" else head + body
