"""How the console says numbers, ages, lists and key ranges. Plain text in, plain text out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from penncloud_site.templatetags.human import human_size as size

__all__ = ["age", "count", "key_range", "listing", "readable_key", "size"]


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 tablet`, `2 tablets`, `1,204 cells`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def age(seconds: float) -> str:
    """A length of time the way one says it: `0.4 s`, `14 s`, `3 min`, `2 h`, `5 days`."""
    if seconds < 2:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def listing(words: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def readable_key(key: str) -> str:
    """A row or column as one line that cannot deceive: what does not print (control characters, marks that turn the
    direction of text, zero-width ones, line ends) is spelled `\\u{…}`."""
    if key.isascii() and key.isprintable():
        return key
    return "".join(
        character
        if character == " " or unicodedata.category(character)[0] not in "CZ"
        else f"\\u{{{ord(character):x}}}"
        for character in key
    )


def key_range(start: str, end: str | None) -> str:
    """A tablet's range: `from the first row up to “m”`, `“m” to the last row`, `every row`."""
    if not start and end is None:
        return "every row"
    lower = f"“{readable_key(start)}”" if start else "the first row"
    upper = f"up to “{readable_key(end)}”" if end is not None else "to the last row"
    return f"{lower} {upper}"
