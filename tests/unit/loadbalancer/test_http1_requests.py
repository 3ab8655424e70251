"""What a client may send, and what is refused before a front end hears of it."""

from __future__ import annotations

from typing import Any

import pytest

from penncloud_site.loadbalancer import limits
from penncloud_site.loadbalancer.http1 import Body, End, Refused, RequestHead, RequestParser

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n"
POST = b"POST /send HTTP/1.1\r\nHost: example.org\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def feed_all(data: bytes, piece: int | None = None) -> list[Any]:
    """The events of `data`, fed at once or in pieces of `piece` bytes; neighbouring bodies joined."""
    parser = RequestParser()
    step = piece or len(data)
    events: list[Any] = []
    for start in range(0, len(data), step):
        for event in parser.feed(data[start : start + step]):
            if isinstance(event, Body) and events and isinstance(events[-1], Body):
                events[-1] = Body(events[-1].data + event.data)
            else:
                events.append(event)
    return events


def refusal(data: bytes) -> int:
    """The status with which `data` is refused; it must be, and nothing may come after."""
    events = feed_all(data)
    assert isinstance(events[-1], Refused), events
    assert not any(isinstance(event, Refused) for event in events[:-1])
    assert [type(event) for event in feed_all(data, 1)][-1] is Refused, "also when it trickles in"
    return events[-1].status


@pytest.mark.parametrize("piece", [None, 1, 7])
def test_requests_come_out_one_after_the_other_however_the_network_cuts_them(piece: int | None) -> None:
    data = (
        b"POST /a?b=c HTTP/1.1\r\nHost: x:8000\r\nContent-Length: 5\r\nCookie: s=1\r\n\r\nhello"
        b"GET /next HTTP/1.1\r\nHost: x:8000\r\n\r\n"
    )
    first, body, end, second, last = feed_all(data, piece)
    assert isinstance(first, RequestHead)
    assert (first.method, first.target, first.host, first.length) == ("POST", b"/a?b=c", b"x:8000", 5)
    assert (b"Cookie", b"s=1") in first.headers
    assert first.keep_alive
    assert body == Body(b"hello")
    assert isinstance(second, RequestHead)
    assert (second.target, second.length) == (b"/next", 0)
    assert (end, last) == (End(), End())


@pytest.mark.parametrize("piece", [None, 1, 4])
def test_a_chunked_body_loses_its_extensions_and_trailers(piece: int | None) -> None:
    data = CHUNKED + b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    head, body, end = feed_all(data, piece)
    assert head.length is None
    assert (body, end) == (Body(b"abcde"), End())
    assert b"X-Forwarded-For" not in dict(head.headers)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"Content-Length: 3, 3\r\n\r\nabc",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length : 3\r\n\r\nabc",
        b"Content-Length: +3\r\n\r\nabc",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 0x3\r\n\r\nabc",
        b"Content-Length: \r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Connection: content-length\r\nContent-Length: 3\r\n\r\nabc",
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_length_that_could_be_read_in_two_ways_is_refused(framing: bytes) -> None:
    assert refusal(POST + framing) == 400


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"xchunked", b"identity"])
def test_other_transfer_codings_are_not_understood(coding: bytes) -> None:
    assert refusal(POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n") == 501


def test_chunks_are_not_part_of_http_1_0() -> None:
    assert refusal(b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(
    "chunks",
    [
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_a_malformed_chunk_ends_the_request(chunks: bytes) -> None:
    assert refusal(CHUNKED + chunks) == 400


@pytest.mark.parametrize(
    "line",
    [
        b"X: a\r\n folded\r\n",
        b"X: a\r\n\tfolded\r\n",
        b" X: a\r\n",
        b"X Y: a\r\n",
        b"X\x00Y: a\r\n",
        b"X: a\x00b\r\n",
        b"X: a\rY: b\r\n",
        b"X: a\nY: b\r\n",
        b": nameless\r\n",
        b"no-colon\r\n",
    ],
)
def test_a_header_line_that_parsers_read_differently_is_refused(line: bytes) -> None:
    assert refusal(GET + line + b"\r\n") == 400


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a\r\nHost: b\r\n",
        b"Host: \r\n",
        b"Host: a/b\r\n",
        b"Host: a b\r\n",
        b"Host: a,b\r\n",
        b"Host: a@b\r\n",
        b"Host: a:b\r\n",
        b"Host: a\r\nConnection: host\r\n",
    ],
)
def test_there_must_be_exactly_one_plain_host(hosts: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n") == 400


def test_an_absolute_address_must_agree_with_the_host() -> None:
    head, _ = feed_all(b"GET http://example.org/a?b HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert head.target == b"/a?b"
    head, _ = feed_all(b"GET http://example.org HTTP/1.1\r\nHost: Example.org\r\n\r\n")
    assert head.target == b"/"
    assert refusal(b"GET http://evil.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n") == 400
    assert refusal(b"GET http://example.org@evil.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n") == 400
    assert refusal(b"GET ftp://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n") == 400


@pytest.mark.parametrize("target", [b"*", b"/a b", b"/\xff", b"/a\x01", b"a", b"/#fragment", b"\\"])
def test_a_target_is_a_path_of_visible_ascii(target: bytes) -> None:
    assert refusal(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 405),
        (GET + b"Expect: the-unexpected\r\n\r\n", 417),
    ],
)
def test_other_methods_versions_and_expectations_are_refused(data: bytes, status: int) -> None:
    assert refusal(data) == status


def test_too_large_a_head_is_refused_while_it_still_comes_in() -> None:
    assert refusal(b"GET /" + b"a" * limits.MAX_TARGET + b" HTTP/1.1\r\nHost: x\r\n\r\n") == 414
    assert refusal(GET + b"X: " + b"a" * limits.MAX_HEAD + b"\r\n\r\n") == 431
    assert refusal(GET + b"X: a\r\n" * (limits.MAX_HEADERS + 1) + b"\r\n") == 431

    parser = RequestParser()
    parser.feed(GET + b"X: ")
    fed = 0
    while not (events := parser.feed(b"a" * 1000)):
        fed += 1000
        assert fed <= limits.MAX_HEAD, "a line without an end must not be collected for ever"
    assert [getattr(event, "status", None) for event in events] == [431]


def test_trailers_without_an_end_are_not_collected_for_ever() -> None:
    parser = RequestParser()
    parser.feed(CHUNKED + b"3\r\nabc\r\n0\r\nX: ")
    fed = 0
    while not (events := parser.feed(b"a" * 1000)):
        fed += 1000
        assert fed <= limits.MAX_CHUNK_OVERHEAD
    assert [getattr(event, "status", None) for event in events] == [400]


def test_what_came_before_the_bad_request_is_still_served() -> None:
    events = feed_all(GET + b"\r\n" + b"GET / HTTP/1.1\r\n\r\n" + GET + b"\r\n")
    assert [type(event) for event in events] == [RequestHead, End, Refused]


def test_an_upgrade_is_not_granted_and_ends_the_connection() -> None:
    events = feed_all(GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [type(event) for event in events] == [RequestHead, End]
    assert not events[0].keep_alive


def test_connection_close_is_heeded_and_nothing_may_follow() -> None:
    events = feed_all(GET + b"Connection: close\r\n\r\n" + GET + b"\r\n")
    assert [type(event) for event in events] == [RequestHead, End, Refused]
    assert not events[0].keep_alive


def test_http_1_0_keeps_the_connection_only_if_asked() -> None:
    assert not feed_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")[0].keep_alive
    assert feed_all(b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")[0].keep_alive
