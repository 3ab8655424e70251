"""The wire format: what every byte between PennCloud's processes means.

A connection begins with the handshake of `kvstore.handshake`: until both sides have proved that they hold the cluster key,
nothing else is read. After it, both directions carry frames, back to back. Nothing is encrypted: the key keeps strangers
out, and a network that others can read or write belongs inside a tunnel.

Frame, integers big-endian:

    u32 message length   at most MAX_MESSAGE
    u32 bulk length      at most MAX_BULK from a client, MAX_PEER_BULK from a node
    message              msgpack array [kind, request id, field, field, …]
    bulk                 raw bytes; what they are depends on the kind

The lengths are checked before anything is allocated for them. A frame that breaks a limit, is not msgpack or has an unknown
kind ends the connection: there is no telling where the next one would begin, or what the sender means.

`request id`: a request's sender picks it (it must differ from its others in flight on the connection, and not be 0); the
answer repeats it. Messages that want no answer carry 0. Answers come in any order.

`kind` is a number of `KINDS` below. The fields are those of the dataclass in `kvstore.messages`, `control` or `questions`, in
order, as `kvstore.codec` writes them, with these exceptions, which keep values out of msgpack and hot messages small:

    Write        [.., tablet, range version, [id, …], head: bin]             bulk = the bundle's bulk part; request id 0: each
                                                                             mutation of the bundle has its own
    WrittenMany  [.., epoch, first sequence, [id, …]]                        request id 0: a `Written` for each id, all OK;
                                                                             the sequences count up
    CellAnswer   [.., epoch, sequence, value: bin | nil]                     nil: the value is the bulk part
    Page         [.., [cell, …], more, commit]                               cell = [row, column, epoch, sequence, size,
                                                                             value: bin | length]; a length: the next
                                                                             so many bytes of the bulk part
    Append       [.., tablet, epoch, node, incarnation, previous epoch, previous, commit, [entry, …]]
                                                                             entry = [epoch, first, length, `Entry.checksum`];
                                                                             bulk = the entries' payloads, end to end
    Results      [.., commit, commit epoch, digest]                          bulk = the encoded table

Values of BULK_VALUE bytes and more travel in the bulk part, smaller ones in the message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from kvstore import control, messages, questions, settings
from kvstore.codec import Malformed, reader, writer
from kvstore.mutation import Buffer, Bundle, Entry, decode_entry, decode_head

PROTOCOL_VERSION = 4

FRAME = struct.Struct("!II")
assert FRAME.size == 8

KINDS: dict[int, type] = {
    1: messages.Refused,
    2: messages.Write,
    3: messages.Written,
    # 4: many Written, see `WrittenMany`
    5: messages.Get,
    6: messages.CellAnswer,
    7: messages.GetRow,
    8: messages.Scan,
    9: messages.Page,
    10: messages.GetMap,
    11: messages.TabletMap,
    12: questions.ReadResults,
    13: questions.Results,
    14: questions.ReadChanges,
    15: questions.Changes,
    32: messages.Establish,
    33: messages.Append,
    34: messages.Acknowledge,
    35: messages.PeerRefusal,
    36: messages.CommitPoint,
    37: questions.AskCommitPoint,
    38: messages.Join,
    39: messages.JoinAccepted,
    40: messages.CaughtUp,
    41: messages.Relinquish,
    42: messages.Beacon,
    43: messages.Grant,
    44: messages.Announce,
    64: messages.Register,
    65: messages.Registered,
    66: messages.Heartbeat,
    67: messages.Configure,
    68: messages.ChangeRequest,
    69: messages.ChangeAnswer,
    70: messages.ReplicaDamaged,
    71: control.ProcessExited,
    72: control.SetDisabled,
    73: control.GetStatus,
    74: control.Status,
    75: control.Done,
    76: control.SetRebuildAfter,
    77: control.SplitTablet,
    78: control.WasSplit,
    79: control.SetSplitAbove,
    80: control.MoveReplica,
    81: control.WithdrawMove,
    82: control.SetSpread,
    83: messages.ProposeSplit,
    84: messages.SplitRequest,
    85: messages.SplitDeclined,
}
NUMBERS: dict[type, int] = {kind: number for number, kind in KINDS.items()}

WRITE, WRITTEN_MANY, GET, CELL_ANSWER, APPEND = 2, 4, 5, 6, 33

_BULK = settings.BULK_VALUE
_pack: Callable[[Any], bytes] = msgpack.Packer(autoreset=True).pack
_frame = FRAME.pack


class WrittenMany:
    """Many writes answered at once: `ids[i]` is `Written(OK, epoch, first + i)`."""

    __slots__ = ("epoch", "first", "ids")

    def __init__(self, epoch: int, first: int, ids: list[int]) -> None:
        self.epoch = epoch
        self.first = first
        self.ids = ids


def frame(fields: list[Any], bulk: Iterable[Buffer] = (), bulk_length: int = 0) -> list[Buffer]:
    """A frame with these fields as its message, as buffers to be sent in order. `bulk` adds up to `bulk_length` bytes."""
    message = _pack(fields)
    if len(message) > settings.MAX_MESSAGE or bulk_length > settings.MAX_PEER_BULK:
        raise Malformed(f"a message of {len(message)} + {bulk_length} bytes is over the limit of the wire format")
    return [_frame(len(message), bulk_length) + message, *bulk]


# ---------------------------------------------------------------- writing


def encode(message: Any, request_id: int = 0) -> list[Buffer]:
    """The frame of `message`, as buffers to be sent in order; large values among them are not copied."""
    special = _SPECIAL_WRITERS.get(type(message))
    if special is not None:
        return special(message, request_id)
    number = NUMBERS[type(message)]
    kind: Any = type(message)
    return frame([number, request_id, *writer(kind)(message)])


def encode_write(tablet: int, range_version: int, ids: list[int], head: Buffer, bulk: Buffer = b"") -> list[Buffer]:
    """The frame of a `Write`, without making the message first."""
    message = _pack([WRITE, 0, tablet, range_version, ids, head])
    if bulk:
        return [_frame(len(message), len(bulk)) + message, bulk]
    return [_frame(len(message), 0) + message]


def encode_get(tablet: int, range_version: int, row: str, column: str, request_id: int) -> bytes:
    """The frame of a `Get`, without making the message first."""
    message = _pack([GET, request_id, tablet, range_version, row, column])
    return _frame(len(message), 0) + message


def encode_written_many(epoch: int, first: int, ids: list[int]) -> list[Buffer]:
    """The frame of a `WrittenMany`, without making the message first."""
    message = _pack([WRITTEN_MANY, 0, epoch, first, ids])
    return [_frame(len(message), 0) + message]


def _write_write(message: messages.Write, request_id: int) -> list[Buffer]:
    assert request_id == 0
    bundle = message.bundle
    return encode_write(message.tablet, message.range_version, message.ids, bundle.head, bundle.bulk)


def _write_written_many(message: WrittenMany, request_id: int) -> list[Buffer]:
    assert request_id == 0
    return encode_written_many(message.epoch, message.first, message.ids)


def _write_cell_answer(message: messages.CellAnswer, request_id: int) -> list[Buffer]:
    value = message.value
    if len(value) >= _BULK:
        return frame([CELL_ANSWER, request_id, message.epoch, message.sequence, None], [value], len(value))
    packed = _pack([CELL_ANSWER, request_id, message.epoch, message.sequence, value])
    return [_frame(len(packed), 0) + packed]


def _write_page(message: messages.Page, request_id: int) -> list[Buffer]:
    cells: list[Any] = []
    bulk: list[Buffer] = []
    bulk_length = 0
    for cell in message.cells:
        value = cell[5]
        if len(value) >= _BULK:
            bulk.append(value)
            bulk_length += len(value)
            cells.append([*cell[:5], len(value)])
        else:
            cells.append(cell)
    return frame([NUMBERS[messages.Page], request_id, cells, message.more, message.commit], bulk, bulk_length)


def _entries_and_bulk(entries: Iterable[Entry]) -> tuple[list[list[int]], list[Buffer], int]:
    described: list[list[int]] = []
    bulk: list[Buffer] = []
    total = 0
    for entry in entries:
        parts = entry.payload_parts
        length = sum(map(len, parts))
        described.append([entry.epoch, entry.first, length, entry.checksum])
        bulk += parts
        total += length
    return described, bulk, total


def _write_append(message: messages.Append, request_id: int) -> list[Buffer]:
    described, bulk, total = _entries_and_bulk(message.entries)
    head = [APPEND, request_id, message.tablet, message.epoch, message.sender.node, message.sender.incarnation]
    return frame([*head, message.previous_epoch, message.previous, message.commit, described], bulk, total)


def _write_results(message: questions.Results, request_id: int) -> list[Buffer]:
    fields = [NUMBERS[questions.Results], request_id, message.commit, message.commit_epoch, message.digest]
    return frame(fields, [message.encoded], len(message.encoded))


_SPECIAL_WRITERS: dict[type, Callable[[Any, int], list[Buffer]]] = {
    messages.Write: _write_write,
    WrittenMany: _write_written_many,
    messages.CellAnswer: _write_cell_answer,
    messages.Page: _write_page,
    messages.Append: _write_append,
    questions.Results: _write_results,
}


# ---------------------------------------------------------------- reading


def open_message(message: Buffer) -> list[Any]:
    """The fields of a frame's message, [kind, request id, …]; `Malformed` when it is not such an array of a known kind."""
    try:
        fields = msgpack.unpackb(message, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"not msgpack: {error}") from error
    if type(fields) is not list or len(fields) < 2 or type(fields[0]) is not int or type(fields[1]) is not int:
        raise Malformed("a message is an array that begins with its kind and a request id")
    if fields[0] not in _READERS:
        raise Malformed(f"unknown kind of message: {fields[0]}")
    return fields


