"""A cluster's status as tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvstore import rebuild_after, split_above

_WIDTH = 150  # columns of what does not go to a terminal
_COLOURS = {"up": "green", "suspect": "yellow", "draining": "yellow", "disabled": "cyan", "down": "red"}


def print_status(status: dict[str, Any], console: Console | None = None) -> None:
    """Print what `Admin.status` gave."""
    if console is None:
        found = Console()
        console = found if found.is_terminal else Console(width=_WIDTH)
    cluster = status["cluster"]
    console.print(
        f"[bold]{cluster['name']}[/bold]: replication {cluster['replication']}, "
        f"writes need {cluster['min_in_sync']} in sync",
        highlight=False,
    )
    console.print(
        f"by itself: what a node held that is gone is rebuilt elsewhere: {rebuild_after.in_words(cluster['rebuild_after_s'])}; "
        f"tablets are split: {split_above.in_words(cluster['split_above'])}; "
        f"data spreads: {'on' if cluster['spread'] else 'off'}",
        highlight=False,
    )
    console.print(_nodes(status["nodes"]))
    console.print(_tablets(status["tablets"]))


def _nodes(nodes: list[dict[str, Any]]) -> Table:
    table = Table(title="Nodes", title_justify="left", box=SIMPLE_HEAD)
    for heading in (
        "node",
        "address",
        "state",
        "pid",
        "run",
        "heard",
        "replicas",
        "primary",
        "secondary",
        "cells",
        "bytes",
        "log",
        "read again",
        "pause",
    ):
        table.add_column(heading, justify="left" if heading in ("node", "address", "state") else "right")
    for node in nodes:
        heard = node["last_heartbeat_s"]
        table.add_row(
            node["id"],
            node["address"],
            _state(node),
            str(node["pid"]),
            str(node["incarnation"]),
            "–" if heard is None else f"{heard:.1f} s ago",
            str(node["replica_of"]),
            str(node["primary_of"]),
            str(node["secondary_of"]),
            f"{node['cells']:,}",
            human_size(node["bytes"]),
            human_size(node["log_bytes"]),
            _scrub(node.get("figures", {})),
            f"{pause:.0f} ms" if (pause := node.get("figures", {}).get("longest_pause_ms")) is not None else "–",
        )
    return table


def _scrub(figures: dict[str, float]) -> Text:
    """How far the scrub's round is, and what it found damaged."""
    if "scrub_round" not in figures:
        return Text("–")
    damages = int(figures.get("scrub_damages", 0))
    words = f"{figures['scrub_round'] * 100:.0f} %"
    return Text(f"{words}, {damages} damaged", "red") if damages else Text(words)


def _state(node: dict[str, Any]) -> Text:
    words = node["state"]
    if words == "down" and node.get("disabled"):
        words = "down, disabled"
    elif node.get("disk_full") and words != "down":
        words += ", disk full"
    elif words == "up" and not node["replica_of"]:
        words = "up, spare"
    if node["rebuilt_in_s"] is not None and not node.get("disabled"):
        words += f", rebuilt elsewhere in {node['rebuilt_in_s']:.0f} s"
    return Text(words, _COLOURS.get(node["state"], ""))


def _tablets(tablets: list[dict[str, Any]]) -> Table:
    table = Table(title="Tablets", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("tablet", "rows from", "to", "epoch", "primary", "in sync", "learning", "cells", "bytes"):
        table.add_column(heading, justify="right" if heading in ("tablet", "epoch", "cells", "bytes") else "left")
    for tablet in tablets:
        short = len(tablet["in_sync"]) < tablet["wanted"]
        waiting = tablet.get("waiting_for") or []
        primary = (
            Text(tablet["primary"]) if tablet["primary"] else Text(f"waits for {', '.join(waiting) or '–'}", "red")
        )
        table.add_row(
            str(tablet["id"]),
            _row(tablet["start"]) if tablet["start"] else "the first",
            "the last" if tablet["end"] is None else _row(tablet["end"]),
            str(tablet["epoch"]),
            primary,
            Text(
                f"{', '.join(tablet['in_sync'])} ({len(tablet['in_sync'])}/{tablet['wanted']})", "red" if short else ""
            ),
            _learning(tablet),
            f"{tablet['cells']:,}",
            human_size(tablet["bytes"]),
        )
    return table


def _row(row: str) -> Text:
    """A row, of any characters: neither the table's markup nor a command to the terminal."""
    return Text("".join(char if char.isprintable() else repr(char)[1:-1] for char in row))


def _learning(tablet: dict[str, Any]) -> str:
    """Who learns, and what moves: one that a replica moves to says so, whether it is there or not."""
    moving = tablet.get("moving") or {"from": "", "to": ""}
    words = [_learner(name, tablet) for name in tablet["learners"] if name != moving["to"]]
    if moving["to"]:
        to = _learner(moving["to"], tablet)
        if moving["to"] not in tablet["learners"]:
            to += ", in sync" if moving["to"] in tablet["in_sync"] else ", not learning"
        words.append(f"{moving['from']} → {to}")
    return "; ".join(words)


def _learner(name: str, tablet: dict[str, Any]) -> str:
    """A learner, and how far it has come, as far as it has told."""
    for part in tablet.get("recovery") or ():
        if part["node"] == name and part["cells_total"]:
            percent = min(99, part["cells_done"] * 100 // part["cells_total"])
            left = part["seconds_left"]
            return f"{name} {percent} %" + (f", {left} s left" if left >= 0 else "")
    return name


def human_size(size: float) -> str:
    """`size` bytes in the unit that suits it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit takes any size")
