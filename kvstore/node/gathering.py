"""How writes become entries: they wait, are judged, are logged and sent together, and are answered together.

At most `MAX_ENTRIES_IN_FLIGHT` entries are on their way, and a busy tablet's only one at a time (`_may_send`); what arrives
meanwhile waits, and goes into the next one. So the busier the tablet, the larger its entries, and one sync of the log
serves them all. Work for each write is one pass when
its entry closes: it is here that thousands of them a second spend their time. Writes that came as one bundle stay one.

A repeated mutation is answered from the remembered results if it is committed, and joined to the first if that is still on
its way; its requirements are not judged again (trap 13). A client's numbers grow: one above all that was ever gathered of
the client is new, and only the others are looked up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from kvstore import errors, settings
from kvstore.messages import Configuration, Write, Written
from kvstore.mutation import Bundle, Entry, Mutation, Op, Outcome, Version, bundle_of, encode_mutation, join_single
from kvstore.node.effects import Committed, Reply, Token
from kvstore.node.requirements import Overlay
from kvstore.storage.results import Forgotten

if TYPE_CHECKING:
    from kvstore.node.replica import Replica


_requires = attrgetter("requires")


@dataclass(slots=True)
class Waiting:
    """A bundle and who asked for it: mutation i is the request (source, ids[i])."""

    source: Token
    ids: list[int]
    bundle: Bundle


@dataclass(slots=True)
class Flight:
    """An entry that is logged and not committed. `joined`: requests that repeat its mutations, by sequence."""

    entry: Entry
    size: int = 0
    """Bytes of its bundles."""
    groups: list[tuple[Token, list[int]]] = field(default_factory=list)
    """Who asked, in the order of the entry's mutations: the source and the ids of each bundle."""
    joined: dict[int, list[Token]] = field(default_factory=dict)
    _sequences: dict[tuple[int, int], int] = field(default_factory=dict)
    _indexed: int = 0

    def sequence_of(self, key: tuple[int, int]) -> int | None:
        """The sequence of mutation (client, number), if it is in here."""
        for bundle in self.entry.bundles[self._indexed :]:
            for mutation in bundle.mutations:
                self._sequences[mutation.client, mutation.number] = self.entry.first + len(self._sequences)
        self._indexed = len(self.entry.bundles)
        assert len(self._sequences) == self.entry.count, "a mutation is in an entry once"
        return self._sequences.get(key)

    def forget_sequences(self) -> None:
        """The entry's mutations are in other bundles now."""
        self._sequences.clear()
        self._indexed = 0

    def tokens(self) -> list[Token]:
        """All who wait for it."""
        asked: list[Token] = [(source, each) for source, ids in self.groups for each in ids]
        return asked + [token for tokens in self.joined.values() for token in tokens]


