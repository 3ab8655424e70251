"""Tablets are split while callers work, and while whoever takes part in it is killed: what every caller saw is judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore import settings
from kvstore.control import WasSplit
from kvstore.errors import StoreError
from tests.cluster import Store, StoreCluster, running_store
from tests.probe.histories import PATIENT, Histories
from tests.processes import wait_for

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

DELAYS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Seconds from the asking for a split to the kill."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    with running_store(tmp_path) as made:
        yield made


def cuts(group: str, count: int) -> list[str]:
    """Rows at which the group's tablet may be split, below the group and above it by turns; each further away from it is asked
    for earlier, so that every split moves the group, or leaves it, with less around it."""
    name, _, _ = group.partition(":")
    return [f"{name}:drive:file:{n:03}" if n % 2 else f"{name}~{count - n:03}" for n in range(count)]


def split(store: Store, row: str) -> WasSplit | StoreError:
    """Have the row's tablet split there; an error says that it was not, or not yet."""
    admin = store.admin()
    try:
        return admin.split(store.tablet_of(row)["id"], row)
    except StoreError as error:
        return error
    finally:
        admin.close()


def check_ranges(store: Store) -> int:
    """Each row is in one tablet. How many tablets there are."""
    end = ""
    tablets = sorted(store.status()["tablets"], key=lambda tablet: str(tablet["start"]))
    for tablet in tablets:
        assert tablet["start"] == end, tablets
        end = tablet["end"]
    assert end is None
    return len(tablets)


@pytest.mark.parametrize("victim", ["primary", "secondary", "coordinator"])
def test_tablets_are_split_while_one_who_takes_part_is_killed(cluster: StoreCluster, victim: str) -> None:
    before = check_ranges(cluster)
    done = 0
    with Histories(cluster, f"split-{victim}", timeout=PATIENT) as histories:
        for turn, delay in enumerate(DELAYS):
            group = histories.groups[turn % 3]
            row = cuts(group, len(DELAYS))[turn]
            histories.advance()
            tablet = cluster.tablet_of(row)
            secondary = next(name for name in tablet["in_sync"] if name != tablet["primary"])
            killed = {"primary": tablet["primary"], "secondary": secondary, "coordinator": "coordinator"}[victim]
            answers: list[WasSplit | StoreError] = []
            operator = threading.Thread(target=lambda row=row, answers=answers: answers.append(split(cluster, row)))
            operator.start()
            time.sleep(delay)
            cluster.kill(killed)
            cluster.start(killed)
            histories.advance()
            operator.join()
            cluster.wait_until_whole()
            done += isinstance(answers[0], WasSplit)
        histories.advance()
        histories.judge()
        cluster.wait_until_alike()
    assert done, "no split came about"
    assert check_ranges(cluster) >= before + done


def test_a_power_cut_right_after_a_split(cluster: StoreCluster) -> None:
    with Histories(cluster, "cut-split", timeout=PATIENT) as histories:
        for turn, group in enumerate(histories.groups[:3]):
            histories.advance()
            answer = split(cluster, cuts(group, 4)[turn + 1])
            cluster.kill_all()
            assert isinstance(answer, WasSplit), answer
            cluster.start()
            histories.advance()
            cluster.wait_until_whole()
            assert cluster.tablet_of(answer.row)["id"] == answer.child
        # again, before anything that was split has been written anew on disk
        cluster.kill_all()
        cluster.start()
        histories.advance()
        cluster.wait_until_whole()
        histories.judge()
        cluster.wait_until_alike()
    check_ranges(cluster)


def test_splits_under_load_fail_no_request(cluster: StoreCluster) -> None:
    with Histories(cluster, "calm-split") as histories:
        histories.advance()
        histories.calm()
        for row in (row for group in histories.groups[:3] for row in cuts(group, 4)):
            answer = split(cluster, row)
            assert isinstance(answer, WasSplit), answer
            histories.advance(4)
        histories.judge()
        cluster.wait_until_alike()
    assert check_ranges(cluster) == 7 + 12


def test_a_tablet_that_grows_is_split_by_itself_and_a_scan_goes_on_across(cluster: StoreCluster) -> None:
    rows = [f"b{number:04}:mail" for number in range(600)]
    admin = cluster.admin()
    with cluster.client(timeout=30.0) as client:
        for row in rows:
            client.put(row, "c", row.encode() * 1000)
        scans = [client.scan("b", "c"), client.scan("b", "c", reverse=True)]
        read = [[next(scan) for _ in range(10)] for scan in scans]
        before = check_ranges(cluster)
        admin.split_above(settings.SPLIT_ABOVE_LEAST)
        tablets = wait_for(
            lambda: [t for t in cluster.status()["tablets"] if t["bytes"] > settings.SPLIT_ABOVE_LEAST] == [],
            "every tablet being small enough",
            300.0,
        )
        assert tablets
        assert check_ranges(cluster) >= before + 5
        for cells, scan in zip(read, scans, strict=True):
            cells += scan
        assert [row for row, _, _ in read[0]] == rows
        assert [row for row, _, _ in read[1]] == rows[::-1]
        assert all(cell.value == row.encode() * 1000 for row, _, cell in read[0])
        cluster.wait_until_alike()
    admin.close()
