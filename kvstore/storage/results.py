"""What a tablet remembers of mutations it has applied, so that a repeated request is answered and not applied again.

Part of the tablet: fed in log order, written into its checkpoint, handed to a learner. Everything here depends only on the
order of `record` and `record_done` calls, which the entries decide, so all replicas of a tablet forget the same things at the
same moment.

Forgotten are: numbers below the client's own `floor` (it no longer waits for them); beyond `per_client` results of one
client, those recorded first; beyond `clients` clients, the one whose last mutation is longest ago. `lookup` tells a number
that was forgotten from one that never came, as long as its client is remembered.

Encoding (`encode`), msgpack:
    [client, ...] least recently applied first, each
    [client: u64, floor: u64, numbers: bin, epochs: bin, sequences: bin, outcomes: bin, failed: bin]
    where the bins are arrays, little-endian, in the order recorded, of u64, u64, u64, u8, u16
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

from kvstore import settings
from kvstore.errors import BadRequest
from kvstore.mutation import Mutation

assert sys.byteorder == "little", "arrays are written to disk as they lie in memory"
assert array("Q").itemsize == 8
assert array("H").itemsize == 2


class Result(NamedTuple):
    """What came of a mutation. `failed` is the index of the requirement that did not hold, if one did not."""

    outcome: int
    epoch: int
    sequence: int
    failed: int = 0


@dataclass(slots=True, frozen=True)
class Forgotten:
    """The number is below what is remembered of its client: it may have been applied."""

    floor: int


_Kept = tuple[int, int, int, int]
"""The fields of a `Result`, as plain tuples for the most part: those take the fewest steps, and the collector looks away."""


class _Client:
    """One client's results by number, in the order recorded. `stamp` tells whether a snapshot, or another table, shares it."""

    __slots__ = ("floor", "results", "stamp")

    def __init__(self, floor: int, results: dict[int, _Kept], stamp: int) -> None:
        self.floor = floor
        self.results = results
        self.stamp = stamp


