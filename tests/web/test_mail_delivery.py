"""The outbox: whatever crashes, whenever, each recipient gets a message once, and never again after deleting it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

from kvstore.client import Batch
from kvstore.errors import Unavailable
from mail import addresses, delivery, schema, workers
from mail.access import display_name
from mail.drafts import AlreadySent, Draft, Drafts
from mail.mailbox import Mailbox, OnItsWay
from mail.message import Address
from mail.schema import Folder
from penncloud_site.storage import store
from tests.web.correspondents import Correspondent

pytestmark = pytest.mark.usefixtures("real_store")


class Crash(BaseException):
    """The process is gone."""


class Faulty:
    """A client that calls `before` ahead of each change it makes, and `after` behind it, with the change's number."""

    def __init__(self, *, before: Callable[[int], None] | None = None, after: Callable[[int], None] | None = None):
        self.client = store()
        self.before, self.after = before, after
        self.changes = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def _change(self, name: str, *args: Any) -> Any:
        with self._lock:
            number = self.changes
            self.changes += 1
        if self.before:
            self.before(number)
        result = getattr(self.client, name)(*args)
        if self.after:
            self.after(number)
        return result

    def put(self, *args: Any) -> Any:
        return self._change("put", *args)

    def cput(self, *args: Any) -> Any:
        return self._change("cput", *args)

    def delete(self, *args: Any) -> Any:
        return self._change("delete", *args)

    def apply(self, batch: Batch) -> Any:
        return self._change("apply", batch)


def crash_from(at: int) -> Callable[[int], None]:
    """Ends the process at the change `at`; what is dead stays dead."""

    def crash(number: int) -> None:
        if number >= at:
            raise Crash

    return crash


def send(client: Any, sender: Correspondent, draft: Draft) -> str:
    drafts = Drafts(Mailbox(client, sender.name), Address(sender.address, sender.display))
    domain = settings.PENNCLOUD["DOMAIN"]
    recipients = addresses.resolve(draft.content.typed, display_name, domain)
    return delivery.send(drafts, draft.uid, draft.revision, recipients, domain)


def sweep() -> int:
    return delivery.sweep(store(), polite_for=-60_000)


def outbox_is_empty(sender: Correspondent) -> bool:
    """Whether nothing of this sender waits, nor is pointed to."""
    pointers = [
        delivery.Pointer.decode(c.value) for row in schema.outbox_index_rows() for c in store().get_row(row).values()
    ]
    return not store().get_row(schema.outbox_row(sender.name)) and all(p.user != sender.name for p in pointers)


@pytest.fixture
def ada() -> Correspondent:
    return Correspondent("Ada Lovelace")


@pytest.fixture
def grace() -> Correspondent:
    return Correspondent("Grace Hopper")


@pytest.fixture
def linus() -> Correspondent:
    return Correspondent("Linus")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_step_repeats_a_step_and_loses_and_doubles_none(
    ada: Correspondent, grace: Correspondent, linus: Correspondent, moment: str
) -> None:
    """The sender's process dies before, or right after, each change it makes, one run for each; a sweep carries on."""
    at, finished = 0, False
    while not finished:
        draft = ada.write(f"{grace.name}, {linus.name}, {ada.name}", f"run {at}")
        client = Faulty(**{moment: crash_from(at)})
        try:
            send(client, ada, draft)
            finished = True
        except Crash:
            sweep()
        assert outbox_is_empty(ada)
        was_sent = f"run {at}" in ada.subjects(Folder.SENT)
        assert was_sent is (f"run {at}" not in ada.subjects(Folder.DRAFTS))
        for person in (grace, linus, ada):
            assert person.subjects().count(f"run {at}") == was_sent
        if not was_sent:
            send(store(), ada, draft)  # the sender presses Send again
        else:
            with pytest.raises(AlreadySent):
                send(store(), ada, draft)
        for person in (grace, linus, ada):
            assert person.subjects().count(f"run {at}") == 1
        at += 1
    assert at > 6, "every step of the delivery had its crash"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_sweep_that_crashes_at_any_step_is_finished_by_the_next(
    ada: Correspondent, grace: Correspondent, linus: Correspondent, moment: str
) -> None:
    at, finished = 0, False
    while not finished:
        draft = ada.write(f"{grace.name}, {linus.name}", f"run {at}")
        with pytest.raises(Crash):
            send(Faulty(before=crash_from(2)), ada, draft)
        client: Any = Faulty(**{moment: crash_from(at)})
        try:
            delivery.sweep(client, polite_for=-60_000)
            finished = True
        except Crash:
            sweep()
        assert outbox_is_empty(ada)
        for person in (grace, linus):
            assert person.subjects().count(f"run {at}") == 1
        at += 1
    assert at > 3, "every step of the sweep had its crash"


