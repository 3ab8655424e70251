"""A new primary: what it makes of its log and the others', and what stragglers of the old one can still do."""

from __future__ import annotations

from kvstore.messages import Acknowledge, Append, Beacon, CellAnswer, Establish, Member, PeerRefusal, Written
from kvstore.mutation import Entry, Outcome
from tests.unit.node.trio import TABLET, Trio, put, put_if


def test_a_new_primary_commits_what_it_holds_before_its_first_read() -> None:
    """n1 committed and answered; n2 has the entry, and has not heard that it is committed."""
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    assert isinstance(trio.answers["w"], Written)
    assert trio.value_at("n2", "a") is None
    trio.crash("n1")
    trio.lead("n2", "n2 n3")
    trio.read("n2", "r", "a")
    trio.advance(2.0)
    assert trio.answers["r"].value == b"1"


def test_it_serves_nothing_before_every_member_agrees_with_its_log() -> None:
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.held = {("n3", "n2")}
    trio.lead("n2", "n2 n3")
    trio.read("n2", "r", "a")
    trio.advance(2.0)
    assert "r" not in trio.answers
    assert trio.replica("n2").disk.commit == 0, "nor does it apply what n3 may not have"
    trio.held = set()
    trio.advance(0.5)
    assert trio.answers["r"].value == b"1"


def test_it_serves_nothing_before_the_last_of_what_it_holds_is_committed() -> None:
    """n3 agrees, and lacks an entry that reached n2 alone: it is committed before anybody reads, or never."""
    trio = Trio().serving()
    trio.held = {("n1", "n3")}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.crash("n1")
    trio.held = {("n2", "n3")}
    trio.lead("n2", "n2 n3")
    trio.read("n2", "r", "a")
    trio.settle()
    while not isinstance(message := trio.mail["n2", "n3"].popleft(), Establish):
        trio.nodes["n3"].from_peer(message, trio.now)
    trio.nodes["n3"].from_peer(message, trio.now)
    trio.settle()
    assert trio.leader("n2").followers[trio.member("n3")].established
    for _ in range(5):
        trio.now += 0.25  # leases and promises of n1's time run out, and n3 grants new ones
        trio.nodes["n2"].tick(trio.now)
        trio.settle()
        for message in [m for m in trio.mail["n2", "n3"] if isinstance(m, Beacon)]:
            trio.mail["n2", "n3"].remove(message)
            trio.nodes["n3"].from_peer(message, trio.now)
        trio.settle()
    assert "r" not in trio.answers
    trio.held = set()
    trio.advance(0.5)
    assert trio.answers["r"].value == b"1"


def test_new_entries_carry_the_new_epoch_and_old_ones_keep_theirs() -> None:
    trio = Trio().serving()
    trio.write("n1", 1, put("a", b"1", number=1))
    trio.settle()
    trio.lead("n2", "n2 n3")
    trio.advance(0.1)
    trio.write("n2", 2, put("b", b"2", number=2))
    trio.settle()
    assert trio.answers[2] == Written(Outcome.OK, 3, 2, 0)
    version = trio.replica("n2").disk.tablet.get("a", "c").version
    assert version == (2, 1)


def _diverged() -> Trio:
    """n1 logged an entry that reached n3 alone; n2, which never had it, leads next."""
    trio = Trio().serving()
    trio.write("n1", "shared", put("a", b"1", number=1))
    trio.settle()
    trio.advance(0.1)
    trio.held = {("n1", "n2")}
    trio.write("n1", "torn", put("b", b"torn", number=2))
    trio.settle()
    trio.crash("n1")
    trio.held = set()
    assert [trio.replica(name).last for name in ("n2", "n3")] == [1, 2]
    return trio


def test_the_others_cut_what_the_new_primary_does_not_have() -> None:
    trio = _diverged()
    trio.lead("n2", "n2 n3")
    trio.advance(2.0)
    assert trio.replica("n3").last == 1
    trio.write("n2", "w", put("c", b"3", number=3))
    trio.settle()
    trio.advance(0.1)
    assert isinstance(trio.answers["w"], Written)
    assert (trio.value_at("n3", "b"), trio.value_at("n3", "c")) == (None, b"3")
    assert trio.replica("n2").disk.tablet.digest == trio.replica("n3").disk.tablet.digest


def test_same_sequence_and_another_epoch_is_a_difference() -> None:
    """n3 holds (2, 2) of the first primary, n2 logs (3, 2) while n3 is away: positions alone look alike."""
    trio = _diverged()
    trio.lead("n2", "n2 n3", to="n2")
    trio.lead("n2", "n2", to="n2")
    trio.advance(2.0)
    trio.write("n2", "w", put("b", b"kept", number=3))
    trio.settle()
    assert isinstance(trio.answers["w"], Written)
    entry = trio.replica("n2").disk
    assert (entry.commit_epoch, entry.commit) == (4, 2)
    here = Establish(TABLET, 5, trio.member("n2"), None, 1, 2, [(4, 2)])
    # as if n3 were still a member when n2 is put in the lead again
    trio.lead("n3", "n3 n2", to="")
    configuration = trio.lead("n2", "n2 n3", to="n3")
    here.epoch = configuration.epoch
    here.configuration = configuration
    trio.nodes["n3"].from_peer(here, trio.now)
    assert trio.replica("n3").last == 1


def test_nothing_that_agrees_is_cut() -> None:
    """n3 logged an entry that it does not know to be committed. It is: cut to its own commit mark, lost by n2 and n3
    crashing in the wrong order, it would be gone."""
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    assert isinstance(trio.answers["w"], Written)
    assert trio.replica("n3").disk.commit == 0
    trio.lead("n2", "n2 n3")
    trio.settle()
    assert trio.replica("n3").last == 1
    assert not [record for record in trio.disks["n3"].records if record[0] == "cut"]


