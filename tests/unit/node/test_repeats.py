"""Requirements are judged, and repeats found, in what is committed, on its way, and in the same bundle."""

from __future__ import annotations

import pytest

from kvstore import settings
from kvstore.messages import CellAnswer, Written
from kvstore.mutation import Op, Outcome
from tests.unit.node.trio import Trio, delete, mutation, put, put_if, put_large


def test_a_repeated_write_is_answered_and_not_applied_again() -> None:
    trio = Trio().serving()
    trio.write("n1", "first", put_if("a", None, b"1", number=1))
    trio.settle()
    trio.write("n1", "again", put_if("a", None, b"1", number=1))
    trio.settle()
    assert trio.answers["again"] == trio.answers["first"] == Written(Outcome.OK, 2, 1, 0)


def test_a_repeat_of_what_is_on_its_way_is_answered_with_it() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    trio.write("n1", "first", put_if("a", None, b"1", number=1))
    trio.settle()
    trio.write("n1", "again", put_if("a", None, b"1", number=1))
    trio.settle()
    assert trio.answers == {}
    trio.stuck_disks = set()
    trio.settle()
    assert trio.answers["again"] == trio.answers["first"]
    assert trio.answers["first"].outcome == Outcome.OK


def test_a_repeated_compare_and_put_says_success_at_a_new_primary_too() -> None:
    trio = Trio().serving()
    trio.write("n1", "first", put_if("a", None, b"1", number=1))
    trio.settle()
    trio.lead("n2", "n2 n3")
    trio.advance(0.1)
    trio.write("n2", "again", put_if("a", None, b"1", number=1))
    trio.settle()
    assert trio.answers["again"] == Written(Outcome.OK, 2, 1, 0)


def test_a_failed_compare_and_put_is_remembered_as_failed() -> None:
    trio = Trio().serving()
    trio.write("n1", 1, put_if("a", b"other", b"1", number=1))
    trio.settle()
    trio.write("n1", 2, put("a", b"other", number=2))
    trio.settle()
    trio.write("n1", "again", put_if("a", b"other", b"1", number=1))
    trio.settle()
    assert trio.answers["again"] == trio.answers[1]
    assert trio.answers[1].outcome == Outcome.REQUIREMENT_FAILED


def test_a_number_below_the_clients_floor_is_unknown() -> None:
    trio = Trio().serving()
    trio.write("n1", 5, put("a", b"5", number=5, floor=5))
    trio.settle()
    trio.write("n1", 3, put("a", b"3", number=3))
    trio.settle()
    assert trio.answers[3].error == "OutcomeUnknown"
    trio.advance(0.1)
    assert trio.value_at("n1", "a") == b"5"


def test_a_compare_and_put_that_fails_for_a_write_on_its_way_is_answered_only_with_it() -> None:
    """Were it answered at once, and the write then lost with its primary, the failure would have been for nothing."""
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    trio.write("n1", "write", put("a", b"1", number=1))
    trio.settle()
    trio.write("n1", "fails", put_if("a", None, b"2", number=2))
    trio.settle()
    assert trio.answers == {}
    trio.stuck_disks = set()
    trio.settle()
    assert trio.answers["fails"].outcome == Outcome.REQUIREMENT_FAILED


def test_a_read_does_not_see_what_is_on_its_way() -> None:
    trio = Trio().serving()
    trio.stuck_disks = {"n2"}
    trio.write("n1", "w", put("a", b"1", number=1))
    trio.settle()
    trio.read("n1", "r", "a")
    trio.settle()
    assert trio.answers["r"] == CellAnswer(0, 0, b"")


def test_requirements_see_deletions_and_deleted_rows_that_are_on_their_way() -> None:
    trio = Trio().serving()
    trio.write("n1", 1, put("a", b"1", number=1))
    trio.write("n1", 2, put("b", b"1", number=2))
    trio.settle()
    trio.stuck_disks = {"n2"}
    trio.write("n1", 3, delete("a", number=3))
    trio.write("n1", 4, mutation(4, 7, [], [[Op.DELETE_ROW, "b"]]))
    trio.write("n1", 5, put_if("a", None, b"2", number=5))
    trio.write("n1", 6, put_if("b", None, b"2", number=6))
    trio.write("n1", 7, put_if("b", b"2", b"3", number=7))
    trio.stuck_disks = set()
    trio.settle()
    assert [trio.answers[number].outcome for number in (5, 6, 7)] == [Outcome.OK] * 3
    trio.advance(0.1)
    assert [trio.value_at("n3", row) for row in "ab"] == [b"2", b"3"]


def test_of_a_bundle_only_what_is_new_is_written_and_each_is_answered() -> None:
    """After a failover callers ask again: some of what they put together into a new bundle was written before."""
    trio = Trio().serving()
    large = bytes(range(256)) * 64
    trio.write("n1", "done", put("a", b"1", number=1), put_large("big", large, number=3))
    trio.settle()
    trio.held.add(("n2", "n1"))
    trio.write("n1", "under way", put("b", b"2", number=4))
    trio.settle()
    trio.write(
        "n1",
        "mixed",
        put("a", b"again", number=1),
        put_large("late", large[::-1], number=2),
        put_large("big", b"x" * len(large), number=3),
        put("b", b"again", number=4),
        put("c", b"5", number=5),
        put("c", b"twice", number=5),
    )
    trio.settle()
    trio.held.clear()
    trio.settle()
    sequences = [trio.answers["mixed", each].sequence for each in range(1, 7)]
    assert sequences == [1, 4, 2, 3, 5, 5]
    assert trio.answers["under way"].sequence == 3
    found = {row: trio.value_at("n1", row) for row in ("a", "b", "c", "big", "late")}
    assert found == {"a": b"1", "b": b"2", "c": b"5", "big": large, "late": large[::-1]}


