"""A write's way: gathered, logged everywhere, committed, answered; and what it is answered when it cannot go that way."""

from __future__ import annotations

import pytest

from kvstore import settings
from kvstore.messages import CellAnswer, ChangeKind, Refused, Scan, Write, Written
from kvstore.mutation import Op, Outcome, Require
from tests.unit.node.trio import NAMES, TABLET, Trio, mutation, put, put_if, put_large


def test_a_write_is_answered_when_every_member_has_it_on_disk() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    assert "w" not in trio.answers
    trio.stuck_disks = set()
    trio.settle()
    assert trio.answers["w"] == Written(Outcome.OK, 2, 1, 0)


def test_the_own_disk_counts_as_well() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n1"}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    assert "w" not in trio.answers


def test_secondaries_apply_when_they_learn_the_commit_point_soon() -> None:
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    assert trio.value_at("n2", "a") is None
    trio.advance(0.1)
    assert [trio.value_at(name, "a") for name in NAMES] == [b"1"] * 3


def test_what_arrives_while_entries_are_on_their_way_goes_into_the_next_one_together() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    for number in range(1, 3):
        trio.write("n1", number, put("a", b"%d" % number, number=number))
        trio.settle()
    for number in range(3, 10):
        trio.write("n1", number, put("a", b"%d" % number, number=number))
    trio.settle()
    assert len(trio.replica("n1").disk.tail) == settings.MAX_ENTRIES_IN_FLIGHT
    trio.stuck_disks = set()
    trio.settle()
    assert [trio.answers[number].sequence for number in range(1, 10)] == list(range(1, 10))
    entries = [record for record in trio.disks["n2"].records if record[0] == "entry"]
    assert len(entries) == 3


def test_beside_an_entry_of_many_writes_no_other_goes_out() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    many = settings.FEW_WRITES + 1
    for number in range(1, many + 1):
        trio.write("n1", number, put("a", b"1", number=number))
    trio.settle()
    trio.write("n1", "later", put("a", b"2", number=many + 1))
    trio.settle()
    assert [entry.count for entry in trio.replica("n1").disk.tail] == [many]
    trio.stuck_disks = set()
    trio.settle()
    assert trio.answers["later"].sequence == many + 1


def test_beside_an_entry_of_few_writes_that_are_not_small_no_other_goes_out() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    for number, size in ((1, settings.LITTLE_TO_MOVE + 1), (2, 1)):
        trio.write("n1", number, put("a", b"1" * size, number=number))
        trio.settle()
    assert [entry.count for entry in trio.replica("n1").disk.tail] == [1]
    trio.stuck_disks = set()
    trio.settle()
    assert trio.answers[2].sequence == 2


def test_when_many_writes_wait_they_go_out_beside_whatever_is_on_its_way() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    many, numbers = settings.FEW_WRITES + 1, iter(range(1, 1000))
    for _ in range(many):
        trio.write("n1", number := next(numbers), put("a", b"1", number=number))
    trio.settle()
    for count in (settings.MANY_WRITES - 1, 1):
        assert len(trio.replica("n1").disk.tail) == 1
        for _ in range(count):
            trio.write("n1", number := next(numbers), put("a", b"2", number=number))
        trio.settle()
    assert [entry.count for entry in trio.replica("n1").disk.tail] == [many, settings.MANY_WRITES]


