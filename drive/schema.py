"""Every key of the drive. No other file spells one.

| row | columns | value |
| --- | --- | --- |
| `<u>:drive` | lists and pointers of the root folder (below) | |
| `<u>:drive:UID_<uid>` | lists (folders only) and attributes of a file or folder | |
| `<u>:drive:TRASH_<generation>` | `child:<uid>` | JSON: what the trash's line shows |
| `<u>:drive:WORK` | `<uid>`, `<uid>:lease` | an intent (JSON), an upload's sign of life |
| `<u>:drive:file:<uid>:open` | `open` | `1` while the file may still get chunks |
| `<u>:drive:file:<uid>:<number>` | `chunk` | `CHUNK_SIZE` bytes of the file; the last may be shorter |
| `system:drive-work:<shard>` | `<u>:<uid>` | where workers look for intents; never a promise that there is one |

Lists: `by-name:<key of the name>` → uid of the one member with that name, and `child:<uid>` → JSON of its line in the list.
Attributes, all text: `chunks`, `content_type`, `created`, `modified`, `name`, `parent`, `sha256`, `size`, `trashed`, `type`.
They sort at or after `ATTRIBUTES` and the lists before it, so the attributes of a folder with many members are a short read.
The root has no attributes but two pointers: `moves`, a number that every change of a folder's place raises (it is what makes a
race of two moves safe, see `tree`), and `trash`, the current generation of the trash.

Groups (rows that one batch may touch): the whole tree of a user is one, and each file's chunks another. A group must be
contiguous in key order, which is why `TRASH_`, `UID_` and `WORK` are upper-case: they sort before `file:`.

Uids are 32 hexadecimal digits: 12 of the time in milliseconds, 20 at random. They sort by time and are never used twice.
"""

from __future__ import annotations

import re
import secrets
import time

CHUNK_SIZE = 4 * 2**20
"""Bytes in every chunk of a file but its last."""

ROOT = "root"
"""Stands for the root folder where a uid is asked for."""

ATTRIBUTES = "chunks"
"""The first column, in key order, that can be an attribute."""

CHILD = "child:"
BY_NAME = "by-name:"
MOVES = "moves"
TRASH = "trash"
OPEN = "open"
CHUNK = "chunk"
IS_OPEN = b"1"

FIRST_TRASH = "0" * 32
"""The generation of the trash before it was ever emptied."""

SHARDS = 16

_UID = re.compile(r"[0-9a-f]{32}")


def new_uid() -> str:
    """A fresh uid."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def is_uid(text: str) -> bool:
    """Whether `text` has the form of a uid (`ROOT` has not)."""
    return _UID.fullmatch(text) is not None


def _owned(user: str, rest: str) -> str:
    assert user != ""
    assert ":" not in user, "a user name must not be able to form another's key"
    return f"{user}:drive{rest}"


def node_row(user: str, uid: str) -> str:
    """The row of a file or folder; `ROOT` gives the root folder's."""
    if uid == ROOT:
        return _owned(user, "")
    assert is_uid(uid)
    return _owned(user, f":UID_{uid}")


def trash_row(user: str, generation: str) -> str:
    assert is_uid(generation)
    return _owned(user, f":TRASH_{generation}")


def work_row(user: str) -> str:
    return _owned(user, ":WORK")


def lease_column(uid: str) -> str:
    return f"{uid}:lease"


def file_prefix(user: str, uid: str) -> str:
    """What all rows of one file's chunks begin with."""
    assert is_uid(uid)
    return _owned(user, f":file:{uid}:")


def open_row(user: str, uid: str) -> str:
    return file_prefix(user, uid) + "open"


def chunk_row(user: str, uid: str, number: int) -> str:
    """`number` counts from 0. Padded to 8 digits, so that rows sort as chunks do (32 TiB at most)."""
    assert 0 <= number < 10**8
    return f"{file_prefix(user, uid)}{number:08d}"


def child_column(uid: str) -> str:
    return CHILD + uid


def child_uid(column: str) -> str:
    return column.removeprefix(CHILD)


def name_column(key: str) -> str:
    """`key` from `names.key`."""
    return BY_NAME + key


def index_rows() -> list[str]:
    return [f"system:drive-work:{shard:02d}" for shard in range(SHARDS)]


def index_cell(user: str, uid: str) -> tuple[str, str]:
    """(row, column) under which workers find that `user` has, or is about to have, an intent `uid`."""
    return f"system:drive-work:{int(uid[-2:], 16) % SHARDS:02d}", f"{user}:{uid}"


def parse_index_column(column: str) -> tuple[str, str]:
    """(user, uid) of a column of an index row."""
    user, _, uid = column.rpartition(":")
    if not user or ":" in user or not is_uid(uid):
        raise ValueError(f"{column!r} is not a column of the drive's work index")
    return user, uid


def user_prefixes(user: str) -> list[str]:
    """Prefixes that together hold every row of the user's drive, the chunks too."""
    return [_owned(user, "")]
