"""Sending: a message leaves the sender in one batch and reaches each recipient in one batch of his own.

The sender's mail and each recipient's are different groups, so no single batch can hold both. What holds them together is
an *outbox*: the intent to deliver is written atomically with the visible change, and a worker carries it out in idempotent
steps. The steps, and what a crash after each leaves:

1. `Pointer` into the index row: "look into ada's outbox for this uid".      Left: a pointer to nothing; see *fence* below.
2. One batch in the sender's group: the draft becomes the sent copy, and an `Intent` with all recipients enters the outbox.
   From here on the message is sent.                                         Left: everything a sweep needs to go on.
3. For each recipient one batch in his group: message, list line, unread mark, conversation.
                                                                             Left: some have it; a sweep finds that out.
4. The intent is removed (or, when some could not be reached, cut down to those).        Left: a pointer to nothing.
5. The pointer is removed.

**Once, and only once.** A recipient's copy has a uid derived from the sent one, the same at every attempt, and step 3
requires that he has no message of that uid *in any folder* (the `folder` cell of its row) and has not deleted it for good
(`mailgone`). So a repeated delivery neither doubles the message nor brings it back, wherever he has put it. `mailgone` is
kept for `mailbox.GONE_FOR`; an intent is given up after the shorter `GIVE_UP_AFTER`, and the sender is told which recipients
could not be reached. (A worker that was stopped for the weeks between these two, in the middle of one step, is beyond this
rule: it would deliver once more what was deleted for good.)

**The fence.** A sweep that finds a pointer without an intent cannot see whether step 2 will still come. It must not
remove the pointer before it has made that impossible: so step 2 requires the *version* of the draft's `folder` cell as it
was before step 1, and the sweep writes that cell anew (same value, new version) before it removes the pointer. A sender
who was only slow fails in step 2 and starts again with a new uid and a new pointer. Clocks only decide how long a sweep
is polite (`POLITE_FOR`), never what is right.

Sweeps run in every front end (`mail.workers`); two at once repeat each other's steps, which is harmless.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from kvstore.client import Batch, Client
from kvstore.errors import RequirementFailed, StoreError
from mail import schema
from mail.addresses import Recipients, username_of
from mail.drafts import AlreadySent, Draft, DraftChanged, DraftGone, Drafts
from mail.mailbox import ATTEMPTS, GONE_FOR, Contended, Mailbox, NoSuchMessage, settle
from mail.message import Address, Header, Kind, encode, message_id, summary_of, thread_of
from mail.schema import Folder, entry_column

POLITE_FOR = 30_000
"""Milliseconds for which a sweep leaves a new pointer to the front end that wrote it."""

GIVE_UP_AFTER = 14 * 24 * 3600 * 1000
"""Milliseconds after which an undelivered message is returned to its sender."""

assert 2 * GIVE_UP_AFTER <= GONE_FOR, "a deletion must be remembered for as long as a delivery may be repeated"

PARALLEL = 8
"""Recipients of one message that are delivered to at the same time."""

SWEEP_PAGE = 200
"""Pointers that a sweep reads at a time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a sweep has to look: `user`'s outbox, for a message that was the draft `draft`."""

    user: str
    draft: str

    def encode(self) -> bytes:
        return encode(asdict(self))

    @classmethod
    def decode(cls, value: bytes) -> Pointer:
        return cls(**json.loads(value))


@dataclass(frozen=True, slots=True)
class Intent:
    """The user names to which a sent message must still be delivered."""

    recipients: tuple[str, ...]

    def encode(self) -> bytes:
        return encode(asdict(self))

    @classmethod
    def decode(cls, value: bytes) -> Intent:
        return cls(tuple(json.loads(value)["recipients"]))


# --- sending


def send(drafts: Drafts, uid: str, revision: str, recipients: Recipients, domain: str) -> str:
    """Send the draft `uid` as it was saved as `revision`, and deliver it; the uid of the sent message.

    When this returns, the message is sent: whatever of the delivery failed, a sweep carries on. Raises `AlreadySent`
    (which names the earlier uid), `DraftGone` and `DraftChanged`; then nothing was sent by this call. After a store error
    the message may or may not have been sent: calling again finds out.
    """
    sent = _enqueue(drafts, uid, revision, recipients, domain)
    try:
        deliver(drafts.client, drafts.user, sent)
    except StoreError as error:
        logger.warning("message %s of %s waits in the outbox: %s", sent, drafts.user, error)
    return sent


