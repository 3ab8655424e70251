"""Unsent messages, saved while they are written.

A draft is a message in the folder `drafts`; its uid is handed out with the empty form and its rows appear with the first
save. It is saved by compare-and-put on the cell `revision`, which says *who saved last*: `<editor>.<n>`, where an editor is
one open form (a random word that the page got) and `n` counts the saves of that form. So that

- two tabs never overwrite each other: a save names the revision that its form was loaded with, and when another editor has
  saved since, it is refused with `DraftChanged` and the typed text stays in the form;
- one tab never gets in its own way: a save is accepted if the last one was of the same editor with a smaller `n`, even if
  the answer to that one was lost; with the same `n` it is the same save again and succeeds without writing; with a greater
  `n` it comes late and must not bring older text back (`DraftChanged` cannot happen to a form whose saves are queued).

Sending turns a draft into a sent message (`mail.delivery`) and leaves a note under the draft's uid, by which a second click
on Send, or a save that comes late, finds out (`AlreadySent`).
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from kvstore.client import Batch, Cell, Client
from mail import limits, schema
from mail.mailbox import Mailbox, NoSuchMessage, settle
from mail.message import Address, Header, Kind, references_of_reply, summary_of, thread_of
from mail.schema import Folder, entry_column
from mail.text import clean_line, clean_text

_REVISION = re.compile(r"([0-9a-z]{8,40})\.([0-9]{1,9})")


class DraftChanged(Exception):
    """Another editor saved this draft since the form was loaded. Nothing was written. `current` is what it is now."""

    def __init__(self, current: Draft) -> None:
        super().__init__("the draft was changed in another window")
        self.current = current


class DraftGone(Exception):
    """The draft was deleted, or moved to the trash, since the form was loaded. Nothing was written."""


class AlreadySent(Exception):
    """The draft was sent, as the message `uid`. Nothing was written."""

    def __init__(self, uid: str) -> None:
        super().__init__("the draft was sent already")
        self.uid = uid


class TooLarge(Exception):
    """`field` of the draft is over its limit; the message is a sentence for the user. Nothing was written."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


@dataclass(frozen=True, slots=True)
class Content:
    """What a user typed: the texts of To, Cc and Bcc, the subject and the body."""

    typed: tuple[str, str, str] = ("", "", "")
    subject: str = ""
    body: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing at all was typed."""
        return not any((*self.typed, self.subject, self.body))


@dataclass(frozen=True, slots=True)
class Draft:
    """A saved draft. `saved` is in milliseconds since 1970; `revision` is to be named by the next save."""

    uid: str
    revision: str
    content: Content
    header: Header
    saved: int


@dataclass(frozen=True, slots=True)
class Save:
    """One save of one form: `base` is the revision the form was loaded with, "" for a new draft; `editor` and `n` as in
    the module's docstring."""

    base: str
    editor: str
    n: int

    @property
    def revision(self) -> str:
        return f"{self.editor}.{self.n}"

    def may_follow(self, current: str) -> bool:
        """Whether this save may replace what the save `current` wrote."""
        if current == self.base:
            return True
        parsed = _REVISION.fullmatch(current)
        return parsed is not None and parsed[1] == self.editor and int(parsed[2]) < self.n


def is_revision(text: str) -> bool:
    """Whether `text` has the form of a revision; those from outside are checked with this."""
    return _REVISION.fullmatch(text) is not None


def cleaned(content: Content) -> Content:
    """`content` as it is kept: one-line fields on one line, LF in the body; `TooLarge` if over a limit."""
    typed = tuple(clean_line(text.replace("\n", ", ")) for text in content.typed)
    for field, text in zip(("to", "cc", "bcc"), typed, strict=True):
        if len(text) > limits.MAX_ADDRESS_TEXT:
            raise TooLarge(field, f"This field takes at most {limits.MAX_ADDRESS_TEXT:,} characters.")
    subject = clean_line(content.subject)
    if len(subject) > limits.MAX_SUBJECT:
        over = len(subject) - limits.MAX_SUBJECT
        raise TooLarge("subject", f"A subject has at most {limits.MAX_SUBJECT} characters; this has {over:,} too many.")
    body = clean_text(content.body)
    size = len(body.encode())
    if size > limits.MAX_BODY:
        raise TooLarge(
            "body",
            f"A message has at most {limits.MAX_BODY // 2**10:,} KiB of text; this one has {size / 2**10:,.0f} KiB.",
        )
    return Content((typed[0], typed[1], typed[2]), subject, body)


