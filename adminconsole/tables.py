"""The lines of the console's tables: a status and a filter in, what each line shows out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adminconsole.health import Condition, Level, condition, progress
from adminconsole.status import Copy, Node, NodeState, Recovery, Status, Tablet
from adminconsole.wording import count, key_range
from kvstore import split_above

TABLETS_A_PAGE = 50


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node with the words and the level of its state, and how far it has come if it learns."""

    node: Node
    words: str
    level: Level
    percent: int | None


_STATES = {
    NodeState.UP: ("up", Level.GOOD),
    NodeState.SUSPECT: ("late", Level.WARNING),
    NodeState.DOWN: ("down", Level.DANGER),
    NodeState.DISABLED: ("disabled", Level.NOTICE),
    NodeState.DRAINING: ("draining", Level.NOTICE),
}


def node_line(status: Status, node: Node) -> NodeLine:
    """The line of one node."""
    words, level = _STATES[node.state]
    learning = [tablet for tablet in status.tablets if node.id in tablet.learners]
    percent = progress(learning, node.id) if node.is_live else None
    if learning and node.state is NodeState.UP:
        words, level = "up, catching up", Level.NOTICE
    elif node.is_spare:
        words = "up, spare"
    elif node.disabled and node.state is NodeState.DOWN:
        words = "down, disabled"
    return NodeLine(node, words, level, percent)


@dataclass(frozen=True, slots=True)
class ReplicaMark:
    """One replica of a tablet: which node, its role in a word, how it does, a learner's progress, what it reported."""

    node: str
    role: str
    level: Level
    recovery: Recovery | None
    copy: Copy | None


@dataclass(frozen=True, slots=True)
class TabletLine:
    """A tablet with its condition, its range in words and its replicas, the primary first."""

    tablet: Tablet
    condition: Condition
    range: str
    have: int
    replicas: tuple[ReplicaMark, ...]

    @property
    def words(self) -> str:
        """`2 of 3, catching up`."""
        have = min(self.have, self.tablet.wanted) if self.tablet.moving_to else self.have
        moving = ", moving" if self.tablet.moving_to and self.condition is Condition.FULL else ""
        return f"{have} of {self.tablet.wanted}{self.condition.suffix}{moving}"


def tablet_line(status: Status, tablet: Tablet) -> TabletLine:
    """The line of one tablet."""
    live = status.live(tablet.in_sync)
    named = dict.fromkeys((tablet.primary, *tablet.in_sync, *tablet.learners, *tablet.replicas))
    marks = tuple(_mark(status, tablet, name) for name in named if name)
    return TabletLine(tablet, condition(status, tablet), key_range(tablet.start, tablet.end), len(live), marks)


def _mark(status: Status, tablet: Tablet, name: str) -> ReplicaMark:
    role, level = _role(status, tablet, name)
    learns = level is Level.NOTICE
    recovery = next((part for part in tablet.recovery if learns and part.node == name), None)
    return ReplicaMark(name, role, level, recovery, tablet.copy(name))


def _role(status: Status, tablet: Tablet, name: str) -> tuple[str, Level]:
    node = status.node(name)
    if node is None or not node.is_live:
        return "gone, was in sync" if name in tablet.in_sync else "gone", Level.DANGER
    if name == tablet.primary:
        return "primary", Level.GOOD
    if name in tablet.in_sync:
        return ("in sync, leaving" if name == tablet.moving_from else "in sync"), Level.GOOD
    if name in tablet.learners:
        return ("arriving" if name == tablet.moving_to else "catching up"), Level.NOTICE
    return "not in sync", Level.WARNING


@dataclass(frozen=True, slots=True)
class TabletPage:
    """A page of tablets. `total` counts what the filter lets through, `page` starts at 1."""

    lines: tuple[TabletLine, ...]
    total: int
    page: int
    pages: int

    @property
    def earlier(self) -> int:
        """The number of the page before this one."""
        return self.page - 1

    @property
    def later(self) -> int:
        """The number of the page after this one."""
        return self.page + 1


def tablet_page(status: Status, *, only_attention: bool = False, node: str = "", page: int = 1) -> TabletPage:
    """Tablets in the order of their ranges: all, those with a condition that is not well, or those of one node."""
    chosen = [
        tablet
        for tablet in status.tablets
        if (not node or node in (*tablet.in_sync, *tablet.learners, *tablet.replicas))
        and not (only_attention and condition(status, tablet) is Condition.FULL)
    ]
    pages = max(1, -(-len(chosen) // TABLETS_A_PAGE))
    page = min(max(1, page), pages)
    shown = chosen[(page - 1) * TABLETS_A_PAGE : page * TABLETS_A_PAGE]
    return TabletPage(tuple(tablet_line(status, tablet) for tablet in shown), len(chosen), page, pages)


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of the overview. `cells` and `bytes` count each once, not once a replica."""

    nodes: int
    nodes_up: int
    tablets: int
    tablets_full: int
    cells: int
    bytes: int
    stored_bytes: int
    log_bytes: int
    least_disk_free: int | None
    replication: int
    min_in_sync: int
    uptime_s: float
    spares: int
    rebuild_after_s: float | None
    split_above: str
    spread: bool


def figures(status: Status) -> Figures:
    """The overview's numbers."""
    free = [node.disk_free for node in status.nodes if node.is_live and node.disk_free is not None]
    return Figures(
        nodes=len(status.nodes),
        nodes_up=sum(1 for node in status.nodes if node.state is NodeState.UP),
        tablets=len(status.tablets),
        tablets_full=sum(1 for tablet in status.tablets if condition(status, tablet) is Condition.FULL),
        cells=sum(tablet.cells for tablet in status.tablets),
        bytes=sum(tablet.bytes for tablet in status.tablets),
        stored_bytes=sum(node.bytes for node in status.nodes),
        log_bytes=sum(node.log_bytes for node in status.nodes),
        least_disk_free=min(free, default=None),
        replication=status.cluster.replication,
        min_in_sync=status.cluster.min_in_sync,
        uptime_s=status.cluster.uptime_s,
        spares=sum(1 for node in status.nodes if node.is_spare),
        rebuild_after_s=status.cluster.rebuild_after_s,
        split_above=split_above.in_words(status.cluster.split_above),
        spread=status.cluster.spread,
    )


@dataclass(frozen=True, slots=True)
class ConditionCount:
    """How many tablets are in a condition, for the bar of the overview."""

    condition: Condition
    tablets: int
    words: str


def condition_counts(status: Status) -> Sequence[ConditionCount]:
    """The tablets by condition, the worst first; conditions that no tablet is in are left out."""
    numbers: dict[Condition, int] = {}
    for tablet in status.tablets:
        found = condition(status, tablet)
        numbers[found] = numbers.get(found, 0) + 1
    return [
        ConditionCount(found, numbers[found], f"{count(numbers[found], 'tablet')}: {found.words}")
        for found in sorted(numbers, key=lambda found: -found.rank)
    ]
