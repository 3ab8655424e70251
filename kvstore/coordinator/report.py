"""The cluster's state as the console and `status --json` show it: plain data.

    {"cluster": {"name", "replication", "min_in_sync", "group_rule", "uptime_s", "rebuild_after_s", "spread",
                 "split_above"},
     "nodes": [{"id", "address", "pid", "incarnation", "state", "last_heartbeat_s", "disk_age_s", "log_bytes", "disk_free",
                "disk_full", "memory_bytes", "cells", "bytes", "disabled", "primary_of", "secondary_of", "learner_of",
                "replica_of", "rebuilt_in_s", "figures"}],
     "tablets": [{"id", "start", "end", "epoch", "range_version", "primary", "in_sync", "learners", "replicas", "wanted",
                  "cells", "bytes", "sequence", "digest", "waiting_for", "moving": {"from", "to"} or None,
                  "recovery": [{"node", "cells_done", "cells_total", "cells_copied", "bytes_done", "seconds_left"}],
                  "copies": [{"node", "role", "intact", "sequence", "commit", "digest", "cells", "bytes"}]}]}

`state` is "up", "suspect" (a heartbeat is late), "down", "disabled", or "draining" (disabled, but still the only one who
holds something). `disabled` is an operator's word, whether the node's process runs or not. `primary` is None, and
`waiting_for` names nodes, when nobody who may lead the tablet is alive. A digest is 16 hexadecimal digits, as of the `commit`
beside it; the tablet's is its primary's. `replica_of` counts the tablets that belong on the node: it is a spare if there are
none. `disk_free` is None while the node has not told; `disk_full`: it takes no writes any more, which is long before that is
0. `rebuilt_in_s`: after how many more seconds replicas of a node that is gone, or whose disk is full or stalled, are rebuilt
elsewhere; None if that is not so, or all that it holds is waited for, or that is never done (`rebuild_after_s` None).
`moving`: one replica is on its way, and `replicas` names both nodes while `wanted` counts it once. `split_above`: bytes in
memory from which on a tablet is split by itself; None: never.
"""

from __future__ import annotations

from typing import Any

from kvstore import settings
from kvstore.coordinator.membership import Membership, Node
from kvstore.coordinator.moving import arriving, wanted
from kvstore.coordinator.rebuilding import may_lose
from kvstore.messages import Configuration, ReplicaReport


def status_report(
    cluster: dict[str, Any],
    nodes: Membership,
    configurations: dict[int, Configuration],
    now: float,
    uptime: float,
) -> dict[str, object]:
    """All of the above. `now`: the coordinator's clock; `uptime`: seconds since it started."""
    after = cluster.get("rebuild_after", settings.REBUILD_AFTER)
    tablets = [configurations[tablet] for tablet in sorted(configurations)]
    return {
        "cluster": {
            "name": cluster["cluster"],
            "replication": cluster["replication"],
            "min_in_sync": cluster["min_in_sync"],
            "group_rule": cluster["group_rule"],
            "uptime_s": uptime,
            "rebuild_after_s": after,
            "spread": cluster.get("spread", settings.SPREAD),
            "split_above": cluster.get("split_above", settings.SPLIT_ABOVE),
        },
        "nodes": [_node(nodes, nodes.nodes[name], tablets, now, after) for name in sorted(nodes.nodes)],
        "tablets": [_tablet(nodes, configuration) for configuration in tablets],
    }


def _node(
    nodes: Membership, node: Node, tablets: list[Configuration], now: float, rebuild_after: float | None
) -> dict[str, object]:
    run = node.runs.get(node.current)
    me = nodes.run_of(node.name)
    leads = sum(c.primary == me for c in tablets) if me else 0
    member = sum(me in c.in_sync for c in tablets) if me else 0
    belongs = sum(node.name in c.replicas for c in tablets)
    rebuilt_in = None
    missing = nodes.missing_for(node.name)
    if missing and rebuild_after is not None and any(may_lose(c, node.name, nodes) for c in tablets):
        rebuilt_in = max(0.0, rebuild_after - missing)
    return {
        "id": node.name,
        "address": run.address if run else "",
        "pid": run.pid if run else 0,
        "incarnation": node.current,
        "state": _state(nodes, node, member, now),
        "last_heartbeat_s": None if node.heard_at is None else now - node.heard_at,
        "disk_age_s": node.disk_age,
        "log_bytes": int(node.figures.get("log_bytes", 0)),
        "disk_free": int(node.figures["disk_free"]) if "disk_free" in node.figures else None,
        "disk_full": node.full,
        "memory_bytes": int(node.figures.get("memory_bytes", 0)),
        "cells": sum(report.cells for report in node.reports.values()),
        "bytes": sum(report.bytes for report in node.reports.values()),
        "disabled": node.disabled,
        "primary_of": leads,
        "secondary_of": member - leads,
        "learner_of": sum(me in c.learners for c in tablets) if me else 0,
        "replica_of": belongs,
        "rebuilt_in_s": rebuilt_in,
        "figures": node.figures,
    }


def _state(nodes: Membership, node: Node, member_of: int, now: float) -> str:
    if not nodes.alive(node.name) or node.heard_at is None:
        return "down"
    if node.disabled:
        return "draining" if member_of else "disabled"
    if node.leaving:
        return "draining"
    return "up" if now - node.heard_at <= settings.HEARTBEAT_SUSPECT else "suspect"


def _tablet(nodes: Membership, configuration: Configuration) -> dict[str, object]:
    primary = configuration.primary
    led = primary is not None and nodes.alive(primary.node) and nodes.run_of(primary.node) == primary
    reports = {name: nodes.nodes[name].reports.get(configuration.tablet) for name in configuration.replicas}
    best = reports.get(primary.node) if led and primary is not None else None
    return {
        "id": configuration.tablet,
        "start": configuration.start,
        "end": configuration.end,
        "epoch": configuration.epoch,
        "range_version": configuration.range_version,
        "primary": primary.node if led and primary is not None else None,
        "in_sync": [member.node for member in configuration.in_sync],
        "learners": [member.node for member in configuration.learners],
        "replicas": list(configuration.replicas),
        "wanted": wanted(configuration),
        "moving": {"from": configuration.leaving, "to": arriving(configuration)} if configuration.leaving else None,
        "cells": best.cells if best else 0,
        "bytes": best.bytes if best else 0,
        "sequence": best.commit if best else 0,
        "digest": _digest(best),
        "waiting_for": [] if led else [m.node for m in configuration.in_sync if not nodes.alive(m.node)],
        "recovery": [{"node": n, **r.recovery} for n, r in reports.items() if r is not None and r.recovery],
        "copies": [_copy(name, report) for name, report in reports.items() if report is not None],
    }


def _copy(name: str, report: ReplicaReport) -> dict[str, object]:
    return {
        "node": name,
        "role": report.role,
        "intact": report.intact,
        "sequence": report.sequence,
        "commit": report.commit,
        "digest": _digest(report),
        "cells": report.cells,
        "bytes": report.bytes,
    }


def _digest(report: ReplicaReport | None) -> str | None:
    return None if report is None or report.digest is None else f"{report.digest:016x}"
