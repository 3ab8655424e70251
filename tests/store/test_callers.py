"""One client, many callers: threads, greenlets, children, and what becomes of a request that is asked twice."""

from __future__ import annotations

import multiprocessing
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore import settings
from kvstore.client import Client, connect
from kvstore.connection import FrameReader, parse_address, tune
from kvstore.errors import BadRequest, OutcomeUnknown, StoreError, Unavailable
from kvstore.handshake import Role, connect_side, read_key
from kvstore.messages import Get, Refused, Write, Written
from kvstore.mutation import Outcome, bundle_of, encode_mutation
from kvstore.wire import WrittenMany, encode, read_message
from tests.cluster import StoreCluster
from tests.processes import ROOT, free_port_block


@pytest.fixture(scope="module")
def client(cluster: StoreCluster) -> Iterator[Client]:
    with cluster.client() as made:
        yield made


@pytest.fixture
def row() -> str:
    return f"u{secrets.token_hex(6)}:mail"


class RawConnection:
    """The wire itself, to the primary of a row: for requests that no client would send."""

    def __init__(self, cluster: StoreCluster, client: Client, row: str) -> None:
        found = client.router.tablets.find(row)
        assert found is not None
        assert found.primary is not None
        self.tablet, self.range_version = found.tablet, found.range_version
        self.sock = socket.create_connection(parse_address(client.router.tablets.addresses[found.primary.node]))
        tune(self.sock)
        connect_side(self.sock, read_key(cluster.key_file), Role.CLIENT, "raw", found.primary.node, 5)
        self.sock.settimeout(10)
        self._reader = FrameReader(self.sock, settings.MAX_PEER_BULK)

    def send(self, message: Any, request_id: int) -> None:
        self.sock.sendall(b"".join(map(bytes, encode(message, request_id))))

    def answers(self, count: int) -> dict[int, Any]:
        """`count` answers by their request ids; many that came as one are taken apart."""
        found: dict[int, Any] = {}
        while len(found) < count:
            for fields, bulk in self._reader.read():
                message = read_message(fields, bulk)
                if isinstance(message, WrittenMany):
                    for sequence, request_id in enumerate(message.ids, message.first):
                        found[request_id] = Written(Outcome.OK, message.epoch, sequence)
                else:
                    found[fields[1]] = message
        return found

    def write(self, mutation: bytes, request_id: int, bulk: bytes = b"") -> None:
        """Send a bundle of one mutation."""
        self.send(Write(self.tablet, self.range_version, [request_id], bundle_of(mutation, bulk=bulk)), 0)


