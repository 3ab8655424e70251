"""Lists: their pages, and what is done to messages in them; deleting, undoing, deleting for good."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest

from kvstore.client import Batch
from mail import mailbox as mailbox_module
from mail import schema
from mail.delivery import place
from mail.mailbox import Contended, Mailbox
from mail.message import Address, Header, thread_of
from mail.schema import Folder
from penncloud_site.storage import store
from tests.web.correspondents import Correspondent, script

pytestmark = pytest.mark.usefixtures("real_store")

FRIEND = Address("friend@elsewhere.example", "A Friend")


@pytest.fixture
def ada() -> Correspondent:
    return Correspondent("Ada Lovelace")


def receive(person: Correspondent, subject: str = "Hello", body: str = "Text") -> str:
    """A message in the inbox, without a sender to make; later than the ones before."""
    newest = person.mailbox.page(Folder.INBOX, size=1).lines
    uid = schema.new_uid(after=newest[0].uid if newest else "")
    own_id = f"<{uid}@elsewhere.example>"
    header = Header(own_id, thread_of(own_id, ()), FRIEND, subject, schema.uid_time(uid), to=(Address(person.address),))
    assert place(store(), person.name, uid, header, body)
    return uid


def shown(page: str) -> list[str]:
    """The subjects of the lines of a list page, in order."""
    return re.findall(r'class="mail-subject">([^<]*)<', page)


def test_sixty_messages_fill_a_page_of_fifty_and_one_of_ten(ada: Correspondent) -> None:
    for number in range(60):
        receive(ada, f"Message {number}")
    first = ada.get("/mail/inbox/").content.decode()
    assert shown(first) == [f"Message {number}" for number in range(59, 9, -1)]
    assert "1–50 of 60" in first
    older = re.search(r'href="(\?before=[^"]+)"', first)
    assert older
    assert 'data-turn="newer"' not in first
    second = ada.get("/mail/inbox/" + older[1].replace("&amp;", "&")).content.decode()
    assert shown(second) == [f"Message {number}" for number in range(9, -1, -1)]
    assert "51–60 of 60" in second
    assert 'data-turn="older"' not in second
    newer = re.search(r'href="(\?after=[^"]+)"', second)
    assert newer
    back = ada.get("/mail/inbox/" + newer[1].replace("&amp;", "&")).content.decode()
    assert shown(back) == shown(first)


def test_every_message_is_on_exactly_one_page_whichever_way_one_turns(ada: Correspondent) -> None:
    uids = [receive(ada, str(number)) for number in range(23)][::-1]
    page = ada.mailbox.page(Folder.INBOX, size=7)
    seen = [line.uid for line in page.lines]
    while page.older:
        page = ada.mailbox.page(Folder.INBOX, before=page.lines[-1].uid, size=7)
        seen += [line.uid for line in page.lines]
    assert seen == uids
    while page.newer:
        page = ada.mailbox.page(Folder.INBOX, after=page.lines[0].uid, size=7)
    assert [line.uid for line in page.lines] == uids[:7]


def test_a_page_whose_messages_are_gone_shows_the_newest(ada: Correspondent) -> None:
    uid = receive(ada, "Left")
    assert shown(ada.get(f"/mail/inbox/?before={uid}").content.decode()) == ["Left"]
    assert shown(ada.get("/mail/inbox/?before=nonsense&at=x").content.decode()) == ["Left"]


@pytest.mark.parametrize("folder", list(Folder))
def test_an_empty_folder_says_what_will_be_there(ada: Correspondent, folder: Folder) -> None:
    response = ada.get(f"/mail/{folder}/")
    assert response.status_code == 200
    assert 'class="empty-state"' in response.content.decode()


def test_unread_messages_are_bold_counted_and_marked_either_way(ada: Correspondent) -> None:
    one, two, _three = receive(ada, "one"), receive(ada, "two"), receive(ada, "three")
    page = ada.get("/mail/inbox/").content.decode()
    assert page.count("mail-line is-unread") == 3
    assert re.search(r'class="shell-count">3<', page)
    ada.act("read", one, two)
    assert ada.mailbox.counts().unread == 1
    ada.act("read", one)
    assert ada.mailbox.counts().unread == 1
    ada.act("unread", one)
    assert ada.mailbox.counts().unread == 2
    ada.act("delete", one)
    assert ada.mailbox.counts().unread == 1
    ada.act("restore", one, folder=Folder.TRASH)
    assert ada.mailbox.counts().unread == 2


def test_deleting_can_be_undone_and_brings_the_message_back_where_it_was(ada: Correspondent) -> None:
    kept, gone = receive(ada, "kept"), receive(ada, "gone")
    ada.act("archive", gone)
    response = ada.post("/mail/act", {"folder": "archive", "action": "delete", "uid": gone}, headers=script("content"))
    assert response.status_code == 200
    toast = json.loads(response["HX-Trigger"])["toast"]
    assert toast["message"] == "1 message moved to the trash."
    assert ada.subjects(Folder.TRASH) == ["gone"]
    undone = ada.post(toast["undo"], headers=script("content"))
    assert undone.status_code == 204
    assert ada.subjects(Folder.TRASH) == []
    assert ada.subjects(Folder.ARCHIVE) == ["gone"]
    assert [line.uid for line in ada.lines()] == [kept]
    late = ada.post(toast["undo"], headers=script("content"))
    assert "could not be undone" in json.loads(late["HX-Trigger"])["toast"]["message"]


def test_without_a_script_the_next_page_says_what_was_done_and_offers_undo(ada: Correspondent) -> None:
    uid = receive(ada, "subject")
    response = ada.act("delete", uid)
    assert response["Location"] == "/mail/inbox/"
    page = ada.get("/mail/inbox/").content.decode()
    assert "1 message moved to the trash." in page
    undo = re.search(r'action="(/mail/undo[^"]+)"', page)
    assert undo
    assert ada.post(undo[1].replace("&amp;", "&"))["Location"] == "/mail/inbox/"
    assert ada.subjects() == ["subject"]


def test_a_rows_own_button_acts_on_that_row_alone(ada: Correspondent) -> None:
    ticked, other = receive(ada, "ticked"), receive(ada, "other")
    ada.post("/mail/act", {"folder": "inbox", "uid": ticked, "one": f"archive:{other}"})
    assert ada.subjects(Folder.ARCHIVE) == ["other"]
    assert ada.subjects() == ["ticked"]


def test_nothing_selected_is_said_and_changes_nothing(ada: Correspondent) -> None:
    receive(ada, "subject")
    ada.act("delete")
    assert "Select one or more messages first." in ada.get("/mail/inbox/").content.decode()
    assert ada.subjects() == ["subject"]


@pytest.mark.parametrize(
    "form",
    [
        {"folder": "inbox", "action": "restore"},
        {"folder": "inbox", "action": "purge", "sure": "1"},
        {"folder": "nowhere", "action": "delete"},
        {"folder": "inbox", "action": "explode"},
        {"folder": "inbox", "action": "delete", "uid": "../../user:x"},
    ],
)
def test_forged_actions_are_refused(ada: Correspondent, form: dict[str, str]) -> None:
    uid = receive(ada, "subject")
    assert ada.post("/mail/act", {"uid": uid} | form).status_code == 404
    assert ada.subjects() == ["subject"]


def test_deleting_for_good_asks_with_the_number_and_then_leaves_nothing(ada: Correspondent) -> None:
    uids = [receive(ada, "a"), receive(ada, "b")]
    ada.act("delete", *uids)
    question = ada.act("purge", *uids, folder=Folder.TRASH)
    assert "Delete 2 messages for good?" in question.content.decode()
    assert sorted(ada.subjects(Folder.TRASH)) == ["a", "b"]
    ada.act("purge", *uids, folder=Folder.TRASH, sure="1")
    assert ada.subjects(Folder.TRASH) == []
    assert ada.get(f"/mail/trash/{uids[0]}").status_code == 404
    left = [row for row, _column, _cell in store().scan(prefix=f"{ada.name}:mail")]
    assert set(left) == {schema.gone_row(ada.name)}


def test_emptying_the_trash_asks_with_the_number_and_takes_everything(ada: Correspondent) -> None:
    uids = [receive(ada, str(number)) for number in range(7)]
    kept = receive(ada, "kept")
    ada.act("delete", *uids)
    question = ada.get("/mail/trash/empty").content.decode()
    assert "Delete 7 messages for good?" in question
    ada.post("/mail/trash/empty")
    assert ada.subjects(Folder.TRASH) == []
    assert [line.uid for line in ada.lines()] == [kept]
    assert "7 messages deleted for good." in ada.get("/mail/trash/").content.decode()


def test_a_big_trash_is_emptied_in_steps(ada: Correspondent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "PURGE_STEP", 3)
    uids = [receive(ada, str(number)) for number in range(8)]
    ada.mailbox.move(Folder.INBOX, uids, Folder.TRASH)
    assert ada.mailbox.empty_trash() == (8, 0)
    assert ada.mailbox.empty_trash() == (0, 0)


def test_a_draft_goes_to_the_trash_and_back_to_the_drafts(ada: Correspondent) -> None:
    draft = ada.write("somebody", "Unfinished")
    ada.act("delete", draft.uid, folder=Folder.DRAFTS)
    assert ada.subjects(Folder.TRASH) == ["Unfinished"]
    assert "Unfinished" in ada.get(f"/mail/trash/{draft.uid}").content.decode()
    ada.act("restore", draft.uid, folder=Folder.TRASH)
    assert ada.drafts.open(draft.uid).content.subject == "Unfinished"


def test_a_message_opened_under_another_folders_address_is_found_where_it_is(ada: Correspondent) -> None:
    uid = receive(ada, "moved")
    ada.act("archive", uid)
    assert ada.get(f"/mail/inbox/{uid}")["Location"] == f"/mail/archive/{uid}"


def test_the_trash_is_no_part_of_a_conversation_elsewhere(ada: Correspondent) -> None:
    grace = Correspondent("Grace Hopper")
    ada.mail(grace.name, "Series", "the first part")
    (first,) = grace.lines()
    answer = grace.mail(ada.name, "Re: Series", "the second part", reply_to=first.uid)
    grace.act("delete", first.uid)
    page = grace.get(f"/mail/sent/{answer}").content.decode()
    assert "the second part" in page
    assert "the first part" not in page
    assert "the first part" in grace.get(f"/mail/trash/{first.uid}").content.decode()


def test_two_windows_that_move_one_message_never_double_or_lose_it(ada: Correspondent) -> None:
    uids = [receive(ada, str(number)) for number in range(5)]
    barrier = threading.Barrier(3)

    def run(target: Folder) -> None:
        barrier.wait()
        Mailbox(store(), ada.name).move(Folder.INBOX, uids, target)

    def mark() -> None:
        barrier.wait()
        Mailbox(store(), ada.name).mark(Folder.INBOX, uids, unread=False)

    threads = [threading.Thread(target=run, args=(target,)) for target in (Folder.TRASH, Folder.ARCHIVE)]
    threads.append(threading.Thread(target=mark))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [line for folder in Folder for line in ada.lines(folder)]
    assert sorted(line.uid for line in found) == sorted(uids)
    assert len({line.folder for line in found}) == 1
    for line in found:
        assert ada.mailbox.message(line.uid).folder is line.folder
    marks = store().get_row(schema.unread_row(ada.name), keys_only=True)
    assert set(marks) == {schema.entry_column(x.folder, x.uid) for x in found if x.summary.unread}


class Outrun:
    """A client before each of whose batches another window rewrites one cell: always a moment earlier."""

    def __init__(self, client: Any, row: str, column: str) -> None:
        self.client, self.row, self.column = client, row, column

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def apply(self, batch: Batch) -> Any:
        self.client.put(self.row, self.column, self.client.get(self.row, self.column).value)
        return self.client.apply(batch)


def test_a_change_that_always_loses_the_race_says_so_and_changes_nothing(ada: Correspondent) -> None:
    uid = receive(ada, "subject")
    outrun: Any = Outrun(store(), schema.mailbox_row(ada.name), schema.entry_column(Folder.INBOX, uid))
    with pytest.raises(Contended):
        Mailbox(outrun, ada.name).move(Folder.INBOX, [uid], Folder.TRASH)
    assert ada.subjects() == ["subject"]


def test_deletions_are_forgotten_only_when_no_delivery_can_be_repeated(
    ada: Correspondent, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = receive(ada, "subject")
    ada.mailbox.move(Folder.INBOX, [uid], Folder.TRASH)
    ada.mailbox.delete_for_good([uid])
    assert uid in store().get_row(schema.gone_row(ada.name))
    monkeypatch.setattr(mailbox_module, "GONE_FOR", -60_000)
    ada.mailbox.empty_trash()
    assert store().get_row(schema.gone_row(ada.name)) == {}