@pytest.mark.parametrize("fate", ["moved", "in the trash", "deleted for good", "read"])
def test_a_repeated_delivery_neither_doubles_nor_brings_back(
    ada: Correspondent, grace: Correspondent, fate: str
) -> None:
    """The process dies after the delivery and before it is noted; meanwhile the recipient has done something with it."""
    with pytest.raises(Crash):
        send(Faulty(before=crash_from(3)), ada, ada.write(grace.name, "Once"))
    (line,) = grace.lines()
    if fate == "moved":
        grace.mailbox.move(Folder.INBOX, [line.uid], Folder.ARCHIVE)
    elif fate == "read":
        grace.mailbox.mark(Folder.INBOX, [line.uid], unread=False)
    else:
        grace.mailbox.move(Folder.INBOX, [line.uid], Folder.TRASH)
        if fate == "deleted for good":
            assert grace.mailbox.empty_trash() == (1, 0)
    places = [(x.folder, x.summary) for folder in Folder for x in grace.lines(folder)]
    assert not outbox_is_empty(ada)
    sweep()
    assert outbox_is_empty(ada)
    assert [(x.folder, x.summary) for folder in Folder for x in grace.lines(folder)] == places


def test_a_sweep_between_pointer_and_message_does_not_lose_the_message(
    ada: Correspondent, grace: Correspondent
) -> None:
    """The sender has written its pointer and is slow; a sweep takes the pointer for a crash's and removes it.

    Without the fence the message would then be sent with nothing pointing to it, and a crash right after would lose it.
    """

    def sweep_before_the_message(number: int) -> None:
        if number == 1:
            sweep()
            assert outbox_is_empty(ada)
        crash_from(4)(number)  # 1 failed at the fence; 2 takes its pointer away, 3 and 4 are the second attempt

    draft = ada.write(grace.name, "Slow")
    with pytest.raises(Crash):
        send(Faulty(before=sweep_before_the_message), ada, draft)
    assert ada.subjects(Folder.DRAFTS) == ["Slow"]

    def sweep_once(number: int) -> None:
        if number == 1:
            sweep()
        crash_from(5)(number)

    with pytest.raises(Crash):
        send(Faulty(before=sweep_once), ada, draft)
    assert ada.subjects(Folder.SENT) == ["Slow"]
    assert grace.subjects() == []
    sweep()
    assert grace.subjects() == ["Slow"]
    assert outbox_is_empty(ada)


def test_the_fence_does_not_disturb_who_is_still_writing(ada: Correspondent, grace: Correspondent) -> None:
    draft = ada.write(grace.name, "Draft", "first")
    with pytest.raises(Crash):
        send(Faulty(before=crash_from(1)), ada, draft)
    sweep()
    assert ada.drafts.open(draft.uid) == draft
    assert outbox_is_empty(ada)