def test_beside_a_large_entry_another_goes_out_however_many_writes_it_holds() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    many = settings.FEW_WRITES + 1
    for number in range(1, many + 1):
        trio.write("n1", number, put_large("a", b"1" * (settings.MUCH_TO_MOVE // many + 1), number=number))
    trio.settle()
    trio.write("n1", "later", put("a", b"2", number=many + 1))
    trio.settle()
    assert [entry.count for entry in trio.replica("n1").disk.tail] == [many, 1]


def test_a_silent_secondary_is_counted_until_a_configuration_says_otherwise() -> None:
    trio = Trio().serving()
    trio.held = {("n3", "n1"), ("n1", "n3")}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.advance(settings.SECONDARY_SILENT + 0.2)
    (asked, *_) = trio.changes_asked()
    assert (asked.kind, asked.member, asked.epoch) == (ChangeKind.REMOVE, trio.member("n3"), 2)
    trio.advance(5.0)
    assert "w" not in trio.answers, "asking is not being answered"
    trio.lead("n1", "n1 n2", to="n1 n2")
    trio.settle()
    assert trio.answers["w"] == Written(Outcome.OK, 2, 1, 0)


def test_a_member_whose_disk_stalls_is_removed_although_it_grants_leases() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n3"}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.advance(settings.SECONDARY_SILENT + 0.2)
    assert [asked.member for asked in trio.changes_asked()][:1] == [trio.member("n3")]


def test_nobody_is_taken_for_silent_by_a_primary_that_did_not_run() -> None:
    trio = Trio().serving()
    trio.now += 3.0
    trio.nodes["n1"].tick(trio.now)
    trio.advance(0.5)
    assert trio.changes_asked() == []


def test_too_few_members_refuse_writes_and_say_how_many_there_are() -> None:
    trio = Trio()
    trio.configuration = type(trio.configuration)(
        **{f: getattr(trio.configuration, f) for f in trio.configuration.__slots__} | {"min_in_sync": 2}
    )
    trio.serving("n1", "n1")
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    assert trio.answers["w"].error == "NotEnoughReplicas"
    assert "1 of 2" in trio.answers["w"].message


def test_a_full_disk_refuses_writes_and_serves_reads() -> None:
    trio = Trio().serving()
    trio.nodes["n1"].out_of_space(True)
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.read("n1", "r", "a")
    trio.settle()
    assert trio.answers["w"].error == "NoSpace"
    assert isinstance(trio.answers["r"], CellAnswer)
    trio.nodes["n1"].out_of_space(False)
    trio.write("n1", "again", put("a", b"1", number=2))
    trio.settle()
    assert isinstance(trio.answers["again"], Written)


def test_who_steps_down_refuses_what_it_did_not_log_and_knows_nothing_of_the_rest() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    for number in (1, 2, 3):
        trio.write("n1", number, put("a", b"%d" % number, number=number))
        trio.settle()  # two entries are on their way, the third write waits
    trio.read("n1", "read", "a")
    trio.settle()
    trio.lead("n2", "n2 n3")
    trio.settle()
    assert [trio.answers[number].error for number in (1, 2, 3)] == ["OutcomeUnknown", "OutcomeUnknown", "NotPrimary"]
    assert trio.answers[3].configuration == trio.configuration


def test_a_read_that_was_passed_on_to_a_primary_that_hangs_is_asked_of_the_next() -> None:
    trio = Trio().serving()
    trio.held = {("n2", "n1"), ("n1", "n2"), ("n3", "n1"), ("n1", "n3")}
    trio.advance(settings.LEASE + 0.1)
    trio.read("n2", "r", "a")
    trio.settle()
    assert "r" not in trio.answers
    trio.lead("n3", "n2 n3", to="n2 n3")
    trio.settle()
    assert trio.answers["r"].error == "NotPrimary"
    assert trio.answers["r"].configuration == trio.configuration
    trio.tell(trio.configuration, to="n1")  # it wakes up, and answers what it was asked then
    trio.settle()
    assert trio.answers["r"].error == "NotPrimary"


def test_a_read_that_waits_is_refused_when_the_lead_is_lost() -> None:
    trio = Trio().serving()
    trio.held = {("n2", "n1"), ("n1", "n2")}
    trio.advance(settings.LEASE + 0.1)
    trio.read("n1", "r", "a")
    trio.settle()
    trio.lead("n2", "n2 n3", to="n1")
    trio.settle()
    assert trio.answers["r"].error == "NotPrimary"


def test_another_range_version_is_the_wrong_tablet() -> None:
    trio = Trio().serving()
    trio.nodes["n1"].client_write("w", Write(TABLET, 2, [1], put("a", b"1", number=1)), trio.now)
    trio.nodes["n1"].client_request("s", Scan(TABLET, 0, "", "", None, None, None, False, False), trio.now)
    trio.nodes["n1"].client_write("u", Write(99, 1, [1], put("a", b"1", number=1)), trio.now)
    trio.settle()
    assert [trio.answers[token].error for token in (("w", 1), "s", ("u", 1))] == ["WrongTablet"] * 3
    assert trio.answers["w", 1].configuration == trio.configuration


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ([[Op.PUT, "a", "c", b""], [Op.PUT, "b", "c", b""]], "CrossTabletBatch"),
        ([], "BadRequest"),
    ],
)
def test_a_batch_that_cannot_be_atomic_is_refused(operations: list[list[object]], error: str) -> None:
    trio = Trio().serving()
    trio.write("n1", "w", mutation(1, 7, [], operations))
    trio.settle()
    assert isinstance(trio.answers["w"], Refused)
    assert trio.answers["w"].error == error


def test_a_requirement_counts_where_groups_are_compared() -> None:
    trio = Trio().serving()
    bundle = mutation(1, 7, [[Require.ABSENT, "b", "c"]], [[Op.PUT, "a", "c", b""]])
    trio.write("n1", "w", bundle)
    trio.settle()
    assert trio.answers["w"].error == "CrossTabletBatch"


def test_of_two_writes_that_come_together_again_each_is_answered_as_it_was() -> None:
    trio = Trio().serving()
    trio.write("n1", "first", put("a", b"1", number=1))
    trio.settle()
    trio.write("n1", "both", put("a", b"1", number=1), put("b", b"2", number=2))
    trio.settle()
    assert [trio.answers["both", each].sequence for each in (1, 2)] == [1, 2]


def test_a_secondary_passes_a_read_on_once_and_refuses_a_write() -> None:
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.read("n2", "r", "a")
    trio.write("n2", "refused", put("a", b"2", number=2))
    trio.nodes["n2"].client_request("twice", Scan(TABLET, 1, "", "", None, None, None, False, False), trio.now, True)
    trio.settle()
    assert trio.answers["r"].value == b"1"
    assert trio.answers["refused"].error == trio.answers["twice"].error == "NotPrimary"


def test_writes_that_came_together_are_answered_one_by_one() -> None:
    trio = Trio().serving()
    trio.write("n1", "first", put("a", b"1", number=1))
    trio.settle()
    trio.write("n1", "many", put("b", b"2", number=2), put_if("a", b"wrong", b"3", number=3), put("c", b"4", number=4))
    trio.settle()
    answers = [trio.answers["many", each] for each in (1, 2, 3)]
    assert [answer.outcome for answer in answers] == [Outcome.OK, Outcome.REQUIREMENT_FAILED, Outcome.OK]
    assert [answer.sequence for answer in answers] == [2, 3, 4]
    assert [trio.value_at("n1", row) for row in "abc"] == [b"1", b"2", b"4"]


def test_writes_that_came_alone_over_many_connections_lie_in_the_log_as_one_bundle() -> None:
    trio = Trio().serving()
    large = bytes(settings.BULK_VALUE)
    trio.write("n1", "w1", put("a", b"1", number=1))
    trio.write("n1", "w2", put("b", b"2", number=1, client=8))
    trio.write("n1", "big", put_large("c", large, number=1, client=9))
    trio.write("n1", "w3", put("d", b"3", number=1, client=10))
    trio.write("n1", "twice", put("b", b"x", number=1, client=8))
    trio.write("n1", "w4", put_if("d", b"3", b"4", number=1, client=11))
    trio.nodes["n1"].flush(trio.now)
    (entry,) = trio.replica("n1").disk.tail
    assert [len(bundle.mutations) for bundle in entry.bundles] == [2, 1, 2]
    trio.settle()
    sequences = [trio.answers[token].sequence for token in ("w1", "w2", "big", "w3", "twice", "w4")]
    assert sequences == [1, 2, 3, 4, 2, 5]
    trio.advance(0.2)
    found = [{row: trio.value_at(name, row) for row in "abcd"} for name in NAMES]
    assert found == [{"a": b"1", "b": b"2", "c": large, "d": b"4"}] * 3


def test_a_commit_point_that_was_told_under_the_former_epoch_is_told_again() -> None:
    """Who has heard of the next one refuses it, and in a tablet where nobody writes no entry brings it either."""
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.held = {("n1", "n3")}
    trio.advance(0.1)
    assert trio.mail["n1", "n3"], "the commit point is on its way"
    trio.lead("n1", "n1 n2 n3")
    trio.held = set()
    trio.advance(0.2)
    assert trio.value_at("n3", "a") == b"1"


def test_a_commit_point_that_was_lost_with_its_connection_is_told_again() -> None:
    trio = Trio().serving()
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.held = {("n1", "n3")}
    trio.advance(0.1)
    trio.mail["n1", "n3"].clear()
    trio.held = set()
    trio.nodes["n1"].peer_disconnected("n3", trio.now)
    trio.nodes["n1"].peer_connected("n3", trio.now)
    trio.advance(0.2)
    assert trio.value_at("n3", "a") == b"1"
