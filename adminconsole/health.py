"""From the cluster's status to words: one sentence about health, then what needs attention, the worst first.

Pure: records in, records out; no clock, no store, no request. It promises never to sound better than the status:

- a tablet counts as having a replica only where a member of its in-sync set is not down;
- a status that is old is called old before anything else is said;
- "nothing is lost" is said only while a live member of the in-sync set holds every acknowledged write.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adminconsole.status import Node, NodeState, Status, Tablet
from adminconsole.wording import age, count, listing, size

DISK_LOW = 2 * 1024**3
"""Free bytes below which a node's disk is worth a look: long before the store itself refuses writes."""


class Level(enum.IntEnum):
    """How bad it is. Never shown by colour alone: each has a word and an icon."""

    GOOD = 0
    NOTICE = 1  # under way, or wanted so
    WARNING = 2  # may become worse by itself
    DANGER = 3  # less safe or less available than promised

    @property
    def icon(self) -> str:
        """The icon's name in `templates/icons/`."""
        return ("circle-check", "info-circle", "alert-triangle", "alert-octagon")[self]

    @property
    def word(self) -> str:
        """What a screen reader says for the icon."""
        return ("Good", "Note", "Warning", "Attention")[self]


class Condition(enum.Enum):
    """What a tablet can do right now, from well to worst: (words, what follows "2 of 3", level, icon, rank)."""

    FULL = ("all replicas", "", Level.GOOD, "circle-check", 0)
    CATCHING_UP = ("short, catching up", ", catching up", Level.DANGER, "refresh-alert", 1)
    SHORT = ("short of replicas", ", short", Level.DANGER, "alert-triangle", 2)
    ELECTING = ("choosing a primary", ", choosing a primary", Level.DANGER, "hourglass", 3)  # a live member is to lead
    WRITES_REFUSED = ("refusing writes", ", refuses writes", Level.DANGER, "lock", 4)  # fewer in sync than min_in_sync
    STOPPED = ("waiting for a node", ", waits for a node", Level.DANGER, "circle-x", 5)  # nobody alive may lead it

    def __init__(self, words: str, suffix: str, level: Level, icon: str, rank: int) -> None:
        self.words = words
        self.suffix = suffix
        self.level = level
        self.icon = icon
        self.rank = rank


@dataclass(frozen=True, slots=True)
class Attention:
    """One thing to look at. The last four say where a link should lead; at most one is set."""

    level: Level
    title: str
    detail: str
    node: str = ""
    tablet: int | None = None
    only: str = ""  # the tablets page's filter that shows the tablets meant
    front_ends: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """The sentence, how bad it is, and what needs attention, the worst first."""

    level: Level
    sentence: str
    attention: tuple[Attention, ...]


def condition(status: Status, tablet: Tablet) -> Condition:
    """What `tablet` can do, judged by its in-sync set and by which nodes are live."""
    live = status.live(tablet.in_sync)
    if not live:
        return Condition.STOPPED
    if tablet.primary not in live:
        return Condition.ELECTING
    if len(live) < status.cluster.min_in_sync or _has_no_room(status, tablet):
        return Condition.WRITES_REFUSED
    if len(live) >= tablet.wanted:
        return Condition.FULL
    return Condition.CATCHING_UP if status.live(tablet.learners) else Condition.SHORT


def missing_nodes(status: Status, tablet: Tablet) -> tuple[str, ...]:
    """The nodes that should hold an in-sync replica of `tablet` and do not, or are down."""
    present = set(status.live(tablet.in_sync))
    wanted = dict.fromkeys((*tablet.replicas, *tablet.in_sync, *tablet.learners))
    # (one that a replica is only moving to is not missed)
    return tuple(name for name in wanted if name not in present and name != tablet.moving_to)


