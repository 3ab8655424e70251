"""Reading the process's environment variables: what is missing gets its default, what is wrong is refused plainly.

Every function takes the variable's name and a default and raises `ImproperlyConfigured` with one sentence that names
the variable, the value it has and what it must look like.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


def text(name: str, default: str) -> str:
    """The variable as it is, without surrounding blanks."""
    return os.environ.get(name, default).strip()


def words(name: str, default: list[str]) -> list[str]:
    """A list separated by commas; empty members are dropped."""
    value = os.environ.get(name)
    return list(default) if value is None else [word.strip() for word in value.split(",") if word.strip()]


def flag(name: str, default: bool) -> bool:
    """A yes or no: 1, true, yes, on; 0, false, no, off."""
    value = os.environ.get(name)
    if value is None:
        return default
    if value.strip().lower() not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be 1 or 0.")
    return value.strip().lower() in TRUE


def number(name: str, default: float, least: float, most: float) -> float:
    """A number in [least, most]."""
    value = os.environ.get(name, "")
    try:
        result = float(value) if value.strip() else default
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a number.") from None
    if not least <= result <= most:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be between {least:g} and {most:g}.")
    return result


def path(name: str, default: Path) -> Path:
    """A path; `~` is the user's home, a relative one counts from the working directory."""
    value = os.environ.get(name, "").strip()
    return (Path(value).expanduser() if value else default).absolute()


def own_addresses(bind: str) -> list[str]:
    """The names by which a site that listens on `bind` may be asked for besides this machine's: that address itself.

    Of a site that listens everywhere, the address from which this machine reaches others (no packet is sent to find it).
    """
    if bind not in ("0.0.0.0", "::"):  # noqa: S104  (compared with, not bound to)
        return [_as_host(bind)] if bind else []
    found = []
    for family, anybody in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anybody, 9))
            found.append(_as_host(probe.getsockname()[0]))
    return found


def _as_host(address: str) -> str:
    """An address as a Host header has it."""
    return f"[{address}]" if ":" in address else address
