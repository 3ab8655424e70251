"""The parts of mail that need no store: what is shown of hostile text, addresses as typed, quotes, uids."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import addresses, limits, replies, schema, text
from mail.mailbox import Message
from mail.message import KEPT_REFERENCES, Address, Header, Kind, Summary, references_of_reply, summary_of, thread_of
from mail.schema import Folder

DIRECTORY = {"ada": "Ada Lovelace", "grace": "Grace Hopper", "linus": "Linus"}.get
DOMAIN = "cloud.example"
ADA, GRACE, LINUS = (Address(f"{name}@{DOMAIN}", DIRECTORY(name) or "") for name in ("ada", "grace", "linus"))


def header(**changes: object) -> Header:
    fields: dict[str, object] = {
        "message_id": "<1@x>", "thread": "0" * 24, "sender": ADA, "subject": "Lunch", "date": 1_700_000_000_000,
        "to": (GRACE,),
    }  # fmt: skip
    return Header(**(fields | changes))  # type: ignore[arg-type]


# --- text


@given(st.text(st.characters(codec="utf-8")))
def test_a_clean_line_has_no_break_no_control_and_no_override(wild: str) -> None:
    line = text.clean_line(wild)
    assert len(line.splitlines()) <= 1
    assert line == text.clean_line(line) == line.strip()
    assert not any(
        c < " " or "\x7f" <= c <= "\x9f" or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069" for c in line
    )


def test_honest_right_to_left_text_and_emoji_stay_as_they_are() -> None:
    for honest in ("שלום עולם", "مرحبا\u200f!", "👩\u200d🚀 and 🏴\U000e0067\U000e0062\U000e007f", "Ünïcödé 漢字"):
        assert text.clean_line(honest) == honest


def test_a_lone_surrogate_does_not_reach_the_store() -> None:
    assert text.clean_line("a\ud800b") == "a b"
    text.clean_text("a\ud800b").encode()


@given(st.text())
def test_links_never_let_markup_through(wild: str) -> None:
    html = str(text.linked(wild + " https://example.org/?q=<b>&x='\" " + wild))
    stripped = html.replace("</a>", "")
    while '<a href="' in stripped:
        before, _, rest = stripped.partition('<a href="')
        address, _, rest = rest.partition('" target="_blank" rel="noopener noreferrer nofollow">')
        assert '"' not in address
        assert address.lower().startswith(("http://", "https://"))
        stripped = before + rest
    assert "<" not in stripped


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("see https://example.org.", "https://example.org"),
        ("(https://example.org/a_(b))", "https://example.org/a_(b)"),
        ("<https://example.org/>,", "https://example.org/"),
        ("HTTPS://Example.org/x?y=1#z!", "HTTPS://Example.org/x?y=1#z"),
    ],
)
def test_a_link_ends_where_the_sentence_goes_on(written: str, address: str) -> None:
    assert f'<a href="{address}" ' in str(text.linked(written))


def test_hostile_bodies_are_shown_in_short_time() -> None:
    for hostile in (
        "https://x/" + ")" * 10**6,
        "http://" * 150_000,
        "> " * 500_000,
        "On " + "x" * 10**6,
        "\n>" * 500_000,
    ):
        began = time.perf_counter()
        text.linked(text.clean_text(hostile))
        text.split_quote(hostile)
        text.snippet(hostile)
        addresses.split(hostile)
        assert time.perf_counter() - began < 5


def test_the_quote_at_the_end_is_told_from_what_is_said() -> None:
    said, quoted = text.split_quote("Yes.\n\nOn Monday, Ada wrote:\n> At noon?\n>\n> Ada\n")
    assert said == "Yes."
    assert quoted.startswith("On Monday, Ada wrote:\n> At noon?")
    assert text.split_quote("a\n> b\nc") == ("a\n> b\nc", "")
    assert text.split_quote("> only a quote") == ("> only a quote", "")
    assert text.snippet("On Monday, Ada wrote:\n> At noon?\n\nYes,\n of  course.") == "Yes, of course."
    assert len(text.snippet("word " * 500)) <= text.SNIPPET


# --- addresses


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", []),
        (" , ; \n", []),
        ("ada", ["ada"]),
        ("ada,grace;linus\nada@x", ["ada", "grace", "linus", "ada@x"]),
        ("Ada Lovelace <ada@x>, grace", ["ada@x", "grace"]),
        ('"Lovelace, Ada" <ada@x>', ["ada@x"]),
        ('"a \\" b" < ada >;grace', ["ada", "grace"]),
        ("<ada>", ["ada"]),
        ("broken <ada", ["broken <ada"]),
        ("ada grace", ["ada grace"]),
    ],
)
def test_recipients_are_taken_apart_as_people_type_them(typed: str, found: list[str]) -> None:
    assert addresses.split(typed) == found


@given(st.text(max_size=300))
def test_whatever_is_typed_is_taken_apart_without_a_word_lost(wild: str) -> None:
    items = addresses.split(wild)
    assert all(item == text.clean_line(item) and item for item in items)
    if any(c.isalnum() for c in text.clean_line(wild.partition("<")[0])) and "<" not in wild and '"' not in wild:
        assert items


@given(st.builds(Address, st.sampled_from(["ada@cloud.example"]), st.text(st.characters(codec="utf-8"), max_size=40)))
def test_an_address_as_it_is_shown_can_be_typed_again(address: Address) -> None:
    shown = Address(address.address, text.clean_line(address.name))
    assert addresses.split(f"{shown}, grace") == ["ada@cloud.example", "grace"]


def test_everybody_is_written_to_once_and_all_mistakes_are_named_together() -> None:
    found = addresses.resolve(("ada, ADA@cloud.example, grace", "grace, linus", "ada"), DIRECTORY, DOMAIN)
    assert found.usernames == ["ada", "grace", "linus"]
    assert (found.to, found.cc, found.bcc) == ((ADA, GRACE), (LINUS,), ())
    with pytest.raises(addresses.BadRecipients) as refused:
        addresses.resolve(("ada, x, y", "z@elsewhere.example", ""), DIRECTORY, DOMAIN)
    assert refused.value.errors == {
        "to": ["There are no accounts here named “x” and “y”."],
        "cc": ["“z@elsewhere.example” is not an address of cloud.example; mail goes to people of this PennCloud."],
    }


def test_blanks_inside_an_address_name_the_same_account() -> None:
    found = addresses.resolve(
        ("ada @cloud.example", "Grace <grace @ cloud.example>, ada @cloud.example", ""), DIRECTORY, DOMAIN
    )
    assert found.usernames == ["ada", "grace"]
    assert (found.to, found.cc) == ((ADA,), (GRACE,))


def test_unknown_names_are_looked_up_and_named_once_and_only_so_many() -> None:
    asked: list[str] = []

    def directory(name: str) -> None:
        asked.append(name)

    with pytest.raises(addresses.BadRecipients, match="“u0” and “u1”"):
        addresses.resolve((",".join(f"u{number % 2}" for number in range(500)), "", ""), directory, DOMAIN)
    assert asked == ["u0", "u1"]
    asked.clear()
    with pytest.raises(addresses.BadRecipients):
        addresses.resolve((",".join(f"u{number}" for number in range(1000)), "", ""), directory, DOMAIN)
    assert len(asked) == limits.MAX_RECIPIENTS + 1


def test_too_many_recipients_are_counted_without_being_looked_up() -> None:
    asked: list[str] = []

    def directory(name: str) -> str:
        asked.append(name)
        return name

    typed = ",".join(f"u{number}" for number in range(limits.MAX_RECIPIENTS + 50))
    with pytest.raises(addresses.BadRecipients, match="these are 150"):
        addresses.resolve((typed, "", ""), directory, DOMAIN)
    assert len(asked) == limits.MAX_RECIPIENTS + 1


# --- records


def test_records_come_back_as_they_were_written() -> None:
    full = header(
        cc=(LINUS,), bcc=(ADA,), references=("<0@x>",), in_reply_to="<0@x>", typed=("a", "", "b"), answers="1" * 24
    )
    assert Header.decode(full.encode()) == full
    summary = summary_of(Kind.SENT, header(to=(GRACE, LINUS) * 4), "body", unread=False)
    assert Summary.decode(summary.encode()) == summary
    assert summary.who == ("Grace Hopper", "Linus", "Grace Hopper", "Linus", "Grace Hopper")
    assert summary.others == 3


def test_a_damaged_record_is_an_error_and_not_an_empty_message() -> None:
    for damaged in (b"", b"{}", b"[]", header().encode()[:-9]):
        with pytest.raises((ValueError, TypeError, KeyError)):
            Header.decode(damaged)


def test_the_first_message_names_the_conversation_however_long_it_gets() -> None:
    message = header(message_id="<first@x>", thread=thread_of("<first@x>", ()))
    for number in range(3 * KEPT_REFERENCES):
        references = references_of_reply(message)
        assert len(references) <= KEPT_REFERENCES
        assert thread_of(f"<{number}@x>", references) == thread_of("<first@x>", ())
        message = header(message_id=f"<{number}@x>", references=references)
    assert schema.THREAD.fullmatch(thread_of("hostile:\x00\ud800", ()))


# --- replies


def message(**changes: object) -> Message:
    return Message("1" * 24, Folder.INBOX, header(**changes), "At noon?")


def test_a_subject_gets_its_prefix_once_and_stays_inside_the_limit() -> None:
    for subject, expected in (
        ("Lunch", "Re: Lunch"),
        ("RE: Lunch", "RE: Lunch"),
        ("", "Re:"),
        ("Regards", "Re: Regards"),
    ):
        assert replies.reply(message(subject=subject), GRACE.address, to_all=False).subject == expected
    assert replies.forward(message(subject="fwd: x")).subject == "fwd: x"
    assert (
        len(replies.reply(message(subject="x" * limits.MAX_SUBJECT), "g", to_all=False).subject) == limits.MAX_SUBJECT
    )


def test_a_hostile_name_cannot_add_a_recipient_to_the_reply() -> None:
    content = replies.reply(
        message(sender=Address(ADA.address, 'x", "linus, grace" <grace')), GRACE.address, to_all=True
    )
    assert addresses.split(content.typed[0]) == [ADA.address]


def test_a_huge_message_is_quoted_as_far_as_there_is_room_to_answer() -> None:
    huge = Message("1" * 24, Folder.INBOX, header(), "é" * limits.MAX_BODY)
    for content in (replies.reply(huge, "g", to_all=False), replies.forward(huge)):
        assert len(content.body.encode()) < limits.MAX_BODY * 0.6
        assert "[…]" in content.body


# --- keys


def test_uids_sort_by_time_and_derived_ones_stay_beside_their_origin() -> None:
    first = schema.new_uid()
    later = schema.new_uid(after=first)
    assert first < later
    assert schema.is_uid(first)
    derived = schema.derived_uid(first, "ada")
    assert derived == schema.derived_uid(first, "ada")
    assert len({derived, schema.derived_uid(first, "grace"), first}) == 3
    assert schema.uid_time(derived) == schema.uid_time(first)
    assert schema.first_uid_of(schema.uid_time(first)) <= first < schema.first_uid_of(schema.uid_time(first) + 1)


@pytest.mark.parametrize("forged", ["", "1" * 23, "1" * 25, "G" * 24, "1" * 23 + ":", "1" * 24 + "\n", "١" * 24])
def test_only_a_uid_becomes_part_of_a_key(forged: str) -> None:
    assert not schema.is_uid(forged)


def test_all_mail_of_a_user_is_one_group_and_nobody_elses() -> None:
    import re

    rule = re.compile(r"(?:user|session|cache):[^:]*|[^:]+:drive:file:[^:]+|[^:]+:drive|[^:]+:mail|[^:]+")
    uid = "1" * 24
    rows = [
        schema.mailbox_row("ada"), schema.message_row("ada", uid), schema.unread_row("ada"), schema.thread_row("ada", uid),
        schema.outbox_row("ada"), schema.sent_row("ada"), schema.gone_row("ada"),
    ]  # fmt: skip
    assert {rule.match(row)[0] for row in rows} == {"ada:mail"}  # type: ignore[index]
    assert all(":" not in row for row in schema.outbox_index_rows())
    assert schema.outbox_index_row(uid) in schema.outbox_index_rows()
