"""What an operator's word about one tablet would do, in numbers, before it is said: split it, move a replica of it, or let one
that is moving stay.

Pure: a status and a wish in; sentences out, and whether it may go on. The coordinator judges again, and later: what is
refused here is what it would refuse, said before the button is there.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from adminconsole.consequences import HAND_OVER_S, Line
from adminconsole.health import Condition, Level, condition
from adminconsole.status import NodeState, Status, Tablet
from adminconsole.wording import count, key_range, listing, readable_key, size
from kvstore import settings
from kvstore.errors import StoreError
from kvstore.keys import GroupRule, checked


class Wish(enum.StrEnum):
    """What can be wanted of a tablet, with the word on the button."""

    SPLIT = "split"  # cut in two, between two groups of rows
    MOVE = "move"  # one of its replicas to another node
    WITHDRAW = "withdraw"  # a replica that is moving stays where it was


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen to the tablet. `refusal` is empty when it may be done; `row`, `source`, `target`: as wished."""

    wish: Wish
    tablet: int
    lines: tuple[Line, ...] = ()
    refusal: str = ""
    row: str = ""
    source: str = ""
    target: str = ""
    range_version: int = 0
    """Of the tablet that is to be split, as it was seen: what is left of it is not cut again by the same wish."""

    @property
    def level(self) -> Level:
        """The worst of the lines."""
        return max((line.level for line in self.lines), default=Level.GOOD)

    @property
    def target_in_words(self) -> str:
        """What is acted upon, for the activity page."""
        words = f"tablet {self.tablet}"
        if self.wish is Wish.SPLIT:
            return f"{words} at {readable_key(self.row)}" if self.row else f"{words} in the middle"
        return f"{words}: {self.source} to {self.target}"

    @property
    def fingerprint(self) -> str:
        """Changes when a warning changes: a confirmation holds only for the warnings that were read, and for one split: not
        for another by the same form, of two operators or of one who sends it twice."""
        grave = [line.text for line in self.lines if line.level >= Level.WARNING]
        said = "\n".join([self.wish, str(self.tablet), self.row, self.source, self.target, self.refusal, *grave])
        said += f"\n{self.range_version}"
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def foresee_split(status: Status, tablet: Tablet, row: str) -> Plan:
    """What it would do to split the tablet so that `row` begins the new one; empty: near the middle."""
    refusal = _against_split(status, tablet, row)
    if refusal:
        return Plan(Wish.SPLIT, tablet.id, refusal=refusal, row=row)
    if row:
        what = f"The rows {key_range(row, tablet.end)} become a tablet of their own"
    else:
        what = f"About half of its {size(tablet.bytes)} become a tablet of their own, cut between two groups of rows"
    lines = [
        Line(Level.NOTICE, f"{what}, on the same nodes, with the same primary. No data is copied."),
        Line(
            Level.NOTICE,
            f"Its writes wait for a moment, {settings.SPLIT_DRAIN} s at the most, until all that is on its way is on every"
            " replica. Reads go on, nothing is refused.",
        ),
        Line(Level.NOTICE, "Two tablets are not made one again."),
    ]
    if status.cluster.spread and len(status.nodes) > 1:
        lines.append(
            Line(
                Level.NOTICE, "Data spreads by itself: another node may lead, or get replicas of, one of the two later."
            )
        )
    return Plan(Wish.SPLIT, tablet.id, tuple(lines), row=row, range_version=tablet.range_version)


def _against_split(status: Status, tablet: Tablet, row: str) -> str:
    if condition(status, tablet).rank > Condition.SHORT.rank:
        return f"Nobody leads tablet {tablet.id} at the moment: only its primary can tell that nothing is on its way."
    if not row:
        return "" if tablet.cells > 1 else f"Tablet {tablet.id} has no two groups of rows between which to cut it."
    try:
        checked(row, "the row")
        if not GroupRule(status.cluster.group_rule).may_split_at(row):
            return (
                f"“{readable_key(row)}” is not the first row of a group: rows that are written together stay together."
            )
    except StoreError as error:
        return f"That cannot be a row: {error}."
    if row <= tablet.start or (tablet.end is not None and row >= tablet.end):
        return f"“{readable_key(row)}” does not lie inside the tablet, or is its first row."
    return ""


