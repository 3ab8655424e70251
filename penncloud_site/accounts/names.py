"""User names: which are allowed, and why.

A user name stands at the start of that user's row keys (`<username>:mailbox`) and before the `@` of a mail address.
So it is lower-case ASCII without `:` or control characters, is valid as the local part of an address, and is none of
the words that begin the store's other rows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest

LONGEST = 32  # characters
_ALLOWED = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z")

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # overrides, embeddings, isolates

# Rows begin with these words: an account of that name would own other people's keys.
KEY_WORDS = frozenset({"user", "session", "cache", "system"})
# Addresses that people trust, or that mail standards give a meaning. Only an operator's account may take one.
ROLE_WORDS = frozenset({
    "abuse", "admin", "administrator", "console", "daemon", "drive", "help", "hostmaster", "info", "mail",
    "mailer-daemon", "no-reply", "nobody", "noreply", "operator", "penncloud", "postmaster", "root", "security",
    "staff", "sudo", "support", "sysadmin", "webmaster", "www",
})  # fmt: skip


def normalized(username: str) -> str:
    """The name as it is stored: without surrounding blanks, in lower case."""
    return username.strip().lower()


def is_well_formed(username: str) -> bool:
    """Whether this could be the (normalized) name of an account, reserved for a role or not."""
    return (
        _ALLOWED.match(username) is not None
        and ".." not in username
        and not username.endswith(".")
        and username not in KEY_WORDS
    )


def checked(username: str, *, role: bool = False) -> str:
    """The normalized name of a new account, or `ValidationError` with a sentence that says what to change.

    `role`: the words of `ROLE_WORDS` are allowed as well (for operators).
    """
    name = normalized(username)
    if name in KEY_WORDS or (name in ROLE_WORDS and not role):
        raise ValidationError(f"The name “{name}” is reserved. Please choose another.", code="reserved")
    if len(name) > LONGEST:
        raise ValidationError(f"A user name has at most {LONGEST} characters.", code="too_long")
    if not is_well_formed(name):
        raise ValidationError(
            "A user name is made of the letters a to z, digits, dots, hyphens and underscores; it begins with a "
            "letter or digit, and a dot is followed by another character than a dot.",
            code="malformed",
        )
    return name


def checked_display_name(name: str) -> str:
    """The name others see, or `ValidationError`: it must show something, on one line, and turn no text around it.

    (It stands in other people's lists: an override in it would turn their lines, and a name of nothing is nobody's.)
    """
    name = name.strip()
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _TURNING for c in name):
        raise ValidationError("The name contains a character that cannot be seen and is not allowed.", code="invisible")
    if not any(unicodedata.category(c)[0] in "LNPS" for c in name):
        raise ValidationError("Please give a name that can be seen.", code="invisible")
    return name


def attempted(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str:
    """The user name of a log-in attempt as lock-outs count it: `Ada` and `ada ` are one account, so one counter."""
    given = (credentials or {}).get("username") or request.POST.get("username") or ""
    return normalized(str(given))[:LONGEST]
