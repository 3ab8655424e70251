"""What is safe to show of text that somebody else wrote.

Everything in a message is hostile: names, subjects and bodies may hold control characters, line breaks that forge a header,
and bidirectional overrides that make `exe.txt` of `txt.exe`. `clean_line` and `clean_text` take those out; they are applied
when a message is written *and* when it is shown, because a stored message may come from elsewhere. Escaping for HTML is the
template's part; `linked` is the one function here that returns HTML, and it escapes all it was given.
"""

from __future__ import annotations

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

SNIPPET = 140
"""Characters of a body that a list line shows at most."""

# Overrides, embeddings and isolates reorder the text around them, even outside their element when unbalanced. The plain
# marks (LRM, RLM) are what honest right-to-left text needs; they reach no further than their neighbours and stay. So do
# the joiners, of which many scripts and emoji are made. Soft hyphens and zero-width blanks only serve to deceive.
_DROPPED = re.compile("[\u202a-\u202e\u2066-\u2069\u00ad\u180e\u200b\u2060\ufeff]+")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")
_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")

_QUOTED = re.compile(r"^\s*>")
_ATTRIBUTION = re.compile(r"^On .{1,300} wrote:$")
_LINK = re.compile(r"https?://[^\s<>\"'`\\^{}|]{1,2000}", re.IGNORECASE)
_TRAILING = ".,;:!?…»”’*_"
_BRACKETS = {")": "(", "]": "["}


def clean_line(text: str) -> str:
    """`text` on one line: controls and line breaks become blanks, invisible characters and overrides go, blanks are single."""
    return " ".join(_CONTROL.sub(" ", _DROPPED.sub("", text)).split())


def clean_text(text: str) -> str:
    """A body: every kind of line break becomes LF, tabs stay, other controls, overrides and invisible characters go."""
    return _CONTROL.sub("", _DROPPED.sub("", _LINE_BREAK.sub("\n", text)))


def snippet(body: str) -> str:
    """The beginning of what a body says itself, without what it quotes, on one line of at most `SNIPPET` characters."""
    said: list[str] = []
    length = 0
    for line in body[:20_000].splitlines():
        if _QUOTED.match(line) or _ATTRIBUTION.match(line.strip()):
            continue
        said.append(line)
        length += len(line)
        if length > 4 * SNIPPET:
            break
    line = clean_line(" ".join(said))
    return line if len(line) <= SNIPPET else line[: SNIPPET - 1].rstrip() + "…"


def split_quote(body: str) -> tuple[str, str]:
    """What a body says, and the quoted text at its end (with the line "On … wrote:" before it); the latter may be ""."""
    lines = body.rstrip().split("\n")
    start = len(lines)
    while start and (not lines[start - 1].strip() or _QUOTED.match(lines[start - 1])):
        start -= 1
    if not any(_QUOTED.match(line) for line in lines[start:]):
        return body, ""
    if start and _ATTRIBUTION.match(lines[start - 1].strip()):
        start -= 1
    said = "\n".join(lines[:start]).rstrip()
    return (said, "\n".join(lines[start:]).strip("\n")) if said else (body, "")


def linked(text: str) -> SafeString:
    """`text` escaped for HTML, with http and https addresses as links that show exactly where they lead."""
    parts: list[str] = []
    at = 0
    for found in _LINK.finditer(text):
        address = _without_trailing(found.group())
        if address.endswith("://"):
            continue
        parts.append(escape(text[at : found.start()]))
        parts.append(
            f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer nofollow">{escape(address)}</a>'
        )
        at = found.start() + len(address)
    parts.append(escape(text[at:]))
    return mark_safe("".join(parts))  # noqa: S308  every part was escaped above


def _without_trailing(address: str) -> str:
    """`address` without the punctuation that belongs to the sentence around it."""
    excess = {close: address.count(close) - address.count(opening) for close, opening in _BRACKETS.items()}
    end = len(address)
    while end:
        last = address[end - 1]
        if excess.get(last, 0) > 0:
            excess[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return address[:end]
