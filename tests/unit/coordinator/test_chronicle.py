"""Decisions are told in words, with everything that somebody needs who asks what happened."""

from kvstore.coordinator.chronicle import in_words
from kvstore.messages import Configuration, Member


def test_a_configuration_says_who_leads_who_is_in_sync_and_who_learns() -> None:
    one, two = Member("node1", 3), Member("node2", 1)
    configuration = Configuration(7, "a", None, 1, 12, one, (one,), (two,), ("node1", "node2"))
    lines = list(in_words({"kind": "configurations"}, [configuration]))
    assert lines == ["tablet 7, epoch 12: node1 leads, in sync node1.3, learning node2.1"]


def test_a_tablet_that_nobody_leads_says_so() -> None:
    configuration = Configuration(7, "a", None, 1, 13, None, ())
    assert list(in_words({"kind": "configurations"}, [configuration])) == [
        "tablet 7, epoch 13: nobody leads, in sync nobody"
    ]


def test_runs_of_nodes_begin_and_end() -> None:
    run = {"kind": "run", "node": "node2", "incarnation": 4, "address": "127.0.0.1:7412", "pid": 77}
    ended = {"kind": "ended", "node": "node2", "incarnation": 4}
    lines = [*in_words(run, []), *in_words(ended, []), *in_words({"kind": "counts", "node": "node2"}, [])]
    assert lines == ["node2: run 4 at 127.0.0.1:7412, process 77", "node2: run 4 has ended"]
