"""What can be done to selected messages, as a list's toolbar, a row and the keyboard offer it.

Each action says what it did in one sentence, and how it is undone; deleting for good cannot be, so it asks first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mail.mailbox import Mailbox
from mail.schema import Folder


class Action(StrEnum):
    """The actions, by the names that forms send."""

    READ = "read"
    UNREAD = "unread"
    ARCHIVE = "archive"
    INBOX = "inbox"
    DELETE = "delete"
    RESTORE = "restore"
    PURGE = "purge"


OFFERED: dict[Folder, tuple[Action, ...]] = {
    Folder.INBOX: (Action.ARCHIVE, Action.DELETE, Action.READ, Action.UNREAD),
    Folder.ARCHIVE: (Action.INBOX, Action.DELETE, Action.READ, Action.UNREAD),
    Folder.SENT: (Action.DELETE,),
    Folder.DRAFTS: (Action.DELETE,),
    Folder.TRASH: (Action.RESTORE, Action.PURGE),
}
"""Which actions each folder offers."""

LABELS = {
    Action.READ: ("Mark as read", "mail-opened"),
    Action.UNREAD: ("Mark as unread", "mail"),
    Action.ARCHIVE: ("Archive", "archive"),
    Action.INBOX: ("Move to inbox", "inbox"),
    Action.DELETE: ("Delete", "trash"),
    Action.RESTORE: ("Restore", "arrow-back-up"),
    Action.PURGE: ("Delete for good", "trash-x"),
}
"""What each action is called, and its icon."""


@dataclass(frozen=True, slots=True)
class Undo:
    """The move that undoes an action: these messages from `folder` to `target` (None: to where each was)."""

    folder: Folder
    target: Folder | None
    uids: list[str]


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did: a sentence for the user, and how to undo it."""

    sentence: str
    undo: Undo | None = None
    changed: bool = True


def carry_out(mailbox: Mailbox, action: Action, folder: Folder, uids: list[str]) -> Done:
    """Do `action` to the messages `uids` of `folder`. `OnItsWay` for a purge of what is not delivered yet.

    Messages no longer there are passed over; the sentence counts what was really done.
    """
    if action in (Action.READ, Action.UNREAD):
        mailbox.mark(folder, uids, unread=action is Action.UNREAD)
        return Done(f"{_messages(len(uids))} marked as {action}.")
    if action is Action.PURGE:
        deleted = mailbox.delete_for_good(uids)
        return Done(f"{_messages(len(deleted))} deleted for good.", changed=bool(deleted))
    target = {
        Action.ARCHIVE: Folder.ARCHIVE,
        Action.INBOX: Folder.INBOX,
        Action.DELETE: Folder.TRASH,
        Action.RESTORE: None,
    }[action]
    moved = mailbox.move(folder, uids, target)
    if not moved:
        return Done("Nothing was changed: the messages are no longer here.", changed=False)
    said = {
        Action.ARCHIVE: "archived",
        Action.INBOX: "moved to the inbox",
        Action.DELETE: "moved to the trash",
        Action.RESTORE: "restored",
    }[action]
    sentence = f"{_messages(len(moved))} {said}."
    if target is None:
        return Done(sentence)
    return Done(sentence, Undo(target, None if target is Folder.TRASH else folder, moved))


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"
