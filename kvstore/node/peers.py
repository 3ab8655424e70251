"""A node's ways to its peers: one outgoing connection to each, for what it sends and for what it asks.

Replication messages go out on the connection that this node dialled and come in on those that its peers dialled. A request
to a peer (a secondary's forwarded read, a learner's page) goes out on the same connection and is answered on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from kvstore import wire
from kvstore.connection import parse_address
from kvstore.dialer import Dialer
from kvstore.errors import BadRequest
from kvstore.greenlets import Channel
from kvstore.mutation import Buffer
from kvstore.supervision import note, spawn

Answered = Callable[[list[Any] | None, bytes], None]
"""(fields, bulk) of the answer; fields are None when the connection was lost before it came."""


class Peers:
    """All other nodes that the coordinator has named."""

    def __init__(self, key: bytes, name: str, on_up: Callable[[str], None], on_down: Callable[[str], None]) -> None:
        """`name` is ours. `on_up(node)` and `on_down(node)` by turns, as the connection to that node comes and goes."""
        self._key = key
        self._name = name
        self._on_up = on_up
        self._on_down = on_down
        self._peers: dict[str, _Peer] = {}

    def learn(self, addresses: dict[str, str]) -> None:
        """Where nodes listen, as the coordinator says."""
        for node, address in addresses.items():
            if node == self._name:
                continue
            try:
                place = parse_address(address)
            except BadRequest as error:
                note(f"{node}: {error}")
                continue
            if node not in self._peers:
                peer = _Peer(self._key, self._name, node, self._on_up, self._on_down)
                self._peers[node] = peer
                peer.dialer.aim([place])
                spawn(f"link to {node}", peer.dialer.run)
            else:
                self._peers[node].dialer.aim([place])

    def send(self, node: str, parts: Sequence[Buffer]) -> None:
        """Send a frame to `node`; dropped when it is not connected."""
        peer = self._peers.get(node)
        if peer is not None:
            peer.dialer.send(parts)

    def ask(self, node: str, request: Any, answered: Answered) -> None:
        """Ask `request` of `node`; `answered` is called exactly once, maybe before this returns."""
        peer = self._peers.get(node)
        if peer is None or not peer.dialer.up:
            answered(None, b"")
            return
        request_id = peer.new_id()
        peer.asked[request_id] = answered
        peer.dialer.send(wire.encode(request, request_id))


class _Peer:
    """One other node."""

    def __init__(
        self, key: bytes, name: str, node: str, on_up: Callable[[str], None], on_down: Callable[[str], None]
    ) -> None:
        self.node = node
        self.asked: dict[int, Answered] = {}
        self.new_id = count(1).__next__
        self._on_up = on_up
        self._on_down = on_down
        self.dialer = Dialer(
            key, name, node, on_up=self._up, on_down=self._down, on_frames=self._frames, report=note
        )  # fmt: skip

    def _up(self, channel: Channel) -> None:
        self._on_up(self.node)

    def _down(self) -> None:
        lost, self.asked = self.asked, {}
        for answered in lost.values():
            answered(None, b"")
        self._on_down(self.node)

    def _frames(self, frames: list[tuple[list[Any], bytes]]) -> None:
        for fields, bulk in frames:
            answered = self.asked.pop(fields[1], None)
            if answered is not None:
                answered(fields, bulk)