def _enqueue(drafts: Drafts, uid: str, revision: str, recipients: Recipients, domain: str) -> str:
    """Steps 1 and 2; the uid of the sent message."""
    client, user = drafts.client, drafts.user
    for _ in range(ATTEMPTS):
        fence = client.get(schema.message_row(user, uid), schema.FOLDER)
        draft = drafts.open(uid)
        if draft.revision != revision:
            raise DraftChanged(draft)
        if fence is None:
            continue
        sent = schema.new_uid(after=draft.header.answers)
        client.put(schema.outbox_index_row(sent), sent, Pointer(user, uid).encode())
        batch = Batch()
        batch.require_version(schema.message_row(user, uid), schema.FOLDER, fence.version)
        batch.require(schema.message_row(user, uid), schema.REVISION, revision.encode())
        _put_sent(batch, user, sent, draft, recipients, domain)
        try:
            client.apply(batch)
        except RequirementFailed:
            # A sweep fenced us, or the draft was saved, moved or sent meanwhile: look again. This pointer leads nowhere.
            client.delete(schema.outbox_index_row(sent), sent)
            continue
        return sent
    raise Contended("the draft is being changed again and again; it was not sent")


def _put_sent(batch: Batch, user: str, sent: str, draft: Draft, recipients: Recipients, domain: str) -> None:
    """The draft's removal, the sent copy, the intent, and the note that the draft was sent."""
    own_id = message_id(sent, domain)
    header = replace(
        draft.header,
        message_id=own_id,
        thread=thread_of(own_id, draft.header.references),
        date=schema.uid_time(sent),
        to=recipients.to,
        cc=recipients.cc,
        bcc=recipients.bcc,
        draft=draft.uid,
        typed=("", "", ""),
        answers="",
    )
    batch.delete_row(schema.message_row(user, draft.uid))
    batch.delete(schema.mailbox_row(user), entry_column(Folder.DRAFTS, draft.uid))
    if draft.header.thread:
        batch.delete(schema.thread_row(user, draft.header.thread), draft.uid)
    _put_message(batch, user, sent, Folder.SENT, Kind.SENT, header, draft.content.body)
    batch.put(schema.sent_row(user), draft.uid, sent.encode())
    batch.put(schema.outbox_row(user), sent, Intent(tuple(recipients.usernames)).encode())


def _put_message(batch: Batch, user: str, uid: str, folder: Folder, kind: Kind, header: Header, body: str) -> None:
    """All cells of a message that has just arrived in `folder`; a received one is unread."""
    row = schema.message_row(user, uid)
    unread = kind is Kind.RECEIVED
    batch.put(row, schema.FOLDER, folder.encode())
    batch.put(row, schema.HEADER, header.encode())
    batch.put(row, schema.BODY, body.encode())
    summary = summary_of(kind, header, body, unread=unread)
    batch.put(schema.mailbox_row(user), entry_column(folder, uid), summary.encode())
    batch.put(schema.thread_row(user, header.thread), uid, schema.PRESENT)
    if unread:
        batch.put(schema.unread_row(user), entry_column(folder, uid), schema.PRESENT)


# --- delivering


def place(client: Client, user: str, uid: str, header: Header, body: str) -> bool:
    """Put a message into `user`'s inbox, unread, as `uid`; False if he has it already, or had it and deleted it for good.

    Step 3, and the way in for every message from elsewhere: `uid` must be derived from what names the message there.
    """
    batch = Batch()
    batch.require(schema.message_row(user, uid), schema.FOLDER, None)
    batch.require(schema.gone_row(user), uid, None)
    _put_message(batch, user, uid, Folder.INBOX, Kind.RECEIVED, header, body)
    try:
        client.apply(batch)
    except RequirementFailed:
        return False
    return True


def deliver(client: Client, sender: str, uid: str) -> bool:
    """Steps 3 to 5 for one sent message: whether all of it is done now. Idempotent; safe at any time, by anybody.

    Recipients that fail are left in the outbox for the next attempt, the others are delivered to nevertheless.
    """
    entry = client.get(schema.outbox_row(sender), uid)
    if entry is not None:
        waiting = Intent.decode(entry.value).recipients
        try:
            message = Mailbox(client, sender).message(uid)
        except NoSuchMessage:
            # Deleting for good needs an empty outbox entry: it went after we read ours, so there is nothing left to do.
            client.delete(schema.outbox_index_row(uid), uid)
            return True
        reached = _deliver_to(client, uid, waiting, message.header, message.body)
        left = tuple(name for name in waiting if name not in reached)
        if not left:
            client.delete(schema.outbox_row(sender), uid)
        elif _age(uid) <= GIVE_UP_AFTER:
            _cut_down(client, sender, uid, entry.value, Intent(left))
            return False
        elif not _return_to_sender(client, sender, uid, entry.value, message.header, left):
            return False
    client.delete(schema.outbox_index_row(uid), uid)
    return True


