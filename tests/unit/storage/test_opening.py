"""What a data folder may be when it is opened, and what is said when it may not."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from kvstore.storage.engine import Engine
from kvstore.storage.failures import DiskFailed, FolderDamaged, FolderLocked, FutureFormat
from kvstore.storage.files import Files
from kvstore.storage.upkeep import checkpoint, run_to_end
from tests.faults.disk import FaultyDisk
from tests.unit.storage.engines import faults, log, opened, options, reopened, with_tablet
from tests.unit.storage.entries import put


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
