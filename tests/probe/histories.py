"""Callers of a real cluster who write down what they saw, and the judge of what they wrote down.

    with Histories(cluster, "killed") as histories:
        histories.advance()
        ...                     # harm
        histories.advance()
        histories.judge()

Several clients, several threads on each, put, compare-and-put, delete, apply batches and read on a few cells in each of
several tablets, as `tests.simulation.choice` chooses. Beside them each node has a stubborn reader (`tests.probe.stubborn`).
The judge is the linearizability checker of the simulator. Times are this process's monotonic clock, read before a call and
after its answer.

A write that ended with `OutcomeUnknown` may have happened, or happen yet; an operation that ended with another `TryAgain` did
not happen: it is left out of the history, so that it shows if it did after all. Both are failures for the caller, and `judge`
refuses them too, unless the test says that nobody could have answered.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any

from kvstore.client import Batch, Client
from kvstore.errors import OutcomeUnknown, RequirementFailed, TryAgain
from tests.cluster import Store
from tests.probe.stubborn import StubbornReader
from tests.processes import wait_for
from tests.simulation.checker import Operation, State, first_contradiction
from tests.simulation.choice import Choice, deletes_a_row

PATIENT = 60.0
"""Seconds that a call may take where the test itself must start processes before it can succeed, and that a test waits for what
must happen: many times what it takes on a machine that is not busy."""
CLIENTS = 2
CALLERS = 10


def groups_of(name: str) -> list[str]:
    """Groups of rows in four tablets, which the three nodes of a new cluster lead."""
    return [*(f"{letter}-{name}:mail" for letter in "aek"), f"user:{name}"]


class Histories:
    """Callers at work, each in a thread of its own, for the length of a `with` block."""

    def __init__(self, store: Store, name: str, *, timeout: float = 10.0, pause: float = 0.006) -> None:
        """`name`: of the groups of rows, which must be empty. `timeout`: of each call, in seconds. `pause`: between two
        operations of a caller, on average."""
        self.groups = groups_of(name)
        self.history: dict[str, list[Operation]] = {group: [] for group in self.groups}
        self.failed: list[str] = []
        """Operations that the caller did not get an answer for."""
        self.slowest = 0.0
        """Seconds that an operation took at most, since `calm`."""
        self.done: Counter[str] = Counter()
        """Answered operations by group."""
        self.seen_by: Counter[int] = Counter()
        """Values that stubborn readers were given, by the reader's number."""
        self.reason: BaseException | None = None
        """What ended a caller; none should end."""
        self._initial: dict[str, State] = dict.fromkeys(self.groups, ())
        self._pause = pause
        self._clients = [store.client(timeout) for _ in range(CLIENTS)]
        self._stopping = False
        self._open = threading.Event()
        self._open.set()
        self._turns = [threading.Lock() for _ in range(CALLERS)]
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CALLERS)]
        self._stubborn: list[StubbornReader] = []
        self._key_file = store.key_file
        self._begun = 0.0
        self._recording = threading.Lock()

    def __enter__(self) -> Histories:
        for thread in self._threads:
            thread.start()
        tablets = self._clients[0].router.tablets
        for number, node in enumerate(sorted(tablets.addresses), start=CALLERS):
            self._stubborn.append(StubbornReader(node, number, self.groups, tablets, self._key_file, self._record))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let every caller finish what it is at, and end; close the clients."""
        self._stopping = True
        self._open.set()
        for reader in self._stubborn:
            reader.end()
        for thread in self._threads:
            thread.join(2 * PATIENT)
            assert not thread.is_alive(), "a caller waits for an answer that never comes"
        for client in self._clients:
            client.close()

    # -- what a test awaits

    def advance(self, least: int = 12) -> None:
        """Wait until in every group `least` more operations have been answered."""
        goal = {group: self.done[group] + least for group in self.groups}

        def reached() -> bool:
            if self.reason is not None:
                raise self.reason
            return all(self.done[group] >= count for group, count in goal.items())

        wait_for(reached, f"operations going on from {dict(self.done)}, failed were {self.failed}", PATIENT)

    def calm(self) -> None:
        """Forget how long operations took so far."""
        self.slowest = 0.0

    # -- callers

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        client = self._clients[number % CLIENTS]
        choice = Choice(chance, number, self.groups, self.history)
        try:
            while not self._stopping:
                with self._turns[number]:
                    if self._open.is_set():
                        self._one(client, *choice.next(time.monotonic()))
                self._open.wait()
                time.sleep(chance.uniform(0, 2 * self._pause))
        except BaseException as error:  # noqa: BLE001  (raised by the test's own thread)
            self.reason = error

    def _one(self, client: Client, group: str, operation: Operation) -> None:
        """Carry out one operation and write it down."""
        operation.start = time.monotonic()
        try:
            operation.result = carry_out(client, operation)
            operation.end = time.monotonic()
        except OutcomeUnknown as error:
            self.failed.append(f"{operation}: {error!r}")
        except TryAgain as error:
            self.failed.append(f"{operation}: {error!r}")
            return
        self.history[group].append(operation)
        self.done[group] += 1
        self.slowest = max(self.slowest, time.monotonic() - operation.start)

    def _record(self, group: str, operation: Operation) -> None:
        """A stubborn reader's. One that began before the callers rested last belongs to what has been judged already."""
        with self._recording:
            if self._open.is_set() and operation.start > self._begun:
                self.history[group].append(operation)
                self.seen_by[operation.client] += 1

    # -- the judge

    def rest(self) -> None:
        """Have every caller finish what it is at, and rest until `go_on`."""
        with self._recording:
            self._open.clear()
        for turn in self._turns:
            with turn:
                pass  # it sees the closed gate before its next
        if self.reason is not None:
            raise self.reason

    def judge(self, *, failures: bool = False) -> None:
        """Fail unless what everybody saw is linearizable; and, unless `failures` are expected, if an operation failed.

        Callers rest from here on. What the cells hold in the end is read first, so that a write lost at the very end shows.
        After `go_on` the history begins anew, from there; a write whose outcome nobody knows stays in it.
        """
        self.rest()
        assert failures or not self.failed, f"{len(self.failed)} operations failed: {self.failed[:5]}"
        for group, operations in self.history.items():
            last = read_all(self._clients[0], group)
            operations.append(last)
            contradiction = first_contradiction(operations, self._initial[group])
            assert contradiction is None, f"group {group}: {contradiction}"
            self._initial[group] = last.result
            operations[:] = [operation for operation in operations if operation.kind == "write" and not operation.known]

    def go_on(self) -> None:
        """Have the callers work again."""
        self._begun = time.monotonic()
        self._open.set()


