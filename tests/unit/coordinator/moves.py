"""One tablet on three nodes, and others that a replica of it may move to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvstore import settings
from kvstore.control import Done, MoveReplica
from kvstore.messages import ChangeKind
from tests.unit.coordinator.control import CREATION, Control

GRACE = 60.0
DETECTED = settings.HEARTBEAT_DEAD + 0.5


def with_spare(nodes: str = "n1 n2 n3 n4", *, after: float | None = GRACE, min_in_sync: int = 1) -> Control:
    """One tablet on n1, n2, n3, in that order; n1 leads. The others joined later."""
    control = Control(replace(CREATION, rebuild_after=after, min_in_sync=min_in_sync), nodes="n1 n2 n3").formed()
    for name in nodes.split()[3:]:
        control.join(name)
    control.pass_time(2.0)
    return control


def move(control: Control, source: str, target: str, tablet: int = 1) -> Any:
    """An operator's word; the answer."""
    return control.request(MoveReplica(tablet, source, target))


def moving(source: str = "n2", target: str = "n4", **cluster: Any) -> Control:
    """The replica on `source` is on its way to `target`."""
    control = with_spare(**cluster)
    assert isinstance(move(control, source, target), Done)
    return control


def learnt(control: Control, name: str) -> None:
    """The primary has the learner taken in; nothing follows from that yet."""
    answer = control.ask(ChangeKind.ADD, control.member(name))
    assert answer.done, answer


def owner(control: Control) -> tuple[str | None, list[str], int]:
    """Who leads, who counts, and since when."""
    return control.leader(), control.set_of(), control.tablet().since
