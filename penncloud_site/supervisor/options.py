"""What was asked for on the command line, with the defaults filled in. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvstore import settings

from .errors import CannotStart

DEFAULT_NODES = 3
DEFAULT_FRONTENDS = 2
DEFAULT_REPLICATION = 3
DEFAULT_PORT = 8000
DEFAULT_COORDINATOR_PORT = 7400


@dataclass(frozen=True)
class ClusterOptions:
    """`nodes` and `replication` are None when not given: then what the data folder was made with counts."""

    data_dir: Path
    nodes: int | None = None
    frontends: int = DEFAULT_FRONTENDS
    replication: int | None = None
    port: int = DEFAULT_PORT
    bind: str = "127.0.0.1"
    coordinator_port: int = DEFAULT_COORDINATOR_PORT
    rebuild_after: str | None = None
    """As `python -m kvstore rebuild-after` takes it; None: as it was."""
    scrub_period: float = settings.SCRUB_PERIOD
    """Seconds within which each node reads everything on its disk again."""


def settled_size(options: ClusterOptions, made_nodes: int | None, made_replication: int | None) -> tuple[int, int]:
    """Nodes and replication of this run; `made_…` are those of the data folder, None for a new one.

    :raises CannotStart: the two do not go together, or contradict what the cluster was made with.
    """
    nodes = options.nodes or made_nodes or DEFAULT_NODES
    if made_replication is not None:
        if options.replication not in (None, made_replication):
            raise CannotStart(
                f"The cluster in {options.data_dir} was made with replication {made_replication}; "
                f"--replication {options.replication} cannot change that."
            )
        if made_nodes is not None and nodes < made_nodes:
            raise CannotStart(
                f"The cluster in {options.data_dir} has {made_nodes} nodes; --nodes {nodes} would leave "
                "the data of the others out. Stop a single node with the console instead."
            )
        return nodes, made_replication
    replication = options.replication or min(DEFAULT_REPLICATION, nodes)
    if replication > nodes:
        raise CannotStart(f"Replication {replication} needs at least {replication} nodes, not {nodes}.")
    return nodes, replication
