"""The records of mail and their form in the store: JSON objects in UTF-8, keys sorted, nothing optional left out.

`Header` is what a mail's header says (RFC 5322's fields, as data); `Summary` is the small part of it that one line of a
list shows. Both are written once and read often, so reading does not forgive: a record that does not parse is damage and
raises.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Self

from mail.schema import Folder
from mail.text import snippet

SHOWN_NAMES = 5
"""Recipients that a summary names; the rest is a number."""

KEPT_REFERENCES = 30
"""Message-IDs that a reply refers to at most: the first, which names the conversation, and the latest."""


_IN_ANGLES = re.compile(r"\s+<[^<>]*>")


class Kind(StrEnum):
    """What a message is to the user who has it, wherever it is filed."""

    RECEIVED = "received"
    SENT = "sent"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Address:
    """A mail address, `name@domain`, with the name to show for it; the name may be empty."""

    address: str
    name: str = ""

    @property
    def shown(self) -> str:
        """The name, or the address when there is none."""
        return self.name or self.address

    def __str__(self) -> str:
        """As one types it: `Ada Lovelace <ada@example.org>`, the name in quotes where it needs them."""
        if not self.name:
            return self.address
        name = self.name.replace("\\", "").replace('"', "")
        quoted = f'"{name}"' if any(c in name for c in "<>,;:@()[]") else name
        return f"{quoted} <{self.address}>"


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a stored message. `date` is in milliseconds since 1970, `size` in bytes of the body.

    `thread` names the conversation (see `thread_of`). `draft` is, in a sent copy, the uid of the draft it was written as,
    else "". A draft keeps what was typed as recipients in `typed`, one text for each of To, Cc, Bcc, since it may be half
    an address; its `to`, `cc` and `bcc` are empty; and in `answers` the uid of the owner's message that it replies to.
    """

    message_id: str
    thread: str
    sender: Address
    subject: str
    date: int
    size: int = 0
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    draft: str = ""
    typed: tuple[str, str, str] = ("", "", "")
    answers: str = ""

    @property
    def recipients(self) -> tuple[Address, ...]:
        """All addressees, in the order To, Cc, Bcc."""
        return self.to + self.cc + self.bcc

    def without_bcc(self) -> Header:
        """As the recipients get it: nobody learns who else got a blind copy, nor of the sender's draft."""
        return replace(self, bcc=(), draft="")

    def encode(self) -> bytes:
        """The value of the `header` column."""
        return encode(asdict(self))

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """The header that `encode` made."""
        record = json.loads(value)
        record["sender"] = Address(**record["sender"])
        for name in ("to", "cc", "bcc"):
            record[name] = tuple(Address(**address) for address in record[name])
        record["references"] = tuple(record["references"])
        record["typed"] = tuple(record["typed"])
        return cls(**record)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list line shows. `who` are the names to show: the sender's, or the recipients' of one's own message.

    `others` counts the recipients not among `who`; `date` is in milliseconds since 1970; `origin` is, in the trash, the
    folder that the message was deleted from, else "".
    """

    kind: Kind
    thread: str
    who: tuple[str, ...]
    subject: str
    snippet: str
    date: int
    others: int = 0
    unread: bool = False
    origin: str = ""
    draft: str = field(default="")

    def encode(self) -> bytes:
        """The value of a column of the mailbox row."""
        return encode(asdict(self))

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """The summary that `encode` made."""
        record = json.loads(value)
        record["kind"] = Kind(record["kind"])
        record["who"] = tuple(record["who"])
        return cls(**record)

    @property
    def home(self) -> Folder:
        """The folder that a message goes back to from the trash."""
        if self.origin:
            return Folder(self.origin)
        return {Kind.RECEIVED: Folder.INBOX, Kind.SENT: Folder.SENT, Kind.DRAFT: Folder.DRAFTS}[self.kind]


def summary_of(kind: Kind, header: Header, body: str, *, unread: bool = False) -> Summary:
    """The list line of a message; a draft names what was typed, without addresses behind names, cut short."""
    if kind is Kind.RECEIVED:
        names = [header.sender.shown]
    elif kind is Kind.SENT:
        names = [address.shown for address in header.recipients]
    else:
        typed = _IN_ANGLES.sub("", ", ".join(text for text in header.typed if text))
        names = [typed if len(typed) <= 100 else typed[:99] + "…"] if typed else []
    return Summary(
        kind=kind,
        thread=header.thread,
        who=tuple(names[:SHOWN_NAMES]),
        others=max(0, len(names) - SHOWN_NAMES),
        subject=header.subject,
        snippet=snippet(body),
        date=header.date,
        unread=unread,
        draft=header.draft,
    )


def message_id(uid: str, domain: str) -> str:
    """The Message-ID of the message that was sent as `uid`; unique in the world if `domain` is."""
    return f"<{uid}@{domain}>"


def thread_of(own_id: str, references: tuple[str, ...]) -> str:
    """The conversation's name, 24 hexadecimal digits, the same in every mailbox: made of its first message's Message-ID.

    A digest, because a Message-ID from outside is hostile text and a thread becomes part of a key.
    """
    first = references[0] if references else own_id
    return blake2b(first.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def references_of_reply(parent: Header) -> tuple[str, ...]:
    """The References of a reply to `parent`, shortened in the middle so that the first, which names the thread, stays."""
    chain = (*parent.references, parent.message_id)
    return chain if len(chain) <= KEPT_REFERENCES else (chain[0], *chain[-(KEPT_REFERENCES - 1) :])


def encode(record: dict[str, Any]) -> bytes:
    """A record as the JSON that the store keeps."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
