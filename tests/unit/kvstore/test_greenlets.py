"""Channels on gevent's loop: frames of one round leave together, and a partner that does not read is waited for, or left."""

from __future__ import annotations

import os
from collections.abc import Iterator

import gevent
import gevent.event
import pytest
from gevent import socket

from kvstore import settings
from kvstore.greenlets import Channel, Greenlets
from kvstore.handshake import Partner, Role
from kvstore.wire import frame

PARTNER = Partner(Role.NODE, "x")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def small(number: int) -> list[bytes]:
    return [bytes(part) for part in frame([10, number])]


def test_what_is_sent_in_one_round_arrives_in_one_piece(pair: tuple[socket.socket, socket.socket]) -> None:
    channel, partner = Channel(pair[0], PARTNER, 0), Channel(pair[1], PARTNER, 0)
    for number in range(50):
        channel.send(small(number))
    with gevent.Timeout(5):
        assert [fields[1] for fields, _ in partner.read()] == list(range(50))


def test_what_the_system_does_not_take_at_once_follows_when_the_partner_reads(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    channel, partner = Channel(pair[0], PARTNER, 0), Channel(pair[1], PARTNER, settings.MAX_BULK)
    value = bytes(range(256)) * 4096
    for number in range(20):
        channel.send(frame([10, number], [value], len(value)))
    emptied = gevent.spawn(channel.wait_emptied)
    gevent.sleep(0.05)
    assert channel.unsent > 0
    assert not emptied.ready()
    channel.send(small(20))  # queued behind what waits
    found: list[int] = []
    with gevent.Timeout(20):
        while len(found) < 21:
            for fields, bulk in partner.read():
                found.append(fields[1])
                assert bulk in (b"", value)
        emptied.get()
    assert found == list(range(21))
    assert channel.unsent == 0
    channel.send(small(21))
    with gevent.Timeout(5):
        assert partner.read()[0][0][1] == 21


def test_a_channel_that_falls_too_far_behind_closes_itself(pair: tuple[socket.socket, socket.socket]) -> None:
    channel = Channel(pair[0], PARTNER, 0, most_unsent=settings.MIB)
    value = bytes(100_000)
    for number in range(30):
        channel.send(frame([10, number], [value], len(value)))
        gevent.sleep(0)
    assert channel.closed
    with pytest.raises(EOFError):
        channel.read()
    channel.send(small(1))  # dropped: there is nobody to send it to


def test_closing_wakes_who_reads_and_who_waits_for_room(pair: tuple[socket.socket, socket.socket]) -> None:
    channel = Channel(pair[0], PARTNER, 0)
    channel.send(frame([10, 1], [bytes(5_000_000)], 5_000_000))
    reader, waiter = gevent.spawn(channel.read), gevent.spawn(channel.wait_emptied)
    gevent.sleep(0.02)
    channel.close()
    with gevent.Timeout(5):
        waiter.get()
        with pytest.raises((EOFError, OSError)):
            reader.get()


def test_a_closed_channels_descriptor_is_nobody_elses_while_its_reader_has_not_woken(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Who is ready to read at the instant of closing would read from whatever got the number next."""
    channel = Channel(pair[0], PARTNER, 0)
    number = pair[0].fileno()
    reader = gevent.spawn(channel.read)
    gevent.sleep(0.02)
    channel.close()
    next_file = os.open(os.devnull, os.O_RDONLY)
    try:
        assert next_file != number
    finally:
        os.close(next_file)
    with gevent.Timeout(5), pytest.raises((EOFError, OSError)):
        reader.get()
    next_file = os.open(os.devnull, os.O_RDONLY)
    os.close(next_file)
    assert next_file == number, "it is free when nobody waits on it any more"


def test_what_arrives_while_the_reader_is_busy_wakes_nobody_until_it_reads(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    channel, partner = Channel(pair[0], PARTNER, 0), Channel(pair[1], PARTNER, 0)
    go_on = gevent.event.Event()
    found: list[int] = []

    def read() -> None:
        while len(found) < 3:
            found.extend(fields[1] for fields, _ in partner.read())
            go_on.wait()

    reader = gevent.spawn(read)
    channel.send(small(0))
    gevent.sleep(0.02)
    channel.send(small(1))
    gevent.sleep(0.02)
    begun = gevent.get_hub().loop.iteration
    gevent.sleep(0.05)
    assert gevent.get_hub().loop.iteration - begun < 10, "the loop calls again and again for what nobody reads"
    assert found == [0]
    go_on.set()
    channel.send(small(2))
    reader.join(5)
    assert found == [0, 1, 2]


def test_a_reader_that_was_killed_is_not_woken(pair: tuple[socket.socket, socket.socket]) -> None:
    channel, partner = Channel(pair[0], PARTNER, 0), Channel(pair[1], PARTNER, 0)
    reader = gevent.spawn(partner.read)
    gevent.sleep(0.01)
    reader.kill()
    channel.send(small(0))
    gevent.sleep(0.01)
    with gevent.Timeout(5):
        assert partner.read()[0][0][1] == 0, "another may read in its place"


def test_nothing_is_read_from_a_channel_once_it_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    """What had arrived and was not read when it was closed is no request of anybody's who could be answered."""
    channel, partner = Channel(pair[0], PARTNER, 0), Channel(pair[1], PARTNER, 0)
    reader = gevent.spawn(channel.read)
    gevent.sleep(0.02)
    partner.send(small(1))
    partner.wait_emptied()
    channel.close()
    with gevent.Timeout(5), pytest.raises((EOFError, OSError)):
        reader.get()


def test_a_client_is_called_from_the_thread_that_made_it() -> None:
    import threading

    from kvstore.errors import BadRequest

    callers = Greenlets()
    callers.check_caller()
    caught: list[Exception] = []

    def elsewhere() -> None:
        try:
            callers.check_caller()
        except BadRequest as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(caught) == 1