class ResultTable:
    """The remembered results of one tablet."""

    def __init__(
        self, per_client: int = settings.RESULTS_PER_CLIENT, clients: int = settings.CLIENTS_REMEMBERED
    ) -> None:
        self._per_client = per_client
        self._most_clients = clients
        self._clients: dict[int, _Client] = {}
        self._newest_client = -1
        self._newest = _Client(0, {}, 0)
        self._stamp = 0
        self._snapshots = 0
        self._shared_before = 0

    def __len__(self) -> int:
        return sum(len(client.results) for client in self._clients.values())

    def lookup(self, client: int, number: int) -> Result | Forgotten | None:
        """The result of mutation (client, number); None if it was never applied, as far as anybody can know."""
        known = self._clients.get(client)
        if known is None:
            return None
        found = known.results.get(number)
        if found is not None:
            return Result._make(found)
        return Forgotten(known.floor) if number < known.floor else None

    def highest(self, client: int) -> int:
        """The highest number of the client that was ever applied, as far as is remembered; -1 if none is."""
        known = self._clients.get(client)
        return -1 if known is None else max([known.floor - 1, *known.results])

    def record(self, client: int, number: int, floor: int, result: Result) -> None:
        """Remember a result that was just applied. Called in log order, on every replica alike."""
        known = self._newest
        if client != self._newest_client or known.stamp != self._stamp:
            known = self._make_newest(client, floor)
        if floor > known.floor:
            self._raise_floor(known, floor)
        results = known.results
        results[number] = result
        if len(results) > self._per_client:
            self._forget_oldest(known)

    def record_done(self, mutations: Iterable[Mutation], epoch: int, sequence: int) -> None:
        """Remember that all of these were done, the first with `sequence`: as `record` of each.

        A client's floor is raised once, behind its last mutation, or when there are more results than are kept. That makes no
        difference for a client that keeps to what a floor means: no number that it sends is below one that it stated.
        """
        known, newest, results, most = self._newest, -1, self._newest.results, self._per_client
        top = 0
        for client, number, floor, _, _ in mutations:
            if client != newest:
                if top > known.floor:
                    self._raise_floor(known, top)
                known, newest = self._newest, client
                if client != self._newest_client or known.stamp != self._stamp:
                    known = self._make_newest(client, floor)
                results, top = known.results, known.floor
            if floor > top:
                top = floor
            results[number] = (0, epoch, sequence, 0)
            sequence += 1
            if len(results) > most:
                if top > known.floor:
                    self._raise_floor(known, top)
                    results = known.results
                if len(results) > most:
                    self._forget_oldest(known)
                    top = max(top, known.floor)
        if top > known.floor:
            self._raise_floor(known, top)

    @staticmethod
    def _forget_oldest(known: _Client) -> None:
        oldest = next(iter(known.results))
        del known.results[oldest]
        known.floor = max(known.floor, oldest + 1)

    def _make_newest(self, client: int, floor: int) -> _Client:
        """The client, put at the end (most recently applied), in a form that no snapshot shares."""
        known = self._clients.pop(client, None)
        if known is None:
            known = _Client(floor, {}, self._stamp)
            if len(self._clients) >= self._most_clients:
                del self._clients[next(iter(self._clients))]
        elif known.stamp != self._stamp:
            shared = self._snapshots or known.stamp < self._shared_before
            known = _Client(known.floor, dict(known.results) if shared else known.results, self._stamp)
        self._clients[client] = known
        self._newest_client, self._newest = client, known
        return known

    @staticmethod
    def _raise_floor(known: _Client, floor: int) -> None:
        results = known.results
        if floor - known.floor > len(results):
            known.results = {number: result for number, result in results.items() if number >= floor}
        else:
            for number in range(known.floor, floor):
                results.pop(number, None)
        known.floor = floor

    def twin(self) -> ResultTable:
        """The same results in another table, for a tablet that is split off this one's. Costs a look at each client: what the
        two remember of one is copied when the first of them changes it."""
        other = ResultTable(self._per_client, self._most_clients)
        self._stamp += 1
        other._stamp = other._shared_before = self._shared_before = self._stamp
        other._clients = dict(self._clients)
        return other

    def snapshot(self) -> ResultSnapshot:
        """The table as it is now, kept while the table goes on. To be released."""
        self._stamp += 1
        self._snapshots += 1
        return ResultSnapshot(self, [(c, k.floor, k.results) for c, k in self._clients.items()])

    def release_snapshot(self) -> None:
        """One snapshot is no longer read."""
        self._snapshots -= 1
        assert self._snapshots >= 0

    def encode(self) -> bytes:
        """The whole table in the format above."""
        packed: bytes = msgpack.packb([_encode_client(c, k.floor, k.results) for c, k in self._clients.items()])
        return packed

    def add_encoded(self, encoded: bytes) -> None:
        """Put the clients of `encode`'s bytes behind those here; `BadRequest` if they are malformed."""
        try:
            for client, floor, *columns in msgpack.unpackb(encoded):
                if not type(client) is type(floor) is int or not all(type(column) is bytes for column in columns):
                    raise TypeError("a client is two numbers and five arrays")
                numbers, epochs, sequences, outcomes, failed = _columns(*columns)
                kept: Iterator[_Kept] = zip(outcomes, epochs, sequences, failed, strict=True)
                results = dict(zip(numbers, kept, strict=True))
                self._clients[client] = _Client(floor, results, self._stamp)
            self._newest_client = -1
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise BadRequest(f"not a table of results: {error}") from error

    @classmethod
    def decode(
        cls,
        encoded: bytes,
        per_client: int = settings.RESULTS_PER_CLIENT,
        clients: int = settings.CLIENTS_REMEMBERED,
    ) -> ResultTable:
        """The table that `encode` gave these bytes for; `BadRequest` if they are malformed."""
        table = cls(per_client, clients)
        table.add_encoded(encoded)
        return table


class ResultSnapshot:
    """A table as it was at one moment."""

    def __init__(self, table: ResultTable, clients: list[tuple[int, int, dict[int, _Kept]]]) -> None:
        self._table: ResultTable | None = table
        self._clients = clients

    def encoded_slices(self) -> Iterator[bytes]:
        """Encodings of one client after another, each in the format of `ResultTable.encode`."""
        for client, floor, results in self._clients:
            yield msgpack.packb([_encode_client(client, floor, results)])

    def release(self) -> None:
        """Let the table change in place again. A second call does nothing."""
        if self._table is not None:
            self._table.release_snapshot()
        self._table = None
        self._clients = []


def _encode_client(client: int, floor: int, results: dict[int, _Kept]) -> list[object]:
    values = results.values()
    return [
        client,
        floor,
        array("Q", results.keys()).tobytes(),
        array("Q", [epoch for _, epoch, _, _ in values]).tobytes(),
        array("Q", [sequence for _, _, sequence, _ in values]).tobytes(),
        bytes(outcome for outcome, _, _, _ in values),
        array("H", [failed for _, _, _, failed in values]).tobytes(),
    ]


def _columns(
    numbers: bytes, epochs: bytes, sequences: bytes, outcomes: bytes, failed: bytes
) -> tuple[array[int], array[int], array[int], bytes, array[int]]:
    return array("Q", numbers), array("Q", epochs), array("Q", sequences), outcomes, array("H", failed)
