"""The keys of mail in the store. No other module spells one.

All rows of a user's mail begin with `<user>:mail`, which is one *group*: a batch over any of them is atomic.

| row                         | column                 | value                                                          |
| --------------------------- | ---------------------- | -------------------------------------------------------------- |
| `<user>:mailbox`            | `<folder>:<uid>`       | JSON, `message.Summary`: what a list line shows                |
| `<user>:mailmsg:<uid>`      | `folder`               | the name of the folder that the message is in: the authority   |
|                             | `header`               | JSON, `message.Header`                                         |
|                             | `body`                 | text, UTF-8, lines end in LF                                   |
|                             | `revision`             | drafts only: who saved last, see `mail.drafts`                 |
| `<user>:mailunread`         | `<folder>:<uid>`       | `1`: the message is unread                                     |
| `<user>:mailthread:<thread>`| `<uid>`                | `1`: the message belongs to the conversation                   |
| `<user>:mailoutbox`         | `<uid>` of a sent copy | JSON, `delivery.Intent`: to whom it must still be delivered    |
| `<user>:mailsent`           | `<uid>` of a draft     | uid of the message that the draft was sent as                  |
| `<user>:mailgone`           | `<uid>`                | `1`: was received and deleted for good; never accept it again  |
| `system-mailoutbox-<shard>` | `<uid>` of a sent copy | JSON, `delivery.Pointer`: whose outbox to look into            |

Unread messages are *counted by their keys* in `mailunread`, not by a counter cell: a counter would have to be compared and
put by every delivery, so that a burst of mail to one user would queue up at one cell; the index cell is written blindly in
the same batch as the list line, cannot drift from it, and a count is one short scan of keys (`limits.COUNTED` at most).

The index rows `system-mailoutbox-<shard>` hold no colon, so no user name can form one, and each is a group of its own.

A uid is 24 lower-case hexadecimal digits: 11 of milliseconds since 1970 (enough until the year 2527), 13 at random. Uids
sort by time; a folder's newest messages are its last columns.
"""

from __future__ import annotations

import re
import secrets
import time
from enum import StrEnum
from hashlib import blake2b

TIME_DIGITS = 11
UID_DIGITS = 24
UID = re.compile(rf"[0-9a-f]{{{UID_DIGITS}}}")
THREAD = UID

OUTBOX_SHARDS = 8
"""Rows over which the index of outboxes is spread; changing it strands what is in the rows no longer read."""

HEADER = "header"
BODY = "body"
FOLDER = "folder"
REVISION = "revision"

PRESENT = b"1"
"""The value of a cell whose key says everything."""


class Folder(StrEnum):
    """Where a message can be. Exactly one at a time."""

    INBOX = "inbox"
    ARCHIVE = "archive"
    SENT = "sent"
    DRAFTS = "drafts"
    TRASH = "trash"


MAX_AHEAD = 3600 * 1000
"""Milliseconds by which the clocks of two front ends may differ: no uid is from further in the future than that."""


def new_uid(after: str = "") -> str:
    """A fresh uid of the present time; later than the uid `after`, if given and not from further ahead than `MAX_AHEAD`.

    An answer must sort behind what it answers, also when its machine's clock is behind that of the other.
    """
    now = time.time_ns() // 1_000_000
    if after:
        now = max(now, min(uid_time(after) + 1, now + MAX_AHEAD))
    return f"{now:0{TIME_DIGITS}x}{secrets.token_hex(7)[:13]}"


def derived_uid(uid: str, *purpose: str) -> str:
    """The uid of what follows from the message `uid`, such as its copy for one recipient: the same at every retry.

    It has the time of `uid`, so that both sort alike.
    """
    digest = blake2b("\0".join((uid, *purpose)).encode(), digest_size=7).hexdigest()
    return uid[:TIME_DIGITS] + digest[:13]


def uid_time(uid: str) -> int:
    """Milliseconds since 1970 at which `uid` was made."""
    return int(uid[:TIME_DIGITS], 16)


def first_uid_of(time_ms: int) -> str:
    """The least uid that can have been made at `time_ms`; every uid made before sorts below it."""
    return f"{time_ms:0{TIME_DIGITS}x}".ljust(UID_DIGITS, "0")


def is_from_the_future(uid: str) -> bool:
    """Whether no front end can have made `uid` yet.

    A form brings the uid of its draft along. From a forged one of the year 2200, an answer to that draft would be
    "later", and lie on top of its recipients' inboxes for good.
    """
    return uid_time(uid) > time.time_ns() // 1_000_000 + MAX_AHEAD


def is_uid(text: str) -> bool:
    """Whether `text` has the form of a uid. Every uid from outside is checked with this before it becomes a key."""
    return UID.fullmatch(text) is not None


def mailbox_row(user: str) -> str:
    return f"{user}:mailbox"


def message_row(user: str, uid: str) -> str:
    return f"{user}:mailmsg:{uid}"


def unread_row(user: str) -> str:
    return f"{user}:mailunread"


def thread_row(user: str, thread: str) -> str:
    return f"{user}:mailthread:{thread}"


def outbox_row(user: str) -> str:
    return f"{user}:mailoutbox"


def sent_row(user: str) -> str:
    return f"{user}:mailsent"


def gone_row(user: str) -> str:
    return f"{user}:mailgone"


def outbox_index_rows() -> list[str]:
    """All rows of the index of outboxes."""
    return [f"system-mailoutbox-{shard}" for shard in range(OUTBOX_SHARDS)]


def outbox_index_row(uid: str) -> str:
    """The index row that points to the outbox entry of the sent message `uid`."""
    return f"system-mailoutbox-{int(uid[-4:], 16) % OUTBOX_SHARDS}"


def entry_prefix(folder: Folder) -> str:
    """What the columns of `folder` begin with in `mailbox_row` and `unread_row`."""
    return f"{folder}:"


def entry_column(folder: Folder, uid: str) -> str:
    return f"{folder}:{uid}"


def parse_entry_column(column: str) -> tuple[Folder, str]:
    """Folder and uid of a column of `mailbox_row` or `unread_row`."""
    folder, _, uid = column.partition(":")
    assert is_uid(uid), f"column {column!r} of a mailbox names no message"
    return Folder(folder), uid
