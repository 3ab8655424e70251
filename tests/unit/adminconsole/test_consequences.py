"""What a dangerous button says before it is pressed."""

from __future__ import annotations

import pytest
from hypothesis import given

from adminconsole.consequences import Action, Consequences, foresee
from adminconsole.health import Level
from adminconsole.status import Status, parse
from tests.unit.adminconsole.clusters import cluster, healthy, raw_node, raw_status, raw_tablet, statuses

LEAVING = [Action.DISABLE, Action.RESTART, Action.KILL]


def said(planned: Consequences | None) -> list[str]:
    assert planned is not None
    return [line.text for line in planned.lines]


def test_killing_a_node_of_a_whole_cluster_tells_the_pause_and_the_replicas_left() -> None:
    planned = foresee(healthy(6), "node2", Action.KILL)
    assert said(planned) == [
        "Process 4242 of node2 is killed at once (SIGKILL). Its supervisor starts it again, and it catches up.",
        "node2 leads 2 tablets: their writes pause for up to 3 s while another replica takes over.",
        "It follows in 4 tablets: writes there may wait for up to 3 s, reads go on.",
        "6 tablets would have 2 of 3 replicas.",
    ]
    assert planned is not None
    assert not planned.needs_typing
    assert planned.level is Level.WARNING
    assert planned.gist == "node2 leads 2 tablets: their writes pause for up to 3 s while another replica takes over."


def test_disabling_says_that_the_roles_move_and_the_data_stays() -> None:
    planned = foresee(healthy(3), "node2", Action.DISABLE)
    assert said(planned)[0].startswith("The coordinator moves the roles of node2 to other nodes")
    assert "node2 leads 1 tablet: other replicas take it over first. Requests wait for 0.1 s at the most." in said(
        planned
    )
    assert "3 tablets would have 2 of 3 replicas." in said(planned)


def test_one_replica_left_is_said_to_be_the_last() -> None:
    planned = foresee(cluster("up up down", [raw_tablet(1, "1", "1 2")]), "node2", Action.RESTART)
    assert "1 tablet would have 1 of 3 replicas; if that one fails too, they wait for a node to return." in said(
        planned
    )
    assert planned is not None
    assert planned.level is Level.DANGER
    assert not planned.needs_typing


def test_the_last_replica_stays_where_it_is_when_its_node_is_disabled() -> None:
    planned = foresee(cluster("up down down", [raw_tablet(1, "1", "1")]), "node1", Action.DISABLE)
    assert planned is not None
    assert not planned.needs_typing
    assert said(planned)[-1].startswith("1 tablet stays on node1, which alone has all of the data, until other nodes")


def test_a_role_that_would_move_to_a_suspect_node_needs_typing() -> None:
    planned = foresee(cluster("up suspect down", [raw_tablet(1, "1", "1 2")]), "node1", Action.DISABLE)
    assert planned is not None
    assert planned.needs_typing


@pytest.mark.parametrize("action", [Action.RESTART, Action.KILL])
def test_what_would_make_a_tablet_unavailable_needs_typing(action: Action) -> None:
    status = cluster("up down down", [raw_tablet(1, "1", "1"), raw_tablet(2, "1", "1")])
    planned = foresee(status, "node1", action)
    assert planned is not None
    assert planned.needs_typing
    assert any("2 tablets could be neither read nor written until" in text for text in said(planned))
    assert not any("takes over" in text for text in said(planned))


def test_some_tablets_lost_and_some_passed_on_are_told_apart() -> None:
    status = cluster("up up down", [raw_tablet(1, "1", "1"), raw_tablet(2, "1", "1 2")])
    texts = said(foresee(status, "node1", Action.KILL))
    assert (
        "node1 leads 2 tablets: the writes of 1 of them pause for up to 3 s while another replica takes over." in texts
    )
    assert any(text.startswith("1 tablet could be neither read nor written until node1 is back.") for text in texts)


def test_falling_below_min_in_sync_needs_typing_too() -> None:
    status = cluster("up up down", [raw_tablet(1, "1", "1 2")], min_in_sync=2)
    planned = foresee(status, "node2", Action.KILL)
    assert planned is not None
    assert planned.needs_typing
    assert "1 tablet would refuse writes: fewer than 2 replicas in sync. Reads go on." in said(planned)


def test_a_suspect_node_is_not_counted_on() -> None:
    planned = foresee(cluster("up suspect down", [raw_tablet(1, "1", "1 2")]), "node1", Action.KILL)
    assert planned is not None
    assert planned.needs_typing
    assert any("node2 is late with its heartbeat and was not counted on" in text for text in said(planned))


def test_a_dead_member_of_the_set_is_not_counted_on() -> None:
    planned = foresee(cluster("up down up", [raw_tablet(1, "1", "1 2")]), "node1", Action.KILL)
    assert planned is not None
    assert planned.needs_typing


