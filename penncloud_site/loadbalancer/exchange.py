"""One request and its answer: choose a front end, send, pass the answer on, and when that fails, try again or say so.

An exchange ends in one of three ways: the answer of a front end was passed on; a page of our own (`pages`) was sent; or
the client's connection is closed because nothing honest can be sent any more (the answer had begun).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from . import headers, limits, pages
from .backends import Backend, BackendTable, Health
from .connection import (
    BackendConnection,
    BackendFailed,
    BackendPool,
    BackendPutOut,
    BackendTooSlow,
    ClientConnection,
    ClientGone,
    ClientTooSlow,
)
from .health import HealthWatch
from .http1 import Body, End, Refused, RequestHead, ResponseHead
from .resume import Rest, rest_of
from .retry import HARMLESS, Stage, may_repeat
from .upload import Upload

log = logging.getLogger("penncloud.loadbalancer")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass
class Balancer:
    """What all exchanges share."""

    table: BackendTable
    pool: BackendPool
    watch: HealthWatch
    draining: bool = False
    """Once set, every answer closes its connection."""
    in_hand: int = 0
    """Requests being worked on."""
    connections: int = 0
    """Clients' connections that are open."""
    started: float = field(default_factory=time.monotonic)


class Exchange:
    """One request, from its head on. `run` says whether the client's connection may serve another one."""

    def __init__(self, balancer: Balancer, client: ClientConnection, head: RequestHead) -> None:
        self._balancer = balancer
        self._client = client
        self._head = head
        self._body: bytes | None = None  # the whole body, or None when it is carried by an Upload
        self._upload: Upload | None = None
        self._continued = False
        self._stage = Stage.NOTHING_SENT
        self._rest: Rest | None = None  # what another front end could go on with, once the answer has begun
        self._keep_alive = False
        self.status = 0
        """What the client was told; 0 when nothing was."""
        self.sent = 0
        """Bytes of the body passed on to the client."""
        self.backend = "-"

    def run(self) -> bool:
        """Carry the request through.

        :raises ClientGone: its connection broke; there is nobody to tell.
        """
        try:
            refused = self._read_small_body()
            if refused is None:
                return self._answer()
            self._send_page(pages.refusal(refused.status, refused.reason), close=True)
        except ClientTooSlow as error:
            if self._stage is Stage.ANSWERING:
                raise ClientGone("the upload stopped while it was being answered") from error
            self._send_page(pages.refusal(408, "The request did not arrive in time."), close=True)
        finally:
            if self._upload is not None:
                self._upload.stop()
        self._client.close_after_answer()
        return False

    # --- the request -------------------------------------------------------------------------------------------------

    def _read_small_body(self) -> Refused | None:
        """Hold a body that is known to be small, or is here in full already. What is wrong with it, if anything."""
        small = self._head.length is not None and self._head.length <= limits.BUFFERED_BODY
        if not small and not self._client.body_is_here():
            return None
        if self._head.length:
            self._allow_body()
        pieces = []
        while not isinstance(event := self._client.next_body_event(), End):
            if isinstance(event, Refused):
                return event
            pieces.append(event.data)
        self._body = b"".join(pieces)
        return None

    def _allow_body(self) -> None:
        """Answer `Expect: 100-continue`, once, unless the client did not wait for it."""
        if self._head.expects_continue and not self._continued and not self._client.body_is_here():
            self._client.send(_CONTINUE)
        self._continued = True

    def _answer(self) -> bool:
        """Try front ends until one answers, no further try is allowed, or none is there."""
        tried: list[Backend] = []
        failed: BackendFailed | None = None  # the last failure after which the request may have been carried out
        while len(tried) < limits.MAX_ATTEMPTS:
            backend = self._balancer.watch.choose(tried)
            if backend is None:
                break
            tried.append(backend)
            backend.active += 1
            try:
                return self._attempt(backend)
            except BackendFailed as error:
                backend.failures += 1
                self._stop_upload()
                log.warning("%s failed %s %s: %s", backend.name, self._head.method, self._path(), error)
                failed = error if self._stage is not Stage.NOTHING_SENT else failed
                if not self._repeatable():
                    break
                if self._rest is None:
                    self._stage = Stage.NOTHING_SENT
            finally:
                backend.active -= 1
        return self._give_up(failed)

    def _attempt(self, backend: Backend) -> bool:
        """One try at one front end.

        :raises BackendFailed: `self._stage` says how far it came.
        """
        try:
            # A body that cannot be repeated gets a connection that was accepted this moment: an old one might turn out
            # to be dead only after the first bytes were sent.
            connection = self._balancer.pool.take(backend, fresh=self._body is None)
        except OSError as error:
            self._balancer.watch.connection_failed(backend)
            raise BackendFailed(f"cannot connect: {error}") from error
        self.backend = backend.name
        try:
            connection.begin(expect_body=self._head.method != "HEAD")
            self._send_request(connection)
            keep_alive = self._relay(connection)
        except BaseException:
            connection.close()
            raise
        backend.served += 1
        self._balancer.pool.give_back(connection)
        return keep_alive

    def _send_request(self, connection: BackendConnection) -> None:
        length = self._head.length if self._body is None else len(self._body)
        request = self._head if self._rest is None else self._rest.request(self._head)
        head = headers.request_bytes(request, self._client.address, length=length)
        self._stage = max(self._stage, Stage.SENT)
        if self._body is not None:
            connection.send(head + self._body)
            return
        self._allow_body()
        connection.send(head)
        self._upload = Upload(self._client, connection, chunked=length is None)

    # --- the answer --------------------------------------------------------------------------------------------------

    def _relay(self, connection: BackendConnection) -> bool:
        """Pass the answer on. Whether the client's connection may be kept."""
        head = self._next(connection)
        assert isinstance(head, ResponseHead), "an answer begins with its head"
        if self._rest is None:
            self._relay_answer(connection, head)
        elif self._rest.is_answered_by(head):
            self._relay_body(connection, chunked=False)
        else:
            self._rest = None  # what was being sent is not there any more
            raise BackendFailed("the rest of the answer cannot be had")
        if self._upload is not None and not self._upload.complete:
            self._upload.stop()  # answered before it was all sent: what else happened to it is of no interest
            self._keep_alive = False
        elif head.keep_alive:
            connection.finished()
        if not self._keep_alive:
            self._client.close_after_answer()
        return self._keep_alive

    def _relay_answer(self, connection: BackendConnection, head: ResponseHead) -> None:
        """Pass on an answer from its beginning."""
        uploaded = self._upload is None or self._upload.complete
        self._keep_alive = self._head.keep_alive and uploaded and not self._balancer.draining
        chunked = head.length is None and self._head.method != "HEAD"
        if chunked and self._head.version == "1.0":
            chunked = self._keep_alive = False  # its end is the end of the connection
        start = headers.response_bytes(head, chunked=chunked, keep_alive=self._keep_alive)
        if head.length is not None and head.length <= limits.BUFFERED_BODY:
            self._relay_whole(connection, head, start)
            return
        self._stage = Stage.ANSWERING
        self.status = head.status
        self._rest = rest_of(self._head, head)
        self._client.send(start)
        self._relay_body(connection, chunked=chunked)

    def _relay_whole(self, connection: BackendConnection, head: ResponseHead, start: bytes) -> None:
        """A small answer: nothing is sent before it is here to its end, so that it can still be asked for again."""
        pieces = [start]
        while isinstance(event := self._next(connection), Body):
            pieces.append(event.data)
        self._stage = Stage.ANSWERING
        self.status = head.status
        self.sent = sum(map(len, pieces)) - len(start)
        self._client.send(b"".join(pieces))

    def _relay_body(self, connection: BackendConnection, *, chunked: bool) -> None:
        """A body of any length, piece by piece."""
        while isinstance(event := self._next(connection), Body):
            self.sent += len(event.data)
            if self._rest is not None:
                self._rest.next += len(event.data)
            self._client.send(headers.chunk(event.data) if chunked else event.data)
        if chunked:
            self._client.send(headers.LAST_CHUNK)

    def _next(self, connection: BackendConnection) -> ResponseHead | Body | End:
        """The answer's next event.

        While the request's body is still being carried there is no hurry. A front end that is put out while we wait
        is given up at once if the request may be repeated.
        """
        quiet_since = time.monotonic()
        while (event := connection.next_event(limits.HEALTH_GLANCE)) is None:
            if self._upload is not None and self._upload.running:
                quiet_since = time.monotonic()
            if connection.backend.health is Health.OUT and self._repeatable():
                raise BackendPutOut("it fails its health checks")
            if time.monotonic() - quiet_since > limits.RESPONSE_TIMEOUT:
                raise BackendTooSlow(f"no answer in {limits.RESPONSE_TIMEOUT:.0f} s")
        return event

    def _repeatable(self) -> bool:
        """Whether another front end may be asked: for all of it, or for the rest."""
        return self._rest is not None or may_repeat(self._head, self._stage, body_held=self._body is not None)

    # --- when it cannot be helped ------------------------------------------------------------------------------------

    def _stop_upload(self) -> None:
        """End the upload of a failed attempt; what the client itself did wrong is the client's error.

        :raises ClientGone, ClientTooSlow: the upload broke off on the client's side.
        """
        if self._upload is None:
            return
        self._upload.stop()
        error = self._upload.client_error
        if isinstance(error, ClientGone | ClientTooSlow):
            raise error

    def _give_up(self, error: BackendFailed | None) -> bool:
        """Tell the client; `error` None means that no front end has seen the request."""
        if self._stage is Stage.ANSWERING:
            # Its own half of the truth is out: only a cut connection says that the rest is missing.
            raise ClientGone("the answer broke off")
        if self._upload is not None and isinstance(self._upload.client_error, Refused):
            refused = self._upload.client_error
            self._send_page(pages.refusal(refused.status, refused.reason), close=True)
            self._client.close_after_answer()
            return False
        page = self._failure_page(error)
        keep_alive = self._head.keep_alive and self._body is not None and not self._balancer.draining
        self._send_page(page, close=not keep_alive)
        if not keep_alive:
            self._client.close_after_answer()
        return keep_alive

    def _failure_page(self, error: BackendFailed | None) -> pages.Page:
        only_reads = self._head.method in HARMLESS
        if error is None:
            return pages.RECONNECTING if only_reads else pages.RECONNECTING_FORM
        if isinstance(error, BackendTooSlow):
            return pages.TOO_SLOW
        return pages.INTERRUPTED if only_reads else pages.INTERRUPTED_FORM

    def _send_page(self, page: pages.Page, *, close: bool) -> None:
        self.status = page.status
        self._client.send(pages.response(page, method=self._head.method, keep_alive=not close))

    def _path(self) -> str:
        """The target without its query, which may hold what somebody searched for."""
        return self._head.target.split(b"?", 1)[0].decode("ascii")

    def log_line(self, seconds: float) -> str:
        """For the access log: who, what, the outcome, how long, and by whom."""
        return (
            f'{self._client.address} "{self._head.method} {self._path()}" {self.status} {self.sent} '
            f"{seconds * 1000:.0f}ms {self.backend}"
        )
