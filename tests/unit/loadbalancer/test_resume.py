"""Which downloads can go on at another front end, and what counts as their rest."""

from __future__ import annotations

import pytest

from penncloud_site.loadbalancer.http1 import Headers, RequestHead, RequestParser, ResponseHead
from penncloud_site.loadbalancer.resume import Rest, rest_of

TAG = b'"v1"'
WHOLE: Headers = [(b"ETag", TAG), (b"Accept-Ranges", b"bytes")]


def request(method: str = "GET", lines: bytes = b"") -> RequestHead:
    head = RequestParser().feed(method.encode() + b" /f HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")[0]
    assert isinstance(head, RequestHead)
    return head


def answer(status: int, headers: Headers, length: int | None) -> ResponseHead:
    return ResponseHead(status, b"X", headers, length, keep_alive=True)


def test_a_whole_file_and_a_range_of_one_can_be_gone_on_with() -> None:
    assert rest_of(request(), answer(200, WHOLE, 1000)) == Rest(TAG, 0, 999)
    part = [*WHOLE, (b"Content-Range", b"bytes 500-599/1000")]
    assert rest_of(request(), answer(206, part, 100)) == Rest(TAG, 500, 599)


@pytest.mark.parametrize(
    ("method", "status", "headers", "length"),
    [
        ("POST", 200, WHOLE, 1000),
        ("GET", 200, WHOLE, None),
        ("GET", 404, WHOLE, 1000),
        ("GET", 200, [(b"ETag", b'W/"v1"'), (b"Accept-Ranges", b"bytes")], 1000),
        ("GET", 200, [(b"ETag", TAG)], 1000),
        ("GET", 200, [(b"Accept-Ranges", b"bytes")], 1000),
        ("GET", 200, [*WHOLE, (b"ETag", b'"v2"')], 1000),
        ("GET", 206, WHOLE, 100),
        ("GET", 206, [*WHOLE, (b"Content-Range", b"bytes 0-9/1000")], 100),
    ],
)
def test_what_is_not_surely_the_same_bytes_is_not(
    method: str, status: int, headers: Headers, length: int | None
) -> None:
    assert rest_of(request(method), answer(status, headers, length)) is None


def test_the_rest_is_asked_for_by_its_range_and_under_its_tag() -> None:
    asked = Rest(TAG, 400, 999).request(request(lines=b"Range: bytes=0-\r\nIf-None-Match: x\r\nCookie: a=b\r\n"))
    assert asked.headers == [
        (b"Host", b"x"), (b"Cookie", b"a=b"), (b"Range", b"bytes=400-999"), (b"If-Range", TAG),
    ]  # fmt: skip


def test_only_exactly_the_rest_will_do() -> None:
    rest = Rest(TAG, 400, 999)
    span = (b"Content-Range", b"bytes 400-999/1000")
    assert rest.is_answered_by(answer(206, [*WHOLE, span], 600))
    assert not rest.is_answered_by(answer(200, [*WHOLE, span], 600))
    assert not rest.is_answered_by(answer(206, [(b"ETag", b'"v2"'), span], 600))
    assert not rest.is_answered_by(answer(206, [*WHOLE, (b"Content-Range", b"bytes 399-999/1000")], 601))
    assert not rest.is_answered_by(answer(206, [*WHOLE, span], 599))
    assert not rest.is_answered_by(answer(206, [*WHOLE, span], None))
    assert not rest.is_answered_by(answer(206, WHOLE, 600))
