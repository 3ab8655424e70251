"""A tablet is split: what its primary does before, what each node does when it hears of it, who may serve what meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvstore import settings
from kvstore.messages import Announce, CellAnswer, Refused, Written
from kvstore.node.splitting import ASKED_AGAIN
from tests.unit.node.split import CHILD, decide, declined, filled, propose, requests, split, tell
from tests.unit.node.trio import TABLET, Trio, put

NAMES = ("n1", "n2", "n3")


def values(trio: Trio, name: str, rows: str, tablet: int) -> list[bytes | None]:
    """What a replica holds in the rows."""
    return [trio.value_at(name, row, tablet=tablet) for row in rows.split()]


def error(trio: Trio, token: object) -> str:
    """With which error a request was refused."""
    answer = trio.answers[token]
    assert isinstance(answer, Refused), answer
    return answer.error


# ---------------------------------------------------------------- what comes of it


def test_each_row_is_in_one_of_the_two_afterwards_on_every_node() -> None:
    trio = filled("a l m z")
    split(trio)
    trio.advance(0.2)
    for name in NAMES:
        assert values(trio, name, "a l m z", TABLET) == [b"a", b"l", None, None]
        assert values(trio, name, "a l m z", CHILD) == [None, None, b"m", b"z"]
    assert trio.leader("n1", CHILD).serving
    assert len({trio.replica(name, tablet).disk.tablet.digest for name in NAMES for tablet in (TABLET, CHILD)}) == 2


def test_both_are_read_and_written_from_then_on() -> None:
    trio = filled()
    split(trio)
    trio.advance(0.4)
    trio.write("n1", "low", put("b", b"1", number=10), version=2)
    trio.write("n1", "high", put("y", b"2", number=11), tablet=CHILD, version=2)
    trio.read("n1", "a", "a", version=2)
    trio.read("n1", "z", "z", tablet=CHILD, version=2)
    trio.settle()
    assert isinstance(trio.answers["low"], Written)
    assert isinstance(trio.answers["high"], Written)
    assert (trio.answers["a"].value, trio.answers["z"].value) == (b"a", b"z")
    trio.advance(0.2)
    assert trio.value_at("n3", "y", tablet=CHILD) == b"2"


def test_who_knows_the_old_range_is_told_the_new_one() -> None:
    trio = filled()
    lower, _ = split(trio)
    trio.write("n1", "w", put("z", b"1", number=10))
    trio.write("n1", "both", put("a", b"1", number=11), put("z", b"1", number=12))
    trio.read("n1", "r", "z")
    trio.settle()
    for token in ("w", "r", ("both", 1), ("both", 2)):
        assert error(trio, token) == "WrongTablet"
        assert trio.answers[token].configuration == lower


def test_a_mutation_that_was_committed_before_is_found_in_the_new_tablet() -> None:
    """Its answer was lost, and the client asks where the row is now (trap 13)."""
    trio = filled()
    first = trio.answers["filled z"]
    split(trio)
    trio.advance(0.3)
    trio.write("n1", "again", put("z", b"z", number=3), tablet=CHILD, version=2)
    trio.settle()
    assert trio.answers["again"] == first
    assert trio.replica("n1", CHILD).last == first.sequence, "nothing was logged"


# ---------------------------------------------------------------- before it


def test_it_is_asked_for_when_all_that_was_logged_is_on_every_members_disk() -> None:
    trio = filled()
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("b", b"1", number=10))
    trio.settle()
    propose(trio)
    assert requests(trio) == []
    trio.stuck_disks = set()
    trio.settle()
    (request,) = requests(trio)
    assert isinstance(trio.answers["w"], Written)
    assert (request.log_epoch, request.sequence) == (trio.answers["w"].epoch, trio.answers["w"].sequence)


def test_no_entry_is_made_between_the_asking_and_a_higher_epoch_however_long_it_takes() -> None:
    """The record may be durable though its answer was lost: an entry would be a row of the new tablet that it never gets."""
    trio = filled()
    propose(trio)
    (request,) = requests(trio)
    trio.write("n1", "w", put("z", b"new", number=10))
    trio.advance(4.0)
    assert "w" not in trio.answers
    assert trio.replica("n1").last == request.sequence
    lower, upper = decide(trio, request)
    tell(trio, lower, upper)
    assert error(trio, "w") == "WrongTablet"
    assert trio.answers["w"].configuration == lower
    trio.advance(0.3)
    assert trio.value_at("n1", "z", tablet=CHILD) == b"z"


def test_reads_go_on_meanwhile() -> None:
    trio = filled()
    propose(trio)
    trio.advance(2.0)
    trio.read("n1", "r", "z")
    trio.settle()
    assert trio.answers["r"].value == b"z"


def test_it_is_asked_for_again_until_something_is_heard() -> None:
    trio = filled()
    propose(trio)
    trio.advance(3 * ASKED_AGAIN + 0.1)
    assert len(requests(trio)) >= 3
    assert all(request == requests(trio)[0] for request in requests(trio))
    tell(trio, *decide(trio, requests(trio)[0]))
    asked = len(requests(trio))
    trio.advance(1.0)
    assert len(requests(trio)) == asked


def test_a_higher_epoch_without_a_split_lets_writes_go_on() -> None:
    trio = filled()
    propose(trio)
    trio.write("n1", "w", put("z", b"new", number=10))
    trio.settle()
    trio.lead("n1", "n1 n2 n3")
    trio.settle()
    assert isinstance(trio.answers["w"], Written)


def test_what_does_not_drain_is_given_up_and_writes_go_on() -> None:
    trio = filled()
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("b", b"1", number=10))
    trio.settle()
    propose(trio)
    trio.write("n1", "waits", put("b", b"2", number=11))
    trio.advance(settings.SPLIT_DRAIN + 0.2)
    trio.stuck_disks = set()
    trio.advance(0.1)
    assert isinstance(trio.answers["waits"], Written)
    assert requests(trio) == []


def test_it_is_not_asked_for_while_another_change_is() -> None:
    """Of two changes of one epoch only one can be granted."""
    trio = filled()
    trio.held = {("n3", "n1")}
    trio.advance(settings.SECONDARY_SILENT + 0.7)
    assert trio.changes_asked()
    propose(trio)
    assert requests(trio) == []


def test_a_proposal_of_an_older_epoch_is_ignored() -> None:
    trio = filled()
    old = trio.configuration
    trio.lead("n1", "n1 n2 n3")
    trio.settle()
    now, trio.configuration = trio.configuration, old
    propose(trio)
    trio.configuration = now
    assert requests(trio) == []
    assert declined(trio) == []


# ---------------------------------------------------------------- where


def test_the_row_is_chosen_near_the_middle_of_the_bytes() -> None:
    trio = Trio().serving()
    for number in range(20):
        size = 100 if number < 10 else 300
        trio.write("n1", number, put(f"r{number:02}", b"x" * size, number=number + 1))
        trio.settle()
    propose(trio, None)
    (request,) = requests(trio)
    assert request.row == "r13", "of 4000 bytes 1900 lie below it"


@pytest.mark.parametrize(
    ("rows", "row", "reason"),
    [
        ("a", None, "all its bytes are of one group"),
        ("", None, "the tablet is empty"),
        ("a z", "", "does not lie inside the tablet"),
    ],
)
def test_where_there_is_no_such_row_it_says_so(rows: str, row: str | None, reason: str) -> None:
    trio = filled(rows)
    propose(trio, row)
    assert requests(trio) == []
    assert reason in declined(trio)[0]
    trio.write("n1", "w", put("b", b"1", number=10))
    trio.settle()
    assert isinstance(trio.answers["w"], Written)


# ---------------------------------------------------------------- who hears of what, and when


@pytest.mark.parametrize("first", [0, 1])
def test_a_node_that_hears_of_one_half_waits_for_the_other(first: int) -> None:
    trio = filled()
    trio.held = {("n1", "n3"), ("n3", "n1")}
    propose(trio)
    halves = decide(trio, requests(trio)[0])
    tell(trio, halves[first], to="n3")
    replica = trio.replica("n3")
    assert replica.configuration is not None
    assert replica.configuration.range_version == 1
    assert values(trio, "n3", "a m z", TABLET) == [b"a", b"m", b"z"], "nothing is dropped"
    assert CHILD not in trio.nodes["n3"]._replicas, "and nothing is made of nothing"
    tell(trio, halves[1 - first], to="n3")
    assert values(trio, "n3", "m z", CHILD) == [b"m", b"z"]
    assert values(trio, "n3", "a m z", TABLET) == [b"a", None, None]


def test_while_it_waits_it_ignores_what_it_cannot_act_on_and_asks_for_it_then() -> None:
    """To refuse it would bring the same word again, at once, and so on for ever."""
    trio = filled()
    trio.held = {("n1", "n3"), ("n2", "n3")}
    propose(trio)
    lower, upper = decide(trio, requests(trio)[0])
    tell(trio, lower, upper, to="n1 n2")
    trio.write("n1", "w", put("b", b"1", number=10), version=2)
    trio.settle()
    waiting = trio.mail["n1", "n3"]
    about_parent = [message for message in waiting if getattr(message, "tablet", None) == TABLET]
    waiting.clear()
    assert any(isinstance(message, Announce) for message in about_parent)
    for message in about_parent:
        trio.nodes["n3"].from_peer(message, trio.now)
    trio.nodes["n3"].flush(trio.now)
    refusals = [effect for effect in trio.nodes["n3"].take_effects() if "PeerRefusal" in repr(effect)]
    assert refusals == []
    trio.held = set()
    tell(trio, upper, to="n3")
    trio.advance(0.2)
    assert isinstance(trio.answers["w"], Written)
    assert values(trio, "n3", "a b m", TABLET) == [b"a", b"1", None]


def test_by_way_of_its_peers_it_hears_of_both() -> None:
    trio = filled()
    split(trio, to="n1 n2")
    trio.advance(1.0)
    assert values(trio, "n3", "m z", CHILD) == [b"m", b"z"]
    trio.write("n1", "w", put("z", b"2", number=10), tablet=CHILD, version=2)
    trio.settle()
    assert isinstance(trio.answers["w"], Written)


# ---------------------------------------------------------------- crashes


def test_a_member_that_was_down_splits_its_log_when_it_is_back() -> None:
    trio = filled()
    propose(trio)
    trio.crash("n3")
    tell(trio, *decide(trio, requests(trio)[0]))
    trio.start("n3")
    trio.settle()
    assert values(trio, "n3", "a m z", TABLET) == [b"a", None, None]
    assert values(trio, "n3", "a m z", CHILD) == [None, b"m", b"z"]
    assert trio.replica("n3", CHILD).intact


def test_it_makes_up_for_every_birth_that_it_missed_in_order() -> None:
    trio = filled("a f m s z")
    trio.crash("n3")
    trio.lead("n1", "n1 n2")
    trio.settle()
    propose(trio, "m")
    first = requests(trio)[-1]
    tell(trio, *decide(trio, first, 2))
    propose(trio, "f")
    second = requests(trio)[-1]
    tell(trio, *decide(trio, second, 3))
    child = trio.children[0]
    decide(trio, replace(first, tablet=2, epoch=child.epoch, row="s"), 4)
    trio.start("n3")
    trio.settle()
    held = {tablet: values(trio, "n3", "a f m s z", tablet) for tablet in (1, 2, 3, 4)}
    assert held == {
        1: [b"a", None, None, None, None],
        2: [None, None, b"m", None, None],
        3: [None, b"f", None, None, None],
        4: [None, None, None, b"s", b"z"],
    }
    ranges = [trio.replica("n3", tablet).disk.range for tablet in (1, 2, 3, 4)]
    assert ranges == [("", "f", 3), ("m", "s", 3), ("f", "m", 3), ("s", None, 3)]


def test_a_power_cut_before_the_split_is_on_disk_loses_nothing() -> None:
    trio = filled()
    trio.stuck_disks = set(NAMES)
    propose(trio)
    tell(trio, *decide(trio, requests(trio)[0]))
    for name in NAMES:
        trio.crash(name)
    trio.stuck_disks = set()
    for name in NAMES:
        trio.start(name)
    trio.settle()
    for name in NAMES:
        assert values(trio, name, "a m z", TABLET) == [b"a", None, None]
        assert values(trio, name, "a m z", CHILD) == [None, b"m", b"z"]


def test_nothing_is_acknowledged_or_granted_before_the_split_is_on_disk() -> None:
    trio = filled()
    trio.stuck_disks = {"n3"}
    split(trio)
    trio.write("n1", "low", put("b", b"1", number=10), version=2)
    trio.write("n1", "high", put("y", b"1", number=11), tablet=CHILD, version=2)
    trio.read("n1", "r", "z", tablet=CHILD, version=2)
    trio.advance(0.7)
    assert not {"low", "high", "r"} & set(trio.answers)
    trio.stuck_disks = set()
    trio.advance(0.5)
    assert {"low", "high", "r"} <= set(trio.answers)


@pytest.mark.parametrize("in_its_place", [False, True])
def test_an_uncommitted_tail_of_one_that_was_no_member_is_in_neither_half(in_its_place: bool) -> None:
    """n3 led, logged what nobody else had, and was replaced; it comes back after the split. There may be another entry of the
    same sequence by then, after which the tablet was split."""
    trio = filled("m z a b")
    trio.lead("n3", "n3 n1 n2")
    trio.advance(2.0)
    trio.held = {("n3", "n1"), ("n3", "n2")}
    trio.write("n3", "lost", put("z", b"lost", number=10))
    trio.settle()
    trio.crash("n3", keep_unsynced=True)
    trio.lead("n1", "n1 n2", to="n1 n2")
    trio.advance(2.0)
    trio.held = set()
    if in_its_place:
        trio.write("n1", "w", put("a", b"committed", number=11))
        trio.settle()
    split(trio, to="n1 n2")
    trio.start("n3")
    trio.settle()
    assert trio.value_at("n3", "z", tablet=CHILD) != b"lost"
    assert trio.replica("n3").disk.tail == []
    assert trio.replica("n3", CHILD).disk.tail == []


def test_one_that_is_short_of_the_split_has_old_copies_of_both_and_learns_what_differs() -> None:
    trio = filled("m z a b c")
    trio.crash("n3")
    trio.lead("n1", "n1 n2")
    trio.settle()
    trio.write("n1", "w", put("z", b"new", number=10))
    trio.settle()
    split(trio, to="n1 n2")
    trio.start("n3")
    trio.settle()
    assert values(trio, "n3", "m z", CHILD) == [b"m", b"z"], "old, and worth keeping"
    learner = trio.member("n3")
    trio.configuration = replace(trio.configuration, epoch=trio.configuration.epoch + 1, learners=(learner,))
    trio.children = [replace(trio.children[0], epoch=trio.children[0].epoch + 1, learners=(learner,))]
    tell(trio, trio.configuration, *trio.children)
    trio.advance(1.5)
    assert values(trio, "n3", "m z", CHILD) == [b"m", b"new"]
    asked = trio.changes_asked()
    assert {request.tablet for request in asked if request.member == learner} == {TABLET, CHILD}


def test_a_learner_in_the_midst_of_it_drops_what_is_no_longer_its_tablets_and_begins_anew() -> None:
    trio = filled()
    trio.crash("n3")
    trio.start("n3")
    trio.lead("n1", "n1 n2", learners="n3")
    trio.held = {("n3", "n1")}
    trio.advance(0.5)
    trio.settle()
    assert not trio.replica("n3").intact
    trio.write("n1", "w", put("z", b"held back", number=10))
    trio.settle()
    split(trio)
    assert trio.value_at("n3", "z") is None
    trio.held = set()
    trio.advance(3.0)
    assert trio.replica("n3").intact
    assert trio.replica("n3").disk.tablet.digest == trio.replica("n1").disk.tablet.digest
    assert values(trio, "n3", "m z", CHILD) == [b"m", b"held back"]


# ---------------------------------------------------------------- who may serve


def test_what_was_promised_for_the_parent_is_waited_out_at_the_child() -> None:
    """n1 is cut off after it asked, and reads on under its leases; n2 is made the new tablet's primary meanwhile."""
    trio = filled()
    propose(trio)
    trio.held = {("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1")}
    trio.read("n1", "served", "z")
    trio.settle()
    until = trio.valid_until["served"]
    lower, upper = decide(trio, requests(trio)[0])
    first = trio.member("n1")
    taken = replace(
        upper,
        epoch=upper.epoch + 1,
        since=upper.epoch + 1,
        primary=trio.member("n2"),
        in_sync=(trio.member("n2"), trio.member("n3")),
        former=(first,),
    )
    tell(trio, lower, taken, to="n2 n3")
    while trio.now <= until:
        assert not trio.leader("n2", CHILD).serving, "n1 may still answer for its rows"
        trio.advance(0.05)
    trio.advance(settings.GRANT_WAIT)
    assert trio.leader("n2", CHILD).serving
    trio.read("n1", "late", "z")
    trio.settle()
    assert "late" not in trio.answers, "no lease, no answer"


def test_a_lease_on_the_parent_is_none_on_the_child() -> None:
    trio = filled()
    trio.held = {("n2", "n1"), ("n3", "n1")}
    split(trio, to="n1")
    trio.read("n1", "r", "z", tablet=CHILD, version=2)
    trio.advance(0.2)
    assert "r" not in trio.answers
    trio.held = set()
    trio.advance(0.6)
    assert isinstance(trio.answers["r"], CellAnswer)


def test_reads_that_wait_for_a_lease_when_the_tablet_is_split_are_refused() -> None:
    """They were asked of a range that is no more: their row may be another tablet's."""
    trio = filled()
    propose(trio)
    trio.held = {("n2", "n1"), ("n3", "n1")}
    trio.advance(settings.LEASE + 0.1)
    trio.read("n1", "r", "z")
    trio.settle()
    assert "r" not in trio.answers
    tell(trio, *decide(trio, requests(trio)[0]), to="n1")
    assert error(trio, "r") == "WrongTablet"
