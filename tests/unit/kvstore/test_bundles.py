"""What is checked of bundles and entries where they arrive, and what is decoded only when it is applied."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore import settings, wire
from kvstore.errors import BadRequest
from kvstore.keys import MAX_KEY
from kvstore.messages import Append, Member
from kvstore.mutation import Bundle, Entry, bundle_of, check_bundle, decode_entry, encode_head, encode_mutation
from kvstore.storage.crc import crc32c

GOOD = [0, "row", "column", b"value"]
LARGE = bytes(range(256)) * (settings.BULK_VALUE // 256)


def batch(*operations: list[Any]) -> Bundle:
    return bundle_of(encode_mutation(1, 1, 0, [], operations))


def message_and_bulk(entry: Entry) -> tuple[bytes, bytearray]:
    """How a primary sends the entry."""
    sent = b"".join(map(bytes, wire.encode(Append(1, 4, Member("a", 1), 4, 9, [entry], 9))))
    length, _ = wire.FRAME.unpack_from(sent)
    head = wire.FRAME.size + length
    return sent[wire.FRAME.size : head], bytearray(sent[head:])


def arrived(message: bytes, bulk: bytearray) -> Entry:
    entry: Entry = wire.decode(message, bytes(bulk))[1].entries[0]
    return entry


class TestPutsAtTheEdge:
    @pytest.mark.parametrize(
        "bad",
        [
            [None, "row", "column", b"value"],
            ["", "row", "column", b"value"],
            [b"", "row", "column", b"value"],
            [[], "row", "column", b"value"],
            [4, "row", "column", b"value"],
            [0, "row", "column"],
            [0, "row", "column", b"value", b"more"],
            [0, "row", "column", "value"],
            [0, "row", "column", None],
            [0, "row", b"column", b"value"],
            [0, b"row", "column", b"value"],
            [0, 5, "column", b"value"],
            [0, "r" * (MAX_KEY + 1), "column", b"value"],
            [0, "row", "c" * (MAX_KEY + 1), b"value"],
            [0, "é" * (MAX_KEY // 2 + 1), "column", b"value"],
            [0, "row", "é" * (MAX_KEY // 2 + 1), b"value"],
            [0, "row", "column", LARGE],
        ],
        ids=lambda bad: repr(bad)[:40],
    )
    @pytest.mark.parametrize(("others", "place"), [(0, 0), (2, 0), (2, 1), (2, 2), (12, 0), (12, 6), (12, 12)])
    def test_one_that_is_not_in_order_among_others_that_are_has_the_bundle_refused(
        self, bad: list[Any], others: int, place: int
    ) -> None:
        operations: list[list[Any]] = [GOOD] * others
        operations.insert(place, bad)
        with pytest.raises(BadRequest):
            check_bundle(batch(*operations))

    def test_the_longest_keys_and_the_largest_value_that_is_no_bulk_one_are_taken(self) -> None:
        for others in ([], [GOOD] * 12):
            check_bundle(batch(*others, [0, "r" * MAX_KEY, "c" * MAX_KEY, LARGE[1:]], *others))
        check_bundle(
            batch(GOOD, [0, "é" * (MAX_KEY // 2), "é" * (MAX_KEY // 2), b""], [2, "row", "column"], [3, "row"])
        )


class TestEntriesOnTheirWay:
    def test_what_arrives_says_the_same_and_is_decoded_when_it_is_asked_for(self) -> None:
        bulk = encode_mutation(1, 3, 1, [], [[1, "row", "b", len(LARGE), crc32c(LARGE)]])
        sent = Entry(4, 10, [batch(GOOD), bundle_of(bulk, bulk=LARGE)], [0, 0])
        found = arrived(*message_and_bulk(sent))
        assert [bundle.decoded is None for bundle in found.bundles] == [True, False], (
            "the log asks for large values' checksums"
        )
        assert found.mutations == sent.mutations
        assert [bytes(bundle.bulk) for bundle in found.bundles] == [b"", LARGE]
        assert found.checksum == sent.checksum

    def test_a_bit_that_flips_anywhere_in_outcomes_or_heads_has_the_message_refused(self) -> None:
        message, bulk = message_and_bulk(Entry(4, 10, [batch(GOOD), batch(GOOD, GOOD)], [0, 1], [0, 2]))
        for at in range(len(bulk)):
            for bit in range(8):
                bulk[at] ^= 1 << bit
                with pytest.raises(BadRequest):
                    arrived(message, bulk)
                bulk[at] ^= 1 << bit
        assert arrived(message, bulk).count == 2

    def test_an_entry_is_described_by_four_numbers(self) -> None:
        message, bulk = message_and_bulk(Entry(4, 10, [batch(GOOD)], [0]))
        fields = wire.open_message(message)
        checksum = fields[-1][0][3]
        good = [4, 10, len(bulk), checksum]
        wire.read_message([*fields[:-1], [good]], bytes(bulk))
        for place, wrong in ((0, -1), (1, -1), (2, -1), (3, -1), (3, None), (3, True)):
            bad = [wrong if at == place else number for at, number in enumerate(good)]
            with pytest.raises(BadRequest):
                wire.read_message([*fields[:-1], [bad]], bytes(bulk))
        for described in ([4, 10, len(bulk)], [*good, 0]):
            with pytest.raises(BadRequest):
                wire.read_message([*fields[:-1], [described]], bytes(bulk))

    def test_heads_that_are_described_in_the_wrong_order_are_refused_where_they_are_decoded_at_once(self) -> None:
        one = encode_head([encode_mutation(1, 1, 0, [], [GOOD])])
        two = encode_head([encode_mutation(1, number, 0, [], [GOOD]) for number in (2, 3)])
        sent = Entry(4, 10, [Bundle(one, b"", 2), Bundle(two, b"", 1)], [0] * 3)
        with pytest.raises(BadRequest, match="another number"):
            decode_entry(4, 10, b"".join(map(bytes, sent.payload_parts)))

    def test_a_head_that_nobody_checked_ends_who_applies_it(self) -> None:
        """A primary has checked what it sends: one that cannot be read is a mistake of ours, not a partner's bad manners."""
        for head, count in ((b"no head", 1), (encode_head([encode_mutation(1, 1, 0, [], [GOOD])]), 2)):
            found = arrived(*message_and_bulk(Entry(4, 10, [Bundle(head, b"", count)], [0] * count)))
            with pytest.raises(AssertionError):
                found.mutations  # noqa: B018