def test_a_learner_that_would_start_again_is_told() -> None:
    status = cluster("up up up", [raw_tablet(1, "1", "1 3", learners=["node2"])])
    assert "node2 is catching up from it with 1 tablet: that starts again at the new primary." in said(
        foresee(status, "node1", Action.KILL)
    )
    assert "It is catching up with 1 tablet: that starts again." in said(foresee(status, "node2", Action.KILL))


def test_a_node_without_replicas_may_go_without_a_word_of_warning() -> None:
    status = cluster("up up up up", [raw_tablet(1, "1", "1 2 3")])
    planned = foresee(status, "node4", Action.DISABLE)
    assert said(planned)[-1] == "node4 holds no replica that is in sync: no tablet is affected."
    assert planned is not None
    assert planned.level is Level.NOTICE


@pytest.mark.parametrize(
    ("states", "action", "words"),
    [
        ("up", Action.ENABLE, "is not disabled"),
        ("disabled", Action.DISABLE, "is disabled already"),
        ("draining", Action.DISABLE, "is disabled already"),
        ("down", Action.KILL, "there is no process to kill"),
        ("up", Action.START, "runs already"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(states: str, action: Action, words: str) -> None:
    planned = foresee(cluster(states, []), "node1", action)
    assert planned is not None
    assert words in planned.refusal
    assert planned.lines == ()


def test_restarting_a_dead_node_changes_nothing_for_the_others() -> None:
    planned = foresee(cluster("up down up", [raw_tablet(1, "1", "1 2 3")]), "node2", Action.RESTART)
    assert said(planned)[-1] == "node2 is down already: nothing else changes for any tablet."
    assert planned is not None
    assert not planned.needs_typing


def test_enabling_tells_what_may_be_copied() -> None:
    status = cluster("up disabled up", [raw_tablet(1, "1", "1 3"), raw_tablet(2, "1", "1 3")])
    assert "2 tablets short of replicas may use it: at most 2.1 MB to compare and copy, while they serve on." in said(
        foresee(status, "node2", Action.ENABLE)
    )
    idle = cluster("up up up disabled", [raw_tablet(1, "1", "1 2 3")])
    assert said(foresee(idle, "node4", Action.ENABLE))[-1] == "No tablet is short of replicas: nothing moves now."


def test_a_disabled_node_may_be_enabled_while_it_is_down_and_counts_as_gone_from_then_on() -> None:
    nodes = [raw_node("node1"), raw_node("node2", "down", disabled=True), raw_node("node3")]
    status = parse(raw_status(nodes, [raw_tablet(1, "1", "1 3")], rebuild_after_s=300.0))
    planned = foresee(status, "node2", Action.ENABLE)
    assert planned is not None
    assert planned.refusal == ""
    assert (
        "It is down: if it is not started within 5 min, what it holds is rebuilt on spare nodes, if there are any."
        in said(planned)
    )
    again = foresee(status, "node2", Action.DISABLE)
    assert again is not None
    assert again.refusal == "node2 is disabled already."


def test_starting_a_node_that_tablets_wait_for_says_so() -> None:
    status = cluster("down up up", [raw_tablet(1, None, "1", waiting_for=["node1"])])
    assert "1 tablet that waits for it can open again." in said(foresee(status, "node1", Action.START))


def test_an_unknown_node_has_no_consequences() -> None:
    assert foresee(healthy(), "node9", Action.KILL) is None


def test_a_confirmation_holds_only_while_its_warnings_do() -> None:
    before = foresee(healthy(), "node2", Action.KILL)
    same = foresee(healthy(), "node2", Action.KILL)
    after = foresee(
        cluster("up up down", [raw_tablet(n, str(n % 2 + 1), "1 2") for n in range(7)]), "node2", Action.KILL
    )
    restart = foresee(healthy(), "node2", Action.RESTART)
    assert before is not None
    assert same is not None
    assert after is not None
    assert restart is not None
    assert before.fingerprint == same.fingerprint
    assert len({before.fingerprint, after.fingerprint, restart.fingerprint}) == 3


@given(statuses())
def test_whatever_the_status_no_tablet_loses_its_last_replica_without_typing(status: Status) -> None:
    for node in status.nodes:
        for action in LEAVING:
            planned = foresee(status, node.id, action)
            assert planned is not None
            if planned.refusal or planned.needs_typing or not node.is_live:
                continue
            for tablet in status.tablets:
                alone = status.live(tablet.in_sync) == (node.id,)
                if node.id in tablet.in_sync and not (alone and action is Action.DISABLE):
                    others = [status.node(name) for name in tablet.in_sync if name != node.id]
                    assert any(other is not None and other.is_sound for other in others)


def test_a_restart_in_order_hands_over_first_and_a_kill_does_not() -> None:
    restart, kill = (said(foresee(healthy(6), "node2", action)) for action in (Action.RESTART, Action.KILL))
    assert "node2 leads 2 tablets: other replicas take them over first. Requests wait for 0.1 s at the most." in restart
    assert not any("up to 3 s" in text for text in restart)
    assert any("pause for up to 3 s" in text for text in kill)