def _deliver_to(client: Client, uid: str, names: tuple[str, ...], header: Header, body: str) -> set[str]:
    """Deliver to each of `names`, several at a time; those that have the message now."""
    shown = header.without_bcc()

    def one(name: str) -> bool:
        try:
            place(client, name, schema.derived_uid(uid, name), shown, body)
        except StoreError as error:
            logger.warning("message %s is not delivered to %s yet: %s", uid, name, error)
            return False
        return True

    if len(names) == 1:
        return {names[0]} if one(names[0]) else set()
    with ThreadPoolExecutor(min(PARALLEL, len(names)), thread_name_prefix="delivery") as pool:
        return {name for name, done in zip(names, pool.map(one, names), strict=True) if done}


def _cut_down(client: Client, sender: str, uid: str, old: bytes, intent: Intent) -> None:
    """Take those reached out of the intent, so that what is repeated later is only what must be.

    If another worker has changed it meanwhile, his is as good: every name in it that was reached will be found so.
    """
    if intent.encode() != old:
        client.cput(schema.outbox_row(sender), uid, old, intent.encode())


def _return_to_sender(client: Client, sender: str, uid: str, old: bytes, header: Header, left: tuple[str, ...]) -> bool:
    """Replace the intent by a message to the sender that says who was not reached: one batch, so it is said once.

    False if another worker has changed the intent meanwhile; then nothing happened.
    """
    domain = header.sender.address.partition("@")[2]
    notice_uid = schema.new_uid(after=uid)
    own_id = message_id(notice_uid, domain)
    names = [a for a in header.recipients if username_of(a.address) in left]
    body = (
        "Your message could not be delivered to:\n\n"
        + "".join(f"  {address.address}\n" for address in names)
        + f"\nfor {GIVE_UP_AFTER // 86_400_000} days, and will not be tried again."
        " Everybody else it was addressed to has received it.\n"
    )
    references = (*header.references, header.message_id)
    notice = Header(
        message_id=own_id,
        thread=header.thread,
        sender=Address(f"mailer-daemon@{domain}", "Mail delivery"),
        subject=f"Not delivered: {header.subject}",
        date=schema.uid_time(notice_uid),
        size=len(body.encode()),
        to=(header.sender,),
        in_reply_to=header.message_id,
        references=references,
    )
    batch = Batch().require(schema.outbox_row(sender), uid, old).delete(schema.outbox_row(sender), uid)
    _put_message(batch, sender, notice_uid, Folder.INBOX, Kind.RECEIVED, notice, body)
    try:
        client.apply(batch)
    except RequirementFailed:
        return False
    return True


# --- sweeping


def sweep(client: Client, *, polite_for: int = POLITE_FOR) -> int:
    """Carry on with every delivery that a crash or a failure left in the outbox; how many were completed.

    `polite_for`: messages younger than this many milliseconds are left to the front end that is sending them. One that
    fails is reported and left for the next sweep; it keeps none of the others waiting.
    """
    done = 0
    for uid, value in _pointers(client):
        if _age(uid) < polite_for:
            continue
        try:
            done += _carry_on(client, uid, Pointer.decode(value))
        except StoreError as error:
            logger.warning("message %s stays in the outbox: %s", uid, error)
        except Exception:  # a damaged record: for a person to look at, while all other mail goes on
            logger.exception("message %s stays in the outbox", uid)
    return done


def _pointers(client: Client) -> Iterator[tuple[str, bytes]]:
    """Every sent message that an index row points to, with the encoded `Pointer`."""
    for row in schema.outbox_index_rows():
        start = ""
        while cells := client.get_row(row, limit=SWEEP_PAGE, start=start):
            for uid, cell in cells.items():
                yield uid, cell.value
            start = max(cells) + "\0"


def _carry_on(client: Client, uid: str, pointer: Pointer) -> bool:
    if client.get(schema.outbox_row(pointer.user), uid) is None:
        settle(lambda: _fence(client, pointer))
        # Now the intent is there already (it came before our fence) or never will be: `deliver` does what is right.
    return deliver(client, pointer.user, uid)


def _fence(client: Client, pointer: Pointer) -> None:
    """Make every `send` of this draft that is now between its steps 1 and 2 fail there. Changes nothing that shows."""
    row = schema.message_row(pointer.user, pointer.draft)
    place_cell = client.get(row, schema.FOLDER)
    if place_cell is not None:  # no draft: then its version cannot be what any such `send` requires
        batch = Batch().require_version(row, schema.FOLDER, place_cell.version)
        client.apply(batch.put(row, schema.FOLDER, place_cell.value))


def _age(uid: str) -> int:
    """Milliseconds since `uid` was made, by this machine's clock."""
    return time.time_ns() // 1_000_000 - schema.uid_time(uid)


__all__ = ["AlreadySent", "DraftChanged", "DraftGone", "Intent", "Pointer", "deliver", "place", "send", "sweep"]
