"""The process is killed, opens its folder again, and then the power goes: what it took over was not all on disk."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.storage.engine import Engine
from kvstore.storage.files import Files
from kvstore.storage.upkeep import checkpoint, release, run_to_end
from tests.faults.disk import Crash, FaultyDisk, FaultyFiles
from tests.unit.storage.engines import contents, opened, options, with_tablet, write
from tests.unit.storage.entries import put

VALUES = {("row", f"{i}"): bytes([i]) * 3000 for i in range(8)}


def busy(disk: FaultyDisk) -> Engine:
    """An engine with a checkpoint, log that was dropped before it, and log in several segments behind it."""
    engine = with_tablet(disk, segment_size=8192)
    for row, column in VALUES:
        write(engine, [put(row, column, bytes(3000))])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    run_to_end(engine, release(engine))
    for (row, column), value in VALUES.items():
        write(engine, [put(row, column, value)])
    engine.append_commit(1, engine.tablets[1].commit)
    engine.sync()
    return engine


def killed_before(engine: Engine, operation: str, folder: str, work: Callable[[], None]) -> FaultyDisk:
    """The disk after the process was killed just before it does that to that folder."""
    files = engine.files
    assert isinstance(files, FaultyFiles)

    def kill(its_operation: str, path: str) -> None:
        if (its_operation, path) == (operation, folder):
            raise Crash

    files.faults.error = kill
    with pytest.raises(Crash):
        work()
    return files.disk.after_kill()


@pytest.mark.parametrize("seed", range(60))
def test_a_checkpoint_that_replaces_another_is_in_its_folder_before_the_other_goes(seed: int) -> None:
    engine = busy(FaultyDisk())
    disk = killed_before(
        engine, "fsync_dir", "/data/checkpoints", lambda: run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    )
    opened(disk, segment_size=8192)
    again = opened(disk.after_crash(random.Random(seed)), segment_size=8192)
    assert again.damage == []
    assert contents(again) == VALUES


@pytest.mark.parametrize("seed", range(60))
def test_where_replay_begins_is_on_disk_before_log_is_dropped_on_its_word(seed: int) -> None:
    engine = busy(FaultyDisk())
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    disk = killed_before(engine, "fsync_dir", "/data", lambda: run_to_end(engine, release(engine)))
    second = opened(disk, segment_size=8192)
    run_to_end(second, release(second))
    again = opened(disk.after_crash(random.Random(seed)), segment_size=8192)
    assert again.damage == []
    assert contents(again) == VALUES


def test_folders_that_are_made_are_in_theirs_durably(tmp_path: Path) -> None:
    """Trap 24: a new data folder that a power cut could take away would take everything acknowledged with it."""
    synced: list[str] = []

    class Watched(Files):
        def fsync_dir(self, path: str) -> None:
            synced.append(path)
            super().fsync_dir(path)

    (tmp_path / "there").mkdir()
    Watched().makedirs(f"{tmp_path}/there/new/newer")
    assert (tmp_path / "there/new/newer").is_dir()
    assert synced == [f"{tmp_path}/there", f"{tmp_path}/there/new"]
    Watched().makedirs(f"{tmp_path}/there/new/newer")
    assert len(synced) == 2, "what is there needs nothing"


def test_only_what_was_being_written_is_swept_from_the_checkpoints(tmp_path: Path) -> None:
    engine = Engine.open(str(tmp_path), Files(), options())
    engine.create_tablet(1, "", None, 1)
    write(engine, [put("row", "a", b"1")])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    engine.close()
    folder = tmp_path / "checkpoints"
    for name in ("00000001-00000009.ckpt.tmp", "00000001-00000001.ckpt.old", "note"):
        (folder / name).write_bytes(b"x")
    Engine.open(str(tmp_path), Files(), options()).close()
    assert sorted(p.name for p in folder.iterdir()) == ["00000001-00000001.ckpt", "00000001-00000001.ckpt.old", "note"]
