"""What a reply or a forward begins with: recipients, subject and the quoted text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mail import limits
from mail.drafts import Content
from mail.mailbox import Message
from mail.message import Address
from mail.text import clean_line, clean_text

_RE = re.compile(r"^\s*re\s*(\[\d+\])?:\s*", re.IGNORECASE)
_FWD = re.compile(r"^\s*fwd?\s*:\s*", re.IGNORECASE)

QUOTE_LIMIT = limits.MAX_BODY // 2
"""Bytes of the other's text that are quoted at most, so that there is room for an answer."""


def reply(message: Message, own_address: str, *, to_all: bool) -> Content:
    """The beginning of a reply by the owner of `own_address`.

    It goes to the sender, or, when the message is one's own, to whom that went. `to_all` adds all other recipients, but
    never oneself (unless there is nobody else).
    """
    header = message.header
    own = own_address.lower()
    to = list(header.to) if header.sender.address.lower() == own else [header.sender]
    cc: list[Address] = []
    if to_all:
        chosen = {address.address for address in to}
        if header.sender.address.lower() != own:
            to += [a for a in header.to if a.address.lower() != own and a.address not in chosen]
        chosen = {address.address for address in to}
        cc = [a for a in header.cc if a.address.lower() != own and a.address not in chosen]
    quoted = "\n".join(f">{line}" if line.startswith(">") else f"> {line}" for line in _quotable(message).split("\n"))
    body = f"\n\nOn {_when(header.date)}, {_whose(header.sender)} wrote:\n{quoted}\n"
    return Content((_listed(to), _listed(cc), ""), _subject("Re: ", _RE, header.subject), body)


def forward(message: Message) -> Content:
    """The beginning of a forward: no recipients yet, the message whole below a line."""
    header = message.header
    lines = [
        "",
        "",
        "---------- Forwarded message ----------",
        f"From: {_whose(header.sender)}",
        f"Date: {_when(header.date)}",
        f"Subject: {clean_line(header.subject)}",
        f"To: {_listed(list(header.to))}",
    ]
    if header.cc:
        lines.append(f"Cc: {_listed(list(header.cc))}")
    body = "\n".join([*lines, "", _quotable(message)])
    return Content(("", "", ""), _subject("Fwd: ", _FWD, header.subject), body)


def _quotable(message: Message) -> str:
    text = clean_text(message.body).rstrip()
    encoded = text.encode()
    if len(encoded) <= QUOTE_LIMIT:
        return text
    return encoded[:QUOTE_LIMIT].decode(errors="ignore") + "\n[…]"


def _subject(prefix: str, existing: re.Pattern[str], subject: str) -> str:
    subject = clean_line(subject)
    kept = subject if existing.match(subject) else f"{prefix}{subject}"
    return kept[: limits.MAX_SUBJECT].strip()


def _listed(addresses: list[Address]) -> str:
    return ", ".join(str(address) for address in addresses)


def _whose(sender: Address) -> str:
    return clean_line(f"{sender.name} <{sender.address}>" if sender.name else sender.address)


def _when(date: int) -> str:
    moment = datetime.fromtimestamp(date / 1000, UTC)
    return f"{moment:%a, %d %b %Y at %H:%M} UTC"
