"""Whether the rows that a request names may be asked for together, of this tablet."""

from __future__ import annotations

from kvstore.errors import BadRequest, CrossTabletBatch, WrongTablet
from kvstore.keys import GroupRule, in_range
from kvstore.messages import Configuration, Get, GetRow, Scan
from kvstore.mutation import Mutation
from kvstore.questions import AskCommitPoint, ReadChanges, ReadResults


def check_rows(mutation: Mutation, configuration: Configuration, rule: GroupRule) -> None:
    """Raise `WrongTablet` unless every row of a mutation lies in the tablet, `CrossTabletBatch` unless all are of one
    group (or only some lie in the tablet)."""
    start, end = configuration.start, configuration.end
    operations, requires = mutation.operations, mutation.requires
    if len(operations) == 1 and not requires:
        row = operations[0][1]
        if not (row >= start and (end is None or row < end)):
            raise WrongTablet(f"row {row!r} is not in tablet {configuration.tablet}")
        return
    rows = [step[1] for step in (*operations, *requires)]
    if not rows:
        raise BadRequest("a batch holds at least one operation or requirement")
    least, greatest = min(rows), max(rows)
    all_inside = in_range(least, start, end) and in_range(greatest, start, end)
    if not all_inside and not any(in_range(row, start, end) for row in rows):
        raise WrongTablet(f"none of the rows is in tablet {configuration.tablet}")
    # The client has compared every row's group (`kvstore.batch`). What lies inside the tablet is atomic in any case.
    if not all_inside or not rule.may_be_one_group(least, greatest):
        raise CrossTabletBatch("the rows of a batch must lie in one group")


def check_read(
    request: Get | GetRow | Scan | ReadResults | ReadChanges | AskCommitPoint, configuration: Configuration
) -> None:
    """Raise `WrongTablet` unless the row that is read lies in the tablet, `BadRequest` for a limit below 1."""
    if isinstance(request, Get | GetRow) and not in_range(request.row, configuration.start, configuration.end):
        raise WrongTablet(f"row {request.row!r} is not in tablet {configuration.tablet}")
    if isinstance(request, GetRow | Scan) and request.limit is not None and request.limit < 1:
        raise BadRequest("a limit is at least 1")
