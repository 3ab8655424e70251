"""The examples on the page about formats are what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

from kvstore.mutation import encode_head, encode_mutation
from kvstore.wire import WrittenMany, encode, encode_write

PAGE = Path(__file__).parents[3] / "docs" / "formats.md"


def examples() -> list[bytes]:
    """The bytes of each indented block that begins with hexadecimal digits."""
    blocks = re.split(r"\n\n", PAGE.read_text())
    found = []
    for block in blocks:
        lines = [re.match(r" {4,}((?:[0-9a-f]{2} {1,2})+)", line + " ") for line in block.split("\n")]
        if lines and all(lines):
            found.append(bytes.fromhex("".join(line[1] for line in lines if line).replace(" ", "")))
    return found


def test_the_examples_on_the_page_are_what_is_sent() -> None:
    mutation = encode_mutation(77, 5, 4, [], [[0, "alice:mail", "c", b"hi"]])
    write = b"".join(map(bytes, encode_write(1, 1, [9], encode_head([mutation]))))
    answer = b"".join(map(bytes, encode(WrittenMany(3, 1000, [9, 10]))))
    assert examples() == [write, answer]
