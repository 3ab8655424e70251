"""Where a client's request goes, and where it goes next when that brought no result.

A `Router` has the tablet map and a link to each node. A request is tried at the tablet's primary until its deadline; what
to do after each attempt is decided by `kvstore.retry`. One keeper runs beside the callers, who themselves only wait. It looks
when there is something to see, at least once in `PATIENCE`:

- It answers requests past their deadline, so no caller waits longer than it said. One that comes and wants to be answered
  before the next look has it made earlier.
- A request that has waited for `PATIENCE` makes it ask for a newer map: a node that hangs still holds its connections open.
  When the map then names another primary, what waits at the old one is answered with `NoAnswer`, and the callers ask the
  new one, with the same mutation numbers. A read at a secondary is treated so when that leaves the in-sync set.
- While some caller waits for a newer map it asks every `_HASTE` seconds the coordinator and every node at once, and takes
  what is newest: any of them may be down. Else it asks the coordinator every `_LEISURE` seconds, and everybody when the
  question before was not answered; whoever cannot be asked is dialled again.
"""

from __future__ import annotations

import itertools
import os
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from kvstore import clock, messages, settings
from kvstore.connection import parse_address
from kvstore.errors import BadRequest, StoreError, Unavailable
from kvstore.link import Callers, Link, Pending
from kvstore.locks import native_lock
from kvstore.messages import Configuration, GetMap, Refused
from kvstore.mutation import Buffer
from kvstore.retry import Effort, NoAnswer, NotSent
from kvstore.tabletmap import TabletMap
from kvstore.wire import encode

_TICK = 0.05
_HASTE = 0.02
_LEISURE = 2.0
_ROUND = 0.5  # seconds after which an unanswered question for the map is asked again
_NO_TABLET = -1

_new = tuple.__new__
_FAILURES = frozenset({Refused, NoAnswer, NotSent})

Encoder = Callable[[Configuration, int], Sequence[Buffer]]
"""(configuration, request id) → the frame of a request to that tablet."""

Where = Callable[[], Configuration | None]
"""The tablet that a request concerns, as far as the map knows by now."""

_routers: weakref.WeakSet[Router] = weakref.WeakSet()


