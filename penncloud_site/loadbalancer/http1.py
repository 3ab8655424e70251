"""HTTP/1.1 from bytes to events, strictly, in both directions. No socket, no clock.

llhttp (through httptools) does the parsing in its strict mode: two `Content-Length`, one beside `Transfer-Encoding`,
folded header lines, bare LF, spaces before a colon, control characters and malformed chunks are errors of its own.
On top of it :class:`RequestParser` refuses what is legal somewhere and a trick here; see :func:`checked_head`.

`feed` returns the events that the bytes complete, in order: for each message one head, any number of :class:`Body`,
one :class:`End`. Bytes that cannot be served become one :class:`Refused`, always the last event there is: what came
before it on a pipelined connection is still answered, and nothing after it is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

from . import limits

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    | {"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"}  # WebDAV
)
"""What is passed on. CONNECT and TRACE are nobody's business here."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # visible ASCII, no '#'
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class RequestHead:
    """A request up to its body. `length` is None when the body is chunked; 0 when there is none."""

    method: str
    target: bytes
    headers: Headers
    version: str
    host: bytes
    length: int | None
    keep_alive: bool
    expects_continue: bool


@dataclass(slots=True)
class ResponseHead:
    """An answer up to its body. `length` is None when the body is chunked."""

    status: int
    reason: bytes
    headers: Headers
    length: int | None
    keep_alive: bool


@dataclass(slots=True)
class Body:
    """A piece of a body, never empty, at most as long as what was fed."""

    data: bytes


@dataclass(slots=True)
class End:
    """The message is complete."""


@dataclass(slots=True)
class Refused:
    """The bytes cannot be served: answer with `status`, then close the connection."""

    status: int
    reason: str


class Refusal(Exception):
    """Raised inside a parser's callbacks; leaves `feed` as a :class:`Refused`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.refused = Refused(status, reason)


class BadResponse(Exception):
    """A front end's answer is not HTTP/1.1 as we want it."""


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value.strip() for key, value in headers if key.lower() == name]


def tokens(headers: Headers, name: bytes) -> set[bytes]:
    """The comma-separated members of all headers called `name` (given in lower case), in lower case."""
    return {token.strip().lower() for value in _values(headers, name) for token in value.split(b",") if token.strip()}


def _checked_host(headers: Headers) -> bytes:
    hosts = _values(headers, b"host")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise Refusal(400, "The request must name exactly one valid Host.")
    return hosts[0]


def _checked_target(target: bytes, host: bytes) -> bytes:
    """The target in origin form. An absolute form is accepted (RFC 9112 §3.2.2 wants it) if it agrees with `host`."""
    if absolute := _ABSOLUTE.fullmatch(target):
        if absolute[1].lower() != host.lower():
            raise Refusal(400, "The address and the Host header name different hosts.")
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    if not _TARGET.fullmatch(target):
        raise Refusal(400, "The request's address is malformed.")
    return target


def _checked_length(headers: Headers, version: str) -> int | None:
    """The length of the body, None for a chunked one."""
    coding = _values(headers, b"transfer-encoding")
    lengths = _values(headers, b"content-length")
    if coding:
        if version == "1.0" or lengths:
            raise Refusal(400, "The request's length is ambiguous.")
        if len(coding) != 1 or coding[0].lower() != b"chunked":
            raise Refusal(501, "Only the chunked transfer coding is understood.")
        return None
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise Refusal(400, "The request's length is malformed.")
    return int(lengths[0]) if lengths else 0


