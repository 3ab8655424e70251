"""Readers who go on asking one node, whatever the tablet map says, and do not wait for its answers.

The product's client leaves a node that hangs, and asks whoever leads now; so it would seldom hear what an old primary, stopped
or cut off, still believes. These ask over a connection of their own, many requests deep: what they sent while the node was
stopped is in front of it when it wakes. A refusal is no answer; a value is an answer like any other, and is judged.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kvstore import settings
from kvstore.connection import FrameReader, parse_address
from kvstore.errors import AuthenticationFailed
from kvstore.handshake import Role, connect_side, read_key
from kvstore.messages import CellAnswer
from kvstore.tabletmap import TabletMap
from kvstore.wire import encode_get, read_message
from tests.simulation.checker import Operation
from tests.simulation.choice import COLUMNS, ROWS

PAUSE = 0.02
"""Seconds between two requests, on average."""
PATIENCE = 1.0
"""Seconds before a broken connection is made anew, and for which the node may leave one unaccepted."""


class StubbornReader:
    """One reader of one node, in two threads, until `end`."""

    def __init__(
        self,
        node: str,
        number: int,
        groups: list[str],
        tablets: TabletMap,
        key_file: Path,
        record: Callable[[str, Operation], None],
    ) -> None:
        """`number`: of the caller, for the history. `tablets`: names tablets and addresses. `record`: takes what was read,
        and the group that it belongs to."""
        self._node = node
        self._number = number
        self._groups = groups
        self._ranges: dict[str, list[tuple[int, int]]] = {group: [] for group in groups}
        """Tablets and range versions that the map has had for a group."""
        self._tablets = tablets
        self._key = read_key(key_file)
        self._record = record
        self._asked: dict[int, tuple[str, Operation]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop asking; what was not answered is forgotten."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        chance = random.Random(self._number)
        while not self._ended.is_set():
            try:
                with self._connect() as sock:
                    reader = threading.Thread(target=self._read, args=(sock,), daemon=True)
                    reader.start()
                    try:
                        self._ask(sock, chance)
                    finally:
                        sock.shutdown(socket.SHUT_RDWR)
                        reader.join()
            except (OSError, EOFError, AuthenticationFailed):
                self._ended.wait(chance.uniform(0, PATIENCE))

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(parse_address(self._tablets.addresses[self._node]), PATIENCE)
        try:
            connect_side(sock, self._key, Role.CLIENT, "stubborn", self._node, PATIENCE)
        except BaseException:
            sock.close()
            raise
        sock.settimeout(None)
        return sock

    def _ask(self, sock: socket.socket, chance: random.Random) -> None:
        self._asked.clear()
        number = 0
        while not self._ended.wait(chance.uniform(0, 2 * PAUSE)):
            number += 1
            group = chance.choice(self._groups)
            row, column = group + chance.choice(ROWS), chance.choice(COLUMNS)
            found = self._tablets.find(row)
            if found is not None and (found.tablet, found.range_version) not in self._ranges[group]:
                self._ranges[group].append((found.tablet, found.range_version))
            # what it was before it was split as well: who has not heard of that may answer still
            tablet, version = chance.choice(self._ranges[group][-2:] or [(0, 0)])
            operation = Operation(self._number, "read", time.monotonic(), 0.0, (row, column))
            self._asked[number] = group, operation
            sock.sendall(encode_get(tablet, version, row, column, number))

    def _read(self, sock: socket.socket) -> None:
        """Write down each value that comes; ends with the connection."""
        frames = FrameReader(sock, settings.MAX_PEER_BULK)
        try:
            while True:
                for fields, bulk in frames.read():
                    message = read_message(fields, bulk)
                    group, operation = self._asked.pop(fields[1])
                    if isinstance(message, CellAnswer):
                        operation.end = time.monotonic()
                        operation.result = bytes(message.value) if message.epoch else None
                        self._record(group, operation)
        except (OSError, EOFError):
            sock.close()
