"""Keys, ranges and groups.

A cell is addressed by (row, column), both text. Text is ordered by its UTF-8 bytes; Python compares text by code point,
which is the same order (UTF-8 preserves it), so plain `<` on `str` is the store's order everywhere. Lone surrogates have
no UTF-8 form and are refused.

A *range* of rows is [start, end); an `end` of None has no upper bound.

A *group* is what the cluster's group rule (one regular expression, fixed when the cluster is made) matches at the start of
a row. A batch is atomic inside one group, and a tablet is split only between rows whose groups differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from kvstore.errors import BadRequest, ValueTooLarge

MAX_KEY = 1024
"""Longest row or column, in bytes of UTF-8."""


def checked(text: str, what: str) -> str:
    """`text` itself if it may be a row or a column, else `BadRequest` that names `what`."""
    if not isinstance(text, str):
        raise BadRequest(f"{what} must be text, not {type(text).__name__}")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise BadRequest(f"{what} holds a lone surrogate, which has no UTF-8 form") from error
    if size > MAX_KEY:
        raise ValueTooLarge(f"{what} is {size} bytes long; the most is {MAX_KEY}")
    return text


def prefix_end(prefix: str) -> str | None:
    """The least text above every text that begins with `prefix`; None if there is none (an empty prefix)."""
    for index in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[index])
        if point < 0x10FFFF:
            following = 0xE000 if point == 0xD7FF else point + 1  # step over the surrogates
            return prefix[:index] + chr(following)
    return None


def in_range(row: str, start: str, end: str | None) -> bool:
    """Whether `row` lies in [start, end)."""
    return row >= start and (end is None or row < end)


class GroupRule:
    """The cluster's rule that tells which rows may be written together."""

    def __init__(self, pattern: str) -> None:
        """`pattern`: a regular expression matched at the start of a row; `BadRequest` if it does not compile."""
        try:
            self._match = re.compile(pattern).match
        except re.error as error:
            raise BadRequest(f"the group rule is not a regular expression: {error}") from error
        self.pattern = pattern
        self._known = lru_cache(maxsize=4096)(self.group_of)
        """Groups of rows that came lately: in batches the same ones come again."""

    def group_of(self, row: str) -> str:
        """The group of `row`: what the rule matches at its start; the whole row if it matches nothing."""
        found = self._match(row)
        return found.group() if found else row

    def is_one_group(self, rows: Iterable[str]) -> bool:
        """Whether the groups of all `rows` are the same."""
        return len(set(map(self._known, rows))) <= 1

    def may_be_one_group(self, least: str, greatest: str) -> bool:
        """Whether rows of which these are the least and the greatest can be of one group: as `is_one_group`, if what lies
        between two rows of a group is always of it."""
        return least == greatest or self.group_of(least) == self.group_of(greatest)

    def may_split_at(self, row: str) -> bool:
        """Whether a tablet may be split so that `row` begins the upper half, judged by `row` alone.

        Sound when a group is contiguous: the split is between groups if `row` is the first of its own.
        """
        return self.group_of(row) == row