def read_message(fields: list[Any], bulk: Buffer) -> Any:
    """The message in `fields` (as `open_message` gave them) and `bulk`; `BadRequest` when its fields are not in order."""
    return _READERS[fields[0]](fields, bulk)


def decode(message: Buffer, bulk: Buffer = b"") -> tuple[int, Any]:
    """The request id and the message of a frame."""
    fields = open_message(message)
    return fields[1], read_message(fields, bulk)


def _checked_fields(fields: list[Any], *kinds: type) -> list[Any]:
    """The fields after kind and request id, if they are exactly of these types."""
    found = fields[2:]
    if len(found) != len(kinds):
        raise Malformed(f"message kind {fields[0]} has {len(kinds)} fields, not {len(found)}")
    for value, kind in zip(found, kinds, strict=True):
        if type(value) is not kind:
            raise Malformed(f"message kind {fields[0]}: {type(value).__name__} where {kind.__name__} was expected")
    return found


def _read_write(fields: list[Any], bulk: Buffer) -> messages.Write:
    try:
        _, _, tablet, range_version, ids, head = fields
    except ValueError as error:
        raise Malformed(f"a Write has 4 fields, not {len(fields) - 2}") from error
    if not (type(tablet) is type(range_version) is int and type(ids) is list and type(head) is bytes):
        raise Malformed(
            "a Write names tablet and range version by numbers, its ids by an array, and has a head of bytes"
        )
    if len(ids) > settings.MAX_OPERATIONS:
        raise Malformed(f"a Write holds at most {settings.MAX_OPERATIONS} mutations")
    mutations = decode_head(head)
    if len(ids) != len(mutations):
        raise Malformed("a Write has an id above 0 for each of its mutations")
    for each in ids:
        if type(each) is not int or each <= 0:
            raise Malformed("a Write has an id above 0 for each of its mutations")
    if not ids:
        raise Malformed("a Write holds at least one mutation")
    return messages.Write(tablet, range_version, ids, Bundle(head, bulk, len(mutations), mutations))


