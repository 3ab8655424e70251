"""One user's mail: its folders, messages and conversations.

`Mailbox` is the only reader of these rows; writers besides it are `mail.drafts` and `mail.delivery`. All rows of a user's
mail are one group, so every change here is one batch: all of it or nothing.

A change reads list lines, decides, and writes with `require_version` on each line it read and `require` on the `folder`
cell, the authority on where a message is. When another writer came between, the batch fails as a whole and the change is
decided again from what is there now: nobody overwrites what he has not seen, and no message is in two folders or in none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from kvstore.client import Batch, Cell, Client
from kvstore.errors import RequirementFailed, TryAgain
from mail import limits, schema
from mail.message import Address, Header, Kind, Summary
from mail.schema import Folder, entry_column, entry_prefix

ATTEMPTS = 8
"""How often a change is decided anew when other writers come between, before it is reported as `Contended`."""

PURGE_STEP = 200
"""Messages deleted for good in one batch; six operations each keep it far below the store's limit of a batch."""

GONE_FOR = 30 * 24 * 3600 * 1000
"""Milliseconds after its sending for which the deletion of a received message is remembered, so that a repeated delivery
does not bring it back. Longer than any outbox entry lives: `delivery.GIVE_UP_AFTER` asserts that."""

FORGET_STEP = 500
"""Remembered deletions that one batch forgets at most."""


class NoSuchMessage(LookupError):
    """The user has no message of that uid, or none any more."""


class Contended(TryAgain):
    """Other writers came between `ATTEMPTS` times in a row. Nothing happened."""


