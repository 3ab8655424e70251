"""The data folder: made with care, used by one supervisor at a time."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from penncloud_site.supervisor.data_folder import DataFolder, Record
from penncloud_site.supervisor.errors import CannotStart


def opened(path: Path) -> DataFolder:
    folder = DataFolder(path)
    folder.open()
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    folder = opened(tmp_path / "deep" / "data")
    assert mode(folder.path) == 0o700
    for key in (folder.cluster_key, folder.secret_key):
        assert mode(key) == 0o600
        assert len(key.read_text().strip()) == 64
    keys = folder.cluster_key.read_bytes(), folder.secret_key.read_bytes()
    assert keys[0] != keys[1]
    folder.close()
    again = opened(folder.path)
    assert keys == (again.cluster_key.read_bytes(), again.secret_key.read_bytes())
    again.close()


def test_a_second_supervisor_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(CannotStart, match=r"already running on the data folder .* \(process \d+\)\.$"):
        DataFolder(tmp_path).open()
    first.close()
    opened(tmp_path).close()


@pytest.mark.parametrize("where", ["/proc/penncloud", "/dev/null/penncloud"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(where: str) -> None:
    with pytest.raises(CannotStart, match=f"^The data folder {where} cannot be written: .+\\.$"):
        DataFolder(Path(where)).open()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(CannotStart, match="cannot be written"):
        DataFolder(tmp_path / "data").open()


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DataFolder(Path("~/pc")).path == tmp_path / "pc"


def test_the_record_is_kept_and_never_guessed_over(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    assert folder.read_record() == Record()
    record = Record(nodes=3, replication=3, operator_made=True, addresses={"node1": "127.0.0.1:7411"})
    folder.write_record(record)
    assert folder.read_record() == record
    folder.record_file.write_text('{"nodes": 3, "repli')
    with pytest.raises(CannotStart, match="cannot be understood"):
        folder.read_record()
    folder.record_file.write_text('{"colour": "blue"}')
    with pytest.raises(CannotStart, match="cannot be understood"):
        folder.read_record()
    folder.close()
