"""Whether a history of concurrent operations is linearizable, with outcomes that nobody knows.

After Wing and Gong (1993), with the memory of Lowe (2017): search for an order of the operations in which each takes effect at
one moment between its call and its answer, and every answer is what a plain map would have given. One object of the search
is a *group* of rows, as that is what one batch may touch; groups are independent, and a history is linearizable if each
group's is.

An operation whose outcome is unknown may take effect at any moment after its call, or never: it has no end, and need not be
placed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

State = tuple[tuple[Any, bytes], ...]
"""A group's cells: (key, value) pairs in order of their keys."""


@dataclass(slots=True)
class Operation:
    """One call and its answer. `end` is inf, and `result` of no meaning, when nobody knows what came of it."""

    client: int
    kind: str
    """"read", "read_all", "write" (requires and changes, all or nothing)."""
    start: float
    end: float
    key: Any = None
    requires: tuple[tuple[Any, bytes | None], ...] = ()
    changes: tuple[tuple[Any, bytes | None], ...] = ()
    result: Any = None
    """A read's value (None: absent), read_all's State, a write's index of the failed requirement (None: done)."""

    @property
    def known(self) -> bool:
        """Whether somebody knows what came of it."""
        return self.end < math.inf

    @property
    def only_looks(self) -> bool:
        """Whether it is known to have changed nothing: a read, or a write whose requirement did not hold."""
        return self.known and (self.kind != "write" or self.result is not None)

    def __str__(self) -> str:
        end = "?" if self.end == math.inf else f"{self.end:.4f}"
        what = self.key if self.kind == "read" else f"{list(self.requires)} {list(self.changes)}"
        return f"[{self.start:.4f} {end}] client {self.client} {self.kind} {what} -> {_short(self.result)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def step(state: State, operation: Operation) -> State | None:
    """The state after `operation`, or None if its answer could not have been given in `state`."""
    cells = dict(state)
    if operation.kind == "read":
        return state if operation.end == math.inf or cells.get(operation.key) == operation.result else None
    if operation.kind == "read_all":
        return state if operation.end == math.inf or state == operation.result else None
    failed = None
    for index, (key, wanted) in enumerate(operation.requires):
        if cells.get(key) != wanted:
            failed = index
            break
    if operation.end != math.inf and failed != operation.result:
        return None
    if failed is not None:
        return state
    for key, value in operation.changes:
        if value is None:
            cells.pop(key, None)
        else:
            cells[key] = value
    return tuple(sorted(cells.items()))


def first_contradiction(operations: Iterable[Operation], initial: State = ()) -> str | None:
    """None if the operations of one group are linearizable from `initial`; else a text that shows how far an order could be
    found and what could not be placed."""
    history = sorted(operations, key=lambda o: (o.start, o.end))
    # a read of unknown outcome says nothing
    history = [o for o in history if o.end < math.inf or o.kind == "write"]
    known = sum(1 << i for i, o in enumerate(history) if o.end < math.inf)
    seen: set[tuple[int, State]] = set()
    best = (0, initial)
    stack: list[tuple[int, State]] = [(0, initial)]
    while stack:
        placed, state = stack.pop()
        if placed & known == known:
            return None
        if (placed, state) in seen:
            continue
        seen.add((placed, state))
        if (placed & known).bit_count() > (best[0] & known).bit_count():
            best = (placed, state)
        stack.extend(_successors(history, placed, state))
    return _explain(history, *best)


def _successors(history: list[Operation], placed: int, state: State) -> list[tuple[int, State]]:
    """What may come next: any operation that was called before every one not yet placed was answered."""
    candidates = []
    earliest_end = math.inf
    lowest = (~placed & (placed + 1)).bit_length() - 1
    for index in range(lowest, len(history)):
        if placed >> index & 1:
            continue
        operation = history[index]
        if operation.start > earliest_end:
            break
        earliest_end = min(earliest_end, operation.end)
        candidates.append((index, operation))
    following = []
    for index, operation in candidates:
        if operation.start > earliest_end:
            continue
        after = step(state, operation)
        if after is None:
            continue
        if operation.only_looks:
            # Whatever order there is from here, this one can as well stand before it: it never changes anything. So a hundred
            # reads that waited for a hung node are not a hundred choices.
            return [(placed | 1 << index, state)]
        # one of unknown outcome that changes nothing need not be placed
        if operation.known or after != state:
            following.append((operation.end, placed | 1 << index, after))
    following.sort(key=lambda item: -item[0])  # the one answered first is tried first
    return [(bits, after) for _, bits, after in following]


def _explain(history: list[Operation], placed: int, state: State) -> str:
    left = [o for i, o in enumerate(history) if not placed >> i & 1][:12]
    lines = [f"not linearizable: {placed.bit_count()} of {len(history)} operations could be placed"]
    lines.append(f"state there: {dict(state)!r:.400}")
    lines += [f"  not placed: {operation}" for operation in left]
    return "\n".join(lines)
