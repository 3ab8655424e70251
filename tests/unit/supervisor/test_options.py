"""What is asked for on the command line, and what a data folder was made with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from penncloud_site.supervisor.addresses import address, port, positive
from penncloud_site.supervisor.errors import CannotStart
from penncloud_site.supervisor.options import ClusterOptions, settled_size


def size(made: tuple[int | None, int | None] = (None, None), **asked: Any) -> tuple[int, int]:
    return settled_size(ClusterOptions(Path("/data"), **asked), *made)


def test_a_new_cluster_has_three_nodes_and_three_replicas() -> None:
    assert size() == (3, 3)


def test_fewer_nodes_have_as_many_replicas_as_they_can() -> None:
    assert size(nodes=1) == (1, 1)
    assert size(nodes=2) == (2, 2)
    assert size(nodes=5) == (5, 3)


def test_more_replicas_than_nodes_are_refused() -> None:
    with pytest.raises(CannotStart, match="at least 3 nodes, not 2"):
        size(nodes=2, replication=3)


def test_what_a_cluster_was_made_with_counts_from_then_on() -> None:
    assert size((5, 2)) == (5, 2)
    assert size((3, 3), nodes=4) == (4, 3)
    with pytest.raises(CannotStart, match="made with replication 3"):
        size((3, 3), replication=2)
    with pytest.raises(CannotStart, match="has 3 nodes; --nodes 2 would leave"):
        size((3, 3), nodes=2)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "", "80 80"])
def test_what_is_no_port_is_said_to_be_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a port"):
        port(text)


def test_addresses() -> None:
    assert address("127.0.0.1:7400") == ("127.0.0.1", 7400)
    assert address("[::1]:7400") == ("::1", 7400)
    for wrong in ("7400", ":7400", "host:", "host:x"):
        with pytest.raises(argparse.ArgumentTypeError):
            address(wrong)
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
        positive("0")
