"""What of a head is passed on."""

from __future__ import annotations

from penncloud_site.loadbalancer.headers import request_bytes, response_bytes
from penncloud_site.loadbalancer.http1 import RequestHead, RequestParser, ResponseHead, ResponseParser


def passed_on(lines: bytes, method: bytes = b"GET", length: int | None = 0) -> RequestHead:
    """The head that a front end reads, when a client sends one with these header lines."""
    head = RequestParser().feed(method + b" /a?b HTTP/1.1\r\nHost: pc.example\r\n" + lines + b"\r\n")[0]
    assert isinstance(head, RequestHead)
    again = RequestParser().feed(request_bytes(head, "192.0.2.7", length=length))[0]
    assert isinstance(again, RequestHead)
    return again


def values(head: RequestHead, name: bytes) -> list[bytes]:
    return [value for key, value in head.headers if key.lower() == name]


def test_what_a_client_says_of_where_it_comes_from_is_replaced() -> None:
    head = passed_on(
        b"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n"
        b"Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n"
    )
    assert values(head, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(head, b"x-forwarded-proto") == [b"http"]
    assert values(head, b"x-forwarded-host") == [b"pc.example"]
    for dropped in (b"forwarded", b"x-real-ip", b"x_forwarded_for", b"x-forwarded-port"):
        assert values(head, dropped) == []


def test_hop_by_hop_headers_end_here_and_the_others_do_not() -> None:
    head = passed_on(
        b"Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\n"
        b"Proxy-Authorization: x\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n"
        b"Cookie: session=1\r\nIf-None-Match: x\r\nRange: bytes=0-\r\n"
    )
    assert [key for key, _ in head.headers] == [
        b"Host", b"Cookie", b"If-None-Match", b"Range", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto",
    ]  # fmt: skip


def test_connection_cannot_be_used_to_drop_our_own_headers() -> None:
    head = passed_on(b"Connection: X-Forwarded-For, X-Forwarded-Proto, Cookie\r\nCookie: session=1\r\n")
    assert values(head, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(head, b"x-forwarded-proto") == [b"http"]


def test_the_length_is_the_one_we_counted() -> None:
    assert passed_on(b"Content-Length: 5\r\n", b"POST", 5).length == 5
    assert passed_on(b"", b"POST", 0).length == 0
    assert values(passed_on(b"", b"POST", 0), b"content-length") == [b"0"]
    assert passed_on(b"Transfer-Encoding: chunked\r\n", b"PUT", None).length is None
    assert values(passed_on(b""), b"content-length") == []


def test_an_answer_keeps_its_own_headers_and_gets_our_connection() -> None:
    head = ResponseHead(
        200,
        b"OK",
        [(b"Content-Length", b"2"), (b"Connection", b"close"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")],
        2,
        keep_alive=False,
    )
    data = response_bytes(head, chunked=False, keep_alive=True)
    again = ResponseParser().feed(data)[0]
    assert isinstance(again, ResponseHead)
    assert again.headers == [
        (b"Content-Length", b"2"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Connection", b"keep-alive"),
    ]  # fmt: skip
