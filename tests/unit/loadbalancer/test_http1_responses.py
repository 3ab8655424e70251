"""What a front end may answer. It is ours, but it may die in the middle of a word."""

from __future__ import annotations

import pytest

from penncloud_site.loadbalancer import limits
from penncloud_site.loadbalancer.http1 import BadResponse, Body, End, ResponseHead, ResponseParser


def kinds(events: list) -> list[type]:
    return [type(event) for event in events]


def test_a_response_with_a_length() -> None:
    parser = ResponseParser()
    head, body, end = parser.feed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nX: y\r\n\r\nno")
    assert isinstance(head, ResponseHead)
    assert (head.status, head.reason, head.length, head.keep_alive) == (404, b"Not Found", 2, True)
    assert (body, end) == (Body(b"no"), End())
    assert not parser.surplus


def test_a_response_in_chunks_byte_by_byte() -> None:
    parser = ResponseParser()
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    events = [event for byte in data for event in parser.feed(bytes([byte]))]
    assert isinstance(events[0], ResponseHead)
    assert events[0].length is None
    assert events[0].reason == b"OK"
    assert b"".join(event.data for event in events if isinstance(event, Body)) == b"abc"
    assert events[-1] == End()


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body_end_with_their_head(status: int) -> None:
    assert kinds(ResponseParser().feed(b"HTTP/1.1 %d X\r\nContent-Length: 7\r\n\r\n" % status)) == [ResponseHead, End]


@pytest.mark.parametrize("framing", [b"Content-Length: 5000000000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_the_answer_to_head_has_no_body_whatever_it_announces(framing: bytes) -> None:
    parser = ResponseParser(expect_body=False)
    assert kinds(parser.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")) == [ResponseHead, End]
    assert parser.feed(b"but here is one") == []
    assert parser.surplus


def test_interim_answers_are_swallowed() -> None:
    events = ResponseParser().feed(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    assert kinds(events) == [ResponseHead, End]
    assert isinstance(events[0], ResponseHead)
    assert events[0].headers == [(b"Content-Length", b"0")]


def test_bytes_behind_the_answer_spoil_the_connection_not_the_answer() -> None:
    parser = ResponseParser()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert kinds(parser.feed(answer + answer)) == [ResponseHead, Body, End]
    assert parser.surplus


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the connection ends",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_an_answer_that_cannot_be_trusted_is_an_error(data: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseParser().feed(data)


def test_a_head_without_an_end_is_an_error() -> None:
    parser = ResponseParser()

    def feed_for_ever() -> None:
        parser.feed(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(limits.MAX_RESPONSE_HEAD):
            parser.feed(b"a" * 100)

    with pytest.raises(BadResponse, match="too large"):
        feed_for_ever()