def test_an_establish_that_comes_late_cuts_nothing_that_was_acknowledged_since() -> None:
    trio = Trio().serving()
    trio.held = {("n2", "n3")}
    configuration = trio.lead("n2", "n2 n3")
    trio.settle()
    first = next(message for message in trio.mail["n2", "n3"] if isinstance(message, Establish))
    trio.held = set()
    trio.advance(0.1)
    trio.write("n2", "w", put("a", b"1", number=1))
    trio.settle()
    assert isinstance(trio.answers["w"], Written)
    assert first.epoch == configuration.epoch
    trio.nodes["n3"].from_peer(first, trio.now)
    trio.settle()
    assert trio.replica("n3").last == 1


def test_a_position_acknowledged_before_another_primary_led_means_nothing_to_the_old_one_led_again() -> None:
    """n1 leads, n2 leads, n1 leads: n3, who missed the middle, must be asked anew; `since` tells the two leads apart."""
    trio = Trio().serving()
    trio.held = {("n1", "n3"), ("n2", "n3")}
    trio.lead("n2", "n2 n3 n1", to="n1 n2")
    trio.settle()
    trio.lead("n1", "n1 n2 n3")
    trio.settle()
    assert not trio.replica("n3").follows
    trio.held = set()
    trio.advance(0.5)
    assert trio.replica("n3").follows
    assert trio.leader("n1").serving


# ---------------------------------------------------------------- epochs and stragglers


def _append(trio: Trio, sender: Member, epoch: int, first: int = 1) -> Append:
    entry = Entry(epoch, first, [put("x", b"straggler", number=99)], [0])
    return Append(TABLET, epoch, sender, 0, first - 1, [entry], 0)


def test_an_older_epoch_is_refused_with_the_newer_configuration() -> None:
    trio = Trio().serving()
    trio.held = {("n2", "n1"), ("n3", "n1")}
    trio.lead("n2", "n2 n3", to="n2 n3")
    trio.settle()
    trio.nodes["n3"].from_peer(_append(trio, trio.member("n1"), epoch=2), trio.now)
    trio.settle()
    assert trio.replica("n3").last == 0
    (refusal,) = [m for m in trio.mail["n3", "n1"] if isinstance(m, PeerRefusal)]
    assert (refusal.epoch, refusal.configuration) == (3, trio.configuration)
    trio.held = set()
    trio.settle()
    assert trio.replica("n1").leadership is None, "who hears of a newer epoch steps down"


def test_a_straggler_of_an_earlier_run_of_the_primary_is_ignored_under_the_same_epoch() -> None:
    trio = Trio().serving()
    earlier = Member("n1", 0)
    trio.nodes["n3"].from_peer(_append(trio, earlier, epoch=2), trio.now)
    trio.settle()
    assert trio.replica("n3").last == 0


def test_an_acknowledgement_of_an_earlier_run_of_a_member_does_not_count() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.nodes["n1"].from_peer(Acknowledge(TABLET, 2, Member("n3", 0), 1, 0, 1), trio.now)
    trio.settle()
    assert "w" not in trio.answers


def test_an_acknowledgement_under_another_epoch_does_not_count() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    for epoch in (1, 3):
        trio.nodes["n1"].from_peer(Acknowledge(TABLET, epoch, trio.member("n3"), 1, 0, 1), trio.now)
    trio.settle()
    assert "w" not in trio.answers


def test_a_gap_is_refused_and_filled() -> None:
    trio = Trio().serving()
    trio.held = {("n1", "n3")}
    trio.write("n1", 1, put("a", b"1", number=1))
    trio.settle()
    lost = [m for m in trio.mail["n1", "n3"] if isinstance(m, Append)]
    assert len(lost) == 1
    trio.mail["n1", "n3"].clear()
    trio.held = set()
    trio.write("n1", 2, put("b", b"2", number=2))
    trio.settle()
    assert [trio.answers[number].sequence for number in (1, 2)] == [1, 2]
    assert trio.replica("n3").last == 2


def test_a_higher_epoch_is_on_disk_before_anything_is_acknowledged_or_granted_under_it() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n3"}
    trio.lead("n2", "n2 n3")
    trio.read("n2", "r", "a")
    trio.advance(3.0)
    assert "r" not in trio.answers
    sent = [m for m in trio.mail["n3", "n2"] if isinstance(m, Acknowledge)]
    assert sent == []
    assert ("epoch", TABLET, (3,)) in trio.disks["n3"].records[trio.disks["n3"].durable :]
    trio.stuck_disks = set()
    trio.advance(0.5)
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_a_primary_sends_nothing_under_an_epoch_that_its_own_disk_does_not_have() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    trio.lead("n2", "n2 n3")
    trio.write("n2", "w", put("a", b"1", number=1))
    trio.settle()
    assert not [record for record in trio.disks["n2"].records if record[0] == "entry"]
    assert not trio.replica("n3").follows


def test_a_member_added_or_removed_needs_no_establish_and_the_log_goes_on() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.lead("n1", "n1 n2")
    trio.settle()
    assert trio.answers["w"] == Written(Outcome.OK, 2, 1, 0), "logged under epoch 2, committed under 3"
    trio.write("n1", "next", put_if("a", b"1", b"2", number=2))
    trio.settle()
    assert trio.answers["next"] == Written(Outcome.OK, 3, 2, 0)