def progress(tablets: Iterable[Tablet], node_id: str) -> int | None:
    """How far `node_id` has come as a learner over `tablets`, 0 to 99 percent; None if it reports no recovery."""
    parts = [part for tablet in tablets for part in tablet.recovery if part.node == node_id]
    if not parts:
        return None
    total = sum(max(part.cells_total, part.cells_done) for part in parts)
    return min(99, sum(part.cells_done for part in parts) * 100 // total) if total else 0


def what_of(status: Status, node_id: str, tablets: Sequence[Tablet] = ()) -> str:
    """A clause about a node that is missed: `node2 has been gone for 14 s`."""
    node = status.node(node_id)
    if node is None:
        return f"{node_id} is unknown to the coordinator"
    if node.state is NodeState.DOWN:
        if node.last_heartbeat_s is None:
            return f"{node_id} has not been heard of since the coordinator started"
        return f"{node_id} has been gone for {age(node.last_heartbeat_s)}"
    learning = [tablet for tablet in tablets if node_id in tablet.learners]
    if learning:
        percent = progress(learning, node_id)
        return f"{node_id} is catching up" + (f" ({percent} %)" if percent is not None else "")
    if node.state is NodeState.DISABLED:
        return f"{node_id} is disabled"
    if node.state is NodeState.DRAINING:
        return f"{node_id} is being drained"
    if node.disk_full:
        return f"{node_id}'s disk is full"
    if node.disk_stalls:
        return f"{node_id}'s disk takes nothing"
    return f"{node_id} is not yet in sync"


def assess(status: Status) -> Health:
    """The health of a cluster whose status is fresh."""
    sorted_out: dict[Condition, list[Tablet]] = {}
    for tablet in status.tablets:
        sorted_out.setdefault(condition(status, tablet), []).append(tablet)
    items = [*_tablet_items(status, sorted_out), *_differing(status), *_node_items(status), *_moves(status)]
    items.sort(key=lambda item: -item.level)
    worst = max(sorted_out, key=lambda found: found.rank, default=Condition.FULL)
    if not status.tablets:
        return Health(Level.WARNING, "The cluster has no tablets yet: nothing can be stored.", tuple(items))
    if worst is Condition.FULL:
        level = max((item.level for item in items), default=Level.GOOD)
        return Health(level, _sentence_when_full(status), tuple(items))
    merely_short = worst.rank <= Condition.SHORT.rank
    kinds = (Condition.SHORT, Condition.CATCHING_UP) if merely_short else (worst,)
    shown = [tablet for kind in kinds for tablet in sorted_out.get(kind, ())]
    sentence = f"{_of_all(status, shown)} {_CLAUSES[worst](status, shown)}"
    others = len(status.tablets) - len(sorted_out.get(Condition.FULL, ())) - len(shown)
    if others:
        sentence += f" {count(others, 'more tablet')} {'is' if others == 1 else 'are'} short of replicas."
    return Health(Level.DANGER, sentence, tuple(items))


def assess_stale(status: Status | None, age_s: float, reason: str) -> Health:
    """The health when the coordinator does not answer: what was last known, and how old that is.

    `age_s`: seconds since `status` was seen, or since this front end began to ask when `status` is None.
    """
    silent = Attention(
        Level.DANGER,
        "The coordinator does not answer",
        "Reads and writes go on with the roles as they were. Until it is back nobody can take over from a node that"
        f" dies, and no replica can come back into its set. {reason}".strip(),
    )
    if status is None:
        sentence = (
            "The coordinator does not answer, and this front end has not seen the cluster since it first asked,"
            f" {age(age_s)} ago."
        )
        return Health(Level.DANGER, sentence, (silent,))
    known = assess(status)
    first = known.sentence[0].lower() + known.sentence[1:]
    sentence = f"The coordinator does not answer. Last known state, {age(age_s)} old: {first}"
    return Health(Level.DANGER, sentence, (silent, *known.attention))


def _of_all(status: Status, tablets: Sequence[Tablet]) -> str:
    """`2 of 7 tablets`, `All 7 tablets`, `The only tablet`."""
    if len(tablets) < len(status.tablets):
        return f"{len(tablets):,} of {count(len(status.tablets), 'tablet')}"
    return "The only tablet" if len(tablets) == 1 else f"All {len(tablets):,} tablets"


def _verb(tablets: Sequence[Tablet], one: str, many: str) -> str:
    """The verb that goes with `_of_all`: "1 of 7 tablets is", "All 7 tablets are"."""
    return one if len(tablets) == 1 else many


def _sentence_when_full(status: Status) -> str:
    wanted = {tablet.wanted for tablet in status.tablets}
    have = f"{min(wanted)} of {min(wanted)} replicas" if len(wanted) == 1 else "all of their replicas"
    sentence = f"{_of_all(status, status.tablets)} {_verb(status.tablets, 'has', 'have')} {have}"
    away = [what_of(status, node.id) for node in status.nodes if node.state is NodeState.DOWN]
    late = [f"{node.id} is late with its heartbeat" for node in status.nodes if node.state is NodeState.SUSPECT]
    return f"{sentence}; {listing(away + late)}." if away or late else f"{sentence}."


def _reasons(status: Status, tablets: Sequence[Tablet]) -> str:
    """Why `tablets` are short, a clause for each node that is missed."""
    missed = dict.fromkeys(name for tablet in tablets for name in missing_nodes(status, tablet))
    if not missed:
        return f"there are not enough nodes ({len(status.nodes)}) to hold another replica"
    return listing([what_of(status, name, tablets) for name in missed])


def _short(status: Status, tablets: Sequence[Tablet]) -> str:
    verb = _verb(tablets, "is", "are")
    return f"{verb} short of replicas: {_reasons(status, tablets)}; nothing is lost, reads and writes go on."


def _electing(status: Status, tablets: Sequence[Tablet]) -> str:
    verb = _verb(tablets, "is choosing a new primary", "are choosing new primaries")
    whose = _verb(tablets, "its", "their")
    return f"{verb}: {_reasons(status, tablets)}; {whose} reads and writes wait a moment, nothing is lost."


def _has_no_room(status: Status, tablet: Tablet) -> bool:
    """Whether its primary takes no writes for want of room: nobody else could lead, or would."""
    primary = status.node(tablet.primary) if tablet.primary else None
    return primary is not None and primary.disk_full


def _without_room(status: Status, tablets: Sequence[Tablet]) -> tuple[str, ...]:
    """The nodes that lead any of these and have no room."""
    return tuple(dict.fromkeys(str(tablet.primary) for tablet in tablets if _has_no_room(status, tablet)))


def _refusing(status: Status, tablets: Sequence[Tablet]) -> str:
    least = count(status.cluster.min_in_sync, "replica")
    verb = _verb(tablets, "refuses", "refuse")
    if full := _without_room(status, tablets):
        disks = "the disk of" if len(full) == 1 else "the disks of"
        return f"{verb} writes: {disks} {listing(full)} {_are(full)} full; reads go on, nothing is lost."
    return (
        f"{verb} writes, having fewer than {least} in sync: {_reasons(status, tablets)}; reads go on, nothing is lost."
    )


def awaited(tablets: Iterable[Tablet]) -> tuple[str, ...]:
    """The nodes that stopped tablets wait for: only a member of a tablet's last in-sync set may open it."""
    return tuple(dict.fromkeys(name for tablet in tablets for name in (tablet.waiting_for or tablet.in_sync)))


def _stopped(status: Status, tablets: Sequence[Tablet]) -> str:
    verb = _verb(tablets, "cannot be read or written: it waits", "cannot be read or written: they wait")
    names = awaited(tablets)
    whom = listing(names, "or") if names else "a node that holds their latest data"
    gone = [what_of(status, name) for name in names]
    because = f" ({listing(gone)})" if gone else ""
    disks = "whose disk has" if len(names) == 1 else "whose disks have"
    return f"{verb} for {whom}{because}, {disks} all that was acknowledged."


_CLAUSES = {
    Condition.CATCHING_UP: _short,
    Condition.SHORT: _short,
    Condition.ELECTING: _electing,
    Condition.WRITES_REFUSED: _refusing,
    Condition.STOPPED: _stopped,
}

_TITLES = {
    Condition.STOPPED: "unavailable",
    Condition.WRITES_REFUSED: "refusing writes",
    Condition.ELECTING: "choosing a primary",
    Condition.SHORT: "short of replicas",
    Condition.CATCHING_UP: "short of replicas, catching up",
}


def _tablet_items(status: Status, sorted_out: dict[Condition, list[Tablet]]) -> list[Attention]:
    """One item for each condition that is not well, the worst first."""
    items = []
    for kind in sorted((kind for kind in sorted_out if kind is not Condition.FULL), key=lambda kind: -kind.rank):
        tablets = sorted_out[kind]
        least = min(len(status.live(tablet.in_sync)) for tablet in tablets)
        wanted = max(tablet.wanted for tablet in tablets)
        items.append(
            Attention(
                level=kind.level,
                title=f"{count(len(tablets), 'tablet')} {_TITLES[kind]}"
                + (f" ({least} of {wanted} at the least)" if kind is not Condition.STOPPED else ""),
                detail=_advice(status, kind, tablets),
                tablet=tablets[0].id if len(tablets) == 1 else None,
                only="attention" if len(tablets) > 1 else "",
            )
        )
    return items


def _differing(status: Status) -> Iterable[Attention]:
    """Tablets whose replicas are in sync, stand at the same sequence, and yet do not hold the same."""
    for tablet in status.tablets:
        found = [copy for name in tablet.in_sync if (copy := tablet.copy(name)) is not None and copy.digest]
        reference = next((copy for copy in found if copy.node == tablet.primary), None)
        others = [copy for copy in found if reference is not None and copy.commit == reference.commit]
        wrong = [copy.node for copy in others if reference is not None and copy.digest != reference.digest]
        if wrong:
            detail = f"At sequence {others[0].commit:,} {listing(wrong)} and {tablet.primary}, the primary, differ."
            yield Attention(Level.DANGER, f"Replicas of tablet {tablet.id} differ", detail, tablet=tablet.id)


def _moves(status: Status) -> Iterable[Attention]:
    """Replicas on their way from one node to another."""
    for tablet in status.tablets:
        if tablet.moving_to:
            percent = progress([tablet], tablet.moving_to)
            detail = what_of(status, tablet.moving_to, [tablet])
            if tablet.moving_to in status.live(tablet.in_sync):
                detail = f"{tablet.moving_to} has everything; {tablet.moving_from} leaves when every other replica is in sync"
            elif status.live((tablet.moving_to,)) and percent is None:
                detail = f"{tablet.moving_to} is about to copy it"
            title = f"A replica of tablet {tablet.id} is moving from {tablet.moving_from} to {tablet.moving_to}"
            yield Attention(Level.NOTICE, title, f"{detail}. Nobody waits for it.", tablet=tablet.id)


def _advice(status: Status, kind: Condition, tablets: Sequence[Tablet]) -> str:
    """What happens next by itself, and what an operator can do."""
    if kind is Condition.STOPPED:
        names = listing(awaited(tablets), "or") or "a node of their last in-sync set"
        return f"Only {names} may open them again, having all that was acknowledged: start it, or mend its machine."
    if kind is Condition.WRITES_REFUSED and (full := _without_room(status, tablets)):
        return f"Writes are taken again when {listing(full)} {'has' if len(full) == 1 else 'have'} room. Reads go on."
    if kind is Condition.WRITES_REFUSED:
        return f"Writes are taken again when {count(status.cluster.min_in_sync, 'replica')} are in sync. Reads go on."
    if kind is Condition.ELECTING:
        return "Their reads and writes wait until a live replica leads, by itself, within about 3 s."
    safe = "Every acknowledged write is on all replicas that are in sync; reads and writes go on."
    if kind is Condition.CATCHING_UP:
        learners = dict.fromkeys(name for tablet in tablets for name in status.live(tablet.learners))
        return f"{listing([what_of(status, name, tablets) for name in learners])}. {safe}"
    return f"{_when_whole(status, tablets)} {safe}".strip()


def _when_whole(status: Status, tablets: Sequence[Tablet]) -> str:
    """What has to happen before short tablets are whole again; empty when no node is known to be missed."""
    missed = dict.fromkeys(name for tablet in tablets for name in missing_nodes(status, tablet))
    nodes = [node for name in missed if (node := status.node(name)) is not None]
    gone = [node.id for node in nodes if not node.is_live]
    off = [node.id for node in nodes if node.disabled or node.state in (NodeState.DISABLED, NodeState.DRAINING)]
    waits = [f"{listing(gone)} {_are(gone)} back"] if gone else []
    waits += [f"{listing(off)} {_are(off)} enabled"] if off else []
    return f"They fill up by themselves when {listing(waits)}." if waits else ""


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def front_end_items(front_ends: Iterable[tuple[str, bool]]) -> list[Attention]:
    """What needs attention among the front ends, given as (address, healthy)."""
    detail = "It fails the balancer's health check. Others serve its visitors, who stay logged in."
    return [
        Attention(Level.WARNING, f"Front end {address} gets no requests", detail, front_ends=True)
        for address, healthy in front_ends
        if not healthy
    ]


def _what_becomes_of(status: Status, node: Node) -> str:
    """What happens to the replicas of a node that is gone, or whose disk is of no use, if it stays so; empty if they are not
    rebuilt elsewhere."""
    if node.disabled:
        return " An operator disabled it: its replicas are not rebuilt elsewhere unless it is enabled."
    if node.rebuilt_in_s is None:
        return ""
    spares = status.could_take_over(node.id)
    if not spares:
        return " There is no spare node with room, on which its replicas could be rebuilt."
    if node.rebuilt_in_s == 0:
        return f" Its replicas are being rebuilt on {listing(spares, 'or')}."
    unless = "If that goes on for another" if node.is_live else "If it is not back in"
    return f" {unless} {age(node.rebuilt_in_s)}, its replicas are rebuilt on {listing(spares, 'or')}."


def _node_items(status: Status) -> list[Attention]:
    return [item for node in status.nodes for item in _items_of_node(status, node)]


def _items_of_node(status: Status, node: Node) -> Iterable[Attention]:
    roles = node.primary_of + node.secondary_of + node.learner_of
    if node.state is NodeState.DOWN:
        detail = f"{what_of(status, node.id)}. The other replicas of what it held serve as long as they are in sync."
        detail += _what_becomes_of(status, node)
        yield Attention(Level.WARNING, f"{node.id} is down", detail, node=node.id)
    elif node.state is NodeState.SUSPECT:
        heard = f"{age(node.last_heartbeat_s)} ago" if node.last_heartbeat_s is not None else "never"
        detail = f"Last heard {heard}. If it stays silent its tablets get other primaries."
        yield Attention(Level.WARNING, f"{node.id} is late with its heartbeat", detail, node=node.id)
    elif node.state is NodeState.DRAINING:
        detail = f"It still has a part in {count(roles, 'tablet')}."
        yield Attention(Level.NOTICE, f"{node.id} is being drained", detail, node=node.id)
    elif node.state is NodeState.DISABLED:
        detail = "An operator disabled it: it holds no role until it is enabled."
        yield Attention(Level.NOTICE, f"{node.id} is disabled", detail, node=node.id)
    if not node.is_live:
        return
    if node.disk_stalls:
        detail = f"Its log has waited {age(node.disk_age_s or 0.0)} to reach the disk; writes that need it wait too."
        detail += _what_becomes_of(status, node)
        yield Attention(Level.WARNING, f"{node.id}'s disk is slow", detail, node=node.id)
    if node.disk_full:
        holds = node.primary_of + node.secondary_of
        detail = "It takes no writes: others serve what it held, until it has room."
        if holds:
            detail = f"Nobody with room could take its part in {count(holds, 'tablet')}: writes there are refused."
        detail += _what_becomes_of(status, node)
        yield Attention(Level.WARNING, f"{node.id}'s disk is full", detail, node=node.id)
    elif node.disk_free is not None and node.disk_free < DISK_LOW:
        detail = f"{size(node.disk_free)} free. When it is nearly full, writes to its tablets are refused; reads go on."
        yield Attention(Level.WARNING, f"{node.id}'s disk is filling up", detail, node=node.id)
