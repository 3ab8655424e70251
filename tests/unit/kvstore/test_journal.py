"""The coordinator's journal gives back what was synced, and nothing that it cannot vouch for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.coordinator.journal import Journal
from kvstore.errors import StorageFailure
from kvstore.storage.failures import FolderLocked


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.seg"))


def test_what_was_synced_is_there_after_a_crash(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    assert journal.records == []
    journal.append({"kind": "a", "epoch": 1})
    journal.append({"kind": "b", "nodes": ["x", None]})
    journal.sync()
    journal.append({"kind": "never synced"})
    journal.close()
    again = Journal(str(tmp_path))
    assert again.records == [{"kind": "a", "epoch": 1}, {"kind": "b", "nodes": ["x", None]}]
    again.close()


def test_a_snapshot_replaces_what_came_before_and_frees_its_room(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    for number in range(40):
        while not journal.wants_snapshot:
            journal.append({"number": number, "filler": "x" * 50_000})
        journal.sync()
        journal.snapshot([{"state": number}])
        assert not journal.wants_snapshot
    journal.append({"after": True})
    journal.sync()
    assert len(segments(tmp_path)) <= 3, "twenty megabytes went through it"
    journal.close()
    again = Journal(str(tmp_path))
    assert again.records == [{"state": 39}, {"after": True}]
    again.close()


def test_a_second_coordinator_is_locked_out(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    with pytest.raises(FolderLocked):
        Journal(str(tmp_path))
    journal.close()
    Journal(str(tmp_path)).close()


def test_damage_in_the_middle_is_refused_not_skipped(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    for number in range(3):
        journal.append({"number": number})
        journal.sync()
    journal.close()
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    at = data.index(b"number")
    data[at] ^= 1
    segment.write_bytes(data)
    with pytest.raises(StorageFailure, match="damaged"):
        Journal(str(tmp_path))
