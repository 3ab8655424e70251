"""A failed test's report has what its clusters say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvstore.errors import Unavailable
from tests import evidence


class Cluster:
    """What is asked of one."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "node1.log"
        self.answers = True
        evidence.may_be_asked(self)

    def ask_status(self, timeout: float) -> dict[str, Any]:
        if not self.answers:
            raise Unavailable("nobody is there")
        whole: dict[str, Any] = {"primary": "node1", "in_sync": ["node1"], "wanted": 1, "moving": None}
        tablets = [{"id": 1, **whole}, {"id": 2, **whole, "in_sync": []}, {"id": 3, **whole, "moving": {"to": "node2"}}]
        return {"nodes": [{"id": "node1", "state": "up", "figures": {"memory_bytes": 1.0}}], "tablets": tablets}

    def logs(self) -> list[Path]:
        return [self.log, self.log.with_name("coordinator.log")]


def of(cluster: Cluster) -> str:
    return next(text for heading, text in evidence.collect() if heading == f"cluster of {cluster.log.parent}")


def test_it_is_how_things_stand_and_the_ends_of_the_logs(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff the last\n")
    text = of(cluster)
    assert '"id": "node1", "state": "up"}' in text
    assert '"id": 2' in text
    assert '"id": 3' in text
    assert "1 other tablets are whole" in text
    assert "--- node1.log\nline 61\n" in text
    assert text.endswith("\ufffd the last")


def test_a_cluster_that_does_not_answer_has_its_logs_and_one_that_has_logged_nothing_is_left_out(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path)
    assert not [heading for heading, _ in evidence.collect() if str(tmp_path) in heading]
    cluster.log.write_text("the end\n")
    cluster.answers = False
    assert of(cluster) == "no status: nobody is there\n--- node1.log\nthe end"


def test_what_fails_at_that_does_not_hide_what_the_test_failed_of(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.log.mkdir()
    assert of(cluster).startswith("it cannot be told: IsADirectoryError")
