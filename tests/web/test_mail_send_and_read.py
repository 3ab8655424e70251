"""Mail between people: composed, sent, read, answered, forwarded. With a stranger in it who reads nothing."""

from __future__ import annotations

import pytest

from mail import limits
from mail.schema import Folder
from tests.web.correspondents import Correspondent, fields_of, script

pytestmark = pytest.mark.usefixtures("real_store")


@pytest.fixture
def ada() -> Correspondent:
    return Correspondent("Ada Lovelace")


@pytest.fixture
def grace() -> Correspondent:
    return Correspondent("Grace Hopper")


def test_a_message_arrives_unread_and_is_read_when_opened(ada: Correspondent, grace: Correspondent) -> None:
    response = ada.compose(to=grace.name, subject="Engine", body="It weaves.\nAlgebraically.")
    assert response.status_code == 302
    inbox = grace.get("/mail/inbox/").content.decode()
    assert "Engine" in inbox
    assert "It weaves. Algebraically." in inbox
    assert "Ada Lovelace" in inbox
    (line,) = grace.lines()
    assert line.summary.unread
    assert grace.mailbox.counts().unread == 1
    page = grace.get(f"/mail/inbox/{line.uid}").content.decode()
    assert "It weaves.\nAlgebraically." in page
    assert ada.address in page
    assert not grace.lines()[0].summary.unread
    assert grace.mailbox.counts().unread == 0


def test_the_sender_keeps_a_copy_and_no_draft(ada: Correspondent, grace: Correspondent) -> None:
    ada.compose(to=grace.name, subject="Engine", body="It weaves.")
    assert ada.subjects(Folder.SENT) == ["Engine"]
    assert ada.subjects(Folder.DRAFTS) == []
    page = ada.get("/mail/sent/").content.decode()
    assert "Grace Hopper" in page
    message = ada.get(f"/mail/sent/{ada.lines(Folder.SENT)[0].uid}").content.decode()
    assert "It weaves." in message


def test_several_recipients_by_name_and_by_address_each_get_it_once(ada: Correspondent, grace: Correspondent) -> None:
    linus = Correspondent("Linus")
    ada.compose(
        to=f"{grace.name}, {grace.address.upper()}; Grace <{grace.name}>",
        cc=linus.address,
        bcc=linus.name,
        subject="All",
    )
    assert grace.subjects() == ["All"]
    assert linus.subjects() == ["All"]


@pytest.mark.parametrize("typed", ["{} @{}", "Grace <{} @ {}>", "{}@ {}"])
def test_a_blank_in_an_address_does_not_lead_the_message_astray(
    ada: Correspondent, grace: Correspondent, typed: str
) -> None:
    ada.compose(to=typed.format(*grace.address.split("@")), subject="Lunch", body="At noon?")
    assert grace.subjects() == ["Lunch"]


def test_nobody_sees_who_got_a_blind_copy(ada: Correspondent, grace: Correspondent) -> None:
    hidden = Correspondent("Hidden Person")
    ada.compose(to=grace.name, bcc=hidden.name, subject="Quiet")
    for person in (grace, hidden):
        (line,) = person.lines()
        assert hidden.address not in person.get(f"/mail/inbox/{line.uid}").content.decode().split("<article", 1)[1]
    assert hidden.address in ada.get(f"/mail/sent/{ada.lines(Folder.SENT)[0].uid}").content.decode()


def test_a_message_to_oneself_is_received_and_kept_as_sent(ada: Correspondent) -> None:
    ada.compose(to=ada.name, subject="Note", body="Remember.")
    assert ada.subjects() == ["Note"]
    assert ada.subjects(Folder.SENT) == ["Note"]
    page = ada.get(f"/mail/inbox/{ada.lines()[0].uid}").content.decode()
    assert page.count('class="mail-card"') == 1


def test_an_unknown_recipient_is_named_and_the_text_is_still_there(ada: Correspondent, grace: Correspondent) -> None:
    response = ada.compose(to=f"{grace.name}, nobody-here", subject="Plans", body="Long text\nof mine.")
    assert response.status_code == 422
    page = response.content.decode()
    assert "There is no account here named “nobody-here”." in page
    form = fields_of(response)
    assert form["to"] == f"{grace.name}, nobody-here"
    assert form["subject"] == "Plans"
    assert form["body"] == "Long text\nof mine."
    assert grace.subjects() == []
    assert ada.subjects(Folder.DRAFTS) == ["Plans"]
    assert ada.compose(form=form, to=grace.name).status_code == 302
    assert grace.subjects() == ["Plans"]
    assert ada.subjects(Folder.DRAFTS) == []