class OnItsWay(Exception):
    """A sent message that is not delivered to all yet cannot be deleted for good: the outbox still needs it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list."""

    uid: str
    folder: Folder
    summary: Summary


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a folder, newest first. `newer` and `older` say whether there is more in that direction."""

    lines: list[Line]
    newer: bool
    older: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message."""

    uid: str
    folder: Folder
    header: Header
    body: str

    @property
    def people(self) -> list[tuple[str, tuple[Address, ...]]]:
        """The addressees by the name of their field; of a draft, what was typed."""
        header = self.header
        named = (("To", header.to), ("Cc", header.cc), ("Bcc", header.bcc))
        typed = ((label, Address(text)) for (label, _), text in zip(named, header.typed, strict=True) if text)
        return [(label, people) for label, people in named if people] or [(label, (one,)) for label, one in typed]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the rail shows: unread messages in the inbox and drafts, each up to `limits.COUNTED` + 1."""

    unread: int
    drafts: int


T = TypeVar("T")

_ALLOWED = {
    Kind.RECEIVED: {Folder.INBOX, Folder.ARCHIVE, Folder.TRASH},
    Kind.SENT: {Folder.SENT, Folder.TRASH},
    Kind.DRAFT: {Folder.DRAFTS, Folder.TRASH},
}


def settle(decide: Callable[[], T]) -> T:
    """Call `decide`, which reads and then applies a batch, until its requirements hold; its result.

    `Contended` after `ATTEMPTS` times.
    """
    for _ in range(ATTEMPTS):
        try:
            return decide()
        except RequirementFailed:
            continue
    raise Contended("other changes to this mailbox came between; nothing was changed")


class Mailbox:
    """The mail of `user`, whose name the caller has checked and whose right to read it the caller has decided.

    Uids given to its methods may be any text of the form of a uid; one that is not this user's is not found.
    """

    def __init__(self, client: Client, user: str) -> None:
        self.client = client
        self.user = user

    # --- reading

    def page(self, folder: Folder, *, before: str = "", after: str = "", size: int = limits.PAGE) -> Page:
        """`size` lines of `folder`, newest first: the newest, those just older than the uid `before`, or those just newer
        than the uid `after`. Neither uid need exist (any more)."""
        prefix = entry_prefix(folder)
        if after:
            start = entry_column(folder, after) + "\0"
            cells = self.client.get_row(self._mailbox, prefix, size + 1, start=start)
            lines = self._parse(cells)
            if len(lines) <= size:  # the newest page is always a full one: it does not begin with a remainder
                return self.page(folder, size=size)
            return Page(lines[size - 1 :: -1], newer=True, older=True)
        end = entry_column(folder, before) if before else None
        cells = self.client.get_row(self._mailbox, prefix, size + 1, end=end, reverse=True)
        lines = self._parse(cells)
        if before and not lines:  # what was older is gone by now
            return self.page(folder, size=size)
        return Page(lines[:size], newer=bool(before), older=len(lines) > size)

    def counts(self) -> Counts:
        """The numbers for the rail: two short scans of keys."""
        most = limits.COUNTED + 1
        unread = self.client.get_row(self._unread, entry_prefix(Folder.INBOX), most, keys_only=True)
        drafts = self.client.get_row(self._mailbox, entry_prefix(Folder.DRAFTS), most, keys_only=True)
        return Counts(len(unread), len(drafts))

    def count(self, folder: Folder, most: int | None = None) -> int:
        """How many messages are in `folder`, up to `most`: a scan of so many keys."""
        return len(self.client.get_row(self._mailbox, entry_prefix(folder), most, keys_only=True))

    def header(self, uid: str) -> tuple[Folder, Header]:
        """Where a message is, and its header, without its body; `NoSuchMessage`."""
        # The columns from `folder` on: all but the body, which sorts before and may be large.
        cells = self.client.get_row(self._message(uid), start=schema.FOLDER)
        if schema.FOLDER not in cells:
            raise NoSuchMessage(uid)
        return Folder(cells[schema.FOLDER].value.decode()), Header.decode(cells[schema.HEADER].value)

    def message(self, uid: str) -> Message:
        """A whole message; `NoSuchMessage`."""
        cells = self.client.get_row(self._message(uid))
        if schema.FOLDER not in cells:
            raise NoSuchMessage(uid)
        return Message(
            uid=uid,
            folder=Folder(cells[schema.FOLDER].value.decode()),
            header=Header.decode(cells[schema.HEADER].value),
            body=cells[schema.BODY].value.decode(),
        )

    def conversation(self, thread: str) -> list[Line]:
        """The messages of a conversation in any folder, oldest first; the newest `limits.MAX_CONVERSATION` of them."""
        row = schema.thread_row(self.user, thread)
        cells = self.client.get_row(row, "", limits.MAX_CONVERSATION, reverse=True, keys_only=True)
        lines = (self.line(uid) for uid in sorted(cells))
        return [line for line in lines if line is not None]

    def line(self, uid: str) -> Line | None:
        """The list line of a message wherever it is; None when there is no such message any more."""
        for _ in range(ATTEMPTS):
            place = self.client.get(self._message(uid), schema.FOLDER)
            if place is None:
                return None
            folder = Folder(place.value.decode())
            cell = self.client.get(self._mailbox, entry_column(folder, uid))
            if cell is not None:
                return Line(uid, folder, Summary.decode(cell.value))
            # Moved to another folder between the two reads: it is somewhere, so look again rather than leave it out.
        raise Contended("a message of this conversation is being moved again and again")

    def neighbours(self, folder: Folder, uid: str) -> tuple[str, str]:
        """The uids of the messages next newer and next older than `uid` in `folder`; "" where there is none."""
        column, prefix = entry_column(folder, uid), entry_prefix(folder)
        newer = self.client.get_row(self._mailbox, prefix, 1, start=column + "\0", keys_only=True)
        older = self.client.get_row(self._mailbox, prefix, 1, end=column, reverse=True, keys_only=True)
        return tuple(  # type: ignore[return-value]
            schema.parse_entry_column(next(iter(cells)))[1] if cells else "" for cells in (newer, older)
        )

    # --- changing

    def move(self, folder: Folder, uids: Iterable[str], target: Folder | None) -> list[str]:
        """Move messages of `folder` to `target`, or with None to where each was before the trash; the uids that moved.

        Messages no longer in `folder`, and those that do not belong in `target` (a draft in the inbox), stay where they are.
        """
        wanted = list(uids)
        return settle(lambda: self._move_once(folder, wanted, target))

    def mark(self, folder: Folder, uids: Iterable[str], *, unread: bool) -> list[str]:
        """Mark received messages of `folder` as read or unread; the uids of those that were not so already."""
        wanted = list(uids)
        return settle(lambda: self._mark_once(folder, wanted, unread))

    def delete_for_good(self, uids: Iterable[str]) -> list[str]:
        """Delete messages in the trash for good; the uids of those deleted.

        `OnItsWay` if one of them is a sent message still in the outbox; then nothing was deleted.
        """
        wanted = list(uids)
        deleted = settle(lambda: self._purge_once(wanted))
        self._forget_old_deletions()
        return deleted

    def empty_trash(self) -> tuple[int, int]:
        """Delete everything in the trash for good; how many were deleted, and how many had to stay (`OnItsWay`).

        Works in steps, each one batch; what arrives in the trash meanwhile is deleted or not. A crash leaves the rest.
        """
        deleted = kept = 0
        after = ""
        while True:
            prefix = entry_prefix(Folder.TRASH)
            start = entry_column(Folder.TRASH, after) + "\0" if after else ""
            step = self.client.get_row(self._mailbox, prefix, PURGE_STEP, start=start, keys_only=True)
            if not step:
                self._forget_old_deletions()
                return deleted, kept
            uids = [schema.parse_entry_column(column)[1] for column in step]
            after = uids[-1]
            free = self._not_in_outbox(uids)
            kept += len(uids) - len(free)
            deleted += len(settle(lambda free=free: self._purge_once(free)))  # type: ignore[misc]

    # --- one attempt of each change

    def _move_once(self, folder: Folder, uids: list[str], target: Folder | None) -> list[str]:
        batch = Batch()
        moved = []
        for uid, (summary, cell) in self._found(folder, uids).items():
            goal = summary.home if target is None else target
            if goal is folder or goal not in _ALLOWED[summary.kind]:
                continue
            self._require(batch, folder, uid, cell)
            changed = replace(summary, origin=folder if goal is Folder.TRASH else "")
            batch.delete(self._mailbox, entry_column(folder, uid))
            batch.put(self._mailbox, entry_column(goal, uid), changed.encode())
            batch.put(self._message(uid), schema.FOLDER, goal.encode())
            if summary.unread:
                batch.delete(self._unread, entry_column(folder, uid))
                batch.put(self._unread, entry_column(goal, uid), schema.PRESENT)
            moved.append(uid)
        if moved:
            self.client.apply(batch)
        return moved

    def _mark_once(self, folder: Folder, uids: list[str], unread: bool) -> list[str]:
        batch = Batch()
        marked = []
        for uid, (summary, cell) in self._found(folder, uids).items():
            if summary.unread is unread or summary.kind is not Kind.RECEIVED:
                continue
            self._require(batch, folder, uid, cell)
            batch.put(self._mailbox, entry_column(folder, uid), replace(summary, unread=unread).encode())
            if unread:
                batch.put(self._unread, entry_column(folder, uid), schema.PRESENT)
            else:
                batch.delete(self._unread, entry_column(folder, uid))
            marked.append(uid)
        if marked:
            self.client.apply(batch)
        return marked

    def _purge_once(self, uids: list[str]) -> list[str]:
        batch = Batch()
        found = self._found(Folder.TRASH, uids)
        if len(self._not_in_outbox(list(found))) < len(found):
            raise OnItsWay
        for uid, (summary, cell) in found.items():
            self._require(batch, Folder.TRASH, uid, cell)
            batch.delete(self._mailbox, entry_column(Folder.TRASH, uid))
            batch.delete(self._unread, entry_column(Folder.TRASH, uid))
            if summary.thread:
                batch.delete(schema.thread_row(self.user, summary.thread), uid)
            batch.delete_row(self._message(uid))
            if summary.kind is Kind.SENT and summary.draft:
                batch.delete(schema.sent_row(self.user), summary.draft)
            if summary.kind is Kind.RECEIVED:
                batch.put(schema.gone_row(self.user), uid, schema.PRESENT)
        if found:
            self.client.apply(batch)
        return list(found)

    def _require(self, batch: Batch, folder: Folder, uid: str, cell: Cell) -> None:
        batch.require_version(self._mailbox, entry_column(folder, uid), cell.version)
        batch.require(self._message(uid), schema.FOLDER, folder.encode())

    def _not_in_outbox(self, uids: list[str]) -> list[str]:
        # Once a message has left the outbox it never enters it again, so this needs no requirement on the outbox.
        waiting = self.client.get_row(schema.outbox_row(self.user), keys_only=True)
        return [uid for uid in uids if uid not in waiting]

    def _forget_old_deletions(self) -> None:
        """Forget deletions older than `GONE_FOR`. Uids sort by time, so these are the first of their row."""
        row = schema.gone_row(self.user)
        end = schema.first_uid_of(time.time_ns() // 1_000_000 - GONE_FOR)
        old = self.client.get_row(row, "", FORGET_STEP, end=end, keys_only=True)
        if old:
            batch = Batch()
            for uid in old:
                batch.delete(row, uid)
            self.client.apply(batch)

    # --- finding

    def _found(self, folder: Folder, uids: list[str]) -> dict[str, tuple[Summary, Cell]]:
        """The list lines of those `uids` that are in `folder`, with the cells they were read from."""
        if not uids:
            return {}
        # The usual selection is from one page: then one short scan has them all. What it missed is asked for singly.
        start, end = entry_column(folder, min(uids)), entry_column(folder, max(uids)) + "\0"
        near = self.client.get_row(self._mailbox, "", 2 * len(uids) + limits.PAGE, start=start, end=end)
        cells = {}
        for uid in dict.fromkeys(uids):
            column = entry_column(folder, uid)
            cell = near.get(column) or self.client.get(self._mailbox, column)
            if cell is not None:
                cells[uid] = (Summary.decode(cell.value), cell)
        return cells

    def _parse(self, cells: dict[str, Cell]) -> list[Line]:
        lines = []
        for column, cell in cells.items():
            folder, uid = schema.parse_entry_column(column)
            lines.append(Line(uid, folder, Summary.decode(cell.value)))
        return lines

    # --- rows

    @property
    def _mailbox(self) -> str:
        return schema.mailbox_row(self.user)

    @property
    def _unread(self) -> str:
        return schema.unread_row(self.user)

    def _message(self, uid: str) -> str:
        return schema.message_row(self.user, uid)
