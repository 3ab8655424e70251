"""A storage node's process: sockets, clock and loop around `kvstore.node.node` and the storage engine.

Everything runs in one thread on gevent's loop, in rounds: what has arrived on all connections is fed to the node, then the
node is flushed once (waiting writes become entries) and its effects are carried out; what they send leaves in one system
call for each connection. The log is synced while the entries are on their way to the secondaries.

Nothing here waits between an append and its answer: an answer is an effect of a later round. So there is nothing to time
out there, and no greenlet can be interrupted half way (trap 28).
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event

from kvstore import clock, messages, questions, settings, wire
from kvstore.codec import Malformed
from kvstore.connection import parse_address
from kvstore.dialer import Dialer
from kvstore.errors import BadRequest, NoSpace, StorageFailure, Unavailable
from kvstore.greenlets import Channel, Listener
from kvstore.handshake import Role, read_key
from kvstore.memory import keep_freed_memory, resident_bytes
from kvstore.messages import Refused
from kvstore.mutation import check_bundle
from kvstore.node import effects
from kvstore.node.answers import send_answer, send_committed
from kvstore.node.node import Node
from kvstore.node.peers import Peers
from kvstore.storage.commit import GroupCommitter
from kvstore.storage.engine import Engine
from kvstore.storage.failures import Damage
from kvstore.storage.maintenance import Maintenance, settle_collector
from kvstore.storage.options import EngineOptions, scrub_period
from kvstore.supervision import (
    PauseMeter,
    crash_on_error,
    die,
    note,
    say,
    spawn,
    tick_for_ever,
    write_pid_file,
)
from kvstore.wire import NUMBERS, WRITE, encode, read_message

LEAVE_PATIENCE = 2.0
"""Seconds that a node which is told to stop waits for its roles to move away. Longer than the coordinator may wait for somebody
who can take over at once (`settings.SEASONED`)."""
_LINGER = 0.1
"""Seconds that it then still tells clients who leads now, rather than have them find nobody."""
_TICK = 0.02
_LOOK = 0.01
_ANSWERS_AT_ONCE = 16
"""Requests of one connection after which their answers go into its queue, whose length is then looked at."""
_FROM_PEERS = (messages.PeerMessage, messages.Beacon, messages.Grant)
_FROM_COORDINATOR = (messages.Registered, messages.Configure, messages.ChangeAnswer, messages.ProposeSplit)
_REQUEST_KINDS = frozenset(
    NUMBERS[kind]
    for kind in (
        messages.Get,
        messages.GetRow,
        messages.Scan,
        messages.GetMap,
        questions.ReadResults,
        questions.ReadChanges,
        questions.AskCommitPoint,
    )
)


class NodeServer:
    """One running storage node."""

    def __init__(
        self, node: Node, engine: Engine, key: bytes, name: str, listen: tuple[str, int], coordinators: str
    ) -> None:
        """Listens from here on; `OSError` when the address is taken. `coordinators`: as `kvstore.client.connect` takes them."""
        self._node = node
        self._engine = engine
        self._name = name
        self._loop = gevent.get_hub().loop
        self._round_scheduled = False
        self._meter = PauseMeter()
        self._peers = Peers(key, name, self._peer_up, self._peer_down)
        self._coordinator = Dialer(
            key,
            name,
            None,
            on_up=self._coordinator_up,
            on_down=self._coordinator_down,
            on_frames=self._from_coordinator,
            report=note,
        )
        self._coordinator.aim([parse_address(text) for text in coordinators.split(",")])
        self._committer = GroupCommitter(engine, self._synced, self._log_failed)
        self._maintenance = Maintenance(engine, self._committer.wake, self._log_failed)
        self._sent_last: tuple[Any, list[Any]] = (None, [])
        self._listener = Listener(listen, key, name, self._serve, spawn, note)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._listener.address

    def start(self) -> None:
        """Start serving."""
        self._engine.on_corrupt = self._damaged
        self._engine.on_checkpoint_damaged = self._checkpoint_damaged
        self._committer.start()
        self._maintenance.start()
        spawn("listener", self._listener.run)
        self._beat(clock.now())  # what the disk is like goes with the first heartbeat, which registering sends
        spawn("link to the coordinator", self._coordinator.run)
        spawn("ticker", tick_for_ever, _TICK, self._tick, self._meter)
        spawn("heart", tick_for_ever, settings.HEARTBEAT_INTERVAL, self._beat)

    def leave(self) -> None:
        """Stop in order: let the coordinator move this node's roles to others first, so that nobody waits for a node that
        is not there any more; then close the log. Everything acknowledged is on disk already.

        Takes `LEAVE_PATIENCE` at most: where there is nobody else, or no coordinator, the roles go down with the process.
        """
        self._node.leave()
        self._beat(clock.now())
        deadline = clock.now() + LEAVE_PATIENCE
        while not self._node.idle and self._coordinator.up and clock.now() < deadline:
            gevent.sleep(_LOOK)
        # the last answers and farewells leave with this turn of the loop
        gevent.sleep(_LINGER if self._node.idle and self._coordinator.up else _LOOK)
        self._listener.close()
        self._coordinator.stop()
        self._maintenance.stop()
        self._committer.stop()
        self._engine.close()

    # -- connections

    def _serve(self, channel: Channel) -> None:
        """Feed the node what comes over one connection, until it ends."""
        from_node = channel.partner.role is Role.NODE
        try:
            while True:
                for number, (fields, bulk) in enumerate(channel.read()):
                    # A hundred small requests may ask for a hundred large values: none is read before the last one leaves.
                    if self._node.answer_is_large or number % _ANSWERS_AT_ONCE == _ANSWERS_AT_ONCE - 1:
                        self._carry_out()
                    if channel.unsent > settings.MAX_UNSENT:
                        channel.wait_emptied()  # whoever asks faster than he reads is not read from meanwhile
                    self._handle(channel, from_node, fields, bulk)
                self._wake()
        except (EOFError, OSError):
            pass
        except BadRequest as error:
            note(f"{channel.partner.name} was disconnected: {error}")

    def _handle(self, channel: Channel, from_node: bool, fields: list[Any], bulk: bytes) -> None:
        request_id = fields[1]
        if fields[0] == WRITE:
            self._handle_write(channel, fields, bulk)
            return
        if fields[0] in _REQUEST_KINDS:
            if not request_id:
                raise Malformed("a request needs an id")
            try:
                request = read_message(fields, bulk)
            except Malformed:
                raise
            except BadRequest as error:
                channel.send(encode(Refused(type(error).__name__, str(error)), request_id))
                return
            self._node.client_request((channel, request_id), request, clock.now(), forwarded=from_node)
            return
        message = read_message(fields, bulk)
        if not from_node or not isinstance(message, _FROM_PEERS):
            raise Malformed(f"a node takes no {type(message).__name__} from a {channel.partner.role.name.lower()}")
        if message.sender.node != channel.partner.name:
            raise Malformed(f"{channel.partner.name} speaks as {message.sender.node}")
        self._node.from_peer(message, clock.now())

    def _handle_write(self, channel: Channel, fields: list[Any], bulk: bytes) -> None:
        write = read_message(fields, bulk)
        try:
            check_bundle(write.bundle)
        except BadRequest as error:
            # the whole bundle: a client checks what it sends, so one that sends this is not the product's own
            for request_id in write.ids:
                channel.send(encode(Refused(type(error).__name__, str(error)), request_id))
            return
        self._node.client_write(channel, write, clock.now())

    def _peer_up(self, node: str) -> None:
        self._node.peer_connected(node, clock.now())
        self._wake()

    def _peer_down(self, node: str) -> None:
        self._node.peer_disconnected(node, clock.now())
        self._wake()

    def _coordinator_up(self, channel: Channel) -> None:
        channel.send(encode(self._node.register_message(clock.now())))

    def _coordinator_down(self) -> None:
        note("the coordinator's connection is gone; serving goes on without it")

    def _from_coordinator(self, frames: list[tuple[list[Any], bytes]]) -> None:
        for fields, bulk in frames:
            message = read_message(fields, bulk)
            if not isinstance(message, _FROM_COORDINATOR):
                raise Malformed(f"a node takes no {type(message).__name__} from the coordinator")
            if isinstance(message, messages.Registered | messages.Configure):
                self._peers.learn(message.addresses)
            self._node.from_coordinator(message, clock.now())
        self._wake()

    # -- the log, the engine and time

    def _synced(self, lsn: int) -> None:
        self._node.synced(lsn, clock.now())
        self._wake()

    def _log_failed(self, error: StorageFailure) -> None:
        self._node.log_failed(str(error))
        self._wake()

    def _damaged(self, tablet: int, reason: str) -> None:
        note(f"tablet {tablet} is damaged on disk and will be rebuilt: {reason}")
        self._node.replica_damaged(tablet, reason, clock.now())
        self._wake()

    def _checkpoint_damaged(self, damage: Damage) -> None:
        note(f"a checkpoint is damaged on disk and will be written anew from memory: {damage}")

    def _tick(self, now: float) -> None:
        self._node.tick(now)
        self._wake()

    def _beat(self, now: float) -> None:
        try:
            self._engine.check_space()
        except NoSpace:
            self._node.out_of_space(True)
        else:
            self._node.out_of_space(False)
        heartbeat = self._node.heartbeat(now, self._committer.disk_age(), self._figures())
        if heartbeat is not None:
            self._coordinator.send(encode(heartbeat))
        self._wake()

    def _figures(self) -> dict[str, float]:
        """What the console shows of the process; the engine's own figures among them."""
        figures = {name: float(value) for name, value in self._engine.metrics().items()}
        figures["memory_bytes"] = float(resident_bytes())
        figures["longest_pause_ms"] = self._meter.longest * 1000
        figures["recent_pause_ms"] = self._meter.take_recent() * 1000
        return figures

    # -- rounds

    def _wake(self) -> None:
        """Have a round at the end of this turn of the loop, when every connection that was ready has been read."""
        if not self._round_scheduled:
            self._round_scheduled = True
            self._loop.run_callback(self._round)

    def _round(self) -> None:
        self._round_scheduled = False
        self._node.flush(clock.now())
        self._carry_out()
        if self._node.is_behind and not self._engine.wal.waiting:
            self._loop.run_callback(self._node.apply_behind)  # behind what was just put down to be sent

    def _carry_out(self) -> None:
        for effect in self._node.take_effects():
            _CARRIERS[type(effect)](self, effect)
        self._sent_last = (None, [])

    def _send_peer(self, effect: effects.SendPeer) -> None:
        # the same entries go to every secondary: they are put into a frame once
        if self._sent_last[0] is not effect.message:
            self._sent_last = (effect.message, encode(effect.message))
        self._peers.send(effect.node, self._sent_last[1])

    def _send_coordinator(self, effect: effects.SendCoordinator) -> None:
        self._coordinator.send(encode(effect.message))

    def _reply(self, effect: effects.Reply) -> None:
        # the value was read before, the clock is read now: a process that was paused in between finds its lease over (trap 3)
        if effect.valid_until < clock.now():
            send_answer(effect.token, effects.NOT_PRIMARY_ANY_MORE)
        else:
            send_answer(effect.token, effect.message)

    def _committed(self, effect: effects.Committed) -> None:
        send_committed(effect)

    def _forward(self, effect: effects.Forward) -> None:
        token: Any = effect.token

        def answered(fields: list[Any] | None, bulk: bytes) -> None:
            if not self._node.forward_ended(token):
                return
            if fields is None:
                refusal = Refused(Unavailable.__name__, f"{effect.node}, which leads the tablet, cannot be reached")
                send_answer(token, refusal)
                return
            channel, request_id = token
            channel.send(wire.frame([fields[0], request_id, *fields[2:]], [bulk] if bulk else [], len(bulk)))

        self._peers.ask(effect.node, effect.request, answered)

    def _request_primary(self, effect: effects.RequestPrimary) -> None:
        def answered(fields: list[Any] | None, bulk: bytes) -> None:
            message = None if fields is None else read_message(fields, bulk)
            self._node.primary_answered(effect.token, message, clock.now())
            self._wake()

        self._peers.ask(effect.node, effect.request, answered)

    def _flush_again(self, effect: effects.FlushAgain) -> None:
        self._wake()

    def _wake_log(self, effect: effects.WakeLog) -> None:
        self._committer.wake()

    def _stop_serving(self, effect: effects.StopServing) -> None:
        die(f"{self._name} stops: {effect.reason}")


