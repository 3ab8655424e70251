"""Answers to clients on their way out: many writes that were committed together share one message on each connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvstore.greenlets import Channel
from kvstore.messages import Written
from kvstore.node.effects import Committed
from kvstore.wire import WrittenMany, encode

ClientToken = tuple[Channel, int]
"""How the server names a client's request: the connection it came on, and its id there."""


def send_committed(effect: Committed) -> None:
    """Answer every write of the effect; those that were done and came on one connection with one `WrittenMany`."""
    together: dict[Channel, tuple[list[int], list[int]]] = {}
    outcomes: Sequence[int] = effect.outcomes
    all_done = not any(outcomes)
    sequence = effect.first - 1
    for index, token in enumerate(effect.tokens):
        sequence += 1
        if token is None:
            continue
        assert isinstance(token, tuple)
        channel, request_id = token
        if all_done or not outcomes[index]:
            lists = together.get(channel)
            if lists is None:
                together[channel] = [request_id], [sequence]
            else:
                lists[0].append(request_id)
                lists[1].append(sequence)
        else:
            failed = effect.failed[index] if effect.failed is not None else 0
            channel.send(encode(Written(outcomes[index], effect.epoch, sequence, failed), request_id))
    for channel, (ids, sequences) in together.items():
        channel.send(encode(WrittenMany(effect.epoch, ids, sequences)))


def send_answer(token: Any, message: Any) -> None:
    """Answer the request `token` with `message`."""
    channel, request_id = token
    channel.send(encode(message, request_id), True)