def _read_written_many(fields: list[Any], bulk: Buffer) -> WrittenMany:
    try:
        _, _, epoch, first, ids = fields
    except ValueError as error:
        raise Malformed(f"a WrittenMany has 3 fields, not {len(fields) - 2}") from error
    if not (type(epoch) is type(first) is int and type(ids) is list):
        raise Malformed("a WrittenMany has a version of two whole numbers, and its ids in an array")
    return WrittenMany(epoch, first, ids)


def _read_cell_answer(fields: list[Any], bulk: Buffer) -> messages.CellAnswer:
    try:
        _, _, epoch, sequence, value = fields
    except ValueError as error:
        raise Malformed(f"a CellAnswer has 3 fields, not {len(fields) - 2}") from error
    if type(epoch) is not int or type(sequence) is not int:
        raise Malformed("a cell's version is two whole numbers")
    if value is None:
        value = bulk
    elif type(value) is not bytes:
        raise Malformed("a cell's value is bytes")
    return messages.CellAnswer(epoch, sequence, value)


def _read_page(fields: list[Any], bulk: Buffer) -> messages.Page:
    cells, more, commit = _checked_fields(fields, list, bool, int)
    at = 0
    for index, cell in enumerate(cells):
        if type(cell) is not list or len(cell) != 6:
            raise Malformed("a cell of a page has six members")
        row, column, epoch, sequence, size, value = cell
        if type(row) is not str or type(column) is not str:
            raise Malformed("row and column are text")
        if type(epoch) is not int or type(sequence) is not int or type(size) is not int:
            raise Malformed("a cell's version and size are whole numbers")
        if type(value) is int:
            if not 0 <= value <= len(bulk) - at:
                raise Malformed("the bulk part ends before its values do")
            cell[5] = bytes(bulk[at : at + value])
            at += value
        elif type(value) is not bytes:
            raise Malformed("a cell's value is bytes")
        cells[index] = tuple(cell)
    if at != len(bulk):
        raise Malformed("the bulk part goes on after its last value")
    return messages.Page(cells, more, commit)


