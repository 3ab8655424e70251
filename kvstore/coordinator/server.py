"""The coordinator's process: sockets, clock and journal around `kvstore.coordinator.coordinator`.

    python -m kvstore coordinator --listen 127.0.0.1:7400 --data-dir DIR --key-file FILE --pid-file FILE
                                  [--nodes-expected N --create-with FILE.json] [--rebuild-after SECONDS]

The file of `--create-with` says what a new cluster is to be, and is not looked at when there is one already:

    {"cluster": "penncloud", "group_rule": "…", "splits": ["m"], "replication": 3, "min_in_sync": 1, "rebuild_after": 300,
     "spread": true, "split_above": "512M"}

`--rebuild-after` (seconds, or `never`) counts for a new cluster, and changes that of one that is there.

Everything runs in one thread on gevent's loop. A message is handled whole, its decisions made durable and its answers
queued, before the next one is looked at.
"""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import Any

import gevent
import gevent.event

from kvstore import clock, control, messages, rebuild_after, settings, split_above
from kvstore.codec import Malformed
from kvstore.connection import parse_address
from kvstore.coordinator.chronicle import in_words
from kvstore.coordinator.coordinator import Coordinator
from kvstore.coordinator.creation import Creation
from kvstore.coordinator.decisions import configurations_in
from kvstore.coordinator.effects import Journal as Decide
from kvstore.coordinator.effects import Reply, SendNode
from kvstore.coordinator.journal import Journal
from kvstore.errors import BadRequest, StorageFailure
from kvstore.greenlets import Channel, Listener
from kvstore.handshake import Role, read_key
from kvstore.messages import Refused
from kvstore.supervision import crash_on_error, die, note, say, spawn, tick_for_ever, write_pid_file
from kvstore.wire import encode, read_message

NAME = "coordinator"
"""What it proves itself as in the handshake."""
_TICK = 0.02
_FROM_NODES = (
    messages.Register,
    messages.Heartbeat,
    messages.ChangeRequest,
    messages.ReplicaDamaged,
    messages.SplitRequest,
    messages.SplitDeclined,
)
_REQUESTS = (
    messages.GetMap,
    control.GetStatus,
    control.SetDisabled,
    control.SetRebuildAfter,
    control.SetSplitAbove,
    control.SplitTablet,
    control.SetSpread,
    control.MoveReplica,
    control.WithdrawMove,
    control.ProcessExited,
)


class CoordinatorServer:
    """One running coordinator."""

    def __init__(self, coordinator: Coordinator, journal: Journal, listen: tuple[str, int], key: bytes) -> None:
        """Listens from here on; `OSError` when the address is taken."""
        self._coordinator = coordinator
        self._journal = journal
        self._listener = Listener(listen, key, NAME, self._serve, spawn, note)
        self.address = self._listener.address

    def start(self) -> None:
        """Start serving."""
        spawn("listener", self._listener.run)
        spawn("ticker", tick_for_ever, _TICK, self._tick)

    def _tick(self, now: float) -> None:
        self._coordinator.tick(now)
        self._carry_out()

    def _serve(self, channel: Channel) -> None:
        """Handle what comes over one connection until it ends."""
        try:
            while True:
                for fields, bulk in channel.read():
                    self._handle(channel, fields, bulk)
        except (EOFError, OSError):
            pass
        except BadRequest as error:
            note(f"{channel.partner.name} was disconnected: {error}")
        finally:
            channel.close()
            self._coordinator.node_disconnected(channel, clock.now())
            self._carry_out()

    def _handle(self, channel: Channel, fields: list[Any], bulk: bytes) -> None:
        message = read_message(fields, bulk)
        request_id = fields[1]
        if isinstance(message, _FROM_NODES) and channel.partner.role is Role.NODE:
            self._check_sender(channel, message)
            self._coordinator.from_node(channel, message, clock.now())
        elif isinstance(message, _REQUESTS) and request_id:
            try:
                self._coordinator.request((channel, request_id), message, clock.now())
            except BadRequest as error:
                channel.send(encode(Refused(type(error).__name__, str(error)), request_id))
        else:
            raise Malformed(
                f"a coordinator takes no {type(message).__name__} from a {channel.partner.role.name.lower()}"
            )
        self._carry_out()

    @staticmethod
    def _check_sender(channel: Channel, message: Any) -> None:
        node = message.node if isinstance(message, messages.Register) else message.sender.node
        if node != channel.partner.name:
            raise Malformed(f"{channel.partner.name} speaks as {node}")

    def _carry_out(self) -> None:
        """Carry out the coordinator's effects in order; no decision is told before it is durable."""
        unsynced = False
        for effect in self._coordinator.take_effects():
            if isinstance(effect, Decide):
                self._journal.append(effect.record)
                self._chronicle(effect.record)
                unsynced = True
                continue
            if unsynced:
                self._sync()
                unsynced = False
            if isinstance(effect, SendNode):
                assert isinstance(effect.connection, Channel)
                effect.connection.send(encode(effect.message))
            else:
                assert isinstance(effect, Reply)
                assert isinstance(effect.token, tuple)
                channel, request_id = effect.token
                channel.send(encode(effect.message, request_id))
        if unsynced:
            self._sync()
        if self._journal.wants_snapshot:
            self._journal.snapshot(self._coordinator.snapshot())

    @staticmethod
    def _chronicle(record: dict[str, Any]) -> None:
        for line in in_words(record, configurations_in(record)):
            note(line)

    def _sync(self) -> None:
        try:
            self._journal.sync()
        except (OSError, StorageFailure) as error:
            # what is on disk is not known any more: nothing may be decided on top of it
            die(f"the coordinator stops: {error}")


