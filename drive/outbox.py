"""Intents: work that crosses groups, recorded in the same batch as the change that the user sees.

An intent is a cell of the user's WORK row, named by a uid of its own (an upload's is the file's). Because a worker cannot read
the WORK rows of all users all the time, an entry in a small index, shared by all users, says where to look. The index is in
another group, so:

1. `announce` writes the index entry *before* the batch that records the intent. An entry without an intent is possible (a
   crash in between) and harmless; an intent without an entry is not.
2. `finish` removes the intent, then the entry.
3. A worker that keeps finding an entry without an intent must not just drop it: the batch of step 1 may still come, from a
   process that was paused. It first plants a `VOID` intent, after which that batch cannot succeed (`record` requires that there
   is none), and then drops the entry. The `VOID` stays: some tens of bytes for a crash inside a window of milliseconds.
"""

from __future__ import annotations

import json
from enum import StrEnum

from drive import schema
from kvstore.client import Batch, Client


class Kind(StrEnum):
    UPLOAD = "upload"
    """A file is on its way in. Its chunks are collected if the lease stands still."""
    PURGE = "purge"
    """`target`, a file, a folder with all below it, or the chunks of a broken upload, is to be collected."""
    EMPTY = "empty"
    """Everything in `target`, a former generation of the trash, is to be collected."""
    VOID = "void"
    """This uid came too late: nothing may be recorded for it any more."""


def encode(kind: Kind, **details: str) -> bytes:
    return json.dumps({"kind": kind.value, **details}, ensure_ascii=False, sort_keys=True).encode()


def decode(value: bytes) -> tuple[Kind, str]:
    """(kind, target) of an intent; the target is empty for kinds that have none."""
    fields = json.loads(value)
    return Kind(fields["kind"]), fields.get("target", "")


def announce(store: Client, user: str, uid: str) -> None:
    """Tell the workers that an intent may appear. Call before the batch that `record` was added to."""
    store.put(*schema.index_cell(user, uid), b"1")


def record(batch: Batch, user: str, uid: str, value: bytes) -> None:
    """Add an intent to a batch; the batch fails if `uid` has one."""
    row = schema.work_row(user)
    batch.require(row, uid, None).put(row, uid, value)


def drop(batch: Batch, user: str, uid: str, value: bytes) -> None:
    """Take an intent out in a batch; the batch fails if it is not there, or is not `value`, any more."""
    row = schema.work_row(user)
    batch.require(row, uid, value).delete(row, uid).delete(row, schema.lease_column(uid))


def finish(store: Client, user: str, uid: str) -> None:
    """The work is done: remove the intent and its index entry. Doing it twice is harmless."""
    row = schema.work_row(user)
    store.apply(Batch().delete(row, uid).delete(row, schema.lease_column(uid)))
    retract(store, user, uid)


def retract(store: Client, user: str, uid: str) -> None:
    """Remove the index entry of an intent that is gone."""
    store.delete(*schema.index_cell(user, uid))


def turn_to_purge(store: Client, batch: Batch, user: str, uid: str, upload: bytes) -> bytes:
    """Apply `batch`, and turn the intent `upload` into one to collect the chunks, which is returned.

    `RequirementFailed` if the intent is not there any more: the upload is over, or somebody else gave it up.
    """
    value = purge_instead(batch, user, uid, upload)
    store.apply(batch)
    return value


def purge_instead(batch: Batch, user: str, uid: str, upload: bytes) -> bytes:
    """Add to a batch that the intent `upload` becomes one to collect the chunks, which is returned."""
    value = encode(Kind.PURGE, target=uid)
    drop(batch, user, uid, upload)
    batch.put(schema.work_row(user), uid, value)
    return value
