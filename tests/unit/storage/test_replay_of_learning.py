"""What a replica had applied before it began to learn is still there when the log is replayed."""

from __future__ import annotations

from pathlib import Path

from kvstore.mutation import Entry, bundle_of, encode_mutation
from kvstore.storage.engine import Engine


def entry(sequence: int) -> Entry:
    encoded = encode_mutation(1, sequence, sequence, [], [[0, "row", f"c{sequence}", b"v"]])
    return Entry(1, sequence, [bundle_of(encoded)], [0])


def test_entries_committed_after_the_last_logged_commit_point_survive_learning_and_a_restart(tmp_path: Path) -> None:
    """The learner compares versions, finds what it has applied to be right, and does not install it again. A replay that cut
    the tail at the commit point that the log happens to state would lose exactly that."""
    engine = Engine.open(str(tmp_path))
    engine.create_tablet(1, "", None, 1)
    for sequence in (1, 2, 3):
        engine.append_entry(1, entry(sequence), commit=0)
    engine.apply(1, 2)  # the commit point 2 was told, and no further record states it; 3 is not committed
    digest = engine.tablets[1].tablet.digest
    engine.begin_learning(1)
    engine.finish_learning(1, engine.tablets[1].results.encode(), 1, 2)
    engine.apply(1, 2)
    assert engine.tablets[1].intact
    engine.sync()
    engine.abandon()

    again = Engine.open(str(tmp_path))
    again.apply(1, 2)
    found = again.tablets[1]
    assert found.commit == 2
    assert found.tablet.get("row", "c2") is not None
    assert found.tablet.get("row", "c3") is None, "it was cut, and is nobody's"
    assert found.tablet.digest == digest
    again.abandon()
