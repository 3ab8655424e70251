"""Disks are emptied, put back from long ago, and full, while callers work: what every caller saw is judged."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kvstore import settings
from kvstore.client import Batch, Client
from kvstore.errors import NoSpace, OutcomeUnknown
from tests.cluster import StoreCluster
from tests.probe.histories import PATIENT, Histories, groups_of
from tests.processes import wait_for

pytestmark = pytest.mark.probe

OLD_KEYS = 200
DISK = 512 * settings.MIB
"""Of the small disks: room for a log, and for what a node keeps free (256 MiB)."""

OF_SOMEBODY_ELSE = "of-somebody-else"


def test_an_emptied_disk_is_filled_again(harmed: StoreCluster) -> None:
    """The process starts on an empty folder: another store, which holds nothing of what its name once acknowledged."""
    with Histories(harmed, "emptied") as histories:
        histories.advance()
        victim = harmed.primary_of(histories.groups[0])
        harmed.kill(victim)
        shutil.rmtree(harmed.data_folder(victim))
        harmed.start(victim)
        histories.advance()
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()


def test_an_emptied_disk_beside_a_power_cut(harmed: StoreCluster) -> None:
    """All start anew and one of them holds nothing: only the others may lead."""
    with Histories(harmed, "both", timeout=PATIENT) as histories:
        histories.advance()
        victim = harmed.primary_of(histories.groups[0])
        harmed.kill_all()
        shutil.rmtree(harmed.data_folder(victim))
        harmed.start(victim, "coordinator")
        harmed.start()
        histories.advance()
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()


def test_a_stale_node_from_long_ago_brings_no_deleted_key_back(harmed: StoreCluster, tmp_path: Path) -> None:
    """Its folder is put aside, much happens, and the old folder is put back: it learns, and what was deleted stays so."""
    victim, folder = "node3", harmed.data_folder("node3")
    row = groups_of("old")[0]
    with harmed.client(PATIENT) as client, Histories(harmed, "stale") as histories:
        histories.advance()
        client.apply(put_all(row, "before"))
        harmed.end(victim)
        shutil.copytree(folder, tmp_path / "aside")
        harmed.start(victim)
        harmed.wait_until_whole()
        live_through_much(harmed, histories, client, row)
        harmed.kill(victim)
        shutil.rmtree(folder)
        (tmp_path / "aside").rename(folder)
        harmed.start(victim)
        histories.advance()
        harmed.wait_until_whole()
        histories.judge()
        harmed.wait_until_alike()
        for other in ("node1", "node2"):
            harmed.kill_and_tell(other)
        assert {tablet["primary"] for tablet in harmed.status()["tablets"]} == {victim}
        found = client.get_row(row)
        assert sorted(found) == [f"{number:04}" for number in range(0, OLD_KEYS, 2)]
        assert {cell.value for cell in found.values()} == {b"after"}, "from its own disk, which was old once"
        histories.go_on()
        histories.advance()
        histories.judge()


def put_all(row: str, value: str) -> Batch:
    batch = Batch()
    for number in range(OLD_KEYS):
        batch.put(row, f"{number:04}", value.encode())
    return batch


def live_through_much(cluster: StoreCluster, histories: Histories, client: Client, row: str) -> None:
    """Some epochs, many writes, and every second key deleted."""
    admin = cluster.admin()
    admin.disable("node1")
    histories.advance()
    admin.enable("node1")
    cluster.wait_until_whole()
    admin.close()
    client.apply(put_all(row, "after"))
    for number in range(1, OLD_KEYS, 2):
        client.delete(row, f"{number:04}")


# --- full disks ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of `DISK` bytes at `folder` for the length of the block; skips where it cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "penncloud-probe", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Take all the room that is left, as somebody else's files would."""
    with (folder / OF_SOMEBODY_ELSE).open("ab") as file:
        while free := shutil.disk_usage(folder).free:
            # the node may take some of it in the same moment
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), file.tell(), free)
            file.seek(0, os.SEEK_END)


@pytest.fixture
def on_small_disks(tmp_path: Path) -> Iterator[StoreCluster]:
    """A store whose nodes have a small disk each."""
    cluster = StoreCluster(tmp_path)
    with contextlib.ExitStack() as stack:
        for name in cluster.names[1:]:
            stack.enter_context(small_disk(cluster.data_folder(name)))
        stack.callback(cluster.stop)
        cluster.start()
        cluster.wait_until_whole()
        yield cluster


