"""A file on its way in: chunks written while they arrive, visible all at once when it is whole, or never.

What happens, and what a crash after each step leaves:

1. An intent is announced and recorded (`outbox`), with a lease cell. Left behind: an intent whose lease stands still.
2. The file's `open` cell is put; then the intent is read again. Only if it is still there are chunks written, each in a batch
   that requires `open`. So whoever removes `open` knows that no chunk will ever follow, not even one that was delayed.
3. While it runs, the lease is renewed every `BEAT` seconds, as long as bytes came in the last `STALL` seconds.
4. One batch makes the file a member of its folder and removes the intent, requiring that it is there. An upload that was taken
   for dead and collected can therefore not appear; one that appeared cannot be collected.
5. `open` and the index entry are removed. If not, the worker drops the entry later, and `open` goes with the file.

Memory: one chunk being filled, at most `IN_FLIGHT` being written, and what the store's client copies of those. Whoever feeds
`write` waits while `IN_FLIGHT` chunks are under way, so the sender is held back by the socket.
"""

from __future__ import annotations

import hashlib
import logging
import mimetypes
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from drive import names, outbox, schema
from drive.collect import LEASE, carry_out
from drive.errors import BrokenOff, DriveError, TooLarge, UploadLost
from drive.node import Node, NodeType, now, put_attributes
from drive.outbox import Kind
from drive.tree import Tree, settle
from kvstore.client import Batch, Client
from kvstore.errors import FindOut, RequirementFailed, StoreError, TryAgain

log = logging.getLogger(__name__)

IN_FLIGHT = 3
"""Chunks being written at the same time."""

READ_SIZE = 256 * 1024
"""Bytes asked of the sender at a time."""

BEAT = 20.0
"""Seconds between two renewals of the lease."""

STALL = 300.0
"""Seconds without a byte from the sender after which the lease is left to run out."""

PATIENCE = 60.0
"""Seconds for which a chunk is written again when the store's client gave up: a failover may outlast its timeout."""

assert LEASE > 4 * BEAT, "a renewal may be late, and one may fail, without the upload being taken for dead"

