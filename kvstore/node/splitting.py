"""How a primary prepares the split of its tablet: from a proposal to the request, and until it hears what became of that.

    gathering ──proposed──▶ draining ──drained──▶ asked ──a higher epoch──▶ gathering
        ▲                      │
        └── it takes too long ─┘

While one is prepared no entry is made: what the request says, "all that was logged up to here is committed", must stay true
until the coordinator has decided. From the asking on that holds for good, under this epoch: the decision may be durable
though the answer is lost, and an entry made after it might hold rows that are another tablet's by then. Reads go on.

Relies on `Leadership` for what is committed, and for the end: whatever configuration comes next has a higher epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore import settings
from kvstore.keys import GroupRule, in_range, prefix_end
from kvstore.messages import SplitRequest
from kvstore.storage.cellkey import cell_key, split_key

if TYPE_CHECKING:
    from kvstore.node.leadership import Leadership
    from kvstore.node.replica import Replica

ASKED_AGAIN = 0.3
"""Seconds after which a request without answer is repeated."""
FEW_ROWS = 200
"""Rows that are looked at, above a group in the middle of a tablet, for the first of another group."""


class NoCut(Exception):
    """There is no row at which the tablet may be split, or not at the one that is wanted; says why."""


class Preparation:
    """One split under preparation, under one epoch."""

    def __init__(self, row: str, now: float) -> None:
        self._row = row
        self._since = now
        self._request: SplitRequest | None = None
        self._asked_at = 0.0

    def go_on(self, leadership: Leadership, replica: Replica, now: float) -> bool:
        """Ask, when everything is committed, and ask again; False when that takes too long, and writes must go on."""
        if self._request is not None:
            if now - self._asked_at > ASKED_AGAIN:
                self._ask(replica, now)
            return True
        if leadership.commit == replica.last and leadership.asks_for_nothing:
            replica.apply_known()
            try:
                check_cut(replica, self._row, replica.host.group_rule)
            except NoCut:
                return False  # a row of the group below came in between
            epoch, me, disk = leadership.configuration.epoch, replica.host.me, replica.disk
            self._request = SplitRequest(replica.tablet, epoch, me, self._row, disk.commit_epoch, disk.commit)
            self._ask(replica, now)
            return True
        return now - self._since <= settings.SPLIT_DRAIN

    def _ask(self, replica: Replica, now: float) -> None:
        self._asked_at = now
        replica.host.tell_coordinator(self._request)


def check_cut(replica: Replica, row: str, rule: GroupRule) -> None:
    """Raise `NoCut` unless `row` lies inside the tablet, begins a group, and the rows around it are of different groups."""
    configuration, tablet = replica.configuration, replica.disk.tablet
    assert configuration is not None
    if not in_range(row, configuration.start, configuration.end) or row == configuration.start:
        raise NoCut(f"{row!r} does not lie inside the tablet, or is its first row")
    if not rule.may_split_at(row):
        raise NoCut(f"{row!r} is not the first row of a group")
    below, above = _row_below(tablet, row), _row_from(tablet, row)
    if below is not None and above is not None and rule.group_of(below) == rule.group_of(above):
        raise NoCut(f"the rows {below!r} and {above!r}, on both sides of {row!r}, are of one group")


def middle_cut(replica: Replica, rule: GroupRule) -> str:
    """The row at which the tablet is best split: near the middle of its bytes, between two groups. `NoCut` if there is none."""
    tablet = replica.disk.tablet
    key = tablet.middle()
    if key is None:
        raise NoCut("the tablet is empty")
    middle, _ = split_key(key)
    candidates = [rule.group_of(middle)]
    above = _row_of_next_group(tablet, middle, rule)
    if above is not None:
        candidates.append(rule.group_of(above))
    best: tuple[int, str] | None = None
    for row in candidates:
        try:
            check_cut(replica, row, rule)
        except NoCut:
            continue
        below = tablet.bytes_below(cell_key(row, ""))
        larger = max(below, tablet.bytes - below)
        if 0 < below < tablet.bytes and (best is None or larger < best[0]):
            best = larger, row
    if best is None:
        raise NoCut("all its bytes are of one group, as far as was looked")
    return best[1]


def _row_of_next_group(tablet: Any, row: str, rule: GroupRule) -> str | None:
    """The first row above `row` that is of another group; of a large group, the first above all that begin as it does."""
    group = rule.group_of(row)
    for _ in range(FEW_ROWS):
        following = _row_from(tablet, row + "\0")
        if following is None or rule.group_of(following) != group:
            return following
        row = following
    behind = prefix_end(group)
    return _row_from(tablet, behind) if behind is not None else None


def _row_from(tablet: Any, row: str) -> str | None:
    return next((found for found, _, _ in tablet.scan(row)), None)


def _row_below(tablet: Any, row: str) -> str | None:
    return next((found for found, _, _ in tablet.scan("", "", row, None, True)), None)


def wanted_cut(replica: Replica, row: str | None, rule: GroupRule) -> str:
    """Where the tablet is to be split: at `row` if it may be, or near its middle. `NoCut`."""
    if row is None:
        return middle_cut(replica, rule)
    check_cut(replica, row, rule)
    return row
