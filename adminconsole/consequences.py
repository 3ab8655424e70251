"""What an operator's action on a node would do, in numbers, before it is done.

Pure: a status, a node and an action in; sentences out, and whether the action may go on. The numbers are pessimistic: a
node that is down, or suspect and so perhaps dead already, is not counted as one that carries on.

An action is refused outright where it cannot work (killing what does not run). It *needs typing* (the operator types
the node's name) where it would leave a tablet that nobody can read, or that nobody can write.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from adminconsole.health import Level
from adminconsole.status import Node, NodeState, Status, Tablet
from adminconsole.wording import age, count, listing, size

WRITES_PAUSE_S = 3
"""A tablet whose primary dies takes writes again within this many seconds: what the store promises."""


HAND_OVER_S = 0.1
"""A planned hand-over holds a request up for this long at most: what the store promises of one that can be planned."""


class Action(enum.StrEnum):
    """What can be done to a node, with the word on the button."""

    DISABLE = "disable"  # the coordinator moves its roles to others; the process runs on
    ENABLE = "enable"  # it may hold replicas again
    RESTART = "restart"  # its process is asked to stop, and started again
    KILL = "kill"  # its process gets SIGKILL; the supervisor starts it again
    START = "start"  # its process is started, when the supervisor holds it stopped

    @property
    def is_planned(self) -> bool:
        """Whether the node hands its roles over before it goes."""
        return self in (Action.DISABLE, Action.RESTART)

    @property
    def by_supervisor(self) -> bool:
        """Whether the machine's supervisor carries it out; the coordinator does otherwise."""
        return self in (Action.RESTART, Action.KILL, Action.START)