def read_all(client: Client, group: str) -> Operation:
    """Everything in the group, read now and with patience."""
    operation = Operation(-1, "read_all", time.monotonic(), 0.0, group)
    operation.result = _cells_of(client, group, PATIENT)
    operation.end = time.monotonic()
    return operation


def carry_out(client: Client, operation: Operation) -> Any:
    """Do it with the product's own client; what the checker calls the result."""
    if operation.kind == "read":
        # half of the callers, on both clients, read at any replica of the in-sync set
        cell = client.get(*operation.key, spread=operation.client % 4 > 1)
        return None if cell is None else cell.value
    if operation.kind == "read_all":
        return _cells_of(client, operation.key, None)
    try:
        _write(client, operation)
    except RequirementFailed as error:
        return [key for key, _ in operation.requires].index((error.row, error.column))
    return None


def _cells_of(client: Client, group: str, timeout: float | None) -> State:
    """The group's cells are few enough for one page, which is a consistent cut."""
    return tuple(((row, column), cell.value) for row, column, cell in client.scan(prefix=group, timeout=timeout))


def _write(client: Client, operation: Operation) -> None:
    """By the call that an application would use: its own for one cell or row, a batch for the rest."""
    (row, column), value = operation.changes[0]
    if len(operation.changes) == 1 and not operation.requires:
        if value is None:
            client.delete(row, column)
        else:
            client.put(row, column, value)
    elif len(operation.changes) == 1 and operation.requires[0][0] == (row, column) and value is not None:
        if not client.cput(row, column, operation.requires[0][1], value):
            raise RequirementFailed(row, column)
    elif deletes_a_row(operation) and not operation.requires:
        client.delete_row(row)
    else:
        client.apply(_batch(operation))


def _batch(operation: Operation) -> Batch:
    batch = Batch()
    for (row, column), wanted in operation.requires:
        batch.require(row, column, wanted)
    for (row, column), value in operation.changes:
        if value is None:
            batch.delete(row, column)
        else:
            batch.put(row, column, value)
    return batch
