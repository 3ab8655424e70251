"""Frames through real sockets: cut anywhere, sent in any company, bounded in size."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from kvstore import settings
from kvstore.codec import Malformed
from kvstore.connection import FrameReader, Outbox, parse_address
from kvstore.errors import BadRequest
from kvstore.handshake import Partner, Role
from kvstore.mutation import Buffer
from kvstore.threads import ThreadChannel
from kvstore.wire import FRAME, frame

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


def flat(parts: Sequence[Buffer]) -> bytes:
    return b"".join(map(bytes, parts))


def frames_of(sizes: list[tuple[int, int]]) -> list[list[Buffer]]:
    """Frames with messages and bulk parts of about these sizes, each recognizable by its number."""
    made = []
    for number, (text, bulk) in enumerate(sizes):
        value = bytes([number % 256]) * bulk
        made.append(frame([10, number, "t" * text], [value] if bulk else [], bulk))
    return made


def read_frames(sock: socket.socket, count: int) -> list[tuple[int, int, bytes]]:
    reader = FrameReader(sock, settings.MAX_BULK)
    found: list[tuple[int, int, bytes]] = []
    while len(found) < count:
        found += [(fields[1], len(fields[2]), bulk) for fields, bulk in reader.read()]
    return found


class TestReading:
    def test_frames_arrive_whole_wherever_the_stream_is_cut(self, pair: Pair) -> None:
        sizes = [(5, 0), (0, 3), (300, 70_000), (200_000, 0), (1, 1), (0, 400_000), (150_000, 200_000), (2, 0)] * 3
        data = b"".join(flat(parts) for parts in frames_of(sizes))
        cuts = random.Random(1)

        def send() -> None:
            at = 0
            while at < len(data):
                step = cuts.choice([1, 7, 100, 5_000, 131_072, 300_000])
                pair[0].sendall(data[at : at + step])
                at += step

        thread = threading.Thread(target=send)
        thread.start()
        found = read_frames(pair[1], len(sizes))
        thread.join()
        assert [(text, len(bulk)) for _, text, bulk in found] == sizes
        assert [number for number, _, _ in found] == list(range(len(sizes)))
        assert all(set(bulk) <= {number % 256} for number, _, bulk in found)

    def test_what_has_arrived_together_is_read_together(self, pair: Pair) -> None:
        pair[0].sendall(b"".join(flat(parts) for parts in frames_of([(3, 0)] * 50)))
        assert len(FrameReader(pair[1], 0).read()) == 50

    @pytest.mark.parametrize(("message", "bulk"), [(settings.MAX_MESSAGE + 1, 0), (10, settings.MAX_BULK + 1)])
    def test_a_frame_over_the_limit_is_refused_by_its_head_alone(self, pair: Pair, message: int, bulk: int) -> None:
        pair[0].sendall(FRAME.pack(message, bulk))
        with pytest.raises(Malformed, match="over the limit"):
            FrameReader(pair[1], settings.MAX_BULK).read()

    def test_an_end_between_frames_and_one_inside_a_frame_are_both_an_end(self, pair: Pair) -> None:
        (whole,) = frames_of([(3, 0)])
        pair[0].sendall(flat(whole))
        reader = FrameReader(pair[1], 0)
        assert len(reader.read()) == 1
        pair[0].sendall(flat(whole)[:-1])
        pair[0].shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            reader.read()

    def test_garbage_is_malformed(self, pair: Pair) -> None:
        pair[0].sendall(FRAME.pack(4, 0) + b"\xc1\xc1\xc1\xc1")
        with pytest.raises(Malformed):
            FrameReader(pair[1], 0).read()


class TestOutbox:
    @pytest.mark.parametrize("seed", range(20))
    def test_everything_leaves_once_and_in_order_however_little_the_system_takes(self, seed: int) -> None:
        chance = random.Random(seed)
        taken = bytearray()

        def send(parts: Sequence[Buffer]) -> int:
            data = b"".join(map(bytes, parts))
            if chance.random() < 0.3:
                raise BlockingIOError
            count = chance.randint(1, len(data))
            taken.extend(data[:count])
            return count

        outbox = Outbox(send)
        expected = bytearray()
        for _ in range(30):
            parts = [
                chance.randbytes(chance.choice([1, 50, 3_000, 20_000, 200_000])) for _ in range(chance.randint(1, 5))
            ]
            outbox.add(parts)
            expected += b"".join(parts)
            outbox.push()
        while not outbox.push():
            pass
        assert taken == expected
        assert outbox.size == 0
        assert not outbox

    def test_many_small_frames_leave_in_one_call(self) -> None:
        calls: list[int] = []

        def send(parts: Sequence[Buffer]) -> int:
            calls.append(len(parts))
            return sum(map(len, parts))

        outbox = Outbox(send)
        for _ in range(64):
            outbox.add([b"x" * 100])
        assert outbox.push()
        assert calls == [1]

    def test_a_large_value_is_handed_to_the_system_as_it_is(self) -> None:
        value = bytes(4 * settings.MIB)
        seen: list[Buffer] = []

        def send(parts: Sequence[Buffer]) -> int:
            seen.extend(parts)
            return sum(map(len, parts))

        outbox = Outbox(send)
        outbox.add([b"head", value])
        outbox.push()
        assert any(part is value for part in seen)


class TestThreads:
    def test_many_threads_share_a_connection_and_no_frame_is_torn(self, pair: Pair) -> None:
        channel = ThreadChannel(pair[0], Partner(Role.NODE, "x"), settings.MAX_BULK)
        per_thread, threads = 200, 8

        def send(base: int) -> None:
            for number in range(per_thread):
                bulk = bytes([number % 256]) * (0 if number % 3 else 30_000)
                channel.send(frame([10, base + number, "x"], [bulk] if bulk else [], len(bulk)))

        workers = [threading.Thread(target=send, args=(worker * per_thread,)) for worker in range(threads)]
        for worker in workers:
            worker.start()
        found = read_frames(pair[1], per_thread * threads)
        for worker in workers:
            worker.join()
        assert sorted(number for number, _, _ in found) == list(range(per_thread * threads))
        by_thread = [[n for n, _, _ in found if n // per_thread == worker] for worker in range(threads)]
        assert all(numbers == sorted(numbers) for numbers in by_thread)
        channel.close()

    def test_a_partner_that_does_not_read_holds_nobody_up(self, pair: Pair) -> None:
        """The system takes no more after some hundred KiB; the sender goes on, and all arrives when the partner reads."""
        channel = ThreadChannel(pair[0], Partner(Role.NODE, "x"), settings.MAX_BULK)
        for number in range(200):
            channel.send(frame([10, number, "x"], [bytes(50_000)], 50_000))
        assert len(read_frames(pair[1], 200)) == 200
        channel.close()

    def test_closing_wakes_a_sender_that_waits_for_room(self, pair: Pair) -> None:
        channel = ThreadChannel(pair[0], Partner(Role.NODE, "x"), settings.MAX_BULK)
        for number in range(100):
            channel.send(frame([10, number, "x"], [bytes(50_000)], 50_000))
        closing = threading.Thread(target=channel.close)
        closing.start()
        closing.join(5)
        assert not closing.is_alive()


@pytest.mark.parametrize("text", ["", "host", "host:", ":80", "host:x", "host:0", "host:70000", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="host:port"):
        parse_address(text)


def test_an_address_may_be_ipv6() -> None:
    assert parse_address("[::1]:7400") == ("::1", 7400)
