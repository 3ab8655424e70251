"""How writes become entries: they wait, are judged, are logged and sent together, and are answered together.

At most `MAX_ENTRIES_IN_FLIGHT` entries are on their way; what arrives meanwhile waits, and goes into the next one. So the
busier the tablet, the larger its entries, and one sync of the log serves them all. Work for each write is one pass when
its entry closes: it is here that thousands of them a second spend their time.

A repeated mutation is answered from the remembered results if it is committed, and joined to the first if that is still on
its way; its requirements are not judged again (trap 13).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvstore import errors, settings
from kvstore.messages import Configuration, Written
from kvstore.mutation import Entry, Mutation, Outcome, Version
from kvstore.node.effects import Committed, Reply, Token
from kvstore.node.requirements import Overlay
from kvstore.storage.results import Forgotten

if TYPE_CHECKING:
    from kvstore.node.replica import Replica


@dataclass(slots=True)
class Flight:
    """An entry that is logged and not committed. `joined`: requests that repeat its mutations, by sequence."""

    entry: Entry
    tokens: list[Token | None]
    keys: list[tuple[int, int]]
    joined: dict[int, list[Token]]


class Gathering:
    """The writes of one tablet at its primary, from their arrival to their answer."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._host = replica.host
        self.waiting: deque[tuple[Token, Mutation]] = deque()
        self._flights: deque[Flight] = deque()
        self._on_their_way: dict[tuple[int, int], tuple[Flight, int]] = {}

    def submit(self, token: Token, mutation: Mutation, configuration: Configuration) -> None:
        """Let a write wait for the next entry, or refuse it at once."""
        if len(self.waiting) >= settings.MAX_WAITING:
            self._host.refuse(token, errors.Overloaded, "too many writes wait for this tablet", configuration)
        elif self._host.full:
            self._host.refuse(token, errors.NoSpace, f"the disk of {self._host.name} is full", configuration)
        else:
            self.waiting.append((token, mutation))
            self._host.gathering[self._replica] = None

    def close_entries(self, configuration: Configuration, now: float) -> None:
        """Make entries of what waits, as far as entries may be on their way."""
        if self.waiting and len(configuration.in_sync) < configuration.min_in_sync:
            self._refuse_too_few(configuration)
        while self.waiting and len(self._flights) < settings.MAX_ENTRIES_IN_FLIGHT:
            flight = self._gather(configuration.epoch)
            if flight.entry.mutations:
                self._flights.append(flight)
                self._replica.append_own(flight.entry, now)

    def _refuse_too_few(self, configuration: Configuration) -> None:
        there, needed = len(configuration.in_sync), configuration.min_in_sync
        while self.waiting:
            token, _ = self.waiting.popleft()
            message = f"{there} of {needed} replicas needed for writing are in sync"
            self._host.refuse(token, errors.NotEnoughReplicas, message, configuration)

    def _gather(self, epoch: int) -> Flight:
        """The next entry: mutations that wait, in order, each with its outcome."""
        mutations: list[Mutation] = []
        outcomes: list[int] = []
        failed: list[int] = []
        entry = Entry(epoch, self._replica.last + 1, mutations, outcomes, failed)
        flight = Flight(entry, [], [], {})
        overlay: Overlay | None = None
        size = 0
        waiting, on_their_way, first = self.waiting, self._on_their_way, entry.first
        lookup = self._replica.disk.results.lookup
        while waiting and size < settings.MAX_ENTRY:
            token, mutation = waiting.popleft()
            header = mutation.header
            key = (header.client, header.number)
            if key in on_their_way:
                repeated, sequence = on_their_way[key]
                repeated.joined.setdefault(sequence, []).append(token)
                continue
            known = lookup(header.client, header.number)
            if known is not None:
                self._answer_known(token, known)
                continue
            index = None
            if header.requires:
                overlay = overlay or self._overlay(entry)
                index = overlay.first_failed(header)
            sequence = first + len(mutations)
            if overlay is not None and index is None:
                overlay.add(header, Version(epoch, sequence))
            on_their_way[key] = (flight, sequence)
            flight.tokens.append(token)
            flight.keys.append(key)
            mutations.append(mutation)
            outcomes.append(Outcome.OK if index is None else Outcome.REQUIREMENT_FAILED)
            failed.append(index or 0)
            size += mutation.size
        return flight

    def _overlay(self, gathered: Entry) -> Overlay:
        return Overlay(self._replica.disk.tablet, [*self._replica.disk.tail, gathered])

    def _answer_known(self, token: Token, known: Any) -> None:
        if isinstance(known, Forgotten):
            message = f"the result was forgotten: the client no longer waits for numbers below {known.floor}"
            self._host.refuse(token, errors.OutcomeUnknown, message)
        else:
            self._host.out.append(Reply(token, Written(known.outcome, known.epoch, known.sequence, known.failed)))

    def committed(self, applied: Iterable[Entry]) -> None:
        """Entries are committed and applied: answer what was gathered into them. Those of an earlier primary have none."""
        for entry in applied:
            if not self._flights or self._flights[0].entry.last != entry.last:
                assert not self._flights or entry.last < self._flights[0].entry.first, "committed in another order"
                continue
            flight = self._flights.popleft()
            for key in flight.keys:
                del self._on_their_way[key]
            failed = list(entry.failed) if any(entry.outcomes) else None
            self._host.out.append(Committed(flight.tokens, entry.epoch, entry.first, list(entry.outcomes), failed))
            for sequence, tokens in flight.joined.items():
                at = sequence - entry.first
                written = Written(int(entry.outcomes[at]), entry.epoch, sequence, entry.failed[at])
                self._host.out.extend(Reply(token, written) for token in tokens)

    def give_up(self, newest: Configuration) -> None:
        """The replica leads no more: what was not logged did not happen; of the rest nobody here can tell (trap 12)."""
        for token, _ in self.waiting:
            self._host.refuse(token, errors.NotPrimary, "the tablet has another primary", newest)
        self.waiting.clear()
        for flight in self._flights:
            for token in [*flight.tokens, *(token for tokens in flight.joined.values() for token in tokens)]:
                self._host.refuse(token, errors.OutcomeUnknown, "the primary was replaced; ask the new one", newest)
        self._flights.clear()
        self._on_their_way.clear()
