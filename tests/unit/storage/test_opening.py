"""What a data folder may be when it is opened, and what is said when it may not."""

from __future__ import annotations

import base64
import errno
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from kvstore.storage.engine import Engine
from kvstore.storage.failures import DiskFailed, FolderDamaged, FolderLocked, FutureFormat
from kvstore.storage.files import Files
from kvstore.storage.records import Kind
from kvstore.storage.upkeep import checkpoint, run_to_end
from tests.faults.disk import FaultyDisk
from tests.unit.storage.engines import contents, faults, log, opened, options, reopened, with_tablet, write
from tests.unit.storage.entries import put
from tests.unit.storage.test_splitting import split


def test_a_second_process_is_locked_out(tmp_path: Any) -> None:
    engine = Engine.open(str(tmp_path), Files(), options())
    with pytest.raises(FolderLocked, match="another process works on the data folder"):
        Engine.open(str(tmp_path), Files(), options())
    engine.close()
    Engine.open(str(tmp_path), Files(), options()).close()


def test_a_folder_of_a_future_format_is_refused() -> None:
    disk = FaultyDisk()
    with_tablet(disk).close()
    disk.names["/data/store"].data[8] = 2
    with pytest.raises(FutureFormat, match="/data/store is in format 2"):
        opened(disk)


def test_a_checkpoint_of_a_future_format_is_refused() -> None:
    from kvstore.storage.crc import crc32c

    disk = FaultyDisk()
    engine = with_tablet(disk)
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    engine.close()
    data = disk.names[next(name for name in disk.names if name.endswith(".ckpt"))].data
    data[8] = 2
    data[12:16] = crc32c(bytes(data[:12])).to_bytes(4, "little")
    with pytest.raises(FutureFormat, match="checkpoint format 2"):
        opened(disk)


def test_a_folder_whose_identity_is_damaged_is_refused() -> None:
    disk = FaultyDisk()
    with_tablet(disk).close()
    disk.names["/data/store"].data[30] ^= 1
    with pytest.raises(FolderDamaged, match="damaged at byte 20"):
        opened(disk)


def test_a_folder_keeps_its_identity_and_another_has_another() -> None:
    disk = FaultyDisk()
    engine = with_tablet(disk)
    assert reopened(engine).store_id == engine.store_id
    assert with_tablet(FaultyDisk()).store_id != engine.store_id


def test_a_folder_that_may_not_be_written_is_said_so(tmp_path: Any) -> None:
    engine = with_tablet(FaultyDisk())
    faults(engine, lambda operation, path: errno.EACCES if operation in ("create", "write") else None)
    for i in range(10):
        log(engine, [put("row", f"{i}", bytes(3000))])
    with pytest.raises(DiskFailed, match="Permission denied"):
        engine.sync()
    with pytest.raises(DiskFailed):
        engine.append_epoch(1, 5)


def test_a_record_of_a_later_version_is_refused_by_name() -> None:
    engine = with_tablet(FaultyDisk())
    engine.wal.append(max(Kind) + 1, 1, 0, 0, [])
    engine.sync()
    with pytest.raises(
        FutureFormat, match=r"00000001\.seg at byte \d+: a record of kind 15, which this version does not know"
    ):
        reopened(engine)


def test_a_folder_that_was_written_before_tablets_could_be_split_opens_and_can_be_split(tmp_path: Path) -> None:
    """`folder_before_splits.json`: the files of such a folder as the last version before wrote them, zlib in base64."""
    kept = json.loads((Path(__file__).parent / "folder_before_splits.json").read_text())
    for name, packed in kept.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(zlib.decompress(base64.b64decode(packed)))
    engine = Engine.open(str(tmp_path), Files(), options(segment_size=8192))
    assert engine.damage == []
    first, second = contents(engine, 1), contents(engine, 2)
    small = {(f"b{i:02}", "c"): b"small" for i in range(20)}
    large = {(f"a{i:02}", "c"): bytes([i]) * 100 for i in range(20) if i != 3}
    assert first == small | large | {("later", "c"): b"1"}
    assert second == {("z00", "c"): b"0", ("z01", "bulk"): bytes(range(100))}
    assert [(r.range, r.epoch, r.last - r.commit) for r in engine.tablets.values()] == [
        (("", "m", 1), 3, 1),
        (("m", None, 1), 2, 0),
    ]
    engine.append_cut(1, engine.tablets[1].commit)
    split(engine, "b", child=3)
    write(engine, [put("b05", "c", b"changed")], epoch=3, tablet=3)
    engine.append_commit(3, engine.tablets[3].commit)
    engine.close()
    again = Engine.open(str(tmp_path), Files(), options(segment_size=8192))
    assert contents(again, 1) == large
    assert contents(again, 3) == small | {("later", "c"): b"1", ("b05", "c"): b"changed"}
    assert (contents(again, 2), again.damage) == (second, [])
    again.close()
