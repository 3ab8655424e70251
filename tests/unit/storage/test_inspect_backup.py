"""What an operator sees and copies: inspect and backup, on real folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvstore.errors import StorageFailure
from kvstore.storage import backup, inspect
from kvstore.storage.archive import read_cells, read_index
from kvstore.storage.engine import Engine
from kvstore.storage.failures import CorruptValue
from kvstore.storage.files import Files
from kvstore.storage.upkeep import checkpoint, run_to_end
from tests.unit.storage.engines import contents, options, write
from tests.unit.storage.entries import put
from tests.unit.storage.test_splitting import split


def a_folder(folder: Path, rows: int = 20) -> Engine:
    """A data folder with a checkpoint and log behind it; its engine is still open."""
    engine = Engine.open(str(folder), Files(), options())
    engine.create_tablet(1, "", "m", 1)
    engine.create_tablet(2, "m", None, 1)
    for i in range(rows):
        write(engine, [put(f"a{i}", "c", bytes([i]) * 100)])
        write(engine, [put(f"z{i}", "c", b"small")], tablet=2)
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    write(engine, [put("later", "c", b"1")])
    return engine


def test_inspect_tells_what_is_there_and_that_it_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_folder(tmp_path).close()
    assert inspect.main([str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(t["tablet"], t["start"], t["cells"], t["state"]) for t in told["tablets"]] == [
        (1, "", 21 - 1, "intact"),
        (2, "m", 19, "intact"),
    ]
    assert told["in_use"] is False
    assert told["damage"] == []
    assert sum(segment["records"].get("entry", 0) for segment in told["segments"]) == 41
    assert inspect.main([str(tmp_path)]) == 0
    assert "Every checksum is right" in capsys.readouterr().out


def test_inspect_changes_nothing_and_works_beside_a_running_node(tmp_path: Path) -> None:
    engine = a_folder(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found = inspect.inspect_folder(str(tmp_path))
    assert found.in_use
    assert found.damage == []
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.pop(tmp_path / "HOLD") == b"", "it keeps the node from removing anything meanwhile"
    assert after == before
    engine.close()


def test_inspect_finds_damage_in_log_that_replay_does_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = a_folder(tmp_path)
    place = engine.tablets[1].tablet.get("a3", "c")
    assert place is not None
    run_to_end(engine, checkpoint(engine, engine.tablets[2]))
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    engine.close()
    segment, offset = place.value[0], place.value[1]
    with (tmp_path / f"log/{segment:08x}.seg").open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff")
    seen: list[tuple[int, int]] = []
    found = inspect.inspect_folder(str(tmp_path), lambda done, total: seen.append((done, total)))
    assert len(found.damage) == 1
    assert f"log/{segment:08x}.seg at byte" in found.damage[0]
    assert seen[-1][0] == seen[-1][1]
    assert inspect.main([str(tmp_path)]) == 1
    assert "damaged" in capsys.readouterr().out


@pytest.mark.parametrize("command", [inspect.main, lambda argv: backup.main([*argv, "/nonexistent-target"])])
def test_what_is_no_data_folder_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command
) -> None:
    assert command([str(tmp_path)]) == 1
    assert "data folder" in capsys.readouterr().err


def test_a_backup_of_a_running_node_holds_everything_acknowledged(tmp_path: Path) -> None:
    engine = a_folder(tmp_path / "node")
    written = backup.back_up([str(tmp_path / "node")], str(tmp_path / "backup"))
    cells = {
        (row, column): value
        for tablet in read_index(str(tmp_path / "backup"))
        for row, column, _, _, value in read_cells(str(tmp_path / "backup" / tablet.file))
    }
    assert cells == contents(engine, 1) | contents(engine, 2)
    assert sum(tablet.cells for tablet in written) == len(cells)
    engine.close()


def test_of_two_replicas_the_one_with_the_longer_history_is_taken(tmp_path: Path) -> None:
    behind, ahead = a_folder(tmp_path / "behind", rows=3), a_folder(tmp_path / "ahead", rows=5)
    backup.back_up([str(tmp_path / "behind"), str(tmp_path / "ahead")], str(tmp_path / "backup"))
    assert [tablet.sequence for tablet in read_index(str(tmp_path / "backup"))] == [6, 5]
    behind.close()
    ahead.close()


def test_a_backup_is_one_nodes_data_at_one_moment_if_a_node_is_a_member_everywhere(tmp_path: Path) -> None:
    """What was written after something else was acknowledged must not be in it without the other."""
    first, second = a_folder(tmp_path / "first", rows=5), a_folder(tmp_path / "second", rows=5)
    write(second, [put("a", "c", b"1")])  # later in the one tablet …
    write(second, [put("b", "c", b"1")])
    write(first, [put("z", "c", b"1")], tablet=2)  # … and in the other
    backup.back_up([str(tmp_path / "first"), str(tmp_path / "second")], str(tmp_path / "backup"))
    assert [tablet.sequence for tablet in read_index(str(tmp_path / "backup"))] == [8, 5], "all of it from the second"
    first.close()
    second.close()


def test_a_node_that_is_no_member_any_more_is_not_what_is_backed_up(tmp_path: Path) -> None:
    gone, member = a_folder(tmp_path / "gone", rows=9), a_folder(tmp_path / "member", rows=5)
    for tablet in (1, 2):
        member.append_epoch(tablet, 2)
    member.sync()
    backup.back_up([str(tmp_path / "gone"), str(tmp_path / "member")], str(tmp_path / "backup"))
    assert [tablet.sequence for tablet in read_index(str(tmp_path / "backup"))] == [6, 5]
    gone.close()
    member.close()


@pytest.mark.parametrize("wrong", ["nothing there", "."])
def test_a_backup_of_what_is_no_node_makes_no_folder(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(StorageFailure, match="is not the data folder of a storage node"):
        backup.back_up([str(tmp_path / wrong)], str(tmp_path / "backup"))
    assert not (tmp_path / "backup").exists()


def test_a_backup_that_would_lack_a_range_is_refused(tmp_path: Path) -> None:
    engine = a_folder(tmp_path / "node")
    engine.drop_tablet(1)
    engine.sync()
    with pytest.raises(StorageFailure, match="do not join at 'm'"):
        backup.back_up([str(tmp_path / "node")], str(tmp_path / "backup"))
    engine.close()
    with pytest.raises(StorageFailure, match="no complete backup"):
        read_index(str(tmp_path / "backup"))


def test_damage_to_a_backup_is_found_before_it_is_used(tmp_path: Path) -> None:
    engine = a_folder(tmp_path / "node")
    backup.back_up([str(tmp_path / "node")], str(tmp_path / "backup"))
    engine.close()
    path = tmp_path / "backup" / "00000001.cells"
    data = path.read_bytes()
    for damaged in (data[:-1], data[:100] + b"\xff" + data[101:], b"x" + data[1:]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptValue, match=r"00000001\.cells at byte"):
            list(read_cells(str(path)))


# ---------------------------------------------------------------- tablets that were split


def backed_up(folder: Path) -> dict[tuple[str, str], bytes]:
    return {
        (row, column): value
        for tablet in read_index(str(folder))
        for row, column, _, _, value in read_cells(str(folder / tablet.file))
    }


@pytest.mark.parametrize("closed", [True, False])
def test_inspect_shows_both_parts_of_a_tablet_whose_child_has_no_checkpoint_yet(tmp_path: Path, closed: bool) -> None:
    engine = a_folder(tmp_path)
    split(engine, "a5", child=3)
    engine.sync()
    if closed:
        engine.close()
    found = inspect.inspect_folder(str(tmp_path))
    assert found.damage == []
    assert [(t.tablet, t.start, t.end, t.state, t.checkpoint is not None) for t in found.tablets] == [
        (1, "", "a5", "intact", True),
        (2, "m", None, "intact", False),
        (3, "a5", "m", "intact", False),
    ]
    assert sum(segment.records.get("split", 0) for segment in found.segments) == 1
    assert sum(segment.live for segment in found.segments) == 20 * 100
    if not closed:
        engine.close()


def test_a_backup_between_a_split_and_the_childs_first_checkpoint_holds_everything(tmp_path: Path) -> None:
    engine = a_folder(tmp_path / "node")
    split(engine, "a5", child=3)
    write(engine, [put("a9", "new", b"x" * 100)], tablet=3)
    before = {path: path.read_bytes() for path in (tmp_path / "node").rglob("*") if path.is_file()}
    written = backup.back_up([str(tmp_path / "node")], str(tmp_path / "backup"))
    assert [(t.tablet, t.start, t.end) for t in written] == [(1, "", "a5"), (2, "m", None), (3, "a5", "m")]
    assert backed_up(tmp_path / "backup") == contents(engine, 1) | contents(engine, 2) | contents(engine, 3)
    after = {path: path.read_bytes() for path in (tmp_path / "node").rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.name != "HOLD"} == before
    engine.close()


def test_a_backup_of_a_node_that_has_not_split_yet_and_one_that_has_takes_no_row_twice(tmp_path: Path) -> None:
    """Neither has everything, and what is left of the tablet has the same history on both."""
    whole, parted = a_folder(tmp_path / "whole"), a_folder(tmp_path / "parted")
    split(parted, "a5", child=3)
    parted.drop_tablet(2)
    parted.sync()
    expected = contents(whole, 1) | contents(whole, 2)
    backup.back_up([str(tmp_path / "whole"), str(tmp_path / "parted")], str(tmp_path / "backup"))
    assert [t.tablet for t in read_index(str(tmp_path / "backup"))] == [1, 2, 3]
    assert sum(t.cells for t in read_index(str(tmp_path / "backup"))) == len(expected)
    assert backed_up(tmp_path / "backup") == expected
    whole.close()
    parted.close()
