"""Going on with a download at another front end. Pure.

A long answer whose front end dies in the middle need not break off for its reader: if the answer is a stretch of bytes of
something that has a strong `ETag` (RFC 9110 §8.8.1: equal tags mean equal bytes) and is served in ranges, the rest is
asked for elsewhere with `Range` and `If-Range`, and goes on where the first one ended. Anything else that comes back than
exactly that rest is a failure: the reader's connection is cut, as without this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .http1 import Headers, RequestHead, ResponseHead

_CONTENT_RANGE = re.compile(rb"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_STRONG_TAG = re.compile(rb'"[\x21\x23-\x7e]*"')
_CONDITIONS = frozenset(
    {b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"}
)


@dataclass
class Rest:
    """What is still owed to the reader: bytes `next` to `last` (both counted from 0, inclusive) of what `tag` names."""

    tag: bytes
    next: int
    last: int

    def request(self, head: RequestHead) -> RequestHead:
        """`head` asking for the rest alone."""
        kept = [(name, value) for name, value in head.headers if name.lower() not in _CONDITIONS]
        asked = b"bytes=%d-%d" % (self.next, self.last)
        return replace(head, headers=[*kept, (b"Range", asked), (b"If-Range", self.tag)])

    def is_answered_by(self, answer: ResponseHead) -> bool:
        """Whether `answer` is exactly the rest."""
        span = _span(answer.headers)
        length = self.last - self.next + 1
        return (
            answer.status == 206
            and _only(answer.headers, b"etag") == self.tag
            and span == (self.next, self.last)
            and answer.length == length
        )


def rest_of(request: RequestHead, answer: ResponseHead) -> Rest | None:
    """All of `answer`, if what is missing of it could be asked for again."""
    tag = _only(answer.headers, b"etag")
    in_ranges = _only(answer.headers, b"accept-ranges") == b"bytes"
    if request.method != "GET" or not answer.length or not in_ranges or tag is None or not _STRONG_TAG.fullmatch(tag):
        return None
    if answer.status == 200:
        return Rest(tag, 0, answer.length - 1)
    span = _span(answer.headers)
    if answer.status == 206 and span is not None and span[1] - span[0] + 1 == answer.length:
        return Rest(tag, *span)
    return None


def _only(headers: Headers, name: bytes) -> bytes | None:
    """The value of the only header called `name` (in lower case); None if there is none, or more than one."""
    values = [value.strip() for key, value in headers if key.lower() == name]
    return values[0] if len(values) == 1 else None


def _span(headers: Headers) -> tuple[int, int] | None:
    """First and last byte of a `Content-Range` of one part."""
    found = _CONTENT_RANGE.fullmatch(_only(headers, b"content-range") or b"")
    return (int(found[1]), int(found[2])) if found and int(found[1]) <= int(found[2]) else None
