"""Replicas and leads spread over the nodes that are there, and come to rest."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from kvstore import settings
from kvstore.control import Done, MoveReplica, SetSpread, WithdrawMove
from kvstore.coordinator.coordinator import Coordinator
from kvstore.coordinator.creation import Creation
from kvstore.coordinator.spreading import next_step
from kvstore.messages import ChangeKind, ChangeRequest, Configuration
from tests.unit.coordinator.control import CREATION, Control

STEADY = settings.SPREAD_STEADY + 0.5


def cluster(tablets: int = 6, nodes: str = "n1 n2 n3", *, spread: bool = True, replication: int = 3) -> Control:
    """A new cluster: tablet i is on `replication` nodes, rotated by i."""
    splits = [f"g{number:03}" for number in range(1, tablets)]
    creation = replace(CREATION, splits=splits, rebuild_after=60.0, spread=spread, nodes_expected=len(nodes.split()))
    return Control(replace(creation, replication=replication), nodes=nodes).formed()


def learn(control: Control, chance: random.Random | None = None) -> None:
    """Every learner that is there is taken in by its primary, if that is there; by `chance` one of eight."""
    for now in list(control.coordinator._configurations.values()):
        for learner in now.learners:
            present = control.tablet(now.tablet)
            primary = present.primary
            if chance is not None and chance.random() < 0.875:
                continue
            if primary is not None and {primary.node, learner.node} <= control.up:
                message = ChangeRequest(now.tablet, present.epoch, primary, ChangeKind.ADD, learner)
                control.coordinator.from_node(primary.node, message, control.now)
                control.take()


def moved(control: Control) -> int:
    """Moves that were begun so far."""
    sentences = [word for record in control.journal for word in record.get("because", ())]
    return sum(" moves to " in word for word in sentences)


def pass_time(control: Control, seconds: float, chance: random.Random | None = None) -> None:
    """Time passes; who has something to learn has learnt it a moment later, or by `chance` some seconds later."""
    end = control.now + seconds
    while control.now < end:
        control.pass_time(0.5)
        learn(control, chance)


def configurations(control: Control) -> list[Configuration]:
    return list(control.coordinator._configurations.values())


def held(control: Control) -> Counter[str]:
    """How many replicas each node has."""
    return Counter(name for now in configurations(control) for name in now.replicas)


def first(control: Control) -> Counter[str]:
    """Of how many tablets each node is first in the order."""
    return Counter(now.replicas[0] for now in configurations(control))


def led(control: Control) -> Counter[str]:
    return Counter(now.primary.node for now in configurations(control) if now.primary is not None)


def test_a_node_that_joins_gets_its_share_of_replicas_and_leads() -> None:
    control = cluster(8)
    control.join("n4")
    pass_time(control, 120.0)
    assert held(control) == {"n1": 6, "n2": 6, "n3": 6, "n4": 6}
    assert moved(control) == 6, "as many as it lacked, and none twice"
    assert led(control) == {"n1": 2, "n2": 2, "n3": 2, "n4": 2}
    assert all(len(now.in_sync) == 3 and not now.leaving for now in configurations(control))


def test_what_the_giver_leads_stays_with_it_where_something_else_can_go() -> None:
    control = cluster(3)
    before = {now.tablet: (now.primary, now.since) for now in configurations(control)}
    control.join("n4")
    pass_time(control, 60.0)
    assert held(control)["n4"] == 2
    assert {now.tablet: (now.primary, now.since) for now in configurations(control)} == before


def test_never_two_at_once() -> None:
    control = cluster(8)
    control.join("n4")
    for _ in range(200):
        control.pass_time(0.25)
        assert sum(bool(now.leaving) for now in configurations(control)) <= 1
        if control.now % 3 < 0.3:
            learn(control)
    assert moved(control) > 4


def test_nothing_moves_for_a_difference_of_one() -> None:
    control = cluster(7, "n1 n2 n3 n4")  # 21 replicas on four nodes
    pass_time(control, 60.0)
    assert sorted(held(control).values()) == [5, 5, 5, 6]
    assert moved(control) == 0


def test_where_it_is_switched_off_nothing_moves_until_it_is_switched_on() -> None:
    control = cluster(spread=False)
    control.join("n4")
    pass_time(control, 60.0)
    assert moved(control) == 0
    assert control.status()["cluster"]["spread"] is False
    assert isinstance(control.request(SetSpread(True)), Done)
    control.restart(snapshot=True)
    assert control.status()["cluster"]["spread"] is True, "durably"
    pass_time(control, 90.0)
    assert held(control)["n4"] == 4
    control.request(SetSpread(False))
    control.join("n5")
    pass_time(control, 60.0)
    assert held(control)["n5"] == 0


def test_a_cluster_from_before_spreads_as_a_new_one_does() -> None:
    control = cluster()
    for record in control.journal:
        record.pop("spread", None)
    control.restart()
    assert control.status()["cluster"]["spread"] is settings.SPREAD


def test_only_when_all_is_at_rest() -> None:
    for trouble in ("a member is away", "a heartbeat is late", "a replica moves", "something changed just now"):
        control = cluster()
        if trouble == "a member is away":
            control.disable("n3")
            control.join("n4")
            pass_time(control, 30.0)
        elif trouble == "a heartbeat is late":
            control.request(SetSpread(False))
            control.join("n4")
            control.pass_time(STEADY)
            control.up.discard("n3")
            control.request(SetSpread(True))
            control.now += settings.HEARTBEAT_SUSPECT + 0.1
            control.beat()
            control.coordinator.tick(control.now)
            control.take()
        elif trouble == "a replica moves":
            control.join("n4")
            control.request(MoveReplica(1, "n1", "n4"))
            control.pass_time(60.0)
            assert moved(control) == 1, "the operator's"
            continue
        else:
            control.ask(ChangeKind.REMOVE, control.member("n3"))
            control.ask(ChangeKind.ADD, control.member("n3"))
            control.join("n4")
            control.pass_time(settings.SPREAD_STEADY - 0.5)
        assert moved(control) == 0, trouble


def test_a_spare_that_is_gone_for_good_stops_nobody() -> None:
    control = cluster()
    control.join("n5")
    control.kill("n5", told=True)
    control.join("n4")
    pass_time(control, 90.0)
    assert (held(control)["n4"], held(control)["n5"]) == (4, 0)


@pytest.mark.parametrize("trouble", ["disabled", "stalled", "stopping", "full"])
def test_a_node_that_cannot_work_gets_nothing(trouble: str) -> None:
    control = cluster()
    control.join("n4")
    if trouble == "disabled":
        control.disable("n4")
    elif trouble == "stalled":
        control.disk_age["n4"] = settings.DISK_STALL + 1.0
    elif trouble == "stopping":
        control.leave("n4")
    else:
        control.bytes = dict.fromkeys(range(1, 7), 1000)
        control.disk_free["n4"] = 900.0 + settings.MOVE_LEAVES
    pass_time(control, 30.0)
    assert held(control)["n4"] == 0


def test_a_node_that_failed_again_and_again_is_given_nothing_for_a_while() -> None:
    """n4 lost what it had, by crashing and by staying away; with every crash it waits twice as long to be trusted with more."""
    control = cluster(4, "n1 n2 n3 n4")
    for _ in range(6):
        control.kill("n4", told=True)
        control.boot("n4")
        pass_time(control, 3.0)
    control.kill("n4", told=True)
    failed = control.now
    pass_time(control, 70.0)
    assert held(control)["n4"] == 0, "rebuilt elsewhere"
    control.boot("n4")
    wait = settings.LEAD_STEADY * 2.0**6
    assert wait == settings.LEAD_STEADY_MOST
    pass_time(control, failed + wait - 5.0 - control.now)
    assert held(control)["n4"] == 0
    pass_time(control, 60.0)
    assert held(control)["n4"] == 3


def test_a_process_that_has_just_started_gets_nothing_yet() -> None:
    control = cluster()
    control.pass_time(settings.SPREAD_STEADY)
    control.join("n4")
    control.pass_time(settings.SEASONED - 0.25)
    assert held(control)["n4"] == 0
    control.pass_time(0.5)
    assert held(control)["n4"] == 1


def test_of_equals_by_number_the_one_with_fewest_bytes_gets_and_the_fuller_gives() -> None:
    control = cluster(6, "n1 n2", replication=1)  # n1 has 1, 3, 5, and n2 has 2, 4, 6
    control.bytes = {1: 100, 2: 1000, 3: 100, 4: 5000, 5: 100, 6: 100}
    control.join("n3")
    while not moved(control):
        control.pass_time(0.25)
    assert [now.leaving for now in configurations(control)] == ["", "", "", "n2", "", ""], "leaves the two most alike"
    pass_time(control, 30.0)
    assert held(control) == {"n1": 2, "n2": 2, "n3": 2}
    assert sorted(now.tablet for now in configurations(control) if now.replicas == ("n2",)) == [2, 6]


def test_the_halves_of_one_tablet_do_not_all_stay_with_one_leader() -> None:
    """Three nodes hold everything already: nothing is copied, the orders alone change, and the leads follow."""
    control = cluster(6)
    for now in configurations(control):
        same = replace(now, replicas=("n1", "n2", "n3"), epoch=now.epoch + 1, primary=control.member("n1"))
        control.coordinator._adopt([replace(same, since=same.epoch)])
    control.take()
    pass_time(control, 60.0)
    assert first(control) == {"n1": 2, "n2": 2, "n3": 2}
    assert led(control) == {"n1": 2, "n2": 2, "n3": 2}
    assert moved(control) == 0


def test_a_new_order_is_one_record_and_changes_nothing_else() -> None:
    control = cluster(3)
    for now in configurations(control):
        same = replace(now, replicas=("n1", "n2", "n3"), epoch=now.epoch + 1, primary=control.member("n1"))
        control.coordinator._adopt([replace(same, since=same.epoch)])
    control.take()
    before = control.tablet(1)
    records = len(control.journal)
    control.pass_time(STEADY)
    assert len(control.journal) == records + 1
    assert control.journal[-1]["because"] == ["tablet 1: n2, first in the order of 0, is to lead it in place of n1"]
    after = control.tablet(1)
    assert after == replace(before, epoch=before.epoch + 1, replicas=("n2", "n1", "n3"))


# ---------------------------------------------------------------- it comes to rest, from anywhere


def uneven(chance: random.Random) -> Control:
    """Some nodes, some tablets, anywhere."""
    names = [f"n{number}" for number in range(1, chance.randint(3, 8) + 1)]
    control = cluster(chance.randint(1, 24), " ".join(names), replication=chance.randint(1, 3), spread=False)
    crowd = names[: chance.randint(control.creation.replication, len(names))]
    for now in configurations(control):
        places = chance.sample(crowd, control.creation.replication)
        members = tuple(control.member(name) for name in places)
        epoch = now.epoch + 1
        placed = replace(
            now, epoch=epoch, replicas=tuple(places), in_sync=members, primary=members[0], learners=(), since=epoch
        )
        control.coordinator._adopt([placed])
        control.bytes[now.tablet] = int(chance.expovariate(1e-6))
    control.take()
    control.pass_time(settings.LEAD_STEADY + 1.0)  # nobody has failed lately
    return control


def measure(present: list[Configuration]) -> tuple[int, int]:
    """What falls with every step: first by moves, then by orders."""
    held = Counter(name for now in present for name in now.replicas)
    first = Counter(now.replicas[0] for now in present)
    return sum(n * n for n in held.values()), sum(n * n for n in first.values())


def finished(now: Configuration) -> Configuration:
    """As it is when a move has ended and the first in order leads."""
    replicas = now.replicas
    if now.leaving:
        replicas = tuple(replicas[-1] if name == now.leaving else name for name in replicas[:-1])
    known = {member.node: member for member in (*now.in_sync, *now.learners)}
    members = tuple(known[name] for name in replicas)
    return replace(now, replicas=replicas, leaving="", in_sync=members, learners=(), primary=members[0])


def test_from_any_start_each_step_comes_nearer_and_the_last_leaves_all_even() -> None:
    longest = 0
    for seed in range(100):
        control = uneven(random.Random(seed))
        nodes = control.coordinator._membership
        present = {now.tablet: now for now in configurations(control)}
        long_ago = dict.fromkeys(present, 0.0)
        now_at, steps = measure(list(present.values())), 0
        while (step := next_step(present.values(), long_ago, nodes)) is not None:
            present[step.configuration.tablet] = finished(step.configuration)
            before, now_at = now_at, measure(list(present.values()))
            assert now_at < before, f"seed {seed}: {step.words}"
            steps += 1
        counts = Counter(name for now in present.values() for name in now.replicas)
        found = [counts[name] for name in control.boots]
        assert max(found) - min(found) <= 1, f"seed {seed}: {counts}"
        first = Counter(now.replicas[0] for now in present.values())
        for now in present.values():
            assert all(first[now.replicas[0]] - first[name] <= 1 for name in now.replicas), f"seed {seed}: {first}"
        longest = max(longest, steps)
    assert longest > 20, "or nothing was uneven to begin with"


class _Life:
    """Nodes come and go, operators do what they like, and nobody writes anything down but the coordinator."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.control = cluster(self.chance.randint(1, 9))
        self.late = [f"n{number}" for number in range(4, 4 + self.chance.randint(1, 3))]

    def something(self) -> None:
        control, chance = self.control, self.chance
        name = chance.choice(list(control.boots))
        moving = [now for now in configurations(control) if now.leaving]
        kind = chance.random()
        if moving and chance.random() < 0.3:
            control.request(WithdrawMove(moving[0].tablet, moving[0].leaving, moving[0].replicas[-1]))
        elif kind < 0.2 and self.late:
            control.join(self.late.pop())
        elif kind < 0.4:
            if moving and chance.random() < 0.5:
                name = chance.choice([moving[0].leaving, moving[0].replicas[-1]])
            control.kill(name, told=chance.random() < 0.5)
        elif kind < 0.6:
            control.boot(name)
        elif kind < 0.7:
            control.disable(name, chance.random() < 0.5)
        elif kind < 0.8:
            now = chance.choice(configurations(control))
            control.request(MoveReplica(now.tablet, chance.choice(now.replicas), name))
        elif kind < 0.85:
            control.restart(snapshot=chance.random() < 0.5)
        pass_time(control, chance.choice([0.5, 3.0, 20.0, 80.0]), chance)

    def peace(self) -> None:
        """Everybody is there, and nobody does anything any more."""
        for name in list(self.control.boots):
            self.control.disable(name, False)
            if name not in self.control.up:
                self.control.boot(name)
        pass_time(self.control, settings.LEAD_STEADY_MOST + 60.0)


