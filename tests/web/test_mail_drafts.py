"""Drafts: saved while one types, by compare-and-put; two windows on one draft lose nothing."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
from django.template.loader import render_to_string
from django.utils.html import strip_tags

from kvstore.client import Client
from mail import schema
from mail.drafts import AlreadySent, Content, DraftChanged, DraftGone, Save
from mail.schema import Folder
from tests.web.correspondents import Correspondent, fields_of, new_editor, script

pytestmark = pytest.mark.usefixtures("real_store")


@pytest.fixture
def ada() -> Correspondent:
    return Correspondent("Ada Lovelace")


@pytest.fixture
def grace() -> Correspondent:
    return Correspondent("Grace Hopper")


def test_a_draft_is_saved_while_typing_and_continued_later(ada: Correspondent, grace: Correspondent) -> None:
    form = ada.compose_form()
    assert ada.autosave(form, to="gra", subject="Pla", body="Be").status_code == 200
    answer = ada.autosave(form, to=grace.name, subject="Plans", body="Begin\nhere")
    assert "Saved <span" in answer.content.decode()
    assert ada.subjects(Folder.DRAFTS) == ["Plans"]
    page = ada.get("/mail/drafts/").content.decode()
    assert f"/mail/compose?draft={form['uid']}" in page
    later = ada.compose_form(f"?draft={form['uid']}")
    assert (later["to"], later["subject"], later["body"]) == (grace.name, "Plans", "Begin\nhere")
    ada.compose(form=later)
    assert ada.subjects(Folder.DRAFTS) == []
    assert grace.subjects() == ["Plans"]


def test_a_save_says_on_how_many_replicas_it_is(ada: Correspondent, real_store: Client) -> None:
    form = ada.compose_form()
    words = " ".join(strip_tags(ada.autosave(form, body="Begin").content.decode()).split())
    assert words == "Saved on 3 of 3 replicas"
    assert real_store.replicas(schema.message_row(ada.name, form["uid"])) == (3, 3)


def test_a_save_says_when_it_was_while_the_replicas_are_not_known() -> None:
    moment = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    status = render_to_string("mail/_compose_status.html", {"saved": moment, "in_sync": 0, "wanted": 0})
    assert strip_tags(status).strip() == "Saved at 03:02:01 UTC"


def test_opening_a_draft_from_its_folder_leads_to_the_form(ada: Correspondent) -> None:
    draft = ada.write("somebody", "Unfinished")
    assert ada.get(f"/mail/drafts/{draft.uid}")["Location"] == f"/mail/compose?draft={draft.uid}"


def test_an_empty_form_leaves_no_draft(ada: Correspondent) -> None:
    form = ada.compose_form()
    assert ada.autosave(form).status_code == 200
    assert ada.lines(Folder.DRAFTS) == []


def test_two_windows_on_one_draft_the_later_is_told_and_keeps_its_text(ada: Correspondent) -> None:
    draft = ada.write("", "Draft", "from the start")
    first, second = ada.compose_form(f"?draft={draft.uid}"), ada.compose_form(f"?draft={draft.uid}")
    assert ada.autosave(first, body="from the first window").status_code == 200
    refused = ada.autosave(second, body="from the second window")
    assert refused.status_code == 422
    page = refused.content.decode()
    assert "changed in another window" in page
    assert "<textarea" not in page
    assert ada.autosave(first, body="more from the first").status_code == 200
    assert ada.drafts.open(draft.uid).content.body == "more from the first"
    sent = ada.compose(form=second, to=ada.name, body="from the second window")
    assert sent.status_code == 422
    assert fields_of(sent)["body"] == "from the second window"
    assert ada.subjects(Folder.SENT) == []
    kept = ada.compose("fork", form=second, body="from the second window")
    assert kept.status_code == 302
    bodies = {ada.drafts.open(line.uid).content.body for line in ada.lines(Folder.DRAFTS)}
    assert bodies == {"more from the first", "from the second window"}


def test_a_script_that_keeps_its_text_apart_goes_on_with_the_new_draft(ada: Correspondent) -> None:
    draft = ada.write("", "Draft", "old")
    form = ada.compose_form(f"?draft={draft.uid}")
    ada.drafts.save(draft.uid, Save(draft.revision, new_editor(), 1), Content(body="somebody else's"))
    answer = ada.post("/mail/compose", form | {"body": "mine", "action": "fork"}, headers=script("compose-status"))
    assert answer.status_code == 200
    page = answer.content.decode()
    assert 'id="compose-ids" hx-swap-oob' in page
    fresh = fields_of(answer) | {"body": "mine, continued"}
    assert fresh["uid"] != draft.uid
    assert ada.autosave(fresh).status_code == 200
    assert ada.drafts.open(fresh["uid"]).content.body == "mine, continued"


def test_two_windows_that_save_at_the_same_moment_one_wins(ada: Correspondent) -> None:
    draft = ada.write("", "Draft", "old")
    barrier = threading.Barrier(2)
    results: list[str] = []

    def run(text: str) -> None:
        save = Save(draft.revision, new_editor(), 1)
        barrier.wait()
        try:
            ada.drafts.save(draft.uid, save, Content(body=text))
            results.append("saved " + text)
        except DraftChanged:
            results.append("told")

    threads = [threading.Thread(target=run, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results)[1] == "told"
    assert "saved " + ada.drafts.open(draft.uid).content.body in results


def test_a_save_whose_answer_was_lost_is_repeated_without_harm(ada: Correspondent) -> None:
    uid, editor = schema.new_uid(), new_editor()
    first = ada.drafts.save(uid, Save("", editor, 1), Content(body="text"))
    again = ada.drafts.save(uid, Save("", editor, 1), Content(body="text"))
    assert again == first
    more = ada.drafts.save(uid, Save("", editor, 2), Content(body="text and more"))
    with pytest.raises(DraftChanged):
        ada.drafts.save(uid, Save("", editor, 1), Content(body="text"))
    assert ada.drafts.open(uid) == more


def test_saving_what_was_sent_deleted_or_never_a_draft_is_refused(ada: Correspondent, grace: Correspondent) -> None:
    form = ada.compose_form() | {"to": grace.name, "subject": "s"}
    ada.compose(form=form)
    late = ada.autosave(form, body="typed too late")
    assert late.status_code == 422
    assert "sent already" in late.content.decode()
    with pytest.raises(AlreadySent):
        ada.drafts.open(form["uid"])
    draft = ada.write("", "Gone")
    ada.mailbox.move(Folder.DRAFTS, [draft.uid], Folder.TRASH)
    with pytest.raises(DraftGone):
        ada.drafts.save(draft.uid, Save(draft.revision, new_editor(), 1), Content(body="x"))
    (sent,) = ada.lines(Folder.SENT)
    forged = ada.compose_form() | {"uid": sent.uid, "body": "overwritten"}
    assert ada.compose("save", form=forged).status_code == 404
    assert ada.mailbox.message(sent.uid).body == ""


def test_discarding_moves_the_latest_text_to_the_trash_and_undo_brings_it_back(ada: Correspondent) -> None:
    form = ada.compose_form()
    ada.autosave(form, body="first")
    answer = ada.post(
        "/mail/compose",
        form | {"body": "first and last", "action": "discard", "docked": "1"},
        headers=script("compose-status"),
    )
    assert answer.status_code == 204
    assert "mail:closed" in answer["HX-Trigger"]
    assert ada.lines(Folder.DRAFTS) == []
    assert len(ada.lines(Folder.TRASH)) == 1
    ada.post(f"/mail/undo?from=trash&uid={form['uid']}")
    assert ada.drafts.open(form["uid"]).content.body == "first and last"


def test_a_reply_keeps_its_conversation_from_draft_to_draft_to_sent(ada: Correspondent, grace: Correspondent) -> None:
    grace.mail(ada.name, "Question", "Well?")
    (question,) = ada.lines()
    form = ada.compose_form(f"?reply={question.uid}")
    ada.autosave(form, body="Not sure yet")
    page = ada.get(f"/mail/inbox/{question.uid}").content.decode()
    assert "mail-draft-card" in page
    ada.compose(form=ada.compose_form(f"?draft={form['uid']}"), body="Yes.")
    assert ada.lines(Folder.SENT)[0].summary.thread == question.summary.thread
    assert "mail-draft-card" not in ada.get(f"/mail/inbox/{question.uid}").content.decode()


def test_a_forged_uid_of_the_future_keeps_no_message_on_top_of_others(ada: Correspondent, grace: Correspondent) -> None:
    for far in ("7" + "0" * 23, "f" * 24):
        form = ada.compose_form() | {"uid": far}
        assert ada.compose("save", form, subject="From 2200").status_code == 404
        assert ada.compose(form=ada.compose_form() | {"reply_to": far}, to=grace.name).status_code == 404
    assert schema.uid_time(schema.new_uid(after="7" + "0" * 23)) < time.time() * 1000 + schema.MAX_AHEAD + 1000
    assert schema.is_uid(schema.new_uid(after="f" * 24))
    assert ada.lines(Folder.DRAFTS) == ada.lines(Folder.SENT) == grace.lines() == []


def test_a_draft_cannot_be_answered(ada: Correspondent) -> None:
    draft = ada.write("", "Unsent")
    assert ada.compose("save", ada.compose_form() | {"reply_to": draft.uid}, subject="Re: Unsent").status_code == 404


def test_malformed_hidden_fields_are_refused(ada: Correspondent) -> None:
    form = ada.compose_form()
    for name, value in {"uid": "x:y", "base": "zz", "editor": "A B", "n": "-1", "reply_to": "1", "action": "x"}.items():
        response = ada.post("/mail/compose", form | {"body": "b", "action": "save"} | {name: value})
        assert response.status_code == 404, name
    assert ada.lines(Folder.DRAFTS) == []
