"""Cells made presentable: whatever a stranger put in."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as some

from adminconsole.inspection import DECODE_BYTES, HEX_BYTES, TEXT_CHARACTERS, hexdump, inspect


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (b"", "empty", ""),
        (b"hello\nthere", "text", "hello\nthere"),
        (b'{"to": ["ada"], "n": 1}', "JSON", '{\n  "to": [\n    "ada"\n  ],\n  "n": 1\n}'),
        (b"{not json", "text", "{not json"),
        (b"42", "text", "42"),
        ("Zoë".encode(), "text", "Zoë"),
        (
            msgpack.packb({"a": b"\x00\xff", 1: [None, True]}),
            "msgpack",
            '{\n  "a": "<2 bytes: 00 ff>",\n  "1": [\n    null,\n    true\n  ]\n}',
        ),
        (b"\x89PNG\r\n\x1a\n....", "PNG image", ""),
        (b"%PDF-1.7 \xe2\xe3", "PDF document", ""),
        (b"\xc1\x00\xff", "binary", ""),
        (b"\x00" * 20, "binary", ""),
    ],
)
def test_kinds(value: bytes, kind: str, shown: str) -> None:
    found = inspect(value)
    assert (found.kind, found.text) == (kind, shown)


def test_text_that_turns_direction_is_spelled_out() -> None:
    assert inspect("exe.\u202egpj".encode()).text == "exe.\\u{202e}gpj"


def test_a_long_text_is_cut_and_says_so_even_where_the_cut_goes_through_a_character() -> None:
    found = inspect("é".encode() * (3 * TEXT_CHARACTERS) + b"x")
    assert found.kind == "text"
    assert found.cut
    assert len(found.text) == TEXT_CHARACTERS
    odd = inspect(b"x" + "é".encode() * (3 * TEXT_CHARACTERS))
    assert odd.kind == "text"


def test_a_huge_value_is_not_decoded_but_its_beginning_is_shown() -> None:
    found = inspect(b"[" + b"1," * DECODE_BYTES + b"1]")
    assert found.kind == "text"
    assert found.cut
    assert found.hex_cut
    assert len(found.hexdump.splitlines()) == HEX_BYTES // 16


def test_deep_nesting_does_not_break_the_page() -> None:
    assert inspect(b"[" * 100_000).kind == "text"
    assert inspect(b"\x91" * 100_000).kind == "binary"


def test_hexdump() -> None:
    assert hexdump(b"ABCDEFGHIJKLMNOP\x00\xff") == (
        "00000000  41 42 43 44 45 46 47 48  49 4a 4b 4c 4d 4e 4f 50  |ABCDEFGHIJKLMNOP|\n"
        "00000010  00 ff                                             |..|"
    )


@given(some.binary(max_size=300) | some.text(max_size=200).map(lambda text: text.encode()))
def test_no_value_breaks_it_and_the_dump_gives_every_byte_back(value: bytes) -> None:
    found = inspect(value)
    assert found.size == len(value)
    digits = "".join(line[10:58].replace(" ", "") for line in found.hexdump.splitlines())
    assert bytes.fromhex(digits) == value
    assert not any(character < " " and character not in "\n\t" for character in found.text)


@given(
    some.dictionaries(
        some.text(max_size=5) | some.integers(0, 99), some.binary(max_size=5) | some.floats() | some.none(), min_size=1
    )
)
def test_every_msgpack_map_is_presentable(value: dict[object, object]) -> None:
    assert inspect(msgpack.packb(value)).kind in ("msgpack", "text", "JSON")