def test_rebuilding_handing_back_and_spreading_do_not_fight_each_other() -> None:
    """However nodes came and went: when all are there, everything comes to rest, evenly, and stays so."""
    seen: Counter[str] = Counter()
    for seed in range(8):
        life = _Life(seed)
        for _ in range(25):
            life.something()
        life.peace()
        control = life.control
        records = len(control.journal)
        pass_time(control, 60.0)
        assert len(control.journal) == records, f"seed {seed}: {control.journal[records:]}"
        counts = [held(control)[name] for name in control.boots]
        assert max(counts) - min(counts) <= 1, f"seed {seed}: {held(control)}"
        for now in configurations(control):
            assert len(now.replicas) == len(set(now.replicas)) == len(now.in_sync) == 3, f"seed {seed}"
            assert now.primary is not None
            assert now.primary.node == now.replicas[0], f"seed {seed}"
        words: list[str] = [str(word) for record in control.journal for word in record.get("because", ())]
        for kind in ("is rebuilt on", "goes back", " moves to ", "has moved", "after all", "is to lead"):
            seen[kind] += sum(kind in word for word in words)
    assert min(seen.values()) > 0, f"all of them must have happened: {seen}"
    assert seen[" moves to "] > 30


def test_what_a_creation_says_is_kept() -> None:
    made: list[Any] = []
    for spread in (True, False):
        coordinator = Coordinator(Creation("test", r"[^:]*", [], 3, 1, 3, spread=spread), [], 0.0)
        made.append(coordinator.status(0.0)["cluster"])
    assert [each["spread"] for each in made] == [True, False]
