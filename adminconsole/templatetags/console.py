"""How the console's templates say keys, ages and numbers (`adminconsole.wording`), and build the data browser's links."""

from __future__ import annotations

from django import template
from django.urls import reverse
from django.utils.http import urlencode

from adminconsole import wording

register = template.Library()


@register.filter
def readable(key: str) -> str:
    """A row or column that cannot deceive: what does not print is spelled out."""
    return wording.readable_key(key)


@register.filter
def age(seconds: float | None) -> str:
    """`14 s`; a dash for what was never heard."""
    return "–" if seconds is None else wording.age(seconds)


@register.filter
def number(value: int) -> str:
    """`1,204`."""
    return f"{value:,}"


@register.filter
def counted(value: int, noun: str) -> str:
    """`1 tablet`, `2 tablets`."""
    return wording.count(value, noun)


@register.simple_tag
def address(name: str, **query: str | int) -> str:
    """The address of the console's page `name` with a query. Keys may hold anything; all of it is percent-encoded."""
    return f"{reverse(f'console:{name}')}?{urlencode(query)}"
