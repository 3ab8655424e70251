"""What of a message's head is passed on, and how it is written. Pure.

A client's word about who it is and where it came from (`Forwarded`, `X-Forwarded-*`, `X-Real-IP`) is dropped and
replaced by what we see. A header with an underscore in its name is dropped as well: WSGI spells `X_Forwarded_For` and
`X-Forwarded-For` alike, and a front end could not tell ours from a forged one.
"""

from __future__ import annotations

from .http1 import Headers, RequestHead, ResponseHead, tokens

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""RFC 9110 §7.6.1: they speak of one connection, never of the next."""

_OURS = frozenset({b"forwarded", b"x-real-ip", b"host", b"expect", b"content-length"})
"""Not copied from a request but written by us, or (expect) already answered by us."""


def _end_to_end(headers: Headers) -> Headers:
    dropped = HOP_BY_HOP | tokens(headers, b"connection")
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def request_bytes(head: RequestHead, client: str, *, length: int | None) -> bytes:
    """The head as a front end gets it. `length` is that of the body that follows, None if it goes in chunks;
    `client` is the address that the request came from."""
    lines = [b"%s %s HTTP/1.1" % (head.method.encode("ascii"), head.target), b"Host: " + head.host]
    for name, value in _end_to_end(head.headers):
        lowered = name.lower()
        if lowered in _OURS or lowered.startswith(b"x-forwarded-") or b"_" in name:
            continue
        lines.append(name + b": " + value.strip())
    lines.append(b"X-Forwarded-For: " + client.encode("ascii"))
    lines.append(b"X-Forwarded-Host: " + head.host)
    lines.append(b"X-Forwarded-Proto: http")
    if length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif length or head.method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def response_bytes(head: ResponseHead, *, chunked: bool, keep_alive: bool) -> bytes:
    """The head as a client gets it. `chunked` says that the body follows in chunks."""
    lines = [b"HTTP/1.1 %d %s" % (head.status, head.reason)]
    lines += [name + b": " + value.strip() for name, value in _end_to_end(head.headers)]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    lines.append(b"Connection: " + (b"keep-alive" if keep_alive else b"close"))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """`data` (never empty: an empty chunk would end the body) as one chunk."""
    assert data, "an empty chunk ends the body"
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
