"""Every message survives its trip over the wire; nothing malformed gets through as a message."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from enum import IntEnum
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import settings as settings_
from hypothesis import strategies as st

from kvstore import control, messages, questions, settings
from kvstore.codec import Malformed
from kvstore.errors import BadRequest
from kvstore.messages import Append, CellAnswer, Member, Page, TabletMap, Write
from kvstore.mutation import Bundle, Entry, bundle_of, encode_mutation
from kvstore.questions import Results
from kvstore.wire import FRAME, KINDS, WrittenMany, decode, encode, encode_get, encode_write, open_message

UINT = st.integers(min_value=0, max_value=2**64 - 1)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
BIG = b"v" * settings.BULK_VALUE


def flat(parts: list[Any]) -> tuple[bytes, bytes]:
    """The message and the bulk part of one encoded frame."""
    data = b"".join(map(bytes, parts))
    message_length, bulk_length = FRAME.unpack_from(data)
    assert len(data) == 8 + message_length + bulk_length
    return data[8 : 8 + message_length], data[8 + message_length :]


def round_trip(message: Any, request_id: int = 7) -> Any:
    if isinstance(message, Write):
        request_id = 0  # each mutation of the bundle has its own
    found_id, found = decode(*flat(encode(message, request_id)))
    assert found_id == request_id
    return found


@st.composite
def bundles(draw: Any) -> Bundle:
    encoded = []
    bulk = b""
    for _ in range(draw(st.integers(1, 3))):
        operations: list[Any] = [[0, draw(TEXT), draw(TEXT), draw(st.binary(max_size=50))]]
        if draw(st.booleans()):
            operations.append([1, draw(TEXT), draw(TEXT), len(BIG), 0])
            bulk += BIG
        encoded.append(encode_mutation(draw(UINT), draw(UINT), draw(UINT), [[0, draw(TEXT), draw(TEXT)]], operations))
    return bundle_of(*encoded, bulk=bulk)


@st.composite
def writes(draw: Any) -> Write:
    bundle = draw(bundles())
    ids = st.integers(min_value=1, max_value=2**64 - 1)
    return Write(draw(UINT), draw(UINT), [draw(ids) for _ in bundle.mutations], bundle)


@st.composite
def entries(draw: Any) -> Entry:
    found = draw(st.lists(bundles(), min_size=1, max_size=4))
    outcomes = [draw(st.integers(0, 1)) for bundle in found for _ in bundle.mutations]
    return Entry(draw(UINT), draw(UINT), found, outcomes, [outcome * 3 for outcome in outcomes])


def instances(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation of `kvstore.messages`."""
    if kind is Entry:
        return entries()
    if kind is Write:
        return writes()
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(
            typing.cast(type, kind), **{field.name: instances(hints[field.name]) for field in dataclasses.fields(kind)}
        )
    if isinstance(kind, type) and issubclass(kind, tuple):
        return st.builds(kind, **{name: instances(hint) for name, hint in typing.get_type_hints(kind).items()})
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return st.sampled_from(list(kind))
    plain = {
        int: UINT,
        str: TEXT,
        bool: st.booleans(),
        bytes: st.one_of(st.binary(max_size=30), st.just(BIG)),
        float: st.floats(allow_nan=False),
        object: st.one_of(st.none(), UINT, TEXT),
    }
    if kind in plain:
        return plain[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return st.lists(instances(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(instances(arguments[0]), instances(arguments[1]), max_size=3)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(instances(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*[instances(argument) for argument in arguments])
    (inner,) = [argument for argument in arguments if argument is not type(None)]
    return st.one_of(st.none(), instances(inner))


def comparable(value: Any) -> Any:
    """The value with every buffer as bytes, so that a view and the bytes it shows are equal."""
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, Entry):
        failed = list(value.failed) or [0] * value.count
        return [value.epoch, value.first, list(value.outcomes), failed, comparable(list(value.bundles))]
    if isinstance(value, Bundle):
        return [bytes(value.head), bytes(value.bulk), value.count, value.mutations]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *[comparable(getattr(value, f.name)) for f in dataclasses.fields(value)]]
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return value


class TestRoundTrip:
    @pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
    def test_every_message_arrives_as_it_was_sent(self, kind: type) -> None:
        @settings_(max_examples=25, deadline=None)
        @given(instances(kind), UINT)
        def check(message: Any, request_id: int) -> None:
            assert comparable(round_trip(message, request_id)) == comparable(message)

        check()

    def test_every_message_has_a_number(self) -> None:
        parts_of_others = {messages.Member, messages.Birth, messages.Configuration, messages.ReplicaReport}
        parts_of_others.add(messages.PeerMessage)
        declared = {
            found
            for module in (control, messages, questions)
            for _, found in inspect.getmembers(module, dataclasses.is_dataclass)
            if found.__module__ == module.__name__
        }
        assert declared - parts_of_others == set(KINDS.values())

    @given(st.lists(UINT, max_size=5), UINT, UINT)
    def test_many_answers_travel_as_one(self, ids: list[int], first: int, epoch: int) -> None:
        found = round_trip(WrittenMany(epoch, first, ids), 0)
        assert (found.epoch, found.first, found.ids) == (epoch, first, ids)

    def test_a_get_is_written_without_a_message_as_with_one(self) -> None:
        assert [encode_get(3, 1, "row", "column", 9)] == encode(messages.Get(3, 1, "row", "column"), 9)

    def test_a_secondary_passes_an_entry_on_as_the_bytes_that_came(self) -> None:
        encoded = encode_mutation(1, 2, 2, [], [[1, "r", "c", len(BIG), 0]])
        entry = Entry(4, 10, [bundle_of(encoded, bulk=BIG)], [0])
        append = round_trip(Append(1, 4, Member("a", 1), 4, 9, [entry], 9))
        assert b"".join(map(bytes, append.entries[0].payload_parts)) == b"".join(map(bytes, entry.payload_parts))
        assert append.entries[0].bulk_start == entry.bulk_start


class TestLargeValues:
    def test_a_large_value_travels_outside_msgpack_and_is_not_copied(self) -> None:
        for message in (
            CellAnswer(1, 2, BIG),
            Results(1, 1, BIG, 5),
            Page([("r", "c", 1, 2, len(BIG), BIG)], False, 2),
        ):
            parts = encode(message, 1)
            assert parts[-1] is BIG
            assert len(parts[0]) < 100

    def test_a_write_carries_its_bulk_part_as_it_is(self) -> None:
        encoded = encode_mutation(1, 2, 2, [], [[1, "r", "c", len(BIG), 0]])
        parts = encode(Write(1, 1, [1], bundle_of(encoded, bulk=BIG)))
        assert parts[-1] is BIG


class TestMalformed:
    @given(st.binary(max_size=60))
    def test_garbage_is_refused_and_nothing_else_happens(self, data: bytes) -> None:
        try:
            decode(data, b"")
        except BadRequest:
            return
        fields = msgpack.unpackb(data, strict_map_key=False)
        assert fields[0] in KINDS or fields[0] == 4

    @given(st.sampled_from(sorted(KINDS)), st.lists(st.one_of(UINT, TEXT, st.none(), st.lists(UINT)), max_size=8))
    def test_wrong_fields_are_refused_as_malformed(self, kind: int, fields: list[Any]) -> None:
        try:
            decode(msgpack.packb([kind, 1, *fields]), b"")
        except BadRequest:
            return
        # what was accepted must be a message that says the same again
        _, message = decode(msgpack.packb([kind, 1, *fields]), b"")
        assert comparable(round_trip(message, 1)) == comparable(message)

    def test_an_unknown_kind_is_an_error(self) -> None:
        with pytest.raises(Malformed, match="unknown kind"):
            open_message(msgpack.packb([99, 1]))

    def test_a_true_is_no_number(self) -> None:
        with pytest.raises(Malformed):
            decode(msgpack.packb([71, 1, "node1", True]))

    def test_a_bulk_part_that_does_not_fit_its_message_is_refused(self) -> None:
        page, bulk = flat(encode(Page([("r", "c", 1, 2, len(BIG), BIG)], False, 2), 1))
        for wrong in (bulk[:-1], bulk + b"x"):
            with pytest.raises(Malformed):
                decode(page, wrong)

    def test_a_write_has_an_id_for_each_mutation_and_holds_at_least_one(self) -> None:
        head = bundle_of(encode_mutation(1, 2, 2, [], [[3, "r"]]), encode_mutation(1, 3, 2, [], [[3, "r"]])).head
        decode(msgpack.packb([2, 0, 1, 1, [5, 6], head]))
        for ids, wrong in (([5], head), ([5, 6, 7], head), ([5, 0], head), ([5, True], head), ([], b"\x90")):
            with pytest.raises(Malformed):
                decode(msgpack.packb([2, 0, 1, 1, ids, wrong]))

    def test_a_write_of_more_mutations_than_any_client_bundles_is_refused_before_they_are_looked_at(self) -> None:
        ids = list(range(1, settings.MAX_OPERATIONS + 2))
        with pytest.raises(Malformed, match="at most"):
            decode(*flat(encode_write(1, 1, ids, b"not even a head")))

    def test_a_message_without_bulk_part_takes_none(self) -> None:
        message, _ = flat(encode(TabletMap([], {}, "x"), 1))
        with pytest.raises(Malformed, match="no bulk part"):
            decode(message, b"x")

    def test_what_is_over_the_limit_is_not_even_sent(self) -> None:
        with pytest.raises(Malformed, match="limit"):
            encode(messages.Refused("BadRequest", "x" * (settings.MAX_MESSAGE + 1)), 1)
