"""A node that was away and comes back, for tests of what it then learns."""

from __future__ import annotations

from tests.unit.node.trio import NAMES, Trio, put


def one_away(*rows: str, trio: Trio | None = None) -> Trio:
    """Everybody has `rows`; then n3 is taken out of the set."""
    trio = (trio or Trio()).serving()
    for number, row in enumerate(rows, 1):
        trio.write("n1", ("before", row), put(row, b"old", number=number))
    trio.settle()
    trio.advance(0.1)
    trio.held = {("n1", "n3"), ("n3", "n1"), ("n2", "n3"), ("n3", "n2")}
    trio.lead("n1", "n1 n2", to="n1 n2")
    trio.settle()
    return trio


def back(trio: Trio) -> None:
    """n3 is reached again, and is a learner."""
    for pair in trio.held:
        trio.mail[pair].clear()
    trio.held = set()
    trio.lead("n1", "n1 n2", "n3")
    for name in ("n1", "n2"):
        trio.nodes[name].peer_disconnected("n3", trio.now)
        trio.nodes[name].peer_connected("n3", trio.now)
        trio.nodes["n3"].peer_disconnected(name, trio.now)
        trio.nodes["n3"].peer_connected(name, trio.now)
    trio.advance(0.5)


def equal(trio: Trio) -> bool:
    """Whether all hold the same cells, a moment later."""
    trio.advance(0.2)
    return len({trio.replica(name).disk.tablet.digest for name in NAMES}) == 1
