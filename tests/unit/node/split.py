"""Splits on the bench of three nodes: the test is the coordinator."""

from __future__ import annotations

from dataclasses import replace

from kvstore.messages import Birth, Configuration, Configure, ProposeSplit, SplitDeclined, SplitRequest
from tests.unit.node.trio import TABLET, Trio, put

CHILD = 2


def filled(rows: str = "a m z") -> Trio:
    """n1 leads all three, and has written one cell in each of the rows."""
    trio = Trio().serving()
    for number, row in enumerate(rows.split()):
        trio.write("n1", f"filled {row}", put(row, row.encode(), number=number + 1))
        trio.settle()
    trio.advance(0.1)
    return trio


def propose(trio: Trio, row: str | None = "m") -> None:
    """The coordinator's proposal reaches the primary."""
    message = ProposeSplit(TABLET, trio.configuration.epoch, row)
    assert trio.configuration.primary is not None
    trio.nodes[trio.configuration.primary.node].from_coordinator(message, trio.now)
    trio.settle()


def requests(trio: Trio) -> list[SplitRequest]:
    """What primaries asked for."""
    return [asked for asked in trio.asked if isinstance(asked, SplitRequest)]


def declined(trio: Trio) -> list[str]:
    """Why primaries did not ask."""
    return [asked.reason for asked in trio.asked if isinstance(asked, SplitDeclined)]


def decide(trio: Trio, request: SplitRequest, child: int = CHILD) -> tuple[Configuration, Configuration]:
    """The coordinator's record; nobody is told yet."""
    whole = next(c for c in (trio.configuration, *trio.children) if c.tablet == request.tablet)
    assert request.epoch == whole.epoch
    version = whole.range_version + 1
    lower = replace(whole, end=request.row, epoch=whole.epoch + 1, range_version=version)
    born = Birth(whole.tablet, request.log_epoch, request.sequence, version)
    upper = replace(lower, tablet=child, start=request.row, end=whole.end, since=lower.epoch, born=born)
    if whole is trio.configuration:
        trio.configuration = lower
    else:
        trio.children[trio.children.index(whole)] = lower
    trio.children.append(upper)
    return lower, upper


def tell(trio: Trio, *configurations: Configuration, to: str = "n1 n2 n3") -> None:
    """The coordinator's word reaches the nodes `to`, in one message."""
    for name in to.split():
        if name in trio.nodes:
            trio.nodes[name].from_coordinator(Configure(list(configurations), {}), trio.now)
    trio.settle()


def split(trio: Trio, row: str = "m", to: str = "n1 n2 n3") -> tuple[Configuration, Configuration]:
    """From the proposal to the end, for the nodes `to`."""
    propose(trio, row)
    halves = decide(trio, requests(trio)[-1])
    tell(trio, *halves, to=to)
    return halves