def test_a_full_disk_of_one_node_is_nobody_elses_trouble_and_full_disks_of_all_refuse_writes_alone(
    on_small_disks: StoreCluster,
) -> None:
    cluster = on_small_disks
    row = groups_of("room")[0]
    with cluster.client() as client, Histories(cluster, "full") as histories:
        client.put(row, "x", b"before")
        histories.advance()
        full = cluster.primary_of(histories.groups[0])
        fill(cluster.data_folder(full))
        wait_for(lambda: has_no_role(cluster, full), "the full node's roles moving away", PATIENT)
        histories.advance()
        histories.judge()

        for name in cluster.names[1:]:
            fill(cluster.data_folder(name))
        wait_for(lambda: is_refused(client, row), "writes being refused", PATIENT)
        cell = client.get(row, "x")
        assert cell is not None, "reads go on"

        for name in cluster.names[1:]:
            (cluster.data_folder(name) / OF_SOMEBODY_ELSE).unlink()
        client.put(row, "x", b"after", timeout=PATIENT)
        histories.go_on()
        histories.advance()
        cluster.wait_until_whole()
        histories.judge()
        cluster.wait_until_alike()


def test_what_a_node_held_whose_disk_stays_full_is_rebuilt_elsewhere_and_when_it_has_room_it_is_used_again(
    tmp_path: Path,
) -> None:
    cluster = StoreCluster(tmp_path, nodes=4)
    full = "node3"
    with contextlib.ExitStack() as stack:
        stack.enter_context(small_disk(cluster.data_folder(full)))
        stack.callback(cluster.stop)
        cluster.start()
        cluster.wait_until_whole()
        admin = stack.enter_context(contextlib.closing(cluster.admin()))
        histories = stack.enter_context(Histories(cluster, "missing"))
        admin.rebuild_after(3.0)
        assert belongs_to(cluster, full)
        histories.advance()
        fill(cluster.data_folder(full))
        wait_for(lambda: not belongs_to(cluster, full), "what the full node held being rebuilt elsewhere", PATIENT)
        cluster.wait_until_whole()
        histories.advance()

        (cluster.data_folder(full) / OF_SOMEBODY_ELSE).unlink()
        wait_for(lambda: holds_nothing(cluster, full), "the node dropping its old copies", PATIENT)
        histories.advance()
        other = next(name for name in cluster.names[1:] if name != full)
        cluster.kill_and_tell(other)
        histories.advance()
        histories.judge()
        cluster.start(other)
        cluster.wait_until_alike()
    assert f": {full} has been of no use for 3 s: its disk is full" in cluster.log("coordinator")


def test_what_its_disk_is_like_is_known_of_a_node_from_the_first_that_is_heard_of_it(harmed: StoreCluster) -> None:
    """Somebody might be given replicas in the first quarter of a second that its disk has no room for."""

    def just_back(pid: int) -> dict[str, Any] | None:
        found = next(node for node in harmed.status()["nodes"] if node["id"] == "node2")
        return found if found["pid"] != pid and found["state"] == "up" else None

    for _ in range(3):
        pid = harmed.pid("node2")
        harmed.kill_and_tell("node2")
        harmed.start("node2")
        node = wait_for(partial(just_back, pid), "node2 being heard of again", PATIENT)
        assert node is not None
        assert node["disk_free"] is not None
        harmed.wait_until_whole()


def test_disks_that_fill_with_large_values_refuse_more_and_end_no_process(on_small_disks: StoreCluster) -> None:
    """As uploads fill them: the log grows by hundreds of megabytes a second, between two looks at the room that is left."""
    cluster = on_small_disks
    row, value = groups_of("large")[0], os.urandom(4 * settings.MIB)
    with cluster.client() as client:
        client.put(row, "x", b"before")
        stored: list[str] = []

        def put_until_refused(caller: int) -> None:
            for number in range(100):
                try:
                    client.put(row, f"{caller}/{number}", value, timeout=1.0)
                except (NoSpace, OutcomeUnknown):  # unknown: it was on its way when the room was gone
                    return
                stored.append(f"{caller}/{number}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put_until_refused, range(8)))
        wait_for(lambda: is_refused(client, row), "small writes being refused", PATIENT)
        cell = client.get(row, "x")
        assert cell is not None
        assert cell.value == b"before"
        for column in stored[-3:]:
            cell = client.get(row, column)
            assert cell is not None
            assert cell.value == value
    assert cluster.ended() == []


def has_no_role(cluster: StoreCluster, name: str) -> bool:
    return not any(name in tablet["in_sync"] for tablet in cluster.status()["tablets"])


def belongs_to(cluster: StoreCluster, name: str) -> bool:
    """Whether a tablet belongs on the node, or it still has a part in one."""
    return any(name in (*tablet["replicas"], *tablet["in_sync"]) for tablet in cluster.status()["tablets"])


def holds_nothing(cluster: StoreCluster, name: str) -> bool:
    """Whether the node has no replica, by its own heartbeat."""
    return next(node for node in cluster.status()["nodes"] if node["id"] == name)["cells"] == 0


def is_refused(client: Client, row: str) -> bool:
    """Whether a write is refused for want of room."""
    try:
        client.put(row, "y", b"no room", timeout=0.3)
    except NoSpace:
        return True
    return False