def test_a_sweep_leaves_young_messages_to_who_is_sending_them(ada: Correspondent, grace: Correspondent) -> None:
    with pytest.raises(Crash):
        send(Faulty(before=crash_from(2)), ada, ada.write(grace.name, "Young"))
    delivery.sweep(store(), polite_for=60_000)
    assert grace.subjects() == []
    sweep()
    assert grace.subjects() == ["Young"]


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The user names in this set cannot be delivered to."""
    names: set[str] = set()
    place = delivery.place

    def guarded(client: Any, user: str, *rest: Any) -> bool:
        if user in names:
            raise Unavailable("no node answers")
        return place(client, user, *rest)

    monkeypatch.setattr(delivery, "place", guarded)
    return names


def test_one_recipient_out_of_reach_keeps_none_of_the_others_waiting(
    ada: Correspondent, grace: Correspondent, linus: Correspondent, unreachable: set[str]
) -> None:
    unreachable.add(grace.name)
    uid = ada.mail(f"{grace.name}, {linus.name}", "Both")
    assert linus.subjects() == ["Both"]
    assert grace.subjects() == []
    entry = store().get(schema.outbox_row(ada.name), uid)
    assert entry is not None
    assert delivery.Intent.decode(entry.value).recipients == (grace.name,)
    sweep()
    assert not outbox_is_empty(ada)
    unreachable.clear()
    sweep()
    assert grace.subjects() == linus.subjects() == ["Both"]
    assert outbox_is_empty(ada)


def test_what_stays_undelivered_is_returned_to_the_sender_once(
    ada: Correspondent,
    grace: Correspondent,
    linus: Correspondent,
    unreachable: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unreachable.add(grace.name)
    uid = ada.mail(f"{grace.name}, {linus.name}", "Both")
    monkeypatch.setattr(delivery, "GIVE_UP_AFTER", -60_000)
    sweep()
    sweep()
    assert ada.subjects() == ["Not delivered: Both"]
    notice = ada.mailbox.message(ada.lines()[0].uid)
    assert grace.address in notice.body
    assert linus.address not in notice.body
    assert notice.header.in_reply_to == ada.mailbox.message(uid).header.message_id
    assert outbox_is_empty(ada)


def test_a_sent_message_cannot_be_deleted_for_good_while_it_is_on_its_way(
    ada: Correspondent, grace: Correspondent, unreachable: set[str]
) -> None:
    unreachable.add(grace.name)
    uid = ada.mail(grace.name, "Waiting")
    ada.mailbox.move(Folder.SENT, [uid], Folder.TRASH)
    with pytest.raises(OnItsWay):
        ada.mailbox.delete_for_good([uid])
    assert ada.mailbox.empty_trash() == (0, 1)
    said = ada.act("purge", uid, folder=Folder.TRASH, sure="1")
    assert said.status_code == 302
    assert "still on its way" in ada.get("/mail/trash/").content.decode()
    unreachable.clear()
    sweep()
    assert grace.subjects() == ["Waiting"]
    assert ada.mailbox.empty_trash() == (1, 0)


def test_the_sender_is_told_sent_although_a_recipient_is_out_of_reach(
    ada: Correspondent, grace: Correspondent, unreachable: set[str]
) -> None:
    unreachable.add(grace.name)
    assert ada.compose(to=grace.name, subject="Later").status_code == 302
    assert ada.subjects(Folder.SENT) == ["Later"]


def test_two_sweeps_at_once_do_no_harm(ada: Correspondent, grace: Correspondent, linus: Correspondent) -> None:
    subjects = [f"message {number}" for number in range(5)]
    for subject in subjects:
        with pytest.raises(Crash):
            send(Faulty(before=crash_from(2)), ada, ada.write(f"{grace.name}, {linus.name}", subject))
    barrier = threading.Barrier(3)

    def run() -> None:
        barrier.wait()
        sweep()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sweep()
    assert sorted(grace.subjects()) == sorted(linus.subjects()) == subjects
    assert outbox_is_empty(ada)


def test_a_damaged_record_in_the_outbox_keeps_no_other_mail_waiting(ada: Correspondent, grace: Correspondent) -> None:
    damaged = ["0" * 20 + f"{shard:04x}" for shard in range(schema.OUTBOX_SHARDS)]  # the first of every index row
    for uid in damaged:
        store().put(schema.outbox_index_row(uid), uid, b"not a pointer")
    with pytest.raises(Crash):
        send(Faulty(before=crash_from(2)), ada, ada.write(grace.name, "Behind it"))
    sweep()
    for uid in damaged:
        store().delete(schema.outbox_index_row(uid), uid)
    assert grace.subjects() == ["Behind it"]


def test_the_sweeper_goes_on_after_a_sweep_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [Unavailable("failing over"), RuntimeError("an odd record")]
    swept = threading.Event()

    def fail_twice(_client: object) -> int:
        if failures:
            raise failures.pop(0)
        swept.set()
        return 0

    monkeypatch.setattr(workers, "sweep", fail_twice)
    sweeper = workers.Sweeper(every=0.001)
    sweeper.start()
    assert swept.wait(timeout=10)
    sweeper.stop()
