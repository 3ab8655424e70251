"""The real balancer process, when the servers behind it die, hang, or talk nonsense."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.probe.balancer import Site
from tests.probe.raw_http import Answer, get
from tests.processes import wait_for

pytestmark = pytest.mark.probe


@pytest.mark.parametrize("path", ["/die-once/get", "/die-once/again"])
def test_a_read_is_asked_for_again_when_its_front_end_dies(site: Site, path: str) -> None:
    answer = get(site.port, path)
    assert (answer.status, answer.body) == (200, b"again")


def test_a_post_that_may_have_been_carried_out_is_not_repeated(site: Site) -> None:
    before = site.counts()
    answer = get(site.port, "/die-once/post", "Content-Type: text/plain", method="POST", body=b"send it once")
    assert answer.status == 502
    assert b"your text is kept" in answer.body.lower()
    assert answer.headers["retry-after"] == "1"
    assert site.counted(before) == 1


def test_a_post_with_a_key_is_repeated_with_its_body(site: Site) -> None:
    answer = get(site.port, "/die-once/keyed", "Idempotency-Key: 42", method="POST", body=b"as often as you like")
    assert (answer.status, answer.body) == (200, b"again")


@pytest.mark.parametrize("path", ["/die-before", "/die-head", "/die-body", "/garbage", "/no-length"])
def test_what_no_front_end_can_answer_ends_in_a_page_and_not_in_half_an_answer(site: Site, path: str) -> None:
    answer = get(site.port, path)
    assert answer.complete
    assert answer.status == 502
    assert b"Reconnecting" in answer.body
    assert answer.headers["cache-control"] == "no-store"


def test_a_large_answer_that_breaks_off_is_seen_to_be_broken(site: Site) -> None:
    answer = get(site.port, "/die-stream")
    assert answer.status == 200
    assert not answer.complete


def test_a_download_goes_on_at_another_front_end(site: Site) -> None:
    size = 16 * 200_000
    answer = get(site.port, f"/file/{size}/1000000")
    assert answer.status == 200
    assert answer.complete
    assert answer.body == b"".join(b"%015d\n" % number for number in range(size // 16))


def test_a_download_that_changed_meanwhile_is_cut_and_never_patched_up(site: Site) -> None:
    answer = get(site.port, "/changed/3200000/1000000")
    assert answer.status == 200
    assert not answer.complete
    assert len(answer.body) <= 1_000_000


def test_a_killed_front_end_costs_nobody_a_page(site: Site) -> None:
    """Requests of every method go on while one of two servers is killed; its first failure puts it out."""
    stop = threading.Event()
    outcomes: Counter[int] = Counter()
    errors: list[str] = []

    def click(method: str) -> None:
        while not stop.is_set():
            try:
                answer = get(site.port, "/echo", method=method)
                outcomes[answer.status] += 1
            except (OSError, AssertionError) as error:
                errors.append(repr(error))

    threads = [threading.Thread(target=click, args=(method,)) for method in ("GET", "GET", "GET", "HEAD")]
    for thread in threads:
        thread.start()
    wait_for(lambda: outcomes[200] > 50, "some traffic")
    site.servers["a"].kill()
    site.servers["a"].wait()
    site.await_states("out", "healthy")
    seen = outcomes[200]
    wait_for(lambda: outcomes[200] > seen + 50, "traffic at the other one")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(outcomes) == {200}


def test_a_dead_front_end_is_no_failure_for_any_method(site: Site) -> None:
    """Nothing is sent to a server that refuses connections, so even a POST goes to the other one."""
    site.servers["a"].kill()
    site.servers["a"].wait()
    for _ in range(6):
        answer = get(site.port, "/echo", method="POST", body=b"once")
        assert answer.status == 200
        assert answer.headers["x-server"] == "b"


def test_one_that_hangs_is_put_out_and_what_only_reads_moves_on(site: Site) -> None:
    site.servers["a"].send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    servers = Counter(get(site.port, "/echo").headers["x-server"] for _ in range(6))
    assert servers == {"b": 6}
    assert time.monotonic() - begun < 15
    site.await_states("out", "healthy")
    site.servers["a"].send_signal(signal.SIGCONT)
    site.await_states("healthy", "healthy")


def test_a_request_waits_for_a_front_end_to_come_back(site: Site) -> None:
    for process in site.servers.values():
        process.kill()
        process.wait()
    site.await_states("out", "out")
    answers: list[Answer] = []
    thread = threading.Thread(
        target=lambda: answers.append(get(site.port, "/echo", method="POST", body=b"patient")), daemon=True
    )
    thread.start()
    wait_for(lambda: get(site.status_port, "/").json()["in_hand"] == 1, "the request waiting")
    site.start_server("b")
    thread.join(10)
    assert [answer.status for answer in answers] == [200]


def test_without_any_front_end_a_user_is_told_what_is_safe(site: Site) -> None:
    for process in site.servers.values():
        process.kill()
        process.wait()
    site.await_states("out", "out")
    with ThreadPoolExecutor() as both:
        reading = both.submit(get, site.port, "/echo")
        sending = both.submit(get, site.port, "/echo", method="POST", body=b"text")
    read, sent = reading.result(), sending.result()
    assert read.status == 503
    assert b'http-equiv="refresh"' in read.body
    assert sent.status == 503
    assert b"was not carried out" in sent.body
    assert b"http-equiv" not in sent.body
