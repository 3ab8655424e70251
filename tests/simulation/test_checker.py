"""The checker itself: what is right passes, and each planted fault is refused."""

from __future__ import annotations

import math
import random

import pytest

from tests.simulation.checker import Operation, State, first_contradiction, step

KEY = ("g", "c")
OTHER = ("g", "d")


def write(start: float, end: float, value: bytes | None, *, key: object = KEY, expected: object = "any") -> Operation:
    """A put or delete; with `expected` a compare-and-put that said success."""
    requires = () if expected == "any" else ((key, expected),)
    return Operation(1, "write", start, end, key, requires, ((key, value),), None)  # type: ignore[arg-type]


def refused(start: float, end: float, expected: bytes | None, value: bytes) -> Operation:
    """A compare-and-put that said that the cell is another."""
    return Operation(1, "write", start, end, KEY, ((KEY, expected),), ((KEY, value),), 0)


def read(start: float, end: float, value: bytes | None, *, key: object = KEY) -> Operation:
    """A read and what it saw."""
    return Operation(2, "read", start, end, key, result=value)


def read_all(start: float, end: float, state: State) -> Operation:
    """A read of the whole group."""
    return Operation(2, "read_all", start, end, "g", result=state)


UNKNOWN = math.inf

RIGHT = {
    "one after the other": [write(0, 1, b"a"), read(2, 3, b"a"), write(4, 5, None), read(6, 7, None)],
    "a read beside a write sees either": [write(0, 9, b"a"), read(1, 2, None), read(3, 4, b"a")],
    "two reads beside a write, in order": [write(0, 9, b"a"), read(1, 5, b"a"), read(2, 6, None)],
    "an unknown write may have happened": [write(0, UNKNOWN, b"a"), read(5, 6, b"a")],
    "an unknown write may not have happened": [write(0, UNKNOWN, b"a"), read(5, 6, None), read(7, 8, None)],
    "an unknown write may happen late": [
        write(0, UNKNOWN, b"a"),
        write(1, 2, b"b"),
        read(3, 4, b"b"),
        read(5, 6, b"a"),
    ],
    "a delete that found nothing may as well come later": [
        write(0, 9, None),
        write(1, 2, b"a"),
        read(3, 4, b"a"),
        read(5, 6, None),
    ],
    "one winner": [write(0, 5, b"a", expected=None), refused(1, 6, None, b"b"), read(7, 8, b"a")],
    "a batch is seen whole": [
        Operation(1, "write", 0, 5, KEY, (), ((KEY, b"a"), (OTHER, b"b")), None),
        read_all(1, 2, ()),
        read_all(3, 4, ((KEY, b"a"), (OTHER, b"b"))),
    ],
}

WRONG = {
    "a stale read": [write(0, 1, b"a"), write(2, 3, b"b"), read(4, 5, b"a")],
    "a lost write": [write(0, 1, b"a"), read(2, 3, None)],
    "a doubled compare-and-put": [
        write(0, 1, b"a", expected=None),
        write(2, 3, b"b"),
        write(4, 5, None),
        read(6, 7, b"a"),
    ],
    "a resurrected key": [write(0, 1, b"a"), write(2, 3, None), read(4, 5, None), read(6, 7, b"a")],
    "two winners": [write(0, 5, b"a", expected=None), write(1, 6, b"b", expected=None)],
    "no winner": [refused(0, 5, None, b"a"), refused(1, 6, None, b"b")],
    "half a batch": [
        Operation(1, "write", 0, 5, KEY, (), ((KEY, b"a"), (OTHER, b"b")), None),
        read_all(1, 2, ((OTHER, b"b"),)),
    ],
    "two reads that disagree about the order": [write(0, 9, b"a"), read(1, 2, b"a"), read(3, 4, None)],
    "an unknown write that happened twice": [
        write(0, UNKNOWN, b"a"),
        read(1, 2, b"a"),
        write(3, 4, b"b"),
        read(5, 6, b"b"),
        read(7, 8, b"a"),
    ],
    "a value that nobody wrote": [read(0, 1, b"x")],
    "a write before it was called": [read(0, 1, b"a"), write(2, 3, b"a")],
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str) -> None:
    assert first_contradiction(RIGHT[name]) is None


@pytest.mark.parametrize("name", WRONG)
def test_a_planted_fault_is_refused(name: str) -> None:
    text = first_contradiction(WRONG[name])
    assert text is not None
    assert "not linearizable" in text


@pytest.mark.timeout(60)
def test_reads_that_wait_for_each_other_are_no_choices() -> None:
    """Two hundred reads sent to a node that hangs, all answered when it wakes, beside writes: judged either way, soon."""
    writes = [write(number, number + 0.9, b"%d" % number) for number in range(40)]
    waiting = [read(number / 5, 50, b"%d" % 39) for number in range(200)]
    assert first_contradiction([*writes, *waiting]) is None
    assert first_contradiction([*writes, *waiting, read(41, 50, b"38")]) is not None


def _history(seed: int) -> list[Operation]:
    """A history that is right by construction: each operation takes effect at one moment inside its time."""
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0, 20) for _ in range(36))
    state: State = ()
    history = []
    for number, moment in enumerate(moments):
        start, end = moment - chance.uniform(0, 1.5), moment + chance.uniform(0, 1.5)
        key = chance.choice([KEY, OTHER])
        if chance.random() < 0.5:
            operation = read(start, end, dict(state).get(key), key=key)
        else:
            value = b"%d" % number if chance.random() < 0.8 else None
            operation = write(start, end, value, key=key)
            if chance.random() < 0.2:
                operation.end = UNKNOWN
                if chance.random() < 0.5:
                    history.append(operation)
                    continue  # it never took effect
        after = step(state, operation)
        assert after is not None
        state = after
        history.append(operation)
    return history


@pytest.mark.parametrize("seed", range(20))
def test_random_histories_that_are_right_pass_and_a_read_made_wrong_is_found(seed: int) -> None:
    history = _history(seed)
    assert first_contradiction(history) is None
    reads = [operation for operation in history if operation.kind == "read"]
    reads[len(reads) // 2].result = b"nobody wrote this"
    assert first_contradiction(history) is not None
