"""Filters that say things the way people do: sizes, times, initials."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

UNITS = ("kB", "MB", "GB", "TB", "PB")
AVATAR_HUES = 10  # the classes avatar-hue-0 to -9 of site.css


@register.filter
def human_size(size: int | None) -> str:
    """`1 byte`, `512 bytes`, `1.4 MB` (decimal units, as file managers show them); nothing for None."""
    if size is None:
        return ""
    if size < 1000:
        return "1 byte" if size == 1 else f"{size} bytes"
    amount = float(size)
    for unit in UNITS:
        amount /= 1000
        if amount < 999.5 or unit == UNITS[-1]:
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    raise AssertionError("the last unit takes any amount")


def _spoken(then: datetime, now: datetime) -> str:
    """How long ago, as short as is still clear."""
    seconds = (now - then).total_seconds()
    if seconds < -60:
        return then.strftime("%-d %b %Y, %H:%M")
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 24 * 3600:
        return f"{int(seconds // 3600)} h ago"
    if seconds < 7 * 24 * 3600:
        days = int(seconds // (24 * 3600))
        return "yesterday" if days == 1 else f"{days} days ago"
    return then.strftime("%-d %b") if then.year == now.year else then.strftime("%-d %b %Y")


@register.filter
def ago(when: datetime | float | None) -> SafeString | str:
    """A <time> that says how long ago, with the exact time as its title. Takes a datetime or seconds since 1970."""
    if when is None or when == "":
        return ""
    moment = when if isinstance(when, datetime) else datetime.fromtimestamp(when, UTC)
    if timezone.is_naive(moment):
        moment = moment.replace(tzinfo=UTC)
    exact = moment.astimezone(UTC).strftime("%A, %-d %B %Y, %H:%M:%S UTC")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, _spoken(moment, timezone.now())
    )


@register.filter
def avatar_color(name: object) -> str:
    """The class that colours this name's avatar: the same name, the same colour, on every page."""
    return f"avatar-hue-{zlib.crc32(str(name).encode()) % AVATAR_HUES}"


@register.filter
def initials(name: object) -> str:
    """One or two letters for an avatar."""
    words = [word for word in str(name).replace(".", " ").replace("_", " ").replace("-", " ").split() if word]
    if not words:
        return "?"
    return (words[0][0] + (words[-1][0] if len(words) > 1 else "")).upper()


@register.filter
def undo_of(message: object) -> str:
    """The address that undoes what a message says was done (see `pages.flash`), or nothing."""
    tags = getattr(message, "extra_tags", "") or ""
    return tags.removeprefix("undo=") if tags.startswith("undo=/") else ""


_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@register.filter
def browser(agent: str) -> str:
    """A browser's description of itself, in the words its user would choose: `Firefox on Linux`."""
    name = next((name for mark, name in _BROWSERS if mark in agent), "")
    system = next((system for mark, system in _SYSTEMS if mark in agent), "")
    if name and system:
        return f"{name} on {system}"
    return name or system or agent.split(" ")[0] or "Unknown browser"
