"""The status as a table on a terminal: what an operator must see of it at a glance."""

from __future__ import annotations

import io

from rich.console import Console

from kvstore.control import MoveReplica, SetSplitAbove, SetSpread
from kvstore.messages import ChangeKind
from kvstore.status_table import print_status
from tests.unit.coordinator.control import CREATION, Control


def shown(control: Control) -> str:
    """What the terminal has."""
    output = io.StringIO()
    print_status(control.status(), Console(file=output, width=200))
    return output.getvalue()


def line(text: str, node: str) -> str:
    """The line of a node."""
    return next(found for found in text.splitlines() if found.split()[:1] == [node])


def test_spares_are_told_and_when_what_is_gone_is_rebuilt() -> None:
    control = Control(CREATION).formed()
    control.join("n4")
    control.pass_time(1.0)
    text = shown(control)
    assert "rebuilt elsewhere: after 300 s" in text
    assert "up, spare" in line(text, "n4")
    assert "spare" not in line(text, "n1")
    control.kill("n3")
    control.pass_time(60.0)
    assert "down, rebuilt elsewhere in 24" in line(shown(control), "n3")


def test_a_full_disk_is_told_and_when_what_it_should_hold_is_rebuilt() -> None:
    control = Control(CREATION).formed()
    control.join("n4")
    control.full = {"n3"}
    control.pass_time(60.0)
    assert "up, disk full, rebuilt elsewhere in 24" in line(shown(control), "n3")
    assert "disk full" not in line(shown(control), "n1")
    control.kill("n3")
    control.pass_time(60.0)
    assert "down, rebuilt elsewhere in 18" in line(shown(control), "n3"), "what its disk is like now nobody knows"
    control.full = {"n4"}
    control.pass_time(1.0)
    assert "up, disk full" in line(shown(control), "n4"), "it is no spare so"


def test_a_disabled_node_whose_process_is_stopped_is_told_to_be_both() -> None:
    control = Control(CREATION).formed()
    control.disable("n3")
    control.kill("n3", told=True)
    control.pass_time(60.0)
    assert "down, disabled " in line(shown(control), "n3")


def test_a_nodes_longest_pause_is_told() -> None:
    status = Control(CREATION).formed().status()
    status["nodes"][0]["figures"] = {"longest_pause_ms": 31.4}
    output = io.StringIO()
    print_status(status, Console(file=output, width=200))
    assert line(output.getvalue(), "n1").rstrip().endswith("31 ms")
    assert line(output.getvalue(), "n2").rstrip().endswith("–")


def test_it_is_told_how_far_the_scrub_is_and_what_it_found() -> None:
    status = Control(CREATION).formed().status()
    status["nodes"][0]["figures"] = {"scrub_round": 0.426, "scrub_damages": 0.0}
    status["nodes"][1]["figures"] = {"scrub_round": 0.5, "scrub_damages": 2.0}
    output = io.StringIO()
    print_status(status, Console(file=output, width=200))
    assert " 43 % " in line(output.getvalue(), "n1")
    assert " 50 %, 2 damaged " in line(output.getvalue(), "n2")
    assert "%" not in line(output.getvalue(), "n3")


def test_how_far_a_learner_has_come_is_told() -> None:
    status = Control(CREATION).formed().status()
    tablet = status["tablets"][0]
    tablet["learners"] = ["n3"]
    tablet["recovery"] = [{"node": "n3", "cells_done": 250, "cells_total": 1000, "seconds_left": 12}]
    output = io.StringIO()
    print_status(status, Console(file=output, width=200))
    assert "n3 25 %, 12 s left" in output.getvalue()
    tablet["recovery"][0]["seconds_left"] = -1
    print_status(status, Console(file=output, width=200))
    assert "n3 25 % " in output.getvalue()


def test_a_tablet_that_moves_is_told_with_from_to_and_progress() -> None:
    control = Control(CREATION).formed()
    control.join("n4")
    control.pass_time(2.0)
    control.request(MoveReplica(1, "n2", "n4"))
    status = control.status()
    status["tablets"][0]["recovery"] = [{"node": "n4", "cells_done": 1, "cells_total": 4, "seconds_left": 3}]
    output = io.StringIO()
    print_status(status, Console(file=output, width=200))
    assert "n2 → n4 25 %, 3 s left" in output.getvalue()
    assert "(3/3)" in output.getvalue(), "a tablet that moves lacks nothing"
    control.kill("n4", told=True)
    assert "n2 → n4, not learning" in shown(control)
    control.boot("n4")
    control.ask(ChangeKind.ADD, control.member("n4"))
    assert "n2 → n4, in sync" in shown(control)


def test_it_is_told_what_the_cluster_does_by_itself() -> None:
    control = Control(CREATION).formed()
    assert "tablets are split: above 512 MiB in memory; data spreads: off" in shown(control)
    control.request(SetSpread(True))
    control.request(SetSplitAbove(None))
    assert "tablets are split: never; data spreads: on" in shown(control)


def test_a_tablet_may_begin_at_any_row() -> None:
    status = Control(CREATION).formed().status()
    status["tablets"][0]["start"], status["tablets"][0]["end"] = "a[/red]\x1b[2J", "b[bold]"
    output = io.StringIO()
    print_status(status, Console(file=output, width=200))
    assert "a[/red]\\x1b[2J" in output.getvalue()
    assert "b[bold]" in output.getvalue()
