"""The coordinator's decisions in words, one line each, for whoever reads its log after something went wrong.

The journal holds the same decisions for the machine; the log adds when, by the wall clock, which decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvstore import rebuild_after, split_above
from kvstore.messages import Configuration, Member


def in_words(record: dict[str, Any], configurations: list[Configuration]) -> Iterator[str]:
    """The lines that tell of a journal record; `configurations` are those that it holds, decoded."""
    kind, node = record["kind"], record.get("node")
    if kind == "cluster":
        yield f"a cluster is made: {record['replication']} replicas, {record['nodes_expected']} nodes expected"
    elif kind == "run":
        yield f"{node}: run {record['incarnation']} at {record['address']}, process {record['pid']}"
    elif kind == "ended":
        yield f"{node}: run {record['incarnation']} has ended"
    elif kind == "disabled":
        yield f"{node}: {'disabled' if record['disabled'] else 'enabled'}"
    elif kind == "rebuild_after":
        yield f"replicas of nodes that are gone are rebuilt elsewhere: {rebuild_after.in_words(record['seconds'])}"
    elif kind == "spread":
        yield f"replicas and leads spread over the nodes that are there: {'on' if record['on'] else 'off'}"
    elif kind == "split_above":
        yield f"tablets are split by themselves: {split_above.in_words(record['bytes'])}"
    yield from record.get("because", ())
    for configuration in configurations:
        yield _configuration_in_words(configuration)


def _configuration_in_words(configuration: Configuration) -> str:
    leads = f"{configuration.primary.node} leads" if configuration.primary is not None else "nobody leads"
    words = f"tablet {configuration.tablet}, epoch {configuration.epoch}: {leads}"
    words += f", in sync {_names(configuration.in_sync) or 'nobody'}"
    if configuration.learners:
        words += f", learning {_names(configuration.learners)}"
    return words


def _names(members: tuple[Member, ...]) -> str:
    return " ".join(f"{member.node}.{member.incarnation}" for member in members)