def test_a_repeat_in_one_bundle_is_found_however_many_clients_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more clients than are kept in mind some are looked for again: also among what is being gathered just then."""
    monkeypatch.setattr(settings, "CLIENTS_REMEMBERED", 1)
    trio = Trio().serving()
    trio.write(
        "n1",
        "w",
        put("a", b"1", number=1, client=1),
        put("b", b"2", number=1, client=2),
        put("c", b"3", number=1, client=3),
        put("a", b"again", number=1, client=1),
    )
    trio.settle()
    assert [trio.answers["w", each].sequence for each in range(1, 5)] == [1, 2, 3, 1]
    assert trio.value_at("n1", "a") == b"1"


def test_what_is_on_its_way_is_a_repeat_although_its_client_was_put_out_of_mind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "CLIENTS_REMEMBERED", 1)
    trio = Trio().serving()
    trio.write("n1", "done", put("done", b"1", number=5, client=1))
    trio.settle()
    trio.stuck_disks = {"n2"}
    trio.write("n1", "first", put("a", b"1", number=1, client=1))
    trio.settle()
    for client in range(2, 6):
        trio.write("n1", client, put("b", b"2", number=1, client=client))
    trio.write("n1", "again", put("a", b"again", number=1, client=1))
    trio.write("n1", "done again", put("done", b"again", number=5, client=1))
    trio.settle()
    trio.stuck_disks = set()
    trio.settle()
    assert trio.answers["first"].sequence == trio.answers["again"].sequence
    assert trio.answers["done"].sequence == trio.answers["done again"].sequence
    assert [trio.value_at("n1", row) for row in ("a", "done")] == [b"1", b"1"]


def test_a_requirement_sees_what_came_before_it_in_its_own_bundle() -> None:
    trio = Trio().serving()
    trio.write(
        "n1", "w", put("a", b"1", number=1), put_if("a", b"1", b"2", number=2), put_if("a", None, b"3", number=3)
    )
    trio.settle()
    assert [trio.answers["w", each].outcome for each in (1, 2, 3)] == [
        Outcome.OK,
        Outcome.OK,
        Outcome.REQUIREMENT_FAILED,
    ]
    assert trio.value_at("n1", "a") == b"2"


def _committed_and_not_applied(trio: Trio, token: str, value: bytes) -> None:
    """n1 has just heard that everybody has the write: it is answered, and not applied yet."""
    trio.held.add(("n2", "n1"))
    trio.write("n1", token, put("a", value, number=5))
    trio.settle()
    node = trio.nodes["n1"]
    while trio.mail["n2", "n1"]:
        node.from_peer(trio.mail["n2", "n1"].popleft(), trio.now)
    trio.held.clear()
    assert node.is_behind
    assert trio.value_at("n1", "a") is None


def test_a_repeat_of_what_is_committed_and_not_applied_yet_is_answered_and_not_written_again() -> None:
    trio = Trio().serving()
    _committed_and_not_applied(trio, "first", b"1")
    trio.write("n1", "again", put("a", b"2", number=5))
    trio.nodes["n1"].flush(trio.now)
    trio.settle()
    assert trio.answers["first"].sequence == trio.answers["again"].sequence
    assert trio.value_at("n1", "a") == b"1"


def test_a_requirement_is_judged_by_what_is_committed_and_not_applied_yet() -> None:
    trio = Trio().serving()
    _committed_and_not_applied(trio, "first", b"1")
    trio.write("n1", "if", put_if("a", b"1", b"2", number=6))
    trio.nodes["n1"].flush(trio.now)
    trio.settle()
    assert trio.answers["if"].outcome == Outcome.OK


def test_who_reads_sees_what_was_answered_even_before_it_is_applied() -> None:
    trio = Trio().serving()
    _committed_and_not_applied(trio, "first", b"1")
    trio.read("n1", "r", "a")
    trio.settle()
    assert trio.answers["r"].value == b"1"


def test_a_new_configuration_meets_a_replica_that_has_applied_what_was_answered() -> None:
    trio = Trio().serving()
    _committed_and_not_applied(trio, "first", b"1")
    trio.lead("n2", "n2 n3", to="n1")
    assert trio.value_at("n1", "a") == b"1"


def test_a_read_that_waited_for_a_lease_sees_what_is_answered_just_before_it() -> None:
    """One event may both commit a write and bring the lease: the member that owed both is out of the set."""
    trio = Trio().serving()
    trio.held = {("n3", "n1")}
    trio.advance(settings.LEASE + 0.1)
    trio.write("n1", "w", put("a", b"1", number=5))
    trio.read("n1", "r", "a")
    trio.settle()
    assert not trio.answers.keys() & {"w", "r"}
    trio.lead("n1", "n1 n2", to="n1 n2")
    trio.settle()
    assert trio.answers["w"].outcome == Outcome.OK
    assert trio.answers["r"].value == b"1"


def test_a_client_that_was_put_out_of_mind_is_looked_for_in_what_is_not_applied_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "CLIENTS_REMEMBERED", 1)
    trio = Trio().serving()
    _committed_and_not_applied(trio, "first", b"1")
    trio.write("n1", "again", put("a", b"2", number=5))
    trio.nodes["n1"].flush(trio.now)
    trio.settle()
    assert trio.answers["first"].sequence == trio.answers["again"].sequence
    assert trio.value_at("n1", "a") == b"1"