class Gathering:
    """The writes of one tablet at its primary, from their arrival to their answer."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._host = replica.host
        self.waiting: deque[Waiting] = deque()
        self._waiting_count = 0
        self._flights: deque[Flight] = deque()
        self._highest: dict[int, int] = {}
        """The highest number gathered of each client, or remembered when it was first heard of here."""
        self._were_on_their_way: dict[int, int] = {}
        """The highest number that was on its way of each client when `_highest` was emptied last."""

    def submit(self, source: Token, write: Write, configuration: Configuration) -> None:
        """Let writes wait for the next entry, or refuse them at once."""
        if self._waiting_count + len(write.ids) > settings.MAX_WAITING:
            self._host.refuse_all(source, write.ids, errors.Overloaded, "too many writes wait here", configuration)
        elif self._host.full:
            reason = f"the disk of {self._host.name} is full"
            self._host.refuse_all(source, write.ids, errors.NoSpace, reason, configuration)
        else:
            self._waiting_count += len(write.ids)
            self.waiting.append(Waiting(source, write.ids, write.bundle))
            self._host.gathering[self._replica] = None

    def close_entries(self, configuration: Configuration, now: float) -> None:
        """Make entries of what waits, as far as entries may be on their way."""
        if self.waiting and len(configuration.in_sync) < configuration.min_in_sync:
            self._refuse_too_few(configuration)
        while self.waiting and self._may_send():
            flight = self._gather(configuration.epoch)
            if flight.entry.bundles:
                self._replica.append_own(flight.entry, now)

    def _may_send(self) -> bool:
        """Whether an entry may go out beside those that are on their way."""
        if len(self._flights) >= settings.MAX_ENTRIES_IN_FLIGHT:
            return False
        return self._waiting_count >= settings.MANY_WRITES or all(
            (flight.entry.count <= settings.FEW_WRITES and flight.size <= settings.LITTLE_TO_MOVE)
            or flight.size >= settings.MUCH_TO_MOVE
            for flight in self._flights
        )

    def _refuse_too_few(self, configuration: Configuration) -> None:
        there, needed = len(configuration.in_sync), configuration.min_in_sync
        message = f"{there} of {needed} replicas needed for writing are in sync"
        self.refuse_waiting(errors.NotEnoughReplicas, message, configuration)

    def _forget_waiting(self) -> None:
        self.waiting.clear()
        self._waiting_count = 0

    # ---------------------------------------------------------------- gathering

    def _gather(self, epoch: int) -> Flight:
        """The next entry: bundles that wait, in order, each mutation with its outcome."""
        entry = Entry(epoch, self._replica.last + 1, [], [], [])
        flight = Flight(entry)
        self._flights.append(flight)
        overlay: Overlay | None = None
        size = 0
        while self.waiting and size < settings.MAX_ENTRY:
            waiting = self.waiting.popleft()
            bundle = waiting.bundle
            if not self._all_new(bundle.mutations):
                if bundle.count > 1:
                    self.waiting.extendleft(reversed(_split(waiting)))
                    continue
                if self._repeats(waiting):
                    self._waiting_count -= 1
                    continue
            self._waiting_count -= len(waiting.ids)
            if overlay is None and any(map(_requires, bundle.mutations)):
                overlay = Overlay(self._replica.disk.tablet, [*self._replica.disk.tail, entry])
            _judge(bundle, entry, overlay)
            flight.groups.append((waiting.source, waiting.ids))
            size += bundle.size
        flight.size = size
        if not entry.bundles:
            self._flights.pop()
        elif len(entry.bundles) > 1:
            entry.bundles = join_single(entry.bundles)
            flight.forget_sequences()
        return flight

    def _all_new(self, mutations: list[Mutation]) -> bool:
        """Whether none of these can have been here before."""
        if len(self._highest) >= settings.CLIENTS_REMEMBERED:
            self._empty_highest()  # not between two of a bundle, which are on their way nowhere yet
        highest = self._highest
        new = True
        for mutation in mutations:
            client, number = mutation[0], mutation[1]
            known = highest.get(client)
            if known is None:
                known = self._remembered(client)
            if number > known:
                highest[client] = number
            else:
                new = False
        return new

    def _empty_highest(self) -> None:
        """Each client is looked for again when it comes again: among the results, and what is on its way at this moment."""
        self._highest.clear()
        under_way: dict[int, int] = {}
        for flight in self._flights:
            for mutation in flight.entry.mutations:
                client, number = mutation[0], mutation[1]
                if number > under_way.get(client, -1):
                    under_way[client] = number
        self._were_on_their_way = under_way

    def _remembered(self, client: int) -> int:
        self._replica.apply_known()
        applied: int = self._replica.disk.results.highest(client)
        return max(applied, self._were_on_their_way.get(client, -1))

    def _repeats(self, waiting: Waiting) -> bool:
        """Whether this one mutation was here before: then it is answered with the first, or as the first was."""
        token = (waiting.source, waiting.ids[0])
        (mutation,) = waiting.bundle.mutations
        key = (mutation.client, mutation.number)
        for flight in self._flights:
            sequence = flight.sequence_of(key)
            if sequence is not None:
                flight.joined.setdefault(sequence, []).append(token)
                return True
        self._replica.apply_known()
        known = self._replica.disk.results.lookup(*key)
        if known is None:
            return False
        if isinstance(known, Forgotten):
            message = f"the result was forgotten: the client no longer waits for numbers below {known.floor}"
            self._host.refuse(token, errors.OutcomeUnknown, message)
        else:
            self._host.out.append(Reply(token, Written(known.outcome, known.epoch, known.sequence, known.failed)))
        return True

    # ---------------------------------------------------------------- answers

    def committed(self, entries: Iterable[Entry]) -> None:
        """Entries are committed: answer what was gathered into them. Those of an earlier primary have none."""
        for entry in entries:
            if not self._flights or self._flights[0].entry.last != entry.last:
                assert not self._flights or entry.last < self._flights[0].entry.first, "committed in another order"
                continue
            flight = self._flights.popleft()
            gathered = flight.entry
            outcomes, failed = list(gathered.outcomes), list(gathered.failed)
            self._host.out.append(
                Committed(flight.groups, entry.epoch, entry.first, outcomes, failed if any(outcomes) else None)
            )
            for sequence, tokens in flight.joined.items():
                at = sequence - entry.first
                written = Written(outcomes[at], entry.epoch, sequence, failed[at])
                self._host.out.extend(Reply(token, written) for token in tokens)

    def refuse_waiting(self, error: type[errors.StoreError], why: str, newest: Configuration) -> None:
        """What was not logged did not happen, and will not."""
        for each in self.waiting:
            self._host.refuse_all(each.source, each.ids, error, why, newest)
        self._forget_waiting()

    def give_up(self, newest: Configuration) -> None:
        """The replica leads no more: what was not logged did not happen; of the rest nobody here can tell (trap 12)."""
        self.refuse_waiting(errors.NotPrimary, "the tablet has another primary", newest)
        for flight in self._flights:
            for token in flight.tokens():
                self._host.refuse(token, errors.OutcomeUnknown, "the primary was replaced; ask the new one", newest)
        self._flights.clear()


def _split(waiting: Waiting) -> list[Waiting]:
    """Each mutation of a bundle by itself."""
    found, at = [], 0
    for request_id, mutation in zip(waiting.ids, waiting.bundle.mutations, strict=True):
        length = sum(operation[3] for operation in mutation.operations if operation[0] == Op.PUT_BULK)
        bulk = waiting.bundle.bulk[at : at + length]
        found.append(Waiting(waiting.source, [request_id], bundle_of(encode_mutation(*mutation), bulk=bulk)))
        at += length
    return found


def _judge(bundle: Bundle, entry: Entry, overlay: Overlay | None) -> None:
    """Put `bundle` into `entry`, with the outcome of each mutation. Without an `overlay` none of them requires anything."""
    outcomes, failed = entry.outcomes, entry.failed
    assert isinstance(outcomes, list)
    assert isinstance(failed, list)
    assert isinstance(entry.bundles, list)
    if overlay is None:
        nothing = [int(Outcome.OK)] * bundle.count
        outcomes += nothing
        failed += nothing
    else:
        for mutation in bundle.mutations:
            index = overlay.first_failed(mutation)
            if index is None:
                overlay.add(mutation, Version(entry.epoch, entry.first + len(outcomes)))
            outcomes.append(int(Outcome.OK if index is None else Outcome.REQUIREMENT_FAILED))
            failed.append(index or 0)
    entry.bundles.append(bundle)
