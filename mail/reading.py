"""A conversation as one reads it: a stack of cards, oldest first, of which some are open."""

from __future__ import annotations

from dataclasses import dataclass

from mail import schema
from mail.mailbox import Line, Mailbox, Message, NoSuchMessage
from mail.message import Kind
from mail.schema import Folder

MOST_OPEN = 10
"""Cards that are open at first; with bodies of up to `limits.MAX_BODY`, a page of all would be too heavy."""


@dataclass(frozen=True, slots=True)
class Card:
    """One message of the stack; `message` is there when the card is open."""

    line: Line
    message: Message | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The message asked for, where it is, and the cards around it. `unread`: what opening this page reads, by folder."""

    folder: Folder
    subject: str
    cards: list[Card]
    drafts: list[Line]
    unread: dict[Folder, list[str]]

    @property
    def last(self) -> Message | None:
        """The newest open message: the one that Reply answers."""
        return next((card.message for card in reversed(self.cards) if card.message), None)


def reading(mailbox: Mailbox, uid: str) -> Conversation:
    """The conversation of the message `uid`; `NoSuchMessage`.

    Open are the message itself, the last one and what is unread. Drafts stand apart, to be continued. What is in the trash
    is left out, unless the message itself is there: then the trash alone is shown.
    """
    asked = mailbox.message(uid)
    in_trash = asked.folder is Folder.TRASH
    lines = [line for line in _lines(mailbox, asked) if (line.folder is Folder.TRASH) is in_trash or line.uid == uid]
    drafts = [line for line in lines if line.summary.kind is Kind.DRAFT and line.uid != uid]
    shown = [line for line in lines if line not in drafts and not _is_echo(mailbox, line, lines, uid)]
    opened = {uid, shown[-1].uid} | {line.uid for line in [x for x in shown if x.summary.unread][-MOST_OPEN:]}
    cards = []
    for line in shown:
        message = asked if line.uid == uid else _message(mailbox, line.uid) if line.uid in opened else None
        cards.append(Card(line, message))
    unread: dict[Folder, list[str]] = {}
    for line in shown:
        if line.summary.unread and line.uid in opened:
            unread.setdefault(line.folder, []).append(line.uid)
    return Conversation(asked.folder, asked.header.subject, cards, drafts, unread)


def _lines(mailbox: Mailbox, asked: Message) -> list[Line]:
    """The lines of the conversation, with the message asked for among them even when it is older than those shown."""
    lines = mailbox.conversation(asked.header.thread) if asked.header.thread else []
    if all(line.uid != asked.uid for line in lines):
        own = mailbox.line(asked.uid)
        if own is None:
            raise NoSuchMessage(asked.uid)
        lines.insert(0, own)
    return lines


def _is_echo(mailbox: Mailbox, line: Line, lines: list[Line], asked: str) -> bool:
    """Whether `line` is the sent copy of a message to oneself whose received copy is shown as well."""
    if line.summary.kind is not Kind.SENT or line.uid == asked:
        return False
    received = schema.derived_uid(line.uid, mailbox.user)
    return any(other.uid == received for other in lines)


def _message(mailbox: Mailbox, uid: str) -> Message | None:
    try:
        return mailbox.message(uid)
    except NoSuchMessage:  # deleted for good since the list was read
        return None
