"""The log alone: what comes back after a restart, what counts as torn, and what as damage."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest

from kvstore.errors import NoSpace
from kvstore.storage.failures import DiskFailed, FutureFormat
from kvstore.storage.segment import FIRST_RECORD, MARK, RECORD_HEADER, Position, padded, segment_name
from kvstore.storage.segments import WalOptions
from kvstore.storage.wal import Wal
from tests.faults.disk import Crash, Faults, FaultyDisk, FaultyFiles, Inode

USER = 20
SMALL = WalOptions(segment_size=8192, most_spares=2)


def opened(disk: FaultyDisk, options: WalOptions = SMALL, faults: Faults | None = None) -> tuple[Wal, list[bytes]]:
    wal = Wal.open(FaultyFiles(disk, faults), "/log", options)
    return wal, [record.payload for _, record in wal.replay()]


def filled(disk: FaultyDisk, *payloads: bytes, options: WalOptions = SMALL) -> Wal:
    """A log with each payload in a sync of its own."""
    wal, _ = opened(disk, options)
    for payload in payloads:
        wal.append(USER, 1, 1, 1, [payload])
        wal.sync()
    return wal


def crash_within(wal: Wal, operations: int) -> None:
    """Let the power go so many operations from now."""
    files = wal.folder.files
    assert isinstance(files, FaultyFiles)
    files.faults.crash_at = files.operations + operations


def work(wal: Wal) -> None:
    """Enough to need several segments."""
    for _ in range(5):
        wal.append(USER, 1, 1, 1, [bytes(3000)])
        wal.sync()


def inode(disk: FaultyDisk, generation: int = 1) -> bytearray:
    """The bytes of a segment, to be tampered with."""
    return disk.names[f"/log/{segment_name(generation)}"].data


def test_what_was_synced_comes_back_in_order_with_its_fields() -> None:
    disk = FaultyDisk()
    wal, _ = opened(disk)
    lsn = wal.append(USER, 7, 3, 42, [b"head", memoryview(b"tail")])
    assert wal.synced < lsn
    assert wal.sync() == lsn == wal.synced
    again = Wal.open(FaultyFiles(disk), "/log", SMALL)
    [(position, record)] = again.replay()
    assert (record.kind, record.tablet, record.epoch, record.first, record.payload) == (USER, 7, 3, 42, b"headtail")
    assert position == Position(1, FIRST_RECORD)
    assert record.payload_offset == FIRST_RECORD + RECORD_HEADER
    assert again.damage == []
    assert again.cut is None


def test_what_was_not_synced_is_gone_after_a_power_cut() -> None:
    disk = FaultyDisk()
    wal = filled(disk, b"kept")
    wal.append(USER, 1, 1, 2, [b"lost"])
    _, found = opened(disk.after_crash(random.Random(1)))
    assert found == [b"kept"]


def test_lsns_grow_over_segments_and_restarts() -> None:
    disk = FaultyDisk()
    lsns = []
    for _ in range(3):
        wal, _ = opened(disk)
        for _ in range(10):
            lsns.append(wal.append(USER, 1, 1, 1, [bytes(1000)]))
            wal.sync()
    assert lsns == sorted(set(lsns))
    assert len(opened(disk)[1]) == 30


def test_a_torn_last_record_is_cut_and_reported_as_such() -> None:
    disk = FaultyDisk()
    filled(disk, b"first", b"second")
    second = FIRST_RECORD + padded(5)
    inode(disk)[second + RECORD_HEADER] ^= 1
    wal, found = opened(disk)
    assert found == [b"first"]
    assert wal.cut == Position(1, second)
    assert wal.damage == []


def test_what_followed_a_torn_record_in_the_same_write_never_comes_back() -> None:
    """Two records go out in one write; the first is torn, the second is whole on disk. After the restart a record of the first
    one's length is written. If it went to the same place, the second would stand behind it as if it had been acknowledged.
    """
    disk = FaultyDisk()
    wal, _ = opened(disk)
    wal.append(USER, 1, 1, 1, [b"torn-"])
    wal.append(USER, 1, 1, 2, [b"ghost"])
    wal.sync()
    inode(disk)[FIRST_RECORD + RECORD_HEADER] ^= 1
    wal, found = opened(disk)
    assert found == []
    wal.append(USER, 1, 1, 1, [b"anew!"])
    wal.sync()
    assert opened(disk)[1] == [b"anew!"]


def test_a_bad_record_with_synced_ones_behind_it_is_damage_with_file_offset_and_tablet() -> None:
    disk = FaultyDisk()
    filled(disk, b"first", b"second", b"third")
    inode(disk)[FIRST_RECORD + RECORD_HEADER] ^= 1
    wal, found = opened(disk)
    assert found == [b"second", b"third"]
    assert wal.cut is None
    [damage] = wal.damage
    assert (damage.file, damage.offset, damage.tablet) == (segment_name(1), FIRST_RECORD, 1)


def test_a_damaged_header_is_damage_of_an_unknown_tablet_and_the_rest_is_still_read() -> None:
    disk = FaultyDisk()
    filled(disk, b"first", b"second", b"third")
    inode(disk)[FIRST_RECORD + 5] ^= 1
    wal, found = opened(disk)
    assert found == [b"second", b"third"]
    assert [(d.offset, d.tablet) for d in wal.damage] == [(FIRST_RECORD, None)]


def test_a_mark_tells_damage_to_the_last_record_from_a_torn_tail() -> None:
    disk = FaultyDisk()
    wal = filled(disk, b"last")
    wal.mark()
    wal.sync()
    inode(disk)[FIRST_RECORD + RECORD_HEADER] ^= 1
    wal, found = opened(disk)
    assert found == []
    assert [d.offset for d in wal.damage] == [FIRST_RECORD]


def test_damage_at_the_end_of_a_segment_that_another_follows_is_no_torn_tail() -> None:
    disk = FaultyDisk()
    filled(disk, bytes(3000), bytes(3000))
    inode(disk, 1)[FIRST_RECORD + RECORD_HEADER] ^= 1
    wal, found = opened(disk)
    assert found == [bytes(3000)]
    assert [(d.file, d.offset, d.tablet) for d in wal.damage] == [(segment_name(1), FIRST_RECORD, 1)]


def test_a_missing_segment_is_damage() -> None:
    disk = FaultyDisk()
    filled(disk, *[bytes(3000)] * 3)
    del disk.names[f"/log/{segment_name(2)}"]
    wal, found = opened(disk)
    assert len(found) == 2
    assert [(d.file, d.tablet) for d in wal.damage] == [(segment_name(2), None)]


def test_records_of_a_recycled_segments_former_life_are_not_read() -> None:
    disk = FaultyDisk()
    wal = filled(disk, *[f"old{i}".encode().ljust(1500, b".") for i in range(6)])
    for generation in sorted(wal.folder.segments)[:-1]:
        wal.retire(generation)
    assert wal.folder.spares == 2
    wal.append(USER, 1, 1, 1, [b"new".ljust(1500, b".")])
    wal.append(USER, 1, 1, 2, [b"new".ljust(1500, b".")])
    wal.append(USER, 1, 1, 3, [b"new".ljust(1500, b".")])
    wal.sync()
    assert wal.folder.reused > 0
    found = [
        record.payload[:4] for _, record in Wal.open(FaultyFiles(disk), "/log", SMALL).replay(Position(3, FIRST_RECORD))
    ]
    assert found == [b"old4", b"old5", b"new.", b"new.", b"new."]


def test_a_value_that_holds_a_copy_of_the_log_is_not_taken_for_a_record() -> None:
    disk = FaultyDisk()
    options = WalOptions(segment_size=32768)
    filled(disk, b"secret", options=options)
    copy = bytes(inode(disk)[FIRST_RECORD : FIRST_RECORD + 200])
    filled(disk, copy * 20, b"behind", options=options)
    inode(disk, 2)[FIRST_RECORD + 5] ^= (
        1  # the header of the record with the copy: the reader has to look for the next one
    )
    _, found = opened(disk, options)
    assert found == [b"secret", b"behind"]


class Glances(FaultyFiles):
    """Shows a segment first as it was a moment ago, and from then on as it is: a running node writes on meanwhile."""

    def __init__(self, disk: FaultyDisk, earlier: bytes) -> None:
        super().__init__(disk)
        self._earlier: bytes | None = earlier

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        if self._earlier is not None and offset >= FIRST_RECORD:
            seen, self._earlier = self._earlier[offset : offset + length], None
            return seen
        return super().pread(fd, length, offset)


@pytest.mark.parametrize("seen", [0, RECORD_HEADER, RECORD_HEADER + 30])
def test_a_log_that_is_read_while_it_grows_is_not_damaged(seen: int) -> None:
    """What was read is older than what says that it had been synced. `seen`: so much of the third record was there."""
    disk = FaultyDisk()
    payloads = [bytes([i]) * 100 for i in range(6)]
    wal = filled(disk, *payloads)
    third = FIRST_RECORD + 2 * padded(100)
    data = bytes(inode(disk))
    earlier = data[: third + seen] + bytes(len(data) - third - seen)
    again = Wal.open(Glances(disk, earlier), "/log", SMALL)
    assert [record.payload for _, record in again.replay()] == payloads
    assert (again.damage, again.cut) == ([], None)
    wal.close()


def test_a_record_larger_than_a_segment_gets_a_segment_of_its_own() -> None:
    disk = FaultyDisk()
    large = random.Random(0).randbytes(50_000)
    filled(disk, b"before", large, b"after")
    _, found = opened(disk)
    assert found == [b"before", large, b"after"]


def test_what_waits_to_be_written_can_be_read_back() -> None:
    wal, _ = opened(FaultyDisk())
    wal.append(USER, 1, 1, 1, [b"head", b"0123456789"])
    segment, offset = wal.payload_at
    assert wal.read(segment, offset + 6, 4) == b"2345"
    batch = wal.take()
    assert wal.read(segment, offset + 6, 4) == b"2345"
    wal.write(batch)
    wal.written(batch)
    assert wal.read(segment, offset + 6, 4) == b"2345"


def test_a_new_segment_is_in_its_folder_durably_before_anything_is_in_it() -> None:
    """Trap 24. The sync of the file alone does not make its name survive."""
    disk = FaultyDisk()
    files = FaultyFiles(disk)
    wal = Wal.open(files, "/log", SMALL)
    list(wal.replay())
    wal.append(USER, 1, 1, 1, [b"x"])
    wal.sync()
    assert f"/log/{segment_name(1)}" in disk.durable_names
    named = files.log.index(("rename", f"/log/{segment_name(1)}"))
    later = [operation for operation, _ in files.log[named:]]
    assert later.index("fsync_dir") < later.index("write")


def test_a_spares_old_name_is_gone_for_good_before_it_is_written_over() -> None:
    """Else a power cut brings the old segment back with the header of a newer one."""
    for seed in range(200):
        disk = FaultyDisk()
        wal = filled(disk, *[bytes(3000)] * 3)
        wal.retire(1)
        crash_within(wal, seed % 12 + 1)
        with pytest.raises(Crash):
            work(wal)
        again = Wal.open(FaultyFiles(disk.after_crash(random.Random(seed))), "/log", SMALL)
        list(again.replay(Position(2, FIRST_RECORD)))
        assert again.damage == []


def test_a_segment_that_is_retired_during_the_sync_of_the_names_is_not_written_over_yet(monkeypatch: Any) -> None:
    disk = FaultyDisk()
    wal = filled(disk, *[bytes(3000)] * 9)
    files = wal.folder.files
    assert isinstance(files, FaultyFiles)
    wal.retire(1)
    sync_names = files.fsync_dir
    retired: list[int] = []

    def and_meanwhile(path: str) -> None:
        sync_names(path)
        if not retired:
            retired.append(2)
            wal.retire(2)

    def crash(operation: str, path: str) -> None:
        if operation == "rename" and path.endswith(".seg"):
            raise Crash

    monkeypatch.setattr(files, "fsync_dir", and_meanwhile)
    files.faults.error = crash
    with pytest.raises(Crash):
        work(wal)
    assert retired
    for seed in range(30):
        again = Wal.open(FaultyFiles(disk.after_crash(random.Random(seed))), "/log", SMALL)
        list(again.replay(Position(3, FIRST_RECORD)))
        assert again.damage == []


def test_a_failed_fsync_is_never_tried_again() -> None:
    """Trap 23. After a failed fsync the kernel has dropped what it could not write, and says that all is well the next time."""
    disk = FaultyDisk()
    wal = filled(disk, b"kept")
    broken: list[str] = ["fdatasync"]
    wal._files.faults.error = lambda operation, path: errno.EIO if operation in broken else None  # type: ignore[attr-defined]
    wal.append(USER, 1, 1, 2, [b"lost"])
    with pytest.raises(DiskFailed, match="fsync of the log in /log failed"):
        wal.sync()
    broken.clear()
    for attempt in (wal.sync, wal.mark, wal.take):
        with pytest.raises(DiskFailed):
            attempt()
    assert disk.names[f"/log/{segment_name(1)}"].syncs_after_failure == 0
    assert opened(disk.after_crash(random.Random(0)))[1] == [b"kept"]


def test_a_log_that_finds_no_room_goes_on_when_there_is_some() -> None:
    disk = FaultyDisk()
    wal = filled(disk, bytes(3000))
    disk.capacity = disk.used
    wal.append(USER, 1, 1, 2, [b"a" * 3000])
    with pytest.raises(NoSpace):
        wal.sync()
    wal.append(USER, 1, 1, 3, [b"b"])
    with pytest.raises(NoSpace):
        wal.sync()
    disk.capacity *= 10
    assert wal.sync() == wal.appended
    assert opened(disk.after_crash(random.Random(0)))[1] == [bytes(3000), b"a" * 3000, b"b"]


def test_a_write_over_several_segments_that_found_no_room_half_way_goes_on_where_it_stopped() -> None:
    """To begin the first of them again would have put an empty segment in the place of all that was acknowledged there."""
    disk = FaultyDisk()
    wal = filled(disk, b"early" * 500)
    full = True

    def no_room_in_the_third(operation: str, path: str) -> int | None:
        return errno.ENOSPC if full and operation == "write" and path.endswith(segment_name(3)) else None

    files = wal.folder.files
    assert isinstance(files, FaultyFiles)
    files.faults.error = no_room_in_the_third
    late = [bytes([i]) * 3000 for i in range(8)]
    for payload in late:
        wal.append(USER, 1, 1, 2, [payload])
    for _ in range(2):
        with pytest.raises(NoSpace):
            wal.sync()
    full = False
    assert wal.sync() == wal.appended
    again, found = opened(disk.after_crash(random.Random(0)))
    assert found == [b"early" * 500, *late]
    assert again.damage == []


def test_somebody_elses_files_are_left_alone() -> None:
    disk = FaultyDisk()
    filled(disk, b"kept").close()
    for name in ("copy of 00000001.seg", "00000001.seg.old", "spare-me", "newest", "notes.seg"):
        disk.names[f"/log/{name}"] = Inode()
    wal, found = opened(disk)
    assert (found, wal.damage, wal.folder.spares) == ([b"kept"], [], 0)
    assert len([name for name in disk.names if name.startswith("/log/")]) == 6


def test_a_folder_that_cannot_be_written_stops_the_log() -> None:
    disk = FaultyDisk()
    wal, _ = opened(disk)
    wal._files.faults.error = lambda operation, path: errno.EACCES if operation == "create" else None  # type: ignore[attr-defined]
    wal.append(USER, 1, 1, 1, [b"x"])
    with pytest.raises(DiskFailed, match="Permission denied"):
        wal.sync()


def test_a_segment_of_a_future_format_is_refused_by_name() -> None:
    disk = FaultyDisk()
    filled(disk, b"x")
    data = inode(disk)
    data[8] = 9
    from kvstore.storage.crc import crc32c

    data[12:16] = crc32c(bytes(data[:12] + data[16:32])).to_bytes(4, "little")
    with pytest.raises(FutureFormat, match=r"00000001\.seg is in log format 9"):
        opened(disk)


def test_a_segment_whose_header_is_damaged_is_reported() -> None:
    disk = FaultyDisk()
    filled(disk, b"x")
    inode(disk)[3] ^= 4
    wal, found = opened(disk)
    assert found == []
    assert [(d.file, d.offset, d.tablet) for d in wal.damage] == [(segment_name(1), 0, None)]


def test_spares_are_made_in_slices_and_used() -> None:
    disk = FaultyDisk()
    wal = filled(disk, b"x")
    steps = 0
    for blocking in wal.folder.prepare_spare(slice_bytes=1024):
        assert blocking is not None
        blocking()
        steps += 1
    assert steps == 9
    wal.append(USER, 1, 1, 1, [bytes(4000)])
    wal.sync()
    assert wal.folder.reused == 1
    assert wal.folder.spares == 0


def test_a_mark_is_not_a_record_of_its_users() -> None:
    disk = FaultyDisk()
    wal = filled(disk, b"x")
    wal.mark()
    wal.sync()
    assert MARK not in [record.kind for _, record in Wal.open(FaultyFiles(disk), "/log", SMALL).replay()]
