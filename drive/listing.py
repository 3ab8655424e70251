"""The order of a list, and its pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drive import names
from drive.node import Line

PER_PAGE = 50
MOST_PAGES = 40
"""Pages that one answer may hold when a list that was scrolled far is fetched again."""

_DIGITS = re.compile(r"([0-9]+)")


def natural(name: str) -> tuple[Any, ...]:
    """Sorts `file 2` before `file 10`, and capitals with the others."""
    parts = _DIGITS.split(names.key(name))
    return tuple((1, "", int(part[:40])) if index % 2 else (0, part, 0) for index, part in enumerate(parts))


@dataclass(frozen=True, slots=True)
class Order:
    """By what a list is sorted. Folders always come first; equal ones are in the order of their names."""

    by: str = "name"
    descending: bool = False

    COLUMNS = ("name", "modified", "size")

    @classmethod
    def asked(cls, query: Mapping[str, str], columns: tuple[str, ...] = COLUMNS, default: str = "name") -> Order:
        """From `?sort=…&dir=…`; what makes no sense is the default."""
        by = query.get("sort", "")
        if by not in columns:
            by = default
        direction = query.get("dir", "")
        return cls(by, direction == "desc" if direction in ("asc", "desc") else by != "name")

    def sort(self, lines: list[Line]) -> list[Line]:
        result = sorted(lines, key=lambda line: natural(line.name), reverse=self.descending and self.by == "name")
        if self.by != "name":
            result.sort(key=lambda line: getattr(line, self.by), reverse=self.descending)
        result.sort(key=lambda line: not line.is_folder)
        return result

    def query(self, by: str) -> str:
        """The query that sorts by `by`, the other way round if it is sorted so already."""
        descending = not self.descending if by == self.by else by != "name"
        return f"?sort={by}&dir={'desc' if descending else 'asc'}"

    @property
    def own_query(self) -> str:
        return f"?sort={self.by}&dir={'desc' if self.descending else 'asc'}"


@dataclass(frozen=True, slots=True)
class Page:
    """Some pages of a list, from the first or from one in the middle."""

    lines: list[Line]
    first: int
    last: int
    total: int
    bytes: int

    @property
    def next(self) -> int | None:
        return self.last + 1 if self.last * PER_PAGE < self.total else None

    @property
    def previous(self) -> int | None:
        return self.first - 1 if self.first > 1 else None

    @property
    def shown_from(self) -> int:
        return (self.first - 1) * PER_PAGE + 1

    @property
    def shown_to(self) -> int:
        return min(self.last * PER_PAGE, self.total)


def cut(lines: list[Line], query: Mapping[str, str]) -> Page:
    """The page that `?page=` names (from 1), or the first so many that `?pages=` says. Beyond the end: the last."""
    count = max(1, -(-len(lines) // PER_PAGE))
    page, pages = _number(query.get("page", ""), count), _number(query.get("pages", ""), min(count, MOST_PAGES))
    first, last = (1, pages) if pages > 1 else (page, page)
    shown = lines[(first - 1) * PER_PAGE : last * PER_PAGE]
    return Page(shown, first, last, len(lines), sum(line.size for line in lines))


def _number(text: str, most: int) -> int:
    return min(most, max(1, int(text))) if text.isascii() and text.isdigit() and len(text) < 7 else 1
