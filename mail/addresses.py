"""What a user typed as recipients, and who that is.

`split` takes a field apart as people type it: addresses with or without a name, separated by commas, semicolons or line
breaks. `resolve` finds the account of each; whoever is not of this installation is named in one error, with every other
unknown recipient, so that the sender corrects all at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mail import limits
from mail.message import Address
from mail.text import clean_line

Directory = Callable[[str], str | None]
"""Tells the display name of the account with exactly that user name (any text, checked by it), or None if there is none.

What it knows becomes part of a key, so it must not know an account by another spelling of its name.
"""

FIELDS = ("to", "cc", "bcc")

_ITEM = re.compile(
    r"""\s*(?:
        (?: "(?P<quoted>(?:[^"\\]|\\.){0,200})" | (?P<name>[^<>,;"\n]{0,200}) ) \s* <\s*(?P<inside>[^<>,;\n]*)>
        | (?P<bare>[^,;\n]+)
    )\s*(?:[,;\n]|$)""",
    re.VERBOSE,
)


class BadRecipients(Exception):
    """The message cannot be sent to these. `errors`: for each field of `FIELDS` concerned, what is wrong, as sentences."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(sentence for sentences in errors.values() for sentence in sentences))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Recipients:
    """The resolved addressees, each once: who is in To is not in Cc again."""

    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()

    @property
    def usernames(self) -> list[str]:
        """The accounts to deliver to, in order."""
        return [username_of(address.address) for address in self.to + self.cc + self.bcc]


def split(text: str) -> list[str]:
    """The addresses in a field, as typed but without the names; blanks around them go, empty ones too."""
    items = []
    at = 0
    text = text[: limits.MAX_ADDRESS_TEXT]
    while at < len(text):
        found = _ITEM.match(text, at)
        if found is None:  # only separators begin here
            at += 1
            continue
        at = max(found.end(), at + 1)
        address = clean_line(found["inside"] if found["inside"] is not None else found["bare"])
        if address:
            items.append(address)
    return items


def username_of(address: str) -> str:
    """The part before the `@`."""
    return address.partition("@")[0]


def resolve(typed: tuple[str, str, str], directory: Directory, domain: str) -> Recipients:
    """The accounts meant by what was typed in To, Cc and Bcc; `BadRecipients` if any is not of this installation."""
    errors: dict[str, list[str]] = {}
    seen: set[str] = set()
    resolved: dict[str, tuple[Address, ...]] = {}
    for field, text in zip(FIELDS, typed, strict=True):
        if len(text) > limits.MAX_ADDRESS_TEXT:
            errors[field] = [f"This field takes at most {limits.MAX_ADDRESS_TEXT:,} characters."]
            continue
        found, unknown, foreign = _look_up(split(text), seen, directory, domain)
        resolved[field] = tuple(found)
        sentences = _sentences(unknown, foreign, domain)
        if sentences:
            errors[field] = sentences
    if len(seen) > limits.MAX_RECIPIENTS:
        errors.setdefault("to", []).append(
            f"A message goes to at most {limits.MAX_RECIPIENTS} people; these are {len(seen)}."
        )
    if not errors and not seen:
        errors["to"] = ["Please name at least one recipient."]
    if errors:
        raise BadRecipients(errors)
    return Recipients(**resolved)


def _look_up(
    items: list[str], seen: set[str], directory: Directory, domain: str
) -> tuple[list[Address], list[str], list[str]]:
    """Those found, those unknown here, and those of another domain. Adds to `seen`; who is in there is left out."""
    found: list[Address] = []
    unknown: list[str] = []
    foreign: list[str] = []
    for item in items:
        # Without the blanks around them: "ada " names the account ada, but the rows of "ada " are nobody's mailbox.
        username, at, of_domain = (part.strip() for part in item.lower().partition("@"))
        if at and of_domain != domain:
            foreign.append(item)
        elif username in seen or item in unknown:
            continue
        elif len(seen) + len(unknown) > limits.MAX_RECIPIENTS:
            seen.add(username)  # only counted: nobody makes us ask the store for ten thousand names
        else:
            name = directory(username)
            if name is None:
                unknown.append(item)
                continue
            seen.add(username)
            found.append(Address(f"{username}@{domain}", clean_line(name)))
    return found, unknown, foreign


def _sentences(unknown: list[str], foreign: list[str], domain: str) -> list[str]:
    sentences = []
    if unknown:
        subject = "There is no account" if len(unknown) == 1 else "There are no accounts"
        sentences.append(f"{subject} here named {_listed(unknown)}.")
    if foreign:
        verb = "is not an address" if len(foreign) == 1 else "are not addresses"
        sentences.append(f"{_listed(foreign)} {verb} of {domain}; mail goes to people of this PennCloud.")
    return sentences


def _listed(items: list[str]) -> str:
    """The first few of `items`, in quotes, cut where somebody typed a novel."""
    shown = [f"“{item if len(item) <= 60 else item[:59] + '…'}”" for item in items[:5]]
    if len(items) > 5:
        shown.append(f"{len(items) - 5} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
