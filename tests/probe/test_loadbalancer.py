"""The real balancer process before two real servers that misbehave as a front end might."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from penncloud_site.supervisor.pidfile import read_pid_file
from tests.probe.balancer import Site
from tests.probe.raw_http import RawConnection, ask, get
from tests.processes import accepts, end, free_port_block, start, wait_for

pytestmark = pytest.mark.probe

GET = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n"


# --- what is passed on ------------------------------------------------------------------------------------------------


def test_a_front_end_sees_who_asked_and_not_what_they_claim(site: Site) -> None:
    answer = get(
        site.port, "/echo?q=1", "X-Forwarded-For: 6.6.6.6", "X_Forwarded_For: 6.6.6.6", "Forwarded: for=6.6.6.6"
    )
    seen = answer.json()
    headers = [(name.lower(), value) for name, value in seen["headers"]]
    assert seen["target"] == "/echo?q=1"
    assert ("x-forwarded-for", "127.0.0.1") in headers
    assert ("x-forwarded-proto", "http") in headers
    assert not any("6.6.6.6" in value for _, value in headers)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /die-before HTTP/1.1\r\nHost: a\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 44\r\n\r\nGET /count HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        b"X: y\r\n Content-Length: 3\r\n\r\nabc",
    ],
)
def test_no_byte_of_an_ambiguous_request_reaches_a_front_end(site: Site, framing: bytes) -> None:
    before = site.counts()
    with RawConnection(site.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + framing)
        answer = client.answer()
        assert answer is not None
        assert answer.status in (400, 501)
        assert client.ended(), "what follows could be anything; nothing of it is looked at"
    assert site.counted(before) == 0


def test_a_head_that_is_too_large_gets_431_and_a_long_address_414(site: Site) -> None:
    assert ask(site.port, GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n").status == 431
    assert ask(site.port, b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 414


def test_a_head_that_trickles_in_gets_408(site: Site) -> None:
    with RawConnection(site.port) as client:
        client.send(b"GET /echo HTTP/1.1\r\n")
        begun = time.monotonic()
        answer = client.answer()
        assert answer is not None
        assert answer.status == 408
        assert 8 < time.monotonic() - begun < 15
        assert client.ended()


def test_requests_in_one_packet_are_answered_in_order(site: Site) -> None:
    with RawConnection(site.port) as client:
        client.send(
            b"POST /echo?1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /slow/0.3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            b"GET /echo?3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        first, second, third = (client.answer() for _ in range(3))
        assert first is not None
        assert second is not None
        assert third is not None
        assert (first.json()["target"], first.json()["length"]) == ("/echo?1", 3)
        assert second.body == b"slow"
        assert third.json()["target"] == "/echo?3"
        assert client.ended()


def test_head_has_no_body_and_the_connection_goes_on(site: Site) -> None:
    with RawConnection(site.port) as client:
        client.send(b"HEAD /size/300000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = client.answer(method="HEAD")
        assert answer is not None
        assert answer.headers["content-length"] == "300000"
        client.send(GET + b"\r\n")
        again = client.answer()
        assert again is not None
        assert again.status == 200


def test_an_old_client_gets_an_unchunked_answer(site: Site) -> None:
    with RawConnection(site.port) as client:
        client.send(b"GET /chunked/500000 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = client.answer()
    assert answer is not None
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"y" * 500_000


def test_a_client_that_waits_for_continue_is_told_to(site: Site) -> None:
    for length in (5, 400_000):
        with RawConnection(site.port) as client:
            client.send(
                b"PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % length
            )
            interim = client.answer()
            assert interim is not None
            assert interim.status == 100
            client.send(b"a" * length)
            answer = client.answer()
            assert answer is not None
            assert answer.json()["length"] == length


# --- bodies ----------------------------------------------------------------------------------------------------------


def resident(pid: int) -> int:
    """Bytes of memory that the process has in use."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_arrives_whole_and_is_not_held_in_memory(site: Site, chunked: bool) -> None:
    piece, count = bytes(range(256)) * 1024, 400  # 100 MiB
    digest = hashlib.sha256()
    before = resident(site.balancer.pid)
    with RawConnection(site.port) as client:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (len(piece) * count)
        client.send(b"PUT /echo HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
        most = before
        for number in range(count):
            digest.update(piece)
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if number % 20 == 0:
                most = max(most, resident(site.balancer.pid))
        if chunked:
            client.send(b"0\r\n\r\n")
        answer = client.answer()
    assert answer is not None
    assert answer.json()["length"] == len(piece) * count
    assert answer.json()["sha256"] == digest.hexdigest()
    assert most - before < 16 * 2**20


def test_a_download_waits_for_a_slow_reader(site: Site) -> None:
    before = resident(site.balancer.pid)
    with RawConnection(site.port) as client:
        client.send(b"GET /size/200000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.file.readline()
        most = 0
        for _ in range(20):  # reads nothing for a while: whoever has no back pressure collects 200 MB now
            time.sleep(0.05)
            most = max(most, resident(site.balancer.pid))
        rest = 0
        while piece := client.socket.recv(1 << 20):
            rest += len(piece)
            if rest > 199_990_000:
                break
    assert most - before < 16 * 2**20
    assert rest > 199_990_000


def test_an_answer_given_before_the_upload_was_read_is_seen(site: Site) -> None:
    with RawConnection(site.port) as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n" + b"a" * 300_000)
        answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.body) == (413, b"too large")
    assert answer.headers["connection"] == "close"


def test_a_cut_off_small_form_never_reaches_a_front_end(site: Site) -> None:
    before = site.counts()
    with RawConnection(site.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf of it")
    wait_for(lambda: get(site.status_port, "/").json()["connections"] == 0, "the balancer noticing")
    assert site.counted(before) == 0


def test_a_cut_off_upload_is_cut_off_for_the_front_end_too(site: Site) -> None:
    with RawConnection(site.port) as client:
        client.send(b"PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n" + b"a" * 1_000_000)
    wait_for(lambda: get(site.status_port, "/").json()["in_hand"] == 0, "the balancer letting go of the upload")


# --- many, few, the end ----------------------------------------------------------------------------------------------


def test_the_idle_front_end_gets_the_next_request(site: Site) -> None:
    slow = [RawConnection(site.port) for _ in range(4)]
    for client in slow:
        client.send(b"GET /slow/1.5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: get(site.status_port, "/").json()["in_hand"] == 4, "four slow requests")
    active = [entry["active"] for entry in get(site.status_port, "/").json()["frontends"]]
    assert active == [2, 2]
    for client in slow:
        answer = client.answer()
        assert answer is not None
        assert answer.status == 200
        client.close()


def test_the_figures_are_on_loopback_and_nothing_else_is(site: Site) -> None:
    figures = get(site.status_port, "/").json()
    assert {"frontends", "connections", "in_hand", "draining", "uptime", "pid"} == set(figures)
    assert figures["pid"] == site.balancer.pid
    assert get(site.status_port, "/other").status == 404


def test_sigterm_finishes_what_is_in_hand_and_accepts_nothing_new(tmp_path: Path, site: Site) -> None:
    port = free_port_block(2)
    pid_file = tmp_path / "balancer.pid"
    arguments = ["-m", "penncloud_site.loadbalancer", "--port", port, "--status-port", port + 1, "--pid-file", pid_file]
    balancer = start(*arguments, "--frontend", f"127.0.0.1:{site.server_ports['a']}", log=tmp_path / "log")
    try:
        wait_for(lambda: read_pid_file(pid_file) == balancer.pid, "the balancer's start")
        idle = RawConnection(port)
        with RawConnection(port) as client:
            client.send(b"GET /slow/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_for(lambda: get(port + 1, "/").json()["in_hand"] == 1, "the request being in hand")
            balancer.terminate()
            wait_for(lambda: not accepts(port), "the door being closed")
            answer = client.answer()
            assert answer is not None
            assert answer.body == b"slow"
            assert answer.headers["connection"] == "close"
        assert idle.ended()
        idle.close()
        assert balancer.wait(5) == 0
        assert not pid_file.exists()
    finally:
        end(balancer, signal.SIGKILL)


def test_a_taken_port_is_one_sentence_and_exit_status_1(tmp_path: Path, site: Site) -> None:
    log = tmp_path / "log"
    second = start("-m", "penncloud_site.loadbalancer", "--port", site.port, "--frontend", "127.0.0.1:1", log=log)
    assert second.wait(20) == 1
    last = log.read_text().strip().splitlines()[-1]
    assert last.startswith(f"Cannot listen on 127.0.0.1:{site.port}: ")
    assert "Traceback" not in log.read_text()


def test_many_clients_at_once(site: Site) -> None:
    """Two hundred connections, each with several requests, all answered and none mixed up."""
    wrong: list[str] = []

    def talk(number: int) -> None:
        with RawConnection(site.port) as client:
            for turn in range(5):
                body = json.dumps([number, turn]).encode()
                client.send(
                    b"POST /echo?%d.%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                    % (number, turn, len(body))
                    + body
                )
                answer = client.answer()
                if answer is None or answer.json()["target"] != f"/echo?{number}.{turn}":
                    wrong.append(f"{number}.{turn}")
                elif answer.json()["sha256"] != hashlib.sha256(body).hexdigest():
                    wrong.append(f"{number}.{turn} body")

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_client_that_never_closes_is_let_go_when_it_leaves(site: Site) -> None:
    client = socket.create_connection(("127.0.0.1", site.port))
    wait_for(lambda: get(site.status_port, "/").json()["connections"] == 1, "the connection being seen")
    client.close()
    wait_for(lambda: get(site.status_port, "/").json()["connections"] == 0, "the connection being let go")
