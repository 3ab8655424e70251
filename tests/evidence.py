"""What the clusters of a failed test have to say: how things stand, and the ends of their logs.

Their folders may be gone before anybody looks, and on another machine they always are: so it goes into the test's report.
"""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any, Protocol

from kvstore.errors import StoreError

LINES = 40
"""Of each log."""
PATIENCE = 3.0
"""Seconds for the coordinator's answer: it may be what was killed."""


class Witness(Protocol):
    """A cluster that can be asked."""

    def ask_status(self, timeout: float) -> dict[str, Any]: ...
    def logs(self) -> list[Path]: ...


_clusters: weakref.WeakSet[Any] = weakref.WeakSet()


def may_be_asked(cluster: Witness) -> None:
    """A cluster was made; whether it runs, and for how long, is its maker's business."""
    _clusters.add(cluster)


def collect() -> list[tuple[str, str]]:
    """(heading, text) of every cluster that is still there and has logged anything."""
    return [
        (f"cluster of {logs[0].parent}", _told_by(cluster, logs))
        for cluster in list(_clusters)
        if (logs := [path for path in cluster.logs() if path.exists()])
    ]


def _told_by(cluster: Witness, logs: list[Path]) -> str:
    try:
        return "\n".join([_status(cluster), *map(_tail, logs)])
    except Exception as error:  # noqa: BLE001  what fails here must not take the place of what the test failed of
        return f"it cannot be told: {error!r}"


def _status(cluster: Witness) -> str:
    try:
        status = cluster.ask_status(PATIENCE)
    except StoreError as error:
        return f"no status: {error}"
    nodes = [{key: node[key] for key in node if key != "figures"} for node in status["nodes"]]
    short = [each for each in status["tablets"] if not each["primary"] or len(each["in_sync"]) < each["wanted"]]
    short += [each for each in status["tablets"] if each["moving"] and each not in short]
    lines = [json.dumps(each) for each in (*nodes, *short)]
    return "\n".join([*lines, f"{len(status['tablets']) - len(short)} other tablets are whole"])


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LINES:]
    return "\n".join([f"--- {log.name}", *lines])
