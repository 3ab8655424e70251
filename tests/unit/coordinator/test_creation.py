"""The file that says what a new cluster is to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvstore import settings
from kvstore.coordinator.server import read_creation
from kvstore.errors import BadRequest

PLAN = {"group_rule": "[^:]*", "splits": ["m"]}


def written(folder: Path, **more: Any) -> str:
    """The path of a creation file."""
    path = folder / "creation.json"
    path.write_text(json.dumps(PLAN | more))
    return str(path)


def test_what_it_does_not_say_has_its_usual_value(tmp_path: Path) -> None:
    creation = read_creation(written(tmp_path), 0)
    assert (creation.replication, creation.min_in_sync, creation.nodes_expected) == (3, 1, 3)
    assert creation.rebuild_after == settings.REBUILD_AFTER


@pytest.mark.parametrize(("said", "meant"), [(60, 60.0), ("90", 90.0), ("never", None)])
def test_it_says_when_replicas_are_rebuilt(tmp_path: Path, said: object, meant: float | None) -> None:
    assert read_creation(written(tmp_path, rebuild_after=said), 0).rebuild_after == meant


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rebuild_after": 1}, "2 seconds or more"),
        ({"rebuild_after": "soon"}, "'soon' is neither"),
        ({"rebuild_after": None}, "'None' is neither"),
        ({"rebuild": 60}, "unknown key 'rebuild'"),
        ({"replication": "many"}, "not in order"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read_creation(written(tmp_path, **wrong), 0).check()
