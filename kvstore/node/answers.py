"""Answers to clients on their way out: writes that came and were committed together share one message."""

from __future__ import annotations

from itertools import count
from typing import Any

from kvstore.greenlets import Channel
from kvstore.messages import Written
from kvstore.node.effects import Committed
from kvstore.wire import encode, encode_written_many

ClientToken = tuple[Channel, int]
"""How the server names a client's request: the connection it came on, and its id there."""


def send_committed(effect: Committed) -> None:
    """Answer every write of the effect; those of one bundle, if all were done, with one `WrittenMany`."""
    all_done = not any(effect.outcomes)
    at = 0
    for source, ids in effect.groups:
        channel: Any = source
        if all_done:
            channel.send_now(encode_written_many(effect.epoch, effect.first + at, ids))
            at += len(ids)
            continue
        for request_id, index in zip(ids, count(at)):
            failed = effect.failed[index] if effect.failed is not None else 0
            written = Written(effect.outcomes[index], effect.epoch, effect.first + index, failed)
            channel.send(encode(written, request_id))
        at += len(ids)


def send_answer(token: Any, message: Any) -> None:
    """Answer the request `token` with `message`."""
    channel, request_id = token
    channel.send(encode(message, request_id), True)
