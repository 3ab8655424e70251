"""The judge of the probes judges: what a store really did pass, and what it really forgot is found."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import StoreCluster, running_store
from tests.probe.histories import PATIENT, Histories
from tests.processes import wait_for
from tests.simulation.checker import Operation, first_contradiction

pytestmark = pytest.mark.probe

Key = tuple[str, str]


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[StoreCluster]:
    """A store of one node: whatever its disk forgets is forgotten."""
    with running_store(tmp_path, nodes=1) as cluster:
        yield cluster


def test_a_disk_that_forgets_acknowledged_writes_is_found_out(lonely: StoreCluster, tmp_path: Path) -> None:
    """The only node is killed and its folder put back as it was a moment ago: no rule can help, so the judge must see it."""
    folder = lonely.data_folder("node1")
    with Histories(lonely, "forgets", timeout=PATIENT) as histories:
        histories.advance()
        lonely.kill("node1")
        shutil.copytree(folder, tmp_path / "aside")
        lonely.start("node1")
        histories.advance(40)
        lonely.kill("node1")
        shutil.rmtree(folder)
        (tmp_path / "aside").rename(folder)
        lonely.start("node1")
        histories.advance()
        with pytest.raises(AssertionError, match="not linearizable"):
            histories.judge(failures=True)


def test_faults_planted_into_a_real_history_are_found(cluster: StoreCluster) -> None:
    """What callers of a healthy store saw passes; with one answer made impossible it does not."""
    with Histories(cluster, "planted") as histories:
        histories.advance(100)
        wait_for(lambda: len(histories.seen_by) == 3, "every node giving its stubborn reader values", PATIENT)
        histories.rest()
        recorded = {group: list(operations) for group, operations in histories.history.items()}
        histories.judge()
    planted: Counter[str] = Counter()
    for operations in recorded.values():
        for fault, original, changed in impossible(operations):
            with_it = [changed if operation is original else operation for operation in operations]
            assert first_contradiction(with_it), f"{fault} went unnoticed: {changed}"
            planted[fault] += 1
    assert set(planted) == {"a stale read", "a deleted key back", "a second winner", "a lost write"}


def impossible(operations: list[Operation]) -> Iterator[tuple[str, Operation, Operation]]:
    """(fault, operation, the same with an answer that no order explains), at most one of each kind."""
    planted: set[str] = set()
    for key, value, by, since in overwritten(operations):
        for operation in operations:
            fault, changed = "", operation
            if operation.start <= since:
                continue
            if operation.kind == "read" and operation.key == key:
                fault = "a deleted key back" if by is None else "a stale read"
                changed = dataclasses.replace(operation, result=value)
            elif [k for k, _ in operation.requires] == [key]:
                fault = "a second winner"
                changed = dataclasses.replace(operation, requires=((key, value),), result=None)
            elif operation.kind == "read_all" and by is not None and (key, by) in operation.result:
                older = tuple((k, value if k == key else v) for k, v in operation.result)
                fault, changed = "a lost write", dataclasses.replace(operation, result=older)
            if fault and fault not in planted:
                planted.add(fault)
                yield fault, operation, changed


def overwritten(operations: list[Operation]) -> Iterator[tuple[Key, bytes, bytes | None, float]]:
    """(cell, value, what it was overwritten with, since when): values that surely were there, once, and surely are gone."""
    done = [operation for operation in operations if operation.kind == "write" and operation.result is None]
    for first in done:
        for key, value in first.changes:
            later = [o for o in done if o.start > first.end and key in dict(o.changes)]
            if value is not None and later:
                earliest = min(later, key=lambda operation: operation.end)
                yield key, value, dict(earliest.changes)[key], earliest.end
