"""Cluster control: what the console, the supervisor and the command line ask of the coordinator.

Everything goes to the coordinator; when it is down, `Unavailable` is raised at the deadline, and the cluster serves on.
"""

from __future__ import annotations

import os
from typing import Any

from kvstore import settings
from kvstore.client import Client, make_router
from kvstore.control import (
    Done,
    GetStatus,
    MoveReplica,
    ProcessExited,
    SetDisabled,
    SetRebuildAfter,
    SetSplitAbove,
    SetSpread,
    SplitTablet,
    Status,
    WasSplit,
    WithdrawMove,
)
from kvstore.errors import BadRequest
from kvstore.handshake import read_key
from kvstore.keys import checked
from kvstore.routing import Router


class Admin:
    """Control of one cluster. Shared by threads or greenlets as a `Client` is."""

    def __init__(self, client: Client | Router, timeout: float = settings.DEFAULT_TIMEOUT) -> None:
        """By way of `client`'s connections. `timeout`: seconds that each call may take."""
        self._router = client.router if isinstance(client, Client) else client
        self._timeout = timeout

    @classmethod
    def connect(
        cls,
        coordinators: str = "127.0.0.1:7400",
        key_file: str | os.PathLike[str] = "var/cluster.key",
        timeout: float = settings.DEFAULT_TIMEOUT,
    ) -> Admin:
        """With connections of its own, which work before the cluster has tablets. Does not wait: the first call will."""
        return cls(make_router(coordinators, read_key(key_file)), timeout)

    def status(self) -> dict[str, Any]:
        """Everything that the coordinator knows, as plain data.

        {"cluster": {"name", "replication", "min_in_sync", "group_rule", "uptime_s",
                     "rebuild_after_s": seconds or None: never, "spread", "split_above": bytes or None: never},
         "nodes": [{"id", "address", "pid", "incarnation", "state": "up" | "suspect" | "down" | "disabled" | "draining",
                    "disabled", "last_heartbeat_s", "disk_age_s", "log_bytes", "disk_free": bytes or None: not told,
                    "disk_full", "memory_bytes", "cells", "bytes", "primary_of", "secondary_of", "learner_of", "replica_of",
                    "rebuilt_in_s": seconds or None}],
         "tablets": [{"id", "start", "end", "epoch", "range_version", "primary": node id or None, "in_sync": [node id],
                      "learners": [node id], "replicas": [node id, in election order], "wanted", "cells", "bytes",
                      "sequence", "digest", "waiting_for": [node id], "moving": {"from", "to"} or None,
                      "recovery": [{"node", "cells_done", "cells_total", "cells_copied", "bytes_done", "seconds_left"}]}]}
        """
        answer = self._router.control(GetStatus(), self._timeout)
        if not isinstance(answer, Status):
            raise BadRequest(f"not a coordinator: it answers {type(answer).__name__}")
        return answer.status

    def disable(self, node: str) -> None:
        """Take the node out of service: its roles move to others first. Returns when that is decided, not when it is done."""
        self._tell(SetDisabled(node, True))

    def enable(self, node: str) -> None:
        """Put a disabled node back into service; it catches up first."""
        self._tell(SetDisabled(node, False))

    def rebuild_after(self, seconds: float | None) -> None:
        """From now on the replicas of a node that is gone for so long are rebuilt on a spare one; None: never. `BadRequest`
        when that is too short a time."""
        self._tell(SetRebuildAfter(seconds))

    def split(self, tablet: int, row: str | None = None, range_version: int | None = None) -> WasSplit:
        """Cut the tablet in two, so that `row` begins the new one; None: near the middle of its bytes. Returns when that is
        decided. `BadRequest` says why it cannot be: there is no such tablet, no group of rows begins at `row`, …;
        `Unavailable` that it has not come about, and may yet. `range_version`: the tablet's as it was when that was wished; one
        that was split since is not split again. None: as it is now."""
        if row is not None:
            checked(row, "the row")
        if range_version is None:
            range_version = self._range_version(tablet)
        answer = self._router.control(SplitTablet(_numbered(tablet), range_version, row), self._timeout)
        if not isinstance(answer, WasSplit):
            raise BadRequest(f"not a coordinator: it answers {type(answer).__name__}")
        return answer

    def _range_version(self, tablet: int) -> int:
        found = [each for each in self.status()["tablets"] if each["id"] == tablet]
        if not found:
            raise BadRequest(f"there is no tablet {tablet}")
        version: int = found[0]["range_version"]
        return version

    def split_above(self, size: int | None) -> None:
        """From now on a tablet with more bytes than this in memory is split by itself (`kvstore.split_above`); None: never.
        `BadRequest` when that is too small a size."""
        self._tell(SetSplitAbove(size))

    def move(self, tablet: int, source: str, target: str) -> None:
        """Move the tablet's replica on node `source` to node `target`. Returns when that is decided, not when it is done;
        asked again it changes nothing. `BadRequest` with what speaks against it."""
        for name in (source, target):
            checked(name, "a node's name")
        self._tell(MoveReplica(_numbered(tablet), source, target))

    def withdraw_move(self, tablet: int) -> None:
        """The tablet's replica stays where it was. `BadRequest` when none is moving, or it is too late."""
        found = next((each for each in self.status()["tablets"] if each["id"] == _numbered(tablet)), None)
        if found is None:
            raise BadRequest(f"there is no tablet {tablet}")
        if found["moving"] is None:
            raise BadRequest(f"tablet {tablet} is not moving")
        self._tell(WithdrawMove(tablet, found["moving"]["from"], found["moving"]["to"]))

    def spread(self, on: bool) -> None:
        """From now on replicas and leads spread by themselves over the nodes that are there, or stay where they are."""
        self._tell(SetSpread(on))

    def process_exited(self, node: str, pid: int) -> None:
        """The supervisor has reaped the process: it is dead for certain, so nobody need wait until it would be missed."""
        self._tell(ProcessExited(node, pid))

    def close(self) -> None:
        """Close the connections (those of a client that was handed in as well)."""
        self._router.close()

    def _tell(self, message: object) -> None:
        answer = self._router.control(message, self._timeout)
        if not isinstance(answer, Done):
            raise BadRequest(f"not a coordinator: it answers {type(answer).__name__}")


def _numbered(tablet: int) -> int:
    """The tablet's number itself; `BadRequest` if no tablet has such a one, for not every number has a place in a message."""
    if not 0 < tablet < 1 << 63:
        raise BadRequest(f"there is no tablet {tablet}")
    return tablet