@dataclass(frozen=True, slots=True)
class Line:
    """One consequence, and how bad it is."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Consequences:
    """What would happen. `refusal` is empty when the action may be done."""

    action: Action
    node: str
    lines: tuple[Line, ...]
    refusal: str = ""
    needs_typing: bool = False

    @property
    def level(self) -> Level:
        """The worst of the lines."""
        return max((line.level for line in self.lines), default=Level.GOOD)

    @property
    def gist(self) -> str:
        """The gravest consequence in a sentence, for beside the button; the first line only says what is done."""
        return max(self.lines[1:] or self.lines, key=lambda line: line.level).text if self.lines else self.refusal

    @property
    def fingerprint(self) -> str:
        """Changes when a warning changes: a confirmation holds only for the warnings that were read.

        Notices are left out: they carry amounts that grow with every write.
        """
        grave = [line.text for line in self.lines if line.level >= Level.WARNING]
        said = "\n".join([self.action, self.node, self.refusal, str(self.needs_typing), *grave])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def foresee(status: Status, node_id: str, action: Action) -> Consequences | None:
    """What `action` on `node_id` would do; None if the status knows no such node."""
    node = status.node(node_id)
    if node is None:
        return None
    refusal = _refusal(node, action)
    if refusal:
        return Consequences(action, node_id, (), refusal=refusal)
    if action is Action.ENABLE:
        return Consequences(action, node_id, tuple(_of_enabling(status, node)))
    if action is Action.START:
        return Consequences(action, node_id, tuple(_of_starting(status, node)))
    return _of_leaving(status, node, action)


def _refusal(node: Node, action: Action) -> str:
    off = node.disabled or node.state in (NodeState.DISABLED, NodeState.DRAINING)
    if action is Action.DISABLE and off:
        return f"{node.id} is disabled already."
    if action is Action.ENABLE and not off:
        return f"{node.id} is not disabled."
    if action is Action.KILL and not node.is_live:
        return f"{node.id} is down: there is no process to kill. Its supervisor starts it again; restart does it now."
    if action is Action.START and node.is_live:
        return f"{node.id} runs already."
    return ""


def _with_role(status: Status, node_id: str) -> list[Tablet]:
    """Tablets that have `node_id` in their in-sync set, or wait for it."""
    return [tablet for tablet in status.tablets if node_id in tablet.in_sync]


def _carrying_on(status: Status, tablet: Tablet, without: str) -> int:
    """How many in-sync replicas one may count on if `without` were gone."""
    others = (status.node(name) for name in tablet.in_sync if name != without)
    return sum(1 for node in others if node is not None and node.is_sound)


def _of_leaving(status: Status, node: Node, action: Action) -> Consequences:
    """What happens while `node` is away: disabled, restarting or killed."""
    lines = [_what_is_done(node, action)]
    if not node.is_live:
        lines.append(Line(Level.GOOD, f"{node.id} is down already: nothing else changes for any tablet."))
        return Consequences(action, node.id, tuple(lines))
    held = _with_role(status, node.id)
    left = {tablet.id: _carrying_on(status, tablet, node.id) for tablet in held}
    lines += _pauses(node, action, held, left)
    stay = _staying(status, node, held) if action is Action.DISABLE else []
    lines += _losses(status, action, node, [tablet for tablet in held if tablet not in stay], left)
    if stay:
        lines.append(_stays(node, stay))
    lines += _thinner(held, left, status.cluster.min_in_sync)
    lines += _interrupted(status, node)
    late = [other.id for other in status.nodes if other.id != node.id and other.state is NodeState.SUSPECT]
    if late and held:
        lines.append(Line(Level.WARNING, f"{listing(late)} is late with its heartbeat and was not counted on above."))
    if not held and node.learner_of == 0:
        lines.append(Line(Level.GOOD, f"{node.id} holds no replica that is in sync: no tablet is affected."))
    least = max(1, status.cluster.min_in_sync)
    needs_typing = any(left[tablet.id] < least for tablet in held if tablet not in stay)
    return Consequences(action, node.id, tuple(lines), needs_typing=needs_typing)


def _what_is_done(node: Node, action: Action) -> Line:
    if action is Action.DISABLE:
        text = (
            f"The coordinator moves the roles of {node.id} to other nodes and gives it none until it is enabled."
            " Its data stays where it is."
        )
        return Line(Level.NOTICE, text)
    if action is Action.KILL:
        text = (
            f"Process {node.pid} of {node.id} is killed at once (SIGKILL)."
            " Its supervisor starts it again, and it catches up."
        )
        return Line(Level.WARNING, text)
    return Line(Level.NOTICE, f"{node.id} is asked to stop, then started again; it catches up when it is back.")


def _pauses(node: Node, action: Action, held: Sequence[Tablet], left: dict[int, int]) -> list[Line]:
    led = [tablet for tablet in held if tablet.primary == node.id]
    passed_on = [tablet for tablet in led if left[tablet.id]]
    lines = []
    if passed_on and action.is_planned:
        whom = "them" if len(passed_on) > 1 else "it"
        if len(passed_on) < len(led):
            whom = f"{len(passed_on):,} of them"
        text = f"{node.id} leads {count(len(led), 'tablet')}: other replicas take {whom} over first."
        lines.append(Line(Level.NOTICE, f"{text} Requests wait for {HAND_OVER_S} s at the most."))
    elif passed_on:
        who = f"{node.id} leads {count(len(led), 'tablet')}"
        pause = "their writes pause" if len(passed_on) > 1 else "its writes pause"
        if len(passed_on) < len(led):
            pause = f"the writes of {len(passed_on):,} of them pause"
        lines.append(
            Line(Level.WARNING, f"{who}: {pause} for up to {WRITES_PAUSE_S} s while another replica takes over.")
        )
    followed = [tablet for tablet in held if tablet.primary != node.id]
    if followed and not action.is_planned:
        text = (
            f"It follows in {count(len(followed), 'tablet')}: writes there may wait for up to {WRITES_PAUSE_S} s,"
            " reads go on."
        )
        lines.append(Line(Level.NOTICE, text))
    return lines


def _staying(status: Status, node: Node, held: Sequence[Tablet]) -> list[Tablet]:
    """Tablets that a disabled node keeps, because nobody else alive is in sync: the coordinator never takes the last."""
    return [tablet for tablet in held if not any(name != node.id for name in status.live(tablet.in_sync))]


def _stays(node: Node, stay: Sequence[Tablet]) -> Line:
    text = (
        f"{count(len(stay), 'tablet')} {'stays' if len(stay) == 1 else 'stay'} on {node.id}, which alone has all of the"
        " data, until other nodes have caught up: it is drained, not yet disabled. Reads and writes go on."
    )
    return Line(Level.WARNING, text)


def _losses(status: Status, action: Action, node: Node, held: Sequence[Tablet], left: dict[int, int]) -> list[Line]:
    """The lines that ask for typing: tablets that nobody could read, tablets that nobody could write."""
    alone = [tablet for tablet in held if left[tablet.id] == 0]
    least = status.cluster.min_in_sync
    refused = [tablet for tablet in held if 0 < left[tablet.id] < least]
    lines = []
    if alone:
        which = (
            "No other live replica has all of its data"
            if len(alone) == 1
            else "No other live replica has all of their data"
        )
        until = "until another node has caught up" if action is Action.DISABLE else f"until {node.id} is back"
        text = f"{count(len(alone), 'tablet')} could be neither read nor written {until}. {which}."
        lines.append(Line(Level.DANGER, text))
    if refused:
        refuse = "would refuse" if action is not Action.DISABLE else "may refuse"
        text = f"{count(len(refused), 'tablet')} {refuse} writes: fewer than {count(least, 'replica')} in sync. Reads go on."
        lines.append(Line(Level.DANGER, text))
    return lines


def _thinner(held: Sequence[Tablet], left: dict[int, int], least: int) -> list[Line]:
    """`2 tablets would have 1 of 3 replicas`, a line for each number of replicas that would be left."""
    counts: dict[tuple[int, int], int] = {}
    for tablet in held:
        if left[tablet.id] >= max(least, 1) and left[tablet.id] < tablet.wanted:
            key = (left[tablet.id], tablet.wanted)
            counts[key] = counts.get(key, 0) + 1
    return [
        Line(
            Level.DANGER if have == 1 else Level.WARNING,
            f"{count(number, 'tablet')} would have {have} of {wanted} replicas"
            + ("; if that one fails too, they wait for a node to return." if have == 1 and wanted > 1 else "."),
        )
        for (have, wanted), number in sorted(counts.items())
    ]


def _interrupted(status: Status, node: Node) -> list[Line]:
    learning = [tablet for tablet in status.tablets if node.id in tablet.learners]
    feeding = [tablet for tablet in status.tablets if tablet.primary == node.id and status.live(tablet.learners)]
    lines = []
    if learning:
        lines.append(
            Line(Level.WARNING, f"It is catching up with {count(len(learning), 'tablet')}: that starts again.")
        )
    if feeding:
        names = listing(sorted({name for tablet in feeding for name in tablet.learners}))
        text = f"{names} is catching up from it with {count(len(feeding), 'tablet')}: that starts again at the new primary."
        lines.append(Line(Level.WARNING, text))
    return lines


def _needy(status: Status, node: Node) -> list[Tablet]:
    """Tablets short of replicas that `node` could help."""
    return [
        tablet
        for tablet in status.tablets
        if len(status.live(tablet.in_sync)) < tablet.wanted and node.id not in tablet.in_sync
    ]


def _of_enabling(status: Status, node: Node) -> list[Line]:
    lines = [Line(Level.GOOD, f"{node.id} may hold replicas and lead tablets again.")]
    if not node.is_live:
        lines.append(Line(Level.NOTICE, _gone_from_now_on(status, node)))
    needy = _needy(status, node)
    if needy:
        amount = size(sum(tablet.bytes for tablet in needy))
        text = (
            f"{count(len(needy), 'tablet')} short of replicas may use it: at most {amount} to compare and copy,"
            " while they serve on."
        )
        lines.append(Line(Level.NOTICE, text))
    else:
        lines.append(Line(Level.GOOD, "No tablet is short of replicas: nothing moves now."))
    return lines


def _gone_from_now_on(status: Status, node: Node) -> str:
    after = status.cluster.rebuild_after_s
    if after is None:
        return "It is down: its tablets are short of it until it is started."
    return f"It is down: if it is not started within {age(after)}, what it holds is rebuilt on spare nodes, if there are any."


def _of_starting(status: Status, node: Node) -> list[Line]:
    lines = [Line(Level.GOOD, f"The supervisor starts the process of {node.id}.")]
    waiting = [tablet for tablet in status.tablets if node.id in tablet.waiting_for]
    if waiting:
        verb = "waits" if len(waiting) == 1 else "wait"
        lines.append(Line(Level.NOTICE, f"{count(len(waiting), 'tablet')} that {verb} for it can open again."))
    needy = _needy(status, node)
    if needy:
        lines.append(
            Line(Level.NOTICE, f"It catches up with {count(len(needy), 'tablet')} that are short of replicas.")
        )
    return lines