def read_creation(path: str, nodes_expected: int) -> Creation:
    """What the creation file `path` says; `BadRequest` with a clear sentence when it is not in order."""
    try:
        plan = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise BadRequest(f"the creation file {path} cannot be read: {error}") from error
    if not isinstance(plan, dict):
        raise BadRequest(f"the creation file {path} must hold one object")
    known = {"cluster", "group_rule", "splits", "replication", "min_in_sync", "rebuild_after", "spread", "split_above"}
    if unknown := set(plan) - known:
        raise BadRequest(f"the creation file {path} has the unknown key {sorted(unknown)[0]!r}")
    try:
        return Creation(
            cluster=str(plan.get("cluster", "penncloud")),
            group_rule=str(plan["group_rule"]),
            splits=[str(split) for split in plan.get("splits", [])],
            replication=int(plan.get("replication", 3)),
            min_in_sync=int(plan.get("min_in_sync", 1)),
            nodes_expected=nodes_expected or int(plan.get("replication", 3)),
            rebuild_after=rebuild_after.parse(str(plan.get("rebuild_after", settings.REBUILD_AFTER))),
            spread=_flag(plan, "spread", settings.SPREAD),
            split_above=split_above.parse(str(plan.get("split_above", settings.SPLIT_ABOVE))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest(f"the creation file {path} is not in order: {error!r}") from error


def _flag(plan: dict[str, Any], key: str, default: bool) -> bool:
    found = plan.get(key, default)
    if not isinstance(found, bool):
        raise ValueError(f"{key} is true or false, not {found!r}")
    return found


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kvstore coordinator", description="Run a cluster's coordinator.")
    parser.add_argument("--listen", default="127.0.0.1:7400", metavar="HOST:PORT")
    parser.add_argument("--data-dir", required=True, metavar="DIR")
    parser.add_argument("--key-file", required=True, metavar="FILE")
    parser.add_argument("--pid-file", metavar="FILE")
    parser.add_argument(
        "--nodes-expected", type=int, default=0, metavar="N", help="nodes to wait for before it creates"
    )
    parser.add_argument("--create-with", metavar="FILE.json", help="what a new cluster is to be")
    parser.add_argument(
        "--rebuild-after",
        metavar="SECONDS",
        help="a gone node's replicas are rebuilt on a spare one after so long, or never (default: as before, at first "
        f"{settings.REBUILD_AFTER:g})",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run a coordinator until it is told to stop; the exit status."""
    options = _arguments(argv)
    try:
        key = read_key(options.key_file)
        journal = Journal(options.data_dir)
        creation = None
        if not journal.records and options.create_with:
            creation = read_creation(options.create_with, options.nodes_expected)
        coordinator = Coordinator(creation, journal.records, clock.now())
        if options.rebuild_after is not None:
            coordinator.rebuild_after(rebuild_after.parse(options.rebuild_after))
        server = CoordinatorServer(coordinator, journal, parse_address(options.listen), key)
    except (BadRequest, StorageFailure) as error:
        say(f"coordinator: {error}")
        return 1
    except OSError as error:
        say(f"coordinator: {options.listen}, {options.data_dir}: {error.strerror or error}")
        return 1
    crash_on_error()
    stopped = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopped.set)
    server.start()
    if options.pid_file:
        write_pid_file(options.pid_file)
    note(f"coordinator listens on {server.address[0]}:{server.address[1]}")
    stopped.wait()  # all that was told is on disk already: there is nothing to finish
    journal.close()
    return 0