class Drafts:
    """The drafts of one mailbox; `sender` is the address that its messages come from."""

    def __init__(self, mailbox: Mailbox, sender: Address) -> None:
        self.mailbox = mailbox
        self.client: Client = mailbox.client
        self.user = mailbox.user
        self.sender = sender

    def open(self, uid: str) -> Draft:
        """The draft `uid`; `AlreadySent`, or `DraftGone` if there is none."""
        cells = self._cells(uid)
        if not _is_draft(cells):
            raise self._why_not(uid)
        return _draft(uid, cells)

    def save(self, uid: str, save: Save, content: Content, reply_to: str = "") -> Draft:
        """Save a draft, the first time or again, and return it.

        `reply_to`: uid of this user's message that the first save answers; later saves keep what the first one said.
        Raises `TooLarge`, `DraftChanged`, `DraftGone`, `AlreadySent`, and `NoSuchMessage` if `reply_to` or `uid` is
        not a message of this user that could be meant.
        """
        content = cleaned(content)
        return settle(lambda: self._save_once(uid, save, content, reply_to))

    def _save_once(self, uid: str, save: Save, content: Content, reply_to: str) -> Draft:
        cells = self._cells(uid)
        if cells and not _is_draft(cells) and schema.REVISION not in cells:
            raise NoSuchMessage(uid)  # a message, but none that was ever a draft: the form was forged
        row = schema.message_row(self.user, uid)
        batch = Batch()
        if _is_draft(cells):
            current = _draft(uid, cells)
            if current.revision == save.revision:
                return current
            if not save.may_follow(current.revision):
                raise DraftChanged(current)
            batch.require(row, schema.REVISION, current.revision.encode())
            batch.require(row, schema.FOLDER, Folder.DRAFTS.encode())
            reply = current.header
        else:
            if cells or save.base or self.client.get(schema.sent_row(self.user), uid) is not None:
                raise self._why_not(uid)
            if schema.is_from_the_future(uid):
                raise NoSuchMessage(uid)
            batch.require(row, schema.FOLDER, None)
            batch.require(schema.sent_row(self.user), uid, None)
            reply = self._new_header(reply_to)
        header = self._header(content, reply)
        self._put(batch, uid, save.revision, header, content.body)
        self.client.apply(batch)
        return Draft(uid, save.revision, content, header, header.date)

    def replicas(self, uid: str) -> tuple[int, int]:
        """(in sync, wanted) of the draft's tablet: on how many replicas a save that was acknowledged is, and on how many
        it should be. (0, 0) while the store does not say."""
        return self.client.replicas(schema.message_row(self.user, uid))

    def discard(self, uid: str) -> bool:
        """Move a draft to the trash; False if it was not among the drafts (any more)."""
        return bool(self.mailbox.move(Folder.DRAFTS, [uid], Folder.TRASH))

    # --- parts of saving

    def _put(self, batch: Batch, uid: str, revision: str, header: Header, body: str) -> None:
        row = schema.message_row(self.user, uid)
        summary = summary_of(Kind.DRAFT, header, body)
        batch.put(row, schema.FOLDER, Folder.DRAFTS.encode())
        batch.put(row, schema.REVISION, revision.encode())
        batch.put(row, schema.HEADER, header.encode())
        batch.put(row, schema.BODY, body.encode())
        batch.put(schema.mailbox_row(self.user), entry_column(Folder.DRAFTS, uid), summary.encode())
        if header.thread:
            batch.put(schema.thread_row(self.user, header.thread), uid, schema.PRESENT)

    def _new_header(self, reply_to: str) -> Header:
        """An empty header that continues the conversation of this user's message `reply_to`, if given.

        Only the uid is believed of what the form says: the references are read from the message itself.
        """
        if not reply_to:
            return Header("", "", self.sender, "", 0)
        _, parent = self.mailbox.header(reply_to)
        if not parent.message_id:
            raise NoSuchMessage(reply_to)  # a draft: nobody was sent it, so nobody can answer it
        references = references_of_reply(parent)
        return Header(
            message_id="",
            thread=thread_of("", references),
            sender=self.sender,
            subject="",
            date=0,
            in_reply_to=parent.message_id,
            references=references,
            answers=reply_to,
        )

    def _header(self, content: Content, reply: Header) -> Header:
        return Header(
            message_id="",
            thread=reply.thread,
            sender=self.sender,
            subject=content.subject,
            date=time.time_ns() // 1_000_000,
            size=len(content.body.encode()),
            in_reply_to=reply.in_reply_to,
            references=reply.references,
            typed=content.typed,
            answers=reply.answers,
        )

    def _cells(self, uid: str) -> dict[str, Cell]:
        return self.client.get_row(schema.message_row(self.user, uid))

    def _why_not(self, uid: str) -> AlreadySent | DraftGone:
        """The reason why there is no draft `uid`."""
        sent = self.client.get(schema.sent_row(self.user), uid)
        return AlreadySent(sent.value.decode()) if sent else DraftGone()


def _is_draft(cells: dict[str, Cell]) -> bool:
    return schema.FOLDER in cells and cells[schema.FOLDER].value == Folder.DRAFTS.encode()


def _draft(uid: str, cells: dict[str, Cell]) -> Draft:
    header = Header.decode(cells[schema.HEADER].value)
    content = Content(header.typed, header.subject, cells[schema.BODY].value.decode())
    return Draft(uid, cells[schema.REVISION].value.decode(), content, header, header.date)
