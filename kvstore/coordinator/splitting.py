"""Which tablet is to be cut in two, who waits for that, and what the two halves are. Pure.

A split is one record (`docs/replication.md`, "A tablet is split"): the parent's configuration with less range, and the first of
its child. Only a tablet's primary may ask for it, for only it knows that nothing is on its way; the coordinator merely
proposes. What is proposed, and which operator waits, is not durable: a coordinator that starts anew has forgotten it.

A tablet is split by itself when its primary tells of more bytes than `split_above`, and all is well with it: so nobody's
recovery is burdened, and both halves begin with full sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from kvstore import errors, settings, split_above
from kvstore.control import SplitTablet, WasSplit
from kvstore.coordinator import moving
from kvstore.coordinator.membership import Membership
from kvstore.coordinator.placement import changed
from kvstore.errors import BadRequest, StoreError
from kvstore.keys import GroupRule, checked
from kvstore.messages import Birth, Configuration, Member, ProposeSplit, Refused, SplitDeclined, SplitRequest

PROPOSED_AGAIN = 0.5
"""Seconds after which a split that an operator waits for is proposed again: the proposal, or its primary, may be gone."""

Told = tuple[object, WasSplit | Refused]
"""Whom to answer, and what."""


@dataclass(slots=True)
class Wish:
    """A split that operators wait for, until `until` on this coordinator's clock."""

    row: str | None
    tokens: list[object]
    until: float


class Splitting:
    """What this coordinator has proposed, and for whom."""

    def __init__(self) -> None:
        self._wishes: dict[int, Wish] = {}
        self._proposed_at: dict[int, float] = {}

    def wanted(self, token: object, message: SplitTablet, now: Configuration, at: float) -> None:
        """An operator waits for a split, which was found to be possible, from the moment `at` on. `BadRequest` if somebody
        waits for another one of the tablet."""
        wish = self._wishes.get(now.tablet)
        if wish is None:
            self._wishes[now.tablet] = Wish(message.row, [token], at + settings.SPLIT_ANSWER)
            self._proposed_at.pop(now.tablet, None)
        elif wish.row == message.row:
            wish.tokens.append(token)
        else:
            raise BadRequest(f"tablet {now.tablet} is about to be split elsewhere")

    def proposals(
        self, configurations: Iterable[Configuration], nodes: Membership, above: int | None
    ) -> list[tuple[Member, ProposeSplit]]:
        """What is to be proposed now, to which primaries: what operators wait for, and one tablet that is too large."""
        found: list[tuple[Member, ProposeSplit]] = []
        by_itself = False
        for now in configurations:
            wish = self._wishes.get(now.tablet)
            pause = PROPOSED_AGAIN if wish is not None else settings.SPLIT_AGAIN
            if now.primary is None or nodes.now - self._proposed_at.get(now.tablet, nodes.now - pause) < pause:
                continue
            if wish is None:
                if by_itself or not _too_large(now, nodes, above):
                    continue
                by_itself = True
            self._proposed_at[now.tablet] = nodes.now
            found.append((now.primary, ProposeSplit(now.tablet, now.epoch, wish.row if wish is not None else None)))
        return found

    def declined(self, message: SplitDeclined) -> list[Told]:
        """The primary says why there can be no such split."""
        wish = self._wishes.get(message.tablet)
        if wish is None or wish.row != message.row:
            return []  # it was proposed to split it elsewhere, or by itself
        del self._wishes[message.tablet]
        refusal = Refused(BadRequest.__name__, f"tablet {message.tablet} is not split: {message.reason}")
        return [(token, refusal) for token in wish.tokens]

    def done(self, child: Configuration) -> list[Told]:
        """A tablet was split: whoever waited for that is told, whatever row he had wanted."""
        assert child.born is not None
        self._proposed_at.pop(child.born.parent, None)  # what is left of it may still be too large
        wish = self._wishes.pop(child.born.parent, None)
        return [(token, WasSplit(child.tablet, child.start)) for token in wish.tokens] if wish is not None else []

    def given_up(self, at: float) -> list[Told]:
        """Operators who have waited long enough."""
        late = [tablet for tablet, wish in self._wishes.items() if at >= wish.until]
        told: list[Told] = []
        for tablet in late:
            reason = f"tablet {tablet} is not split yet: its primary does not answer, or writes keep coming in between"
            told += [(token, Refused(errors.Unavailable.__name__, reason)) for token in self._wishes.pop(tablet).tokens]
        return told


def _too_large(now: Configuration, nodes: Membership, above: int | None) -> bool:
    """Whether the tablet is to be split by itself."""
    if now.primary is None or now.leaving or now.learners or len(now.in_sync) != moving.wanted(now):
        return False
    if not all(nodes.punctual(member.node) and nodes.run_of(member.node) == member for member in now.in_sync):
        return False
    report = nodes.nodes[now.primary.node].reports.get(now.tablet)
    # one from before the last split tells the size of both halves
    if report is None or report.range_version != now.range_version:
        return False
    return split_above.exceeded(above, report.bytes, report.bulk_bytes)


def check_row(now: Configuration, row: str, rule: GroupRule) -> None:
    """Raise `BadRequest` unless the tablet may be split at `row`, judged by the row alone."""
    if not checked(row, "row") or not rule.may_split_at(row):
        raise BadRequest(f"no tablet may begin at {row!r}: it is not the first row of a group")
    if row <= now.start or (now.end is not None and row >= now.end):
        raise BadRequest(f"{row!r} does not lie inside tablet {now.tablet}, or is its first row")


def came_of(message: SplitTablet, configurations: Iterable[Configuration]) -> Configuration | None:
    """The tablet that was split off since the operator looked, if it was: his request came before, and its answer was lost."""
    wanted = message.tablet, message.range_version + 1
    for found in configurations:
        if found.born is not None and (found.born.parent, found.born.range_version) == wanted:
            return found
    return None


def may_ask(now: Configuration, request: SplitRequest, nodes: Membership) -> bool:
    """Compare-and-set: whether the request is of the run that leads, under this very epoch."""
    if request.epoch != now.epoch or request.sender != now.primary:
        return False
    return nodes.run_of(request.sender.node) == request.sender


def halves(
    now: Configuration, request: SplitRequest, child: int, rule: GroupRule, nodes: Membership
) -> tuple[Configuration, Configuration]:
    """The parent's configuration without the rows from `request.row` on, and the first one of the tablet `child` that has them.
    `BadRequest` when there may be no tablet that begins there."""
    check_row(now, request.row, rule)
    version = now.range_version + 1
    parent = dataclasses.replace(follow(now, nodes), end=request.row, range_version=version)
    born = Birth(now.tablet, request.log_epoch, request.sequence, version)
    # the same nodes, by the same right; but it is another log from here on, which has a first epoch of its own
    return parent, dataclasses.replace(
        parent, tablet=child, start=request.row, end=now.end, since=parent.epoch, born=born
    )


def follow(now: Configuration, nodes: Membership) -> Configuration:
    """The next epoch, with nothing changed: no request of the one before can be granted any more."""
    return changed(now, nodes, now.primary, now.in_sync, now.learners)


def refused(error: StoreError) -> Refused:
    """The answer to an operator whose request can never succeed."""
    return Refused(type(error).__name__, str(error))