def checked_head(method: str, target: bytes, headers: Headers, version: str, *, keep_alive: bool) -> RequestHead:
    """A head that may be passed on.

    :raises Refusal: for a version other than 1.0 and 1.1, a method we do not pass on, a Host that is missing, given
        twice or malformed, a target that is not a path (or is absolute and names another host), an ambiguous length,
        an expectation other than 100-continue, or a `Connection` that names a header which routes or frames.
    """
    if version not in ("1.0", "1.1"):
        raise Refusal(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    if method not in METHODS:
        raise Refusal(405, "This method is not served here.")
    host = _checked_host(headers)
    if tokens(headers, b"connection") & {b"host", b"content-length", b"transfer-encoding"}:
        # "Connection: host" asks each hop to drop Host: the next one would see another request than we do.
        raise Refusal(400, "Connection names a header that cannot be dropped.")
    expectations = tokens(headers, b"expect")
    if expectations - {b"100-continue"}:
        raise Refusal(417, "Only the expectation 100-continue is understood.")
    return RequestHead(
        method=method,
        target=_checked_target(target, host),
        headers=headers,
        version=version,
        host=host,
        length=_checked_length(headers, version),
        keep_alive=keep_alive,
        expects_continue=bool(expectations) and version == "1.1",
    )


class RequestParser:
    """What a client sends, as events. One for the life of a connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._events: list[RequestHead | Body | End | Refused] = []
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._overhead = 0
        self._in_body = False
        self._began_now = False
        self._over = False
        self.in_head = False

    def feed(self, data: bytes) -> list[RequestHead | Body | End | Refused]:
        """The events that `data` completes. Nothing comes after a :class:`Refused`, or after an upgrade was asked
        for (it is not granted; the connection ends with that answer)."""
        self._events = []
        if self._over:
            return self._events
        self._began_now = False
        try:
            self._parser.feed_data(data)
            self._count_unfinished(len(data))
        except httptools.HttpParserUpgrade:
            self._over = True
        except Refusal as refusal:
            self._refuse(refusal.refused)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, Refusal):
                raise
            self._refuse(cause.refused)
        except httptools.HttpParserInvalidMethodError:
            self._refuse(Refused(405, "This method is not served here."))
        except httptools.HttpParserError:
            self._refuse(Refused(400, "The request is malformed."))
        return self._events

    def _refuse(self, refused: Refused) -> None:
        self._over = True
        self._events.append(refused)

    def _count_unfinished(self, fed: int) -> None:
        """Bound what the parser may be holding back: a head, or chunk extensions and trailers, without an end."""
        if self.in_head and not self._began_now:
            self._head_bytes += fed
            self._check_head_size()
        if self._in_body and not any(isinstance(event, Body) for event in self._events):
            self._overhead += fed
            if self._overhead > limits.MAX_CHUNK_OVERHEAD:
                raise Refusal(400, "The body's chunks carry too much beside their content.")
        else:
            self._overhead = 0

    def _check_head_size(self) -> None:
        if self._head_bytes > limits.MAX_HEAD or len(self._headers) > limits.MAX_HEADERS:
            raise Refusal(431, "The request's headers are too large.")

    # Called by httptools.

    def on_message_begin(self) -> None:
        self.in_head = True
        self._began_now = True
        self._target = b""
        self._headers = []
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:  # comes in pieces when the network cut it
        self._target += url
        if len(self._target) > limits.MAX_TARGET:
            raise Refusal(414, "The request's address is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer: nobody asked for it, nobody gets it
        self._headers.append((name, value))
        if self._began_now:
            self._head_bytes += len(name) + len(value)
        self._check_head_size()

    def on_headers_complete(self) -> None:
        upgrade = self._parser.should_upgrade()
        head = checked_head(
            self._parser.get_method().decode("ascii"),
            self._target,
            self._headers,
            self._parser.get_http_version(),
            keep_alive=self._parser.should_keep_alive() and not upgrade,
        )
        self.in_head = False
        self._in_body = True
        self._events.append(head)

    def on_body(self, data: bytes) -> None:
        self._events.append(Body(data))

    def on_message_complete(self) -> None:
        self._in_body = False
        self._events.append(End())


class ResponseParser:
    """One answer of a front end, as events; make a new one for each. Interim answers (1xx) are swallowed.

    `expect_body` is False for the answer to a HEAD request, which names a length and has no body.
    """

    def __init__(self, *, expect_body: bool = True) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._expect_body = expect_body
        self._events: list[ResponseHead | Body | End] = []
        self._reason = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._interim = False
        self._complete = False
        self.surplus = False
        """True once bytes came that belong to no answer: the connection is not to be used again."""

    def feed(self, data: bytes) -> list[ResponseHead | Body | End]:
        """The events that `data` completes.

        :raises BadResponse: malformed, an answer whose end nothing marks (it could not be told from one cut off by
            a crash), an unasked-for switch of protocols, or a head over MAX_RESPONSE_HEAD.
        """
        self._events = []
        if self._complete:
            self.surplus = True
            return self._events
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise BadResponse("switches protocols") from error
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, BadResponse):
                raise error.__context__ from error
            if not self._complete:  # behind the end of the answer it is surplus only
                raise BadResponse(str(error)) from error
            self.surplus = True
        if not self._events and not self._complete:
            self._head_bytes += len(data)
            if self._head_bytes > limits.MAX_RESPONSE_HEAD + limits.MAX_CHUNK_OVERHEAD:
                raise BadResponse("its head is too large")
        return self._events

    # Called by httptools.

    def on_message_begin(self) -> None:
        if self._complete:
            self.surplus = True
        self._headers, self._reason = [], b""

    def on_status(self, reason: bytes) -> None:
        if not self._complete:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim or self._complete:
            return
        length = self._length(status)
        keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
        self._events.append(ResponseHead(status, self._reason, self._headers, length, keep_alive))
        if not self._expect_body:
            self._finish()

    def _length(self, status: int) -> int | None:
        coding = _values(self._headers, b"transfer-encoding")
        lengths = _values(self._headers, b"content-length")
        if coding and coding[0].lower() == b"chunked" and len(coding) == 1:
            return None
        if coding or (lengths and not lengths[0].isdigit()):
            raise BadResponse("its length is malformed")
        if status in (204, 304) or not self._expect_body:
            return int(lengths[0]) if lengths else 0
        if not lengths:
            raise BadResponse("nothing says where it ends")
        return int(lengths[0])

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self.surplus = True
        else:
            self._events.append(Body(data))

    def on_message_complete(self) -> None:
        if not self._interim and not self._complete:
            self._finish()

    def _finish(self) -> None:
        self._complete = True
        self._events.append(End())