_CARRIERS: dict[type, Callable[[NodeServer, Any], None]] = {
    effects.SendPeer: NodeServer._send_peer,
    effects.SendCoordinator: NodeServer._send_coordinator,
    effects.Reply: NodeServer._reply,
    effects.Committed: NodeServer._committed,
    effects.Forward: NodeServer._forward,
    effects.RequestPrimary: NodeServer._request_primary,
    effects.FlushAgain: NodeServer._flush_again,
    effects.WakeLog: NodeServer._wake_log,
    effects.StopServing: NodeServer._stop_serving,
}


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kvstore node", description="Run a storage node.")
    parser.add_argument("--id", required=True, metavar="NAME", help="the node's name in the cluster, for good")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--data-dir", required=True, metavar="DIR")
    parser.add_argument("--key-file", required=True, metavar="FILE")
    parser.add_argument("--coordinators", default="127.0.0.1:7400", metavar="HOST:PORT,…")
    parser.add_argument("--pid-file", metavar="FILE")
    parser.add_argument(
        "--scrub-period",
        metavar="SECONDS",
        type=scrub_period,
        default=settings.SCRUB_PERIOD,
        help="everything on disk is read again, and its checksums verified, within so long (default: %(default)s, a week)",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run a storage node until it is told to stop; the exit status."""
    started = clock.now()
    options = _arguments(argv)
    try:
        key = read_key(options.key_file)
        listen = parse_address(options.listen)
        engine = Engine.open(options.data_dir, options=EngineOptions(scrub_period=options.scrub_period))
        node = Node(
            options.id,
            engine,
            boot_id=secrets.token_hex(8),
            started=started,
            address=options.listen,
            pid=os.getpid(),
        )
        server = NodeServer(node, engine, key, options.id, listen, options.coordinators)
    except (BadRequest, StorageFailure) as error:
        say(f"{options.id}: {error}")
        return 1
    except OSError as error:
        say(f"{options.id}: {error.filename or options.listen}: {error.strerror or error}")
        return 1
    crash_on_error()
    settle_collector()
    keep_freed_memory()
    stopped = gevent.event.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopped.set)
    server.start()
    if options.pid_file:
        write_pid_file(options.pid_file)
    note(f"{options.id} listens on {options.listen}, data in {options.data_dir}")
    stopped.wait()
    server.leave()
    return 0
