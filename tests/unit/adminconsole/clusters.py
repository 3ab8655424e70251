"""Statuses for the console's tests: what the coordinator would say of small clusters, in its own form."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as some

from adminconsole.status import Status, parse


def raw_node(node_id: str, state: str = "up", **figures: Any) -> dict[str, Any]:
    """A node as `Admin.status()` gives it."""
    return {
        "id": node_id,
        "address": "127.0.0.1:7411",
        "pid": 4242,
        "incarnation": 3,
        "state": state,
        "last_heartbeat_s": 14.2 if state == "down" else 0.1,
        "disk_age_s": 0.0,
        "log_bytes": 64 * 1024**2,
        "disk_free": 100 * 1024**3,
        "memory_bytes": 50 * 1024**2,
        "cells": 100,
        "bytes": 10_000,
        "primary_of": 0,
        "secondary_of": 0,
        "learner_of": 0,
    } | figures


def raw_tablet(number: int, primary: str | None, in_sync: str, **parts: Any) -> dict[str, Any]:
    """A tablet as `Admin.status()` gives it; `in_sync` as "1 2 3" for node1, node2 and node3."""
    return {
        "id": number,
        "start": f"k{number:04d}",
        "end": f"k{number + 1:04d}",
        "epoch": 5,
        "range_version": 1,
        "primary": f"node{primary}" if primary else None,
        "in_sync": named(in_sync),
        "learners": [],
        "replicas": ["node1", "node2", "node3"],
        "wanted": 3,
        "cells": 10,
        "bytes": 1024**2,
        "sequence": 77,
        "digest": "0f",
        "waiting_for": [],
        "recovery": [],
    } | parts


def named(numbers: str) -> list[str]:
    """`"1 3"` → `["node1", "node3"]`."""
    return [f"node{number}" for number in numbers.split()]


def raw_status(nodes: list[dict[str, Any]], tablets: list[dict[str, Any]], **cluster: Any) -> dict[str, Any]:
    """The whole answer."""
    about = {"name": "penncloud", "replication": 3, "min_in_sync": 1, "group_rule": "", "uptime_s": 60.0}
    return {"cluster": about | cluster, "nodes": nodes, "tablets": tablets}


def cluster(states: str, tablets: list[dict[str, Any]], **about: Any) -> Status:
    """A cluster of nodes in `states`, as "up down up", with these tablets."""
    nodes = [raw_node(f"node{number}", state) for number, state in enumerate(states.split(), start=1)]
    return parse(raw_status(nodes, tablets, **about))


def healthy(tablets: int = 7) -> Status:
    """Three nodes up, every tablet with three replicas; node1 leads the first, node2 the second, and so on."""
    return cluster("up up up", [raw_tablet(number, str(number % 3 + 1), "1 2 3") for number in range(tablets)])


_subset = some.lists(some.sampled_from("1234"), unique=True).map(" ".join)


@some.composite
def statuses(draw: some.DrawFn) -> Status:
    """Any status at all of three nodes, sensible or not."""
    states = some.sampled_from(["up", "suspect", "down", "disabled", "draining"])
    nodes = [
        raw_node(f"node{name}", draw(states), last_heartbeat_s=draw(some.none() | some.floats(0, 1e6)))
        for name in "123"
    ]
    tablets = [
        raw_tablet(
            number,
            draw(some.none() | some.sampled_from("1234")),
            draw(_subset),
            learners=named(draw(_subset)),
            replicas=named(draw(_subset)),
            waiting_for=named(draw(_subset)),
        )
        for number in range(draw(some.integers(0, 4)))
    ]
    return parse(raw_status(nodes, tablets, min_in_sync=draw(some.integers(1, 3))))