def foresee_move(status: Status, tablet: Tablet, source: str, target: str) -> Plan:
    """What it would do to move the tablet's replica on node `source` to node `target`."""
    refusal = _against_move(status, tablet, source, target)
    if refusal:
        return Plan(Wish.MOVE, tablet.id, refusal=refusal, source=source, target=target)
    lines = [
        Line(
            Level.NOTICE,
            f"{target} copies the tablet ({size(tablet.bytes)}, {count(tablet.cells, 'cell')}) from {tablet.primary}, its"
            " primary, while it serves on.",
        ),
        Line(
            Level.NOTICE,
            f"When {target} has everything, {source} leaves and drops its copy. Until then there is one copy more, not less.",
        ),
        *_lead_goes(tablet, source),
        *_in_the_way(status, tablet, source, target),
    ]
    return Plan(Wish.MOVE, tablet.id, tuple(lines), source=source, target=target)


def _against_move(status: Status, tablet: Tablet, source: str, target: str) -> str:
    """The coordinator's own reasons, `kvstore.coordinator.moving.check`, as far as a status shows them."""
    to = status.node(target)
    if tablet.moving_to:
        return f"Tablet {tablet.id} is moving already, from {tablet.moving_from} to {tablet.moving_to}."
    if source not in tablet.replicas:
        return f"Tablet {tablet.id} has no replica on {source}; it has them on {listing(tablet.replicas)}."
    if to is None:
        return f"There is no node {target}."
    if target in tablet.replicas:
        return f"Tablet {tablet.id} has a replica on {target} already."
    if to.state in (NodeState.DOWN, NodeState.DISABLED, NodeState.DRAINING) or to.disabled:
        return f"{target} is {to.state}: it can take nothing."
    if not to.can_take and to.state is NodeState.UP:
        return f"{target}'s disk {'is full' if to.disk_full else 'stalls'}: it can take nothing."
    if to.disk_free is not None and not to.has_room(tablet.bytes):
        return (
            f"{target} has {size(to.disk_free)} free on its disk; the tablet has {size(tablet.bytes)}, and"
            f" {size(settings.MOVE_LEAVES)} must stay free."
        )
    if tablet.primary not in status.live(tablet.in_sync):
        return f"Nobody leads tablet {tablet.id} at the moment: there is nobody to copy it from."
    return ""


def _lead_goes(tablet: Tablet, source: str) -> list[Line]:
    if source != tablet.primary:
        return []
    text = f"{source} leads it: another replica takes over then. Requests wait for {HAND_OVER_S} s at the most."
    return [Line(Level.NOTICE, text)]


def _in_the_way(status: Status, tablet: Tablet, source: str, target: str) -> list[Line]:
    lines = []
    to, gives = status.node(target), status.node(source)
    if condition(status, tablet) is not Condition.FULL:
        text = f"It is short of replicas now: {source} keeps its copy until every other one is in sync."
        lines.append(Line(Level.WARNING, text))
    if to is not None and to.state is NodeState.SUSPECT:
        lines.append(Line(Level.WARNING, f"{target} is late with its heartbeat: if it is gone, the move waits for it."))
    if status.cluster.spread and to is not None and gives is not None:
        more, fewer = (to.replica_of or 0) + 1, (gives.replica_of or 0) - 1
        if more - fewer >= 2:
            text = (
                f"{target} would hold {count(more, 'replica')} and {source} {fewer}. Data spreads by itself: the coordinator"
                " will move another one to even that out."
            )
            lines.append(Line(Level.WARNING, text))
    return lines


def foresee_withdrawal(status: Status, tablet: Tablet) -> Plan:
    """What it would do to let the replica that is moving stay where it was."""
    source, target = tablet.moving_from, tablet.moving_to
    if not target:
        return Plan(Wish.WITHDRAW, tablet.id, refusal=f"Tablet {tablet.id} is not moving.")
    if target in tablet.in_sync:
        refusal = (
            f"{target} has everything by now and counts; {source} leaves as soon as every other replica is in sync."
        )
        return Plan(Wish.WITHDRAW, tablet.id, refusal=refusal, source=source, target=target)
    lines = [
        Line(Level.GOOD, f"{source} keeps its replica: nothing changes for any request."),
        Line(Level.NOTICE, f"{target} drops what it has copied so far."),
    ]
    to, gives = status.node(target), status.node(source)
    if status.cluster.spread and to is not None and gives is not None:
        # (what a node belongs to counts the tablet already)
        more, fewer = gives.replica_of or 0, (to.replica_of or 0) - 1
        if more - fewer >= 2:
            text = (
                f"{source} would hold {count(more, 'replica')} and {target} {fewer}. Data spreads by itself: the coordinator"
                " will soon move this one again, or another, unless that is switched off first."
            )
            lines.append(Line(Level.WARNING, text))
    return Plan(Wish.WITHDRAW, tablet.id, tuple(lines), source=source, target=target)
