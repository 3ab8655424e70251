"""What may be sent to another front end after one failed."""

from __future__ import annotations

import pytest

from penncloud_site.loadbalancer.http1 import RequestHead, RequestParser
from penncloud_site.loadbalancer.retry import Stage, may_repeat

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "MOVE"]


def request(method: str, lines: bytes = b"") -> RequestHead:
    head = RequestParser().feed(method.encode() + b" / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")[0]
    assert isinstance(head, RequestHead)
    return head


@pytest.mark.parametrize("method", METHODS)
def test_nothing_sent_means_nothing_happened(method: str) -> None:
    assert may_repeat(request(method), Stage.NOTHING_SENT, body_held=False)


@pytest.mark.parametrize("method", METHODS)
def test_once_sent_only_what_changes_nothing_is_repeated(method: str) -> None:
    assert may_repeat(request(method), Stage.SENT, body_held=True) is (method in ("GET", "HEAD", "OPTIONS"))


def test_a_key_promises_that_twice_is_once() -> None:
    keyed = request("POST", b"Idempotency-Key: 7f\r\n")
    assert may_repeat(keyed, Stage.SENT, body_held=True)
    assert not may_repeat(keyed, Stage.SENT, body_held=False), "the body is gone"


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_has_begun_is_never_begun_again(method: str) -> None:
    assert not may_repeat(request(method, b"Idempotency-Key: 7f\r\n"), Stage.ANSWERING, body_held=True)