OCTETS = "application/octet-stream"
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,60}/[a-z0-9][a-z0-9!#$&^_.+-]{0,90}")


def clean_content_type(raw: str, name: str) -> str:
    """What a browser says that a file is, without parameters; guessed by the name if it says nothing usable."""
    given = raw.partition(";")[0].strip().lower()
    if _CONTENT_TYPE.fullmatch(given) and given != OCTETS:
        return given
    return mimetypes.guess_type(name)[0] or OCTETS


def check_size(size: int, limit: int) -> None:
    """`TooLarge` if a file of `size` bytes may not be uploaded."""
    if size > limit:
        raise TooLarge(limit)


class Upload:
    """One file on its way in. Use in a `with`: left without `commit`, nothing of it stays.

    `write` as bytes come, then `finish`, then `commit`. Not for several threads at once.
    """

    def __init__(
        self,
        store: Client,
        user: str,
        folder: str,
        raw_name: str,
        content_type: str,
        limit: int,
        uid: str | None = None,
    ) -> None:
        """Check the folder and the name, and do steps 1 and 2. `NotFound`, `InvalidName`, `TooDeep`, store errors.

        `limit`: most bytes. `uid`: chosen by the sender, so that it can ask about this very try later (`give_up_earlier`);
        `UploadLost` if it was used before.
        """
        self.store, self.user, self.limit = store, user, limit
        self.tree = Tree(store, user)
        self.name = names.clean(raw_name)
        self.content_type = clean_content_type(content_type, self.name)
        self.folder = self.tree.receiving_folder(folder).uid
        self.uid = uid or schema.new_uid()
        self.size = self.chunks = 0
        self._intent = outbox.encode(Kind.UPLOAD, folder=self.folder, started=now().isoformat())
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._pending: deque[Future[None]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._over = threading.Event()
        self._last_byte = time.monotonic()
        self._open()

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self) -> None:
        outbox.announce(self.store, self.user, self.uid)
        batch = Batch().put(schema.work_row(self.user), schema.lease_column(self.uid), b"")
        outbox.record(batch, self.user, self.uid, self._intent)
        try:
            self.store.apply(batch.require(schema.node_row(self.user, self.uid), "type", None))
        except RequirementFailed:
            raise UploadLost from None
        threading.Thread(target=self._renew, name=f"drive-lease-{self.uid}", daemon=True).start()
        try:
            self.store.put(schema.open_row(self.user, self.uid), schema.OPEN, schema.IS_OPEN)
            if not self._is_mine():
                raise UploadLost
        except BaseException:
            self.close()
            raise

    def _is_mine(self) -> bool:
        """Whether the intent is still the one that was recorded: nobody has given this upload up, and it is not committed."""
        cell = self.store.get(schema.work_row(self.user), self.uid)
        return cell is not None and cell.value == self._intent

    # --- Bytes ------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Take the next bytes. Waits while `IN_FLIGHT` chunks are being written. `TooLarge`, `UploadLost`, store errors."""
        self._last_byte = time.monotonic()
        check_size(self.size + len(data), self.limit)
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            room = schema.CHUNK_SIZE - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == schema.CHUNK_SIZE:
                self._send()

    def finish(self, expected: int | None = None) -> None:
        """All bytes are here: wait until all are stored. `BrokenOff` if there are not `expected` of them."""
        if expected is not None and self.size != expected:
            raise BrokenOff(f"The upload broke off after {self.size} of {expected} bytes.")
        if self._buffer and self._pool is None:
            self._put_chunk(0, self._take_buffer())
        elif self._buffer:
            self._send()
        while self._pending:
            self._pending.popleft().result()

    def _take_buffer(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer = bytearray()
        self.chunks += 1
        return data

    def _send(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix=f"drive-chunks-{self.uid}")
        while len(self._pending) >= IN_FLIGHT:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._put_chunk, self.chunks, self._take_buffer()))

    def _put_chunk(self, number: int, data: bytes) -> None:
        opened, row = schema.open_row(self.user, self.uid), schema.chunk_row(self.user, self.uid, number)
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                self.store.apply(Batch().require(opened, schema.OPEN, schema.IS_OPEN).put(row, schema.CHUNK, data))
            except RequirementFailed:
                raise UploadLost from None
            except (TryAgain, FindOut):
                # Writing the same chunk again changes nothing, so an unknown outcome needs no finding out.
                if time.monotonic() >= give_up or self._over.wait(0.2):
                    raise
                continue
            return

    # --- The end ----------------------------------------------------------------------------------------------------

    def commit(self) -> Node:
        """Make the file visible. Its name may have got a number. `NotFound` if the folder is gone, `UploadLost`."""
        created = now()

        def build() -> tuple[Batch | None, Node]:
            if not self._is_mine():
                return None, self._committed()
            folder = self.tree.receiving_folder(self.folder)
            node = Node(
                uid=self.uid,
                type=NodeType.FILE,
                parent=folder.uid,
                name=self.tree.free_name(folder, self.name),
                created=created,
                modified=created,
                size=self.size,
                content_type=self.content_type,
                chunks=self.chunks,
                sha256=self._hash.hexdigest(),
            )
            batch = Batch()
            self.tree.put_member(batch, node)
            put_attributes(batch, self.user, node)
            outbox.drop(batch, self.user, self.uid, self._intent)
            return batch, node

        node = settle(self.store, build)
        self._stop()
        self._tidy()
        return node

    def _committed(self) -> Node:
        """The intent is gone: either an earlier try to commit went through, or the upload was given up."""
        try:
            return self.tree.find(self.uid)
        except DriveError:
            raise UploadLost from None

    def _tidy(self) -> None:
        try:
            self.store.delete_row(schema.open_row(self.user, self.uid))
            outbox.retract(self.store, self.user, self.uid)
        except StoreError as error:
            log.info("the worker will tidy up after upload %s: %r", self.uid, error)

    def close(self) -> None:
        """After `commit`: nothing. Before: give up, and remove what was written, or leave that to the collector."""
        if self._over.is_set():
            return
        self._stop()
        try:
            value = outbox.turn_to_purge(self.store, Batch(), self.user, self.uid, self._intent)
            for _ in carry_out(self.store, self.user, self.uid, value):
                pass
        except RequirementFailed:
            return  # committed after all (a commit of unknown outcome), or already being collected
        except StoreError as error:
            log.warning("upload %s broke off and is left to the collector: %r", self.uid, error)

    def _stop(self) -> None:
        self._over.set()
        self._buffer = bytearray()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def _renew(self) -> None:
        row, column = schema.work_row(self.user), schema.lease_column(self.uid)
        while not self._over.wait(BEAT):
            if time.monotonic() - self._last_byte > STALL:
                continue
            batch = Batch().require(row, self.uid, self._intent).put(row, column, now().isoformat().encode())
            try:
                self.store.apply(batch)
            except RequirementFailed:
                return  # over, one way or the other; `commit` finds out which
            except StoreError as error:
                log.info("the lease of upload %s was not renewed: %r", self.uid, error)


def give_up_earlier(store: Client, user: str, uid: str) -> Node | None:
    """Settle an earlier try that the sender got no answer to: its file if that became visible; else None, and it never will.

    So a sender that tries again never ends up with the file twice. `UploadLost` if `uid` has not the form of a uid.
    """
    if not schema.is_uid(uid):
        raise UploadLost

    def build() -> tuple[Batch | None, Node | None]:
        intent = store.get(schema.work_row(user), uid)
        batch = Batch()
        if intent is not None:
            if outbox.decode(intent.value)[0] is not Kind.UPLOAD:
                return None, None
            outbox.purge_instead(batch, user, uid, intent.value)
            return batch, None
        try:
            return None, Tree(store, user).find(uid)
        except DriveError:
            outbox.record(batch, user, uid, outbox.encode(Kind.VOID))
            return batch, None

    return settle(store, build)


def receive(upload: Upload, read: Callable[[int], bytes], length: int) -> None:
    """Read exactly `length` bytes from `read` into the upload and finish it. `BrokenOff` if they do not come."""
    left = length
    while left:
        try:
            data = read(min(READ_SIZE, left))
        except OSError as error:  # what servers raise when the sender is gone
            raise BrokenOff(f"The upload broke off after {upload.size} of {length} bytes.") from error
        if not data:
            break
        upload.write(data)
        left -= len(data)
    upload.finish(expected=length)