class Router:
    """Requests to tablets and to the coordinator, for all callers of a process."""

    def __init__(self, callers: Callers, coordinators: str, key: bytes, name: str) -> None:
        """`coordinators`: `host:port`, several parted by commas; a node's address will do as well. `name`: ours."""
        self.tablets = TabletMap()
        self.answered = False
        """Whether anybody has told the map yet; it may be that of a cluster without tablets."""
        self._callers = callers
        self._waiter = callers.waiter
        self._key = key
        self._name = name
        addresses = [parse_address(text) for text in coordinators.split(",")]
        self._coordinators = [Link(callers, address, key, name, None) for address in addresses]
        self._links: dict[str, Link] = {}
        self._lock = native_lock()
        self._change = callers.event()
        self._kick = callers.event()
        self._haste_until = 0.0
        self._next_look = 0.0
        self._asked_map = -_LEISURE
        self._asking = False
        self._turn = itertools.count()
        self._why_no_map = ""
        self._unusable: StoreError | None = None
        _routers.add(self)
        callers.spawn("keeper of the tablet map", self._keep)

    # -- requests to tablets

    def ask(
        self,
        where: Where,
        encoder: Encoder | None,
        *,
        now: float,
        deadline: float,
        mutation: tuple[bytes, bytes] | None = None,
        spread: bool = False,
    ) -> Any:
        """The answer to a request to the primary of the tablet that `where()` names (asked anew before each attempt): to
        what `encoder` makes, or to a write of an encoded `mutation` with its bulk part.

        `spread`: the first attempt goes to any member of the tablet's in-sync set, to each as often as to the others.
        `now` and `deadline` are readings of `clock.now()`. Raises the `StoreError` that the caller should see.
        """
        if self._unusable is not None:
            raise self._unusable
        self._callers.check_caller()  # one from a foreign thread would wait for ever: nobody can switch to it
        effort: Effort | None = None
        while True:
            change = self._change
            configuration = where()
            answer = self._attempt(configuration, encoder, mutation, now, deadline, spread, change)
            if type(answer) not in _FAILURES:
                return answer
            if effort is None:
                effort = Effort(write=mutation is not None)
            learned = self._learn_from(answer)
            pause = effort.failed(answer, learned=learned)
            now = clock.now()
            if spread:
                spread = False  # the primary may well answer at once
            elif not learned and now < deadline:
                self._want_map(now + pause)
                if change.wait(min(pause, deadline - now)):
                    effort.map_changed()
                now = clock.now()
            if now >= deadline:
                raise effort.given_up()
            if self._unusable is not None:
                raise effort.given_up() if effort.unknown else self._unusable

    def _attempt(
        self,
        configuration: Configuration | None,
        encoder: Encoder | None,
        mutation: tuple[bytes, bytes] | None,
        now: float,
        deadline: float,
        spread: bool,
        change: Any,
    ) -> Any:
        if configuration is None:
            return NotSent("no tablet is known for this row")
        if configuration.primary is None:
            return NotSent(f"tablet {configuration.tablet} has no primary")
        member = configuration.primary
        if spread:
            member = configuration.in_sync[next(self._turn) % len(configuration.in_sync)]
        link = self._link(member.node)
        if link is None:
            return NotSent(f"no address is known for {member.node}")
        waiter = self._waiter()
        request_id = link.new_id()
        pending = _new(Pending, (waiter, configuration.tablet, now, deadline, spread))
        if mutation is not None:
            link.write(request_id, configuration.tablet, configuration.range_version, *mutation, pending)
        else:
            assert encoder is not None
            link.ask(request_id, encoder(configuration, request_id), pending, True)
        try:
            if deadline < self._next_look or self._change is not change:  # no look may come in time that sees it
                self._kick.set()
            return waiter.get()
        except BaseException:
            link.forget(request_id)  # the caller was killed or interrupted: the answer must not find a stale waiter
            raise

    def _link(self, node: str) -> Link | None:
        link = self._links.get(node)
        if link is not None:
            return link
        with self._lock:
            link = self._links.get(node)
            address = self.tablets.addresses.get(node)
            if link is None and address is not None:
                link = Link(self._callers, parse_address(address), self._key, self._name, node)
                self._links = {**self._links, node: link}
        return link

    # -- requests to the coordinator

    def control(self, message: Any, timeout: float) -> Any:
        """The coordinator's answer to `message`, which must be harmless when asked twice; `Unavailable` at the deadline."""
        deadline = clock.now() + timeout
        reason = ""
        turn = 0
        while (now := clock.now()) < deadline:
            if self._unusable is not None:
                raise self._unusable
            link = self._coordinators[turn % len(self._coordinators)]
            turn += 1
            waiter = self._waiter()
            request_id = link.new_id()
            link.ask(request_id, encode(message, request_id), Pending(waiter, _NO_TABLET, now, deadline))
            if deadline < self._next_look:
                self._kick.set()
            answer = waiter.get()
            if isinstance(answer, Refused):
                Effort(write=False).failed(answer, learned=False)  # raises what cannot succeed
                reason = answer.message
            elif not isinstance(answer, NoAnswer | NotSent):
                return answer
            else:
                reason = answer.reason
            self._raise_refusals()
            self._callers.event().wait(min(settings.RETRY_PAUSE_MOST, max(0.0, deadline - clock.now())))
        raise Unavailable(f"the coordinator did not answer: {reason}")

    def _raise_refusals(self) -> None:
        """Raise why the handshake with the coordinators failed, when that will not change by itself."""
        refusals = [link.refused for link in self._coordinators]
        if refusals and all(refusal is not None for refusal in refusals):
            assert refusals[0] is not None
            raise refusals[0]

    def wait_for_map(self, timeout: float) -> None:
        """Wait until the map names tablets, and the group rule; `Unavailable` after `timeout` seconds, `AuthenticationFailed`
        at once."""
        deadline = clock.now() + timeout
        # a node that has just started may know tablets, from its disk, and not the rule yet
        while not len(self.tablets) or self.tablets.group_rule is None:
            change = self._change
            now = clock.now()
            self._raise_refusals()
            if self._unusable is not None:
                raise self._unusable
            if now >= deadline:
                if len(self.tablets):
                    raise Unavailable("nobody who answers has heard of the coordinator yet")
                if self.answered:
                    raise Unavailable("the cluster has no tablets yet: its nodes have not all registered")
                raise Unavailable(f"no coordinator answers: {self._why_no_map}")
            self._want_map(now + _TICK)
            change.wait(min(_TICK, deadline - now))

    # -- the map

    def learn(
        self, configurations: Iterable[Configuration], addresses: dict[str, str] | None = None, rule: str = ""
    ) -> bool:
        """Take in what somebody knows; whether any configuration was newer."""
        with self._lock:
            if addresses:
                self.tablets.learn_addresses(addresses)
                moved = [
                    n for n, link in self._links.items() if parse_address(self.tablets.addresses[n]) != link.address
                ]
                dropped = [self._links[node] for node in moved]
                self._links = {node: link for node, link in self._links.items() if node not in moved}
            else:
                dropped = []
            if rule:
                self.tablets.learn_group_rule(rule)
            newer = self.tablets.learn(configurations)
            change = self._change
            if newer or dropped:
                self._change = self._callers.event()
        for link in dropped:
            link.close()
        if newer or dropped:
            change.set()
            self._kick.set()
        return bool(newer)

    def map_age(self, now: float) -> float:
        """Seconds since the map was last asked for."""
        return now - self._asked_map

    def refresh_soon(self) -> None:
        """Have the keeper ask for the map now."""
        self._asked_map = min(self._asked_map, clock.now() - _LEISURE)
        self._kick.set()

    def _learn_from(self, answer: Any) -> bool:
        if isinstance(answer, Refused) and answer.configuration is not None:
            return self.learn([answer.configuration])
        return False

    def _want_map(self, until: float) -> None:
        self._haste_until = max(self._haste_until, until)
        self._kick.set()

    # -- the keeper

    def _keep(self) -> None:
        try:
            while self._unusable is None:
                self._kick.wait(self._look(clock.now()))
                self._kick.clear()
        except BaseException:
            # without its keeper a client would look alive and let callers hang: it is better closed, and seen to be
            traceback.print_exc()
            self.close("the client's keeper failed; its traceback is on standard error")
            raise

    def _look(self, now: float) -> float:
        """See who waits too long, ask for the map when it is time to; seconds until the next look."""
        # Said before the sweep: a request that comes too late to be seen by it compares its deadline with this.
        self._next_look = now + settings.PATIENCE
        urgent = self._sweep(now)
        hasty = now < self._haste_until
        pause = _HASTE if hasty else _LEISURE
        due = self._asked_map + (max(pause, _ROUND) if self._asking else pause)
        if due <= now:
            self._ask_for_map(now, everybody=hasty or self._asking)
            due = now + pause
        if hasty:
            due = now + _HASTE  # the answer to the last question may have come by then, and brought nothing new
        self._next_look = now + max(_HASTE, min(urgent, due) - now)
        return self._next_look - now

    def _sweep(self, now: float) -> float:
        """Answer who has waited too long. When the next of the others will have: by its deadline, or for a newer map."""
        urgent = now + settings.PATIENCE
        for node, link in list(self._links.items()):
            oldest, nearest = link.sweep(now, partial(self._has_moved, node))
            if now - oldest >= settings.PATIENCE:
                self._haste_until = max(self._haste_until, now + _TICK)
            urgent = min(urgent, nearest, oldest + settings.PATIENCE)
        for link in self._coordinators:
            _, nearest = link.sweep(now, lambda pending: False)
            urgent = min(urgent, nearest)
        return urgent

    def _has_moved(self, node: str, pending: Pending) -> bool:
        if pending.tablet == _NO_TABLET:
            return False
        configuration = self.tablets.get(pending.tablet)
        if configuration is None or configuration.primary is None:
            return False
        if pending.spread:
            return all(member.node != node for member in configuration.in_sync)
        return configuration.primary.node != node

    def _ask_for_map(self, now: float, *, everybody: bool) -> None:
        self._asked_map = now
        self._asking = True
        for node in self.tablets.addresses:
            self._link(node)
        for link in [*self._coordinators, *(link for link in self._links.values() if everybody or not link.up)]:
            request_id = link.new_id()
            pending = Pending(_MapAnswer(self), _NO_TABLET, now, now + 2 * _ROUND)
            link.ask(request_id, encode(GetMap(), request_id), pending)

    def map_answered(self, answer: Any) -> None:
        """Take in an answer to the keeper's question."""
        if isinstance(answer, messages.TabletMap):
            self.answered = True
            self._asking = False
            self.learn(answer.configurations, answer.addresses, answer.group_rule)
        elif isinstance(answer, NoAnswer | NotSent) and not self.answered:
            self._why_no_map = answer.reason

    def close(self, reason: str = "the client was closed") -> None:
        """Close every connection; calls that wait, and later ones, raise `Unavailable` or `OutcomeUnknown`."""
        if self._unusable is None:
            self._unusable = Unavailable(reason)
        self._kick.set()
        self._change.set()
        for link in [*self._coordinators, *self._links.values()]:
            link.close()

    def forked(self) -> None:
        """This is a child process now: the connections are the parent's, and must not be touched."""
        self._unusable = BadRequest("this client was made before the process forked: call connect() in the child")


class _MapAnswer:
    """The waiter of a question for the map: nobody waits, the answer is taken in where it arrives."""

    __slots__ = ("_router",)

    def __init__(self, router: Router) -> None:
        self._router = router

    def switch(self, answer: Any) -> None:
        self._router.map_answered(answer)


def _after_fork_in_child() -> None:
    for router in list(_routers):
        router.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