def _read_entries(described: list[Any], bulk: Buffer) -> list[Entry]:
    view = memoryview(bulk)
    entries: list[Entry] = []
    at = 0
    for item in described:
        if type(item) is not list or len(item) != 4:
            raise Malformed("an entry is described by its epoch, first sequence, length and checksum")
        epoch, first, length, checksum = item
        if not (
            type(epoch) is type(first) is type(length) is type(checksum) is int and epoch >= 0 <= first and length >= 0
        ):
            raise Malformed("an entry is described by its epoch, first sequence, length and checksum")
        if length > len(view) - at:
            raise Malformed("the bulk part ends before its entries do")
        payload = bulk if length == len(bulk) else view[at : at + length]
        entries.append(decode_entry(epoch, first, payload, checksum))
        at += length
    if at != len(view):
        raise Malformed("the bulk part goes on after its last entry")
    return entries


def _read_append(fields: list[Any], bulk: Buffer) -> messages.Append:
    found = _checked_fields(fields, int, int, str, int, int, int, int, list)
    tablet, epoch, node, incarnation, previous_epoch, previous, commit, described = found
    entries = _read_entries(described, bulk)
    return messages.Append(tablet, epoch, messages.Member(node, incarnation), previous_epoch, previous, entries, commit)


def _read_results(fields: list[Any], bulk: Buffer) -> questions.Results:
    commit, commit_epoch, digest = _checked_fields(fields, int, int, int)
    return questions.Results(commit, commit_epoch, bytes(bulk), digest)


def _plain_reader(kind: type) -> Callable[[list[Any], Buffer], Any]:
    """The reader of a kind without exceptions: its fields as they are declared, and no bulk part."""

    def read(fields: list[Any], bulk: Buffer) -> Any:
        if bulk:
            raise Malformed(f"a {kind.__name__} has no bulk part")
        return reader(kind)(fields[2:])

    return read


_READERS: dict[int, Callable[[list[Any], Buffer], Any]] = {
    **{number: _plain_reader(kind) for number, kind in KINDS.items()},
    WRITE: _read_write,
    WRITTEN_MANY: _read_written_many,
    CELL_ANSWER: _read_cell_answer,
    NUMBERS[messages.Page]: _read_page,
    NUMBERS[questions.Results]: _read_results,
    APPEND: _read_append,
}
