"""Names of files and folders: what is allowed, what counts as the same, and how a free one is found.

A name is a label that the user, or anybody who sent the user a file, chose: hostile until `clean` has let it through. What it
lets through is NFC text of 1 to 255 bytes of UTF-8 without `/`, control characters, line or paragraph separators and
characters that turn the direction of text (with which `gpj.exe` is made to look like `exe.jpg`), and not `.` or `..`. Blanks at
either end are dropped, since nobody can see them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from drive.errors import InvalidName

MAX_BYTES = 255
"""Longest name, in bytes of UTF-8: what common file systems take, so that a download can keep it."""

_KEPT = 40
"""Letters of a stem that `numbered` never cuts off: the longest take 4 bytes, and a tail at most 25."""

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NUMBERED = re.compile(r"(?P<stem>.+) \((?P<number>[1-9][0-9]{0,5})\)", re.DOTALL)


def clean(raw: str) -> str:
    """The name in the form that is stored; `InvalidName` with a sentence for the user otherwise."""
    name = unicodedata.normalize("NFC", raw).strip()
    if not name:
        raise InvalidName("Give it a name.")
    if name in (".", ".."):
        raise InvalidName(f"“{name}” has a meaning of its own and cannot be a name.")
    if "/" in name:
        raise InvalidName("A name cannot contain a slash (/).")
    for character in name:
        if character in _TURNING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise InvalidName("The name contains a character that cannot be seen and is not allowed.")
    if len(name.encode()) > MAX_BYTES:
        raise InvalidName(f"The name is too long: the most is {MAX_BYTES} bytes, about {MAX_BYTES} letters.")
    return name


def key(name: str) -> str:
    """Names with the same key cannot be in one folder: capitals do not distinguish (many computers cannot either).

    At most 765 bytes: a character's folded form has at most three times its bytes.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def split_extension(name: str) -> tuple[str, str]:
    """(stem, extension with its dot). A short last part alone counts: `a.tar.gz` has `.gz`, `.profile` has none."""
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem or not 1 <= len(extension) <= 10 or " " in extension:
        return name, ""
    return stem, dot + extension


def shared_prefix(name: str) -> str:
    """What the keys of `name` and of everything `numbered` may make of it begin with, to be listed in one read."""
    stem = _stem(name)
    if len(stem) <= _KEPT:
        return key(stem)
    # Cut in the middle of a word, the last letter may be one that the next letter (an accent) would have changed.
    return key(stem[:_KEPT])[:-3]


def _stem(name: str) -> str:
    stem = split_extension(name)[0]
    found = _NUMBERED.fullmatch(stem)
    return found["stem"] if found else stem


def numbered(name: str, taken: Iterable[str]) -> str:
    """`name` itself if its key is not among the keys `taken`, else the first free of `stem (2).ext`, `stem (3).ext`, …"""
    keys = frozenset(taken)
    if key(name) not in keys:
        return name
    extension = split_extension(name)[1]
    stem, number = _stem(name), 2
    while True:
        candidate = _fitted(stem, f" ({number}){extension}")
        if key(candidate) not in keys:
            return candidate
        number += 1


def _fitted(stem: str, tail: str) -> str:
    """`stem` + `tail`, the stem shortened by whole characters so that both fit."""
    room = MAX_BYTES - len(tail.encode())
    short = stem.encode()[:room].decode(errors="ignore").rstrip()
    return unicodedata.normalize("NFC", short + tail)