class TestThreads:
    def test_sixty_four_threads_share_one_client_and_its_connections(self, client: Client, row: str) -> None:
        failures: list[Exception] = []

        def work(worker: int) -> None:
            try:
                for number in range(30):
                    value = f"{worker}/{number}".encode()
                    client.put(row, f"{worker:02}", value)
                    cell = client.get(row, f"{worker:02}")
                    assert cell is not None
                    assert cell.value == value, "a caller reads what it wrote, never another's"
            except (AssertionError, StoreError) as error:
                failures.append(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(64)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert not failures
        assert [cell.value for cell in client.get_row(row).values()] == [f"{n}/29".encode() for n in range(64)]

    def test_threads_count_with_compare_and_put_and_lose_nothing(self, client: Client, row: str) -> None:
        client.put(row, "count", b"0")

        def work() -> None:
            for _ in range(10):
                while True:
                    cell = client.get(row, "count")
                    assert cell is not None
                    if client.cput(row, "count", cell.value, str(int(cell.value) + 1).encode()):
                        break

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        cell = client.get(row, "count")
        assert cell is not None
        assert cell.value == b"80"


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from kvstore.client import connect
from kvstore.errors import BadRequest
from gevent.threadpool import ThreadPool

client = connect(sys.argv[1], sys.argv[2])
row = sys.argv[3]

def work(worker):
    for number in range(30):
        client.put(row, f"{worker:02}", f"{worker}/{number}".encode())
        assert client.get(row, f"{worker:02}").value == f"{worker}/{number}".encode()

workers = [gevent.spawn(work, number) for number in range(64)]
gevent.joinall(workers, raise_error=True)
assert len(client.get_row(row)) == 64

# a caller that is killed while it waits leaves the others unharmed, and its late answer wakes nobody
victims = [gevent.spawn(client.put, row, "killed", b"x" * 100000) for _ in range(20)]
gevent.sleep(0)
gevent.killall(victims)
gevent.joinall([gevent.spawn(work, number) for number in range(16)], raise_error=True)
with gevent.Timeout(0.0, False):
    client.put(row, "late", b"x" * 100000)
gevent.sleep(0.3)
work(1)

# a value larger than what the system takes at once
big = bytes(range(256)) * 16384
gevent.joinall([gevent.spawn(client.put, row, f"big{n}", big) for n in range(4)], raise_error=True)
assert all(client.get(row, f"big{n}").value == big for n in range(4))
client.delete_row(row)
client.close()
print("fine")
"""


class TestGreenlets:
    def test_in_a_patched_process_callers_are_greenlets(self, cluster: StoreCluster, row: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", GREENLETS, cluster.coordinators, str(cluster.key_file), row],
            cwd=ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.stdout == "fine\n", done.stderr
        assert "Traceback" not in done.stderr


class TestRepeats:
    def test_a_mutation_that_is_sent_again_is_answered_again_and_applied_once(
        self, cluster: StoreCluster, client: Client, row: str
    ) -> None:
        raw = RawConnection(cluster, client, row)
        append_only = encode_mutation(secrets.randbits(60), 1, 1, [[0, row, "c"]], [[0, row, "c", b"once"]])
        raw.write(append_only, 1)
        first = raw.answers(1)[1]
        raw.write(append_only, 2)
        second = raw.answers(1)[2]
        assert first == second, "the second says what the first said: that the cell was absent, and is written"
        assert first.outcome == Outcome.OK
        raw.sock.close()

    def test_repeats_that_arrive_together_are_one(self, cluster: StoreCluster, client: Client, row: str) -> None:
        raw = RawConnection(cluster, client, row)
        mutation = encode_mutation(secrets.randbits(60), 1, 1, [], [[0, row, "c", b"x"]])
        for request_id in range(1, 6):
            raw.write(mutation, request_id)
        answers = raw.answers(5)
        assert len({(answer.epoch, answer.sequence) for answer in answers.values()}) == 1
        raw.sock.close()

    def test_what_the_client_no_longer_asks_about_is_not_applied_late(
        self, cluster: StoreCluster, client: Client, row: str
    ) -> None:
        """A straggler below the floor: the client has given that number up, and may have told its caller so."""
        raw = RawConnection(cluster, client, row)
        caller = secrets.randbits(60)
        raw.write(encode_mutation(caller, 9, 9, [], [[0, row, "c", b"nine"]]), 1)
        raw.answers(1)
        raw.write(encode_mutation(caller, 3, 3, [], [[0, row, "c", b"three"]]), 2)
        answer = raw.answers(1)[2]
        assert isinstance(answer, Refused)
        assert answer.error == OutcomeUnknown.__name__
        cell = client.get(row, "c")
        assert cell is not None
        assert cell.value == b"nine"
        raw.sock.close()


class TestBadCompany:
    def test_a_client_that_does_not_read_is_not_read_from_and_harms_nobody(
        self, cluster: StoreCluster, client: Client, row: str
    ) -> None:
        client.put(row, "big", bytes(4 * settings.MIB))
        raw = RawConnection(cluster, client, row)
        found = client.router.tablets.find(row)
        assert found is not None
        for request_id in range(1, 200):  # eight hundred megabytes of answers that nobody takes
            raw.send(Get(found.tablet, found.range_version, row, "big"), request_id)
        longest = 0.0
        for number in range(50):
            begun = time.monotonic()
            client.put(row, "small", str(number).encode())
            longest = max(longest, time.monotonic() - begun)
        assert longest < 1.0
        memory = {node["id"]: node["memory_bytes"] for node in cluster.status()["nodes"]}
        assert max(memory.values()) < 500 * settings.MIB
        answers = raw.answers(199)  # and when he reads at last, all is there
        assert {len(answer.value) for answer in answers.values()} == {4 * settings.MIB}
        raw.sock.close()

    def test_a_malformed_mutation_is_refused_and_the_connection_goes_on(
        self, cluster: StoreCluster, client: Client, row: str
    ) -> None:
        raw = RawConnection(cluster, client, row)
        bad = [
            encode_mutation(1, 1, 1, [], [[0, row, "c", "text"]]),
            encode_mutation(1, 1, 1, [], [[9, row, "c", b"x"]]),
            encode_mutation(1, 1, 1, [], [[0, row, "x" * 2000, b"x"]]),
            encode_mutation(1, 1, 1, [], [[1, row, "c", 50_000, 0]]),
            encode_mutation(1, 1, 1, [[7, row, "c"]], []),
            encode_mutation(-1, 1, 1, [], [[0, row, "c", b"x"]]),
        ]
        for request_id, mutation in enumerate(bad, 1):
            raw.write(mutation, request_id)
        answers = raw.answers(len(bad))
        assert {type(answer) for answer in answers.values()} == {Refused}
        raw.write(encode_mutation(secrets.randbits(60), 1, 1, [], [[0, row, "c", b"x"]]), 99)
        assert isinstance(raw.answers(1)[99], Written)
        raw.sock.close()

    def test_a_value_damaged_on_its_way_is_refused(self, cluster: StoreCluster, client: Client, row: str) -> None:
        raw = RawConnection(cluster, client, row)
        value = bytes(settings.BULK_VALUE)
        mutation = encode_mutation(1, 1, 1, [], [[1, row, "c", len(value), 12345]])
        raw.write(mutation, 1, value)
        answer = raw.answers(1)[1]
        assert isinstance(answer, Refused)
        assert "damaged on its way" in answer.message
        raw.sock.close()


def _in_child(client: Client, results: Any) -> None:
    try:
        client.get("a", "b")
    except StoreError as error:
        results.put(str(error))


class TestLife:
    def test_a_forked_child_is_told_to_connect_for_itself(self, client: Client) -> None:
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        child = context.Process(target=_in_child, args=(client, results))
        child.start()
        assert "connect() in the child" in results.get(timeout=10)
        child.join(10)
        assert client.get("a:b", "c") is None, "the parent's client works on"

    def test_a_closed_client_says_so(self, cluster: StoreCluster) -> None:
        closed = cluster.client()
        closed.close()
        with pytest.raises(Unavailable, match="closed"):
            closed.get("a", "b")

    def test_where_nobody_answers_connecting_ends_in_time_with_a_clear_error(self, cluster: StoreCluster) -> None:
        nowhere = f"127.0.0.1:{free_port_block(1)}"
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=f"no coordinator answers: .*{nowhere}"):
            connect(nowhere, str(cluster.key_file), timeout=0.5)
        assert time.monotonic() - begun < 2

    def test_a_coordinator_that_accepts_and_says_nothing_does_not_hold_us(self, cluster: StoreCluster) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            begun = time.monotonic()
            with pytest.raises(Unavailable):
                connect(f"127.0.0.1:{silent.getsockname()[1]}", str(cluster.key_file), timeout=0.5)
            assert time.monotonic() - begun < 2

    def test_a_node_will_do_in_the_coordinators_place(self, cluster: StoreCluster, row: str) -> None:
        """The coordinator may be down just when a front end starts."""
        with connect(f"127.0.0.1:{cluster.port + 2}", str(cluster.key_file)) as client:
            client.put(row, "c", b"x")

    def test_a_missing_key_is_a_clear_error(self, cluster: StoreCluster, tmp_path: Path) -> None:
        with pytest.raises(BadRequest, match="cannot be read"):
            connect(cluster.coordinators, tmp_path / "no.key", timeout=1)
