"""Clients under simulation: callers that read and write a few groups of rows, and write down what they saw.

They keep to the real rules: the tablet map and the retry decisions are `kvstore.tabletmap` and `kvstore.retry`, a write keeps
its number over all its attempts, and an attempt without an answer within `PATIENCE` asks for a newer map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import google_crc32c

from kvstore import errors, settings
from kvstore.messages import CellAnswer, Get, GetMap, GetRow, Page, Refused, Scan, TabletMap, Write, Written
from kvstore.mutation import Bundle, Op, Outcome, Require, bundle_of, encode_mutation
from kvstore.retry import Effort, NoAnswer, NotSent
from kvstore.tabletmap import TabletMap as KnownTablets
from tests.simulation.checker import Operation
from tests.simulation.choice import Choice, deletes_a_row

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class Client:
    """One client process with several callers."""

    def __init__(
        self, cluster: Cluster, number: int, groups: list[str], timeout: float = 10.0, large: float = 0.05
    ) -> None:
        """`large`: the chance that a value is large."""
        self.cluster, self.world = cluster, cluster.world
        self.name = f"client{number}"
        self.number = number
        self._timeout = timeout
        self._map = KnownTablets()
        self._next_number = 1
        self._waiting: set[int] = set()
        self.history: dict[str, list[Operation]] = {group: [] for group in groups}
        self.running = True
        self.busy = 0
        self.done = 0
        self.failed = 0
        self._choice = Choice(self.world.random, number, groups, self.history, large)

    def start_caller(self, pause: float) -> None:
        """One more caller: an operation, a pause of about `pause` seconds, the next."""
        self.busy += 1
        caller = self._caller(pause)
        self.world.after(self.world.random.uniform(0, pause), self._resume, caller)

    def _resume(self, caller: Iterator[Callable[[Callable[[], None]], None]]) -> None:
        """A caller is a generator; it yields functions that call back when it may go on."""
        try:
            wait = next(caller)
        except StopIteration:
            self.busy -= 1
            return
        wait(lambda: self._resume(caller))

    def _caller(self, pause: float) -> Iterator[Any]:
        while self.running:
            _, operation = self._choice.next(self.world.now)
            yield from self.one(operation)
            wait = self.world.random.uniform(0, 2 * pause)
            yield lambda go_on, wait=wait: self.world.after(wait, go_on)

    # ---------------------------------------------------------------- operations

    def one(self, operation: Operation) -> Iterator[Any]:
        """Do `operation`, with as many attempts as it takes inside the deadline, and write it down."""
        operation.start = self.world.now
        row = operation.key if operation.kind == "read_all" else operation.key[0]
        group = row.split(":")[0]
        self.history[group].append(operation)
        number, mutation = 0, None
        if operation.kind == "write":
            number = self._next_number
            self._next_number += 1
            self._waiting.add(number)
            mutation = self._mutation(number, operation)
        deadline = self.world.now + self._timeout
        effort = Effort(write=operation.kind == "write")
        while self.world.now < deadline:
            answer: list[Any] = []
            yield lambda go_on, answer=answer: self._attempt(row, operation, mutation, answer, go_on)
            (message,) = answer
            if isinstance(message, Written | CellAnswer | Page):
                self._answered(operation, message)
                break
            learned = False
            if isinstance(message, Refused) and message.configuration is not None:
                learned = bool(self._map.learn([message.configuration]))
            pause = effort.failed(message, learned=learned)
            if isinstance(message, NoAnswer | NotSent) or not learned:
                yield lambda go_on: self._refresh(go_on)
            if pause:
                yield lambda go_on, pause=pause: self.world.after(pause, go_on)
        else:
            self.failed += 1
            if isinstance(effort.given_up(), errors.OutcomeUnknown):
                return  # it may happen yet: its number stays in use
            self.history[group].remove(operation)  # nothing happened
        self._waiting.discard(number)

    def _answered(self, operation: Operation, message: Written | CellAnswer | Page) -> None:
        operation.end = self.world.now
        self.done += 1
        if isinstance(message, Written):
            operation.result = message.failed if message.outcome == Outcome.REQUIREMENT_FAILED else None
        elif isinstance(message, CellAnswer):
            operation.result = bytes(message.value) if message.epoch else None
        else:
            assert not message.more
            operation.result = tuple(((row, column), bytes(value)) for row, column, _, _, _, value in message.cells)

    def _mutation(self, number: int, operation: Operation) -> Bundle:
        requires: list[Any] = []
        for (row, column), wanted in operation.requires:
            if wanted is None:
                requires.append([Require.ABSENT, row, column])
            else:
                requires.append([Require.VALUE, row, column, wanted])
        operations: list[Any] = []
        bulk = b""
        for (row, column), value in operation.changes:
            if value is None:
                operations.append([Op.DELETE, row, column])
            elif len(value) >= settings.BULK_VALUE:
                operations.append([Op.PUT_BULK, row, column, len(value), google_crc32c.value(value)])
                bulk += value
            else:
                operations.append([Op.PUT, row, column, value])
        if deletes_a_row(operation):
            operations = [[Op.DELETE_ROW, operations[0][1]]]  # the row has no other columns
        encoded = encode_mutation(self.number, number, min(self._waiting), requires, operations)
        return bundle_of(encoded, bulk=bulk)

    # ---------------------------------------------------------------- attempts

    def _attempt(
        self, row: str, operation: Operation, mutation: Bundle | None, answer: list[Any], go_on: Callable[[], None]
    ) -> None:
        """One attempt: `answer` gets what came of it, within `PATIENCE`."""

        def finish(message: Any) -> None:
            if not answer:
                answer.append(message)
                go_on()

        configuration = self._map.find(row)
        if configuration is None or configuration.primary is None:
            self.world.after(0.0, finish, NotSent("the tablet's primary is not known"))
            return
        tablet, version = configuration.tablet, configuration.range_version
        request: Any
        if mutation is not None:
            request = Write(tablet, version, [1], mutation)
        elif operation.kind == "read":
            request = Get(tablet, version, *operation.key)
        else:
            group = operation.key
            request = Scan(tablet, version, group, "", group + ":~", "", None, False, False)
            if self.world.random.random() < 0.1:
                # a page of a row is a consistent cut as well, of less
                request = Scan(tablet, version, group, "", group + ":~", None, 500, False, False)
        target = configuration.primary.node
        chance = self.world.random.random()
        if mutation is None and chance < 0.1:
            target = self.world.random.choice(configuration.replicas)
        elif operation.kind == "read" and chance < 0.5:
            target = self.world.random.choice(configuration.in_sync).node
        no_answer = NoAnswer("the connection broke")
        self.cluster.ask(self, target, request, lambda message: finish(no_answer if message is None else message))
        self.world.after(settings.PATIENCE, finish, NoAnswer("it took too long"))

    def _refresh(self, go_on: Callable[[], None]) -> None:
        """Ask the coordinator, or any node, for the tablet map."""
        told: list[bool] = []

        def finish(message: object | None) -> None:
            if isinstance(message, TabletMap):
                self._map.learn(message.configurations)
            if not told:
                told.append(True)
                go_on()

        if self.world.random.random() < 0.5:
            self.cluster.tell_coordinator(self.name, GetMap(), finish)
        else:
            node = self.world.random.choice(list(self.cluster.nodes))
            self.cluster.ask(self, node, GetMap(), finish)
        self.world.after(0.5, finish, None)

    def read_row(self, row: str) -> GetRow:
        """The request for all columns of a row."""
        configuration = self._map.find(row)
        assert configuration is not None
        return GetRow(configuration.tablet, configuration.range_version, row, "", "", None, None, False, False)