def test_to_a_script_the_error_comes_without_the_fields(ada: Correspondent) -> None:
    form = ada.compose_form() | {"to": "nobody-here", "body": "My text", "action": "send"}
    response = ada.post("/mail/compose", form, headers=script("compose-status"))
    assert response.status_code == 422
    page = response.content.decode()
    assert "nobody-here" in page
    assert 'id="error-to"' in page
    assert "<textarea" not in page
    assert "<input" not in page


@pytest.mark.parametrize(
    "address", ["someone@example.org", "a:b", "user:x", "x" * 200, "a\u202eb", "<script>alert(1)</script>", "@", "é"]
)
def test_foreign_and_hostile_addresses_are_refused_with_a_sentence(ada: Correspondent, address: str) -> None:
    response = ada.compose(to=address, subject="s", body="b")
    assert response.status_code == 422
    assert response.context["form"].errors["to"]
    assert "<script>alert" not in response.content.decode()


def test_a_message_without_recipients_is_not_sent(ada: Correspondent) -> None:
    response = ada.compose(to=" , ;", subject="s", body="b")
    assert response.status_code == 422
    assert "at least one recipient" in response.content.decode()


def test_limits_have_clear_errors_and_keep_the_text(ada: Correspondent, grace: Correspondent) -> None:
    long_subject = "s" * (limits.MAX_SUBJECT + 7)
    response = ada.compose(to=grace.name, subject=long_subject, body="b")
    assert "has 7 too many" in response.content.decode()
    assert fields_of(response)["subject"] == long_subject
    response = ada.compose(to=grace.name, subject="s", body="é" * (limits.MAX_BODY // 2 + 1000))
    assert "at most 1,024 KiB" in response.content.decode()
    many = ", ".join(f"nobody{number}" for number in range(200))
    response = ada.compose(to=many, subject="s", body="b")
    assert "and 96 more" in response.content.decode()
    assert grace.subjects() == []
    assert ada.compose(to=grace.name, subject="s" * limits.MAX_SUBJECT, body="x" * limits.MAX_BODY).status_code == 302
    assert len(grace.mailbox.message(grace.lines()[0].uid).body) == limits.MAX_BODY


def test_send_pressed_twice_sends_once(ada: Correspondent, grace: Correspondent) -> None:
    form = ada.compose_form() | {"to": grace.name, "subject": "Once", "body": "b"}
    first, second = ada.compose(form=form), ada.compose(form=form)
    assert first.status_code == second.status_code == 302
    assert grace.subjects() == ["Once"]
    assert ada.subjects(Folder.SENT) == ["Once"]
    assert ada.subjects(Folder.DRAFTS) == []


def test_a_reply_quotes_goes_back_and_joins_the_conversation(ada: Correspondent, grace: Correspondent) -> None:
    ada.compose(to=grace.name, subject="Lunch", body="At noon?\n> earlier")
    (received,) = grace.lines()
    form = grace.compose_form(f"?reply={received.uid}")
    assert form["subject"] == "Re: Lunch"
    assert ada.address in form["to"]
    assert "Ada Lovelace <" in form["body"]
    assert "> At noon?\n>> earlier" in form["body"]
    grace.compose(form=form, body="Yes." + form["body"])
    (answer,) = ada.lines()
    assert answer.summary.subject == "Re: Lunch"
    assert answer.summary.snippet == "Yes."
    page = ada.get(f"/mail/inbox/{answer.uid}").content.decode()
    assert page.count('class="mail-card"') == 2
    assert page.index("At noon?") < page.index("Yes.")
    again = ada.compose_form(f"?reply={answer.uid}")
    assert again["subject"] == "Re: Lunch"
    ada.compose(form=again)
    assert len({line.summary.thread for line in grace.lines() + ada.lines() + ada.lines(Folder.SENT)}) == 1


def test_reply_to_all_leaves_oneself_out(ada: Correspondent, grace: Correspondent) -> None:
    linus, kay = Correspondent("Linus"), Correspondent("Alan Kay")
    ada.compose(to=f"{grace.name}, {linus.name}", cc=f"{kay.name}, {grace.name}", subject="Team")
    (received,) = grace.lines()
    form = grace.compose_form(f"?reply={received.uid}&all=1")
    assert ada.address in form["to"]
    assert linus.address in form["to"]
    assert kay.address in form["cc"]
    assert grace.address not in form["to"] + form["cc"]
    only = grace.compose_form(f"?reply={received.uid}")
    assert linus.address not in only["to"] + only["cc"]


def test_a_reply_to_ones_own_message_goes_to_whom_it_went(ada: Correspondent, grace: Correspondent) -> None:
    ada.compose(to=grace.name, subject="First")
    (sent,) = ada.lines(Folder.SENT)
    assert grace.address in ada.compose_form(f"?reply={sent.uid}")["to"]


def test_a_forward_carries_the_whole_message_to_somebody_else(ada: Correspondent, grace: Correspondent) -> None:
    linus = Correspondent("Linus")
    ada.compose(to=grace.name, subject="Figures", body="1 2 3")
    form = grace.compose_form(f"?forward={grace.lines()[0].uid}")
    assert form["subject"] == "Fwd: Figures"
    assert form["to"] == ""
    grace.compose(form=form, to=linus.name)
    (line,) = linus.lines()
    body = linus.mailbox.message(line.uid).body
    assert "Forwarded message" in body
    assert f"Ada Lovelace <{ada.address}>" in body
    assert "1 2 3" in body


def test_a_stranger_is_let_into_nothing(ada: Correspondent, grace: Correspondent) -> None:
    ada.compose(to=grace.name, subject="Private", body="secret words")
    (received,) = grace.lines()
    (sent,) = ada.lines(Folder.SENT)
    draft = ada.write(grace.name, "Half", "half a secret")
    stranger = Correspondent("Mallory")
    for uid in (received.uid, sent.uid, draft.uid):
        for folder in Folder:
            assert stranger.get(f"/mail/{folder}/{uid}").status_code == 404
        assert stranger.get(f"/mail/card/{uid}").status_code == 404
        for query in ("draft", "reply", "forward"):
            assert stranger.get(f"/mail/compose?{query}={uid}").status_code == 404
        for action in ("delete", "archive", "read"):
            stranger.act(action, uid)
        stranger.act("delete", uid, folder=Folder.DRAFTS)
        stranger.post(f"/mail/undo?from=inbox&to=trash&uid={uid}")
        reply = stranger.compose_form() | {"reply_to": uid}
        assert stranger.compose(form=reply, to=stranger.name, subject="s").status_code == 404
    forged = stranger.compose_form() | {"uid": draft.uid, "base": draft.revision}
    assert "half a secret" not in stranger.compose("save", form=forged, body="mine").content.decode()
    assert grace.subjects() == ["Private"]
    assert ada.subjects(Folder.SENT) == ["Private"]
    assert ada.drafts.open(draft.uid).content.body == "half a secret"


def test_without_a_log_in_every_page_leads_to_it(ada: Correspondent) -> None:
    uid = ada.write("x").uid
    ada.logout()
    for path in ("/mail/inbox/", f"/mail/drafts/{uid}", f"/mail/card/{uid}", "/mail/compose", "/mail/trash/empty"):
        assert ada.get(path)["Location"].startswith("/accounts/login/")
    for path in ("/mail/act", f"/mail/undo?from=trash&uid={uid}", "/mail/compose", "/mail/trash/empty"):
        assert ada.post(path)["Location"].startswith("/accounts/login/")


def test_hostile_header_and_body_are_shown_as_harmless_text(grace: Correspondent) -> None:
    mallory = Correspondent("Eve\u202e\r\nBcc: all")
    subject = "Hi\r\nX-Forged: 1\x00\u202egnp.exe <img src=x onerror=alert(1)>"
    body = "<script>alert(2)</script>\x1b[31m \u2066see https://evil.example/?a=1&b=<x>) and javascript:alert(3)"
    mallory.compose(to=grace.name, subject=subject, body=body)
    (line,) = grace.lines()
    assert line.summary.subject == "Hi X-Forged: 1 gnp.exe <img src=x onerror=alert(1)>"
    for page in (grace.get("/mail/inbox/"), grace.get(f"/mail/inbox/{line.uid}")):
        text = page.content.decode()
        assert "<img" not in text
        assert "<script>alert" not in text
        assert not set("\x00\x1b\u202e\u2066") & set(text)
    assert 'href="https://evil.example/?a=1&amp;b="' in text
    assert 'rel="noopener noreferrer nofollow"' in text
    assert 'href="javascript' not in text
    answer = grace.compose_form(f"?reply={line.uid}")
    assert "\n" not in answer["to"] + answer["subject"]


def test_the_card_of_an_older_message_is_fetched_when_it_is_opened(ada: Correspondent, grace: Correspondent) -> None:
    ada.mail(grace.name, "Series", "part one")
    (first,) = grace.lines()
    grace.get(f"/mail/inbox/{first.uid}")
    grace.mail(ada.name, "Re: Series", "part two", reply_to=first.uid)
    (answer,) = ada.lines()
    ada.mail(grace.name, "Re: Series", "part three", reply_to=answer.uid)
    page = grace.get(f"/mail/inbox/{grace.lines()[0].uid}").content.decode()
    assert page.count('class="mail-card"') == 3
    assert page.count('<details class="mail-card" open') == 1
    assert f'data-card="/mail/card/{first.uid}"' in page
    assert "part one" in grace.get(f"/mail/card/{first.uid}").content.decode()
