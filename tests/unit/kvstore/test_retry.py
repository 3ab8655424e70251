"""What a client does after an attempt without result, decided without a socket."""

from __future__ import annotations

import pytest

from kvstore import errors, settings
from kvstore.messages import Refused
from kvstore.retry import Effort, NoAnswer, NotSent


def refused(error: type[errors.StoreError]) -> Refused:
    return Refused(error.__name__, "because")


def test_a_write_that_never_left_is_unavailable_at_the_deadline() -> None:
    effort = Effort(write=True)
    effort.failed(NotSent("nobody listens"), learned=False)
    error = effort.given_up()
    assert type(error) is errors.Unavailable
    assert "nobody listens" in str(error)


def test_a_write_without_answer_is_unknown_at_the_deadline() -> None:
    effort = Effort(write=True)
    effort.failed(NoAnswer("the connection was lost"), learned=False)
    assert isinstance(effort.given_up(), errors.OutcomeUnknown)


def test_a_later_refusal_does_not_make_an_unknown_write_known() -> None:
    """The first attempt may still be on its way to a log; that the second was refused says nothing about it."""
    effort = Effort(write=True)
    effort.failed(NoAnswer("the connection was lost"), learned=False)
    effort.failed(refused(errors.NotEnoughReplicas), learned=False)
    effort.failed(NotSent("nobody listens"), learned=False)
    assert effort.unknown
    assert isinstance(effort.given_up(), errors.OutcomeUnknown)


def test_a_node_that_cannot_tell_leaves_the_write_unknown_and_is_asked_again() -> None:
    effort = Effort(write=True)
    assert effort.failed(refused(errors.OutcomeUnknown), learned=False) > 0
    assert isinstance(effort.given_up(), errors.OutcomeUnknown)


def test_a_read_is_never_unknown() -> None:
    effort = Effort(write=False)
    effort.failed(NoAnswer("the connection was lost"), learned=False)
    assert type(effort.given_up()) is errors.Unavailable


@pytest.mark.parametrize("error", [errors.NotEnoughReplicas, errors.NoSpace, errors.Overloaded])
def test_the_reason_of_the_last_refusal_reaches_the_caller(error: type[errors.StoreError]) -> None:
    effort = Effort(write=True)
    effort.failed(refused(error), learned=False)
    assert type(effort.given_up()) is error


@pytest.mark.parametrize("error", [errors.NotPrimary, errors.WrongTablet])
def test_the_search_for_the_primary_is_not_the_callers_business(error: type[errors.StoreError]) -> None:
    effort = Effort(write=True)
    effort.failed(refused(error), learned=False)
    assert type(effort.given_up()) is errors.Unavailable


@pytest.mark.parametrize("error", [errors.BadRequest, errors.ValueTooLarge, errors.CrossTabletBatch])
def test_what_can_never_succeed_is_raised_at_once(error: type[errors.StoreError]) -> None:
    with pytest.raises(error):
        Effort(write=True).failed(refused(error), learned=False)


def test_an_error_that_nobody_knows_is_not_taken_for_a_passing_one() -> None:
    with pytest.raises(errors.BadRequest, match="Nonsense"):
        Effort(write=True).failed(Refused("Nonsense", ""), learned=False)


def test_pauses_grow_to_a_bound_and_a_newer_configuration_needs_none() -> None:
    effort = Effort(write=False)
    pauses = [effort.failed(NotSent("x"), learned=False) for _ in range(10)]
    assert pauses[0] == settings.RETRY_PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] == settings.RETRY_PAUSE_MOST
    assert effort.failed(refused(errors.NotPrimary), learned=True) == 0
    assert effort.failed(NotSent("x"), learned=False) == settings.RETRY_PAUSE


def test_before_any_attempt_the_deadline_says_so() -> None:
    assert isinstance(Effort(write=True).given_up(), errors.Unavailable)
