"""Mail in a real browser: the dock, autosave, the keyboard, two windows, and what a screen reader needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.web.visitors import PASSWORD, fresh_name

pytestmark = pytest.mark.browser

expect.set_options(timeout=20_000)  # ms; a busy machine with a whole cluster on it is slow, not wrong

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


class Person:
    """Somebody at a browser: signed up, with the inbox open."""

    def __init__(self, browser: Browser, url: str, display: str, **options: Any) -> None:
        self.name = fresh_name("b")
        self.context: BrowserContext = browser.new_context(base_url=url, **({"viewport": WIDE} | options))
        self.complaints: list[str] = []
        self.page = self.window()
        self.page.goto("/accounts/signup/")
        for field, value in {"username": self.name, "display_name": display}.items():
            self.page.fill(f"[name={field}]", value)
        for field in ("password1", "password2"):
            self.page.fill(f"[name={field}]", PASSWORD)
        self.page.press("[name=password2]", "Enter")
        expect(self.page).to_have_url(re.compile("/mail/"))

    def window(self) -> Page:
        """Another window of this person's. What a script or the security policy complains of is kept."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if "Content Security" in said.text else None)
        return page

    def send(self, to: str, subject: str, body: str) -> None:
        page = self.page
        page.keyboard.press("c")
        page.fill("#compose-dock [name=to]", to)
        page.fill("[name=subject]", subject)
        page.fill("[name=body]", body)
        page.keyboard.press("Control+Enter")
        expect(page.locator(".snack-text", has_text="Message sent.").last).to_be_visible()
        expect(page.locator("#compose-dock")).to_have_count(0)


@pytest.fixture
def people(browser: Browser, web_cluster: Any) -> Iterator[Any]:
    made: list[Person] = []

    def make(display: str, **options: Any) -> Person:
        made.append(Person(browser, web_cluster.url, display, **options))
        return made[-1]

    yield make
    for person in made:
        person.context.close()
        assert person.complaints == []


def lines(page: Page) -> Any:
    return page.locator("[data-line]")


def test_compose_in_the_dock_send_read_and_reply_by_keyboard(people: Any) -> None:
    ada, grace = people("Ada Lovelace"), people("Grace Hopper")
    ada.page.goto("/mail/inbox/")
    ada.send(grace.name, "Lunch", "At noon?\nhttps://example.org/menu.")
    grace.page.goto("/mail/inbox/")
    expect(lines(grace.page)).to_have_count(1)
    grace.page.keyboard.press("j")
    grace.page.keyboard.press("o")
    expect(grace.page.locator(".mail-body")).to_contain_text("At noon?")
    expect(grace.page.locator(".mail-body a")).to_have_attribute("href", "https://example.org/menu")
    grace.page.keyboard.press("r")
    expect(grace.page.locator("[name=body]")).to_be_focused()
    grace.page.keyboard.type("Gladly.")
    expect(grace.page.locator("#compose-status")).to_contain_text("Saved on")
    grace.page.click("[data-send]")
    expect(grace.page.locator(".mail-card")).to_have_count(2)
    ada.page.reload()
    expect(lines(ada.page)).to_have_count(1)
    expect(lines(ada.page).first).to_contain_text("Gladly.")


def test_an_unknown_recipient_is_shown_at_the_field_and_nothing_typed_is_touched(people: Any) -> None:
    ada = people("Ada Lovelace")
    page = ada.page
    page.goto("/mail/inbox/")
    page.keyboard.press("c")
    page.fill("#compose-dock [name=to]", "nobody-at-all")
    page.fill("[name=body]", "My careful words.")
    page.evaluate("document.querySelector('[name=body]').dataset.mark = 'the same element'")
    page.click("[data-send]")
    expect(page.locator("#error-to")).to_contain_text("nobody-at-all")
    expect(page.locator("[name=to]")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[name=body]")).to_have_value("My careful words.")
    expect(page.locator("[name=body]")).to_have_attribute("data-mark", "the same element")
    page.fill("[name=to]", ada.name)
    page.click("[data-send]")
    expect(page.locator("#compose-dock")).to_have_count(0)
    expect(lines(page)).to_have_count(1)


def test_the_dock_takes_no_cursor_from_who_types_already(people: Any) -> None:
    page = people("Ada Lovelace").page
    page.goto("/mail/inbox/")
    # A click into a field as early as a browser can have one: right after the form is there.
    page.evaluate(
        """() => {
            const subject = () => document.querySelector("#compose-dock [name=subject]");
            addEventListener("htmx:afterSwap", () => subject()?.focus());
            window.settled = new Promise((done) => addEventListener("htmx:afterSettle", () => subject() && done()));
        }"""
    )
    page.keyboard.press("c")
    page.evaluate("window.settled")
    expect(page.locator("#compose-dock [name=subject]")).to_be_focused()


def test_a_reload_brings_the_dock_back_with_what_was_typed_last(people: Any) -> None:
    page = people("Ada Lovelace").page
    page.goto("/mail/inbox/")
    page.keyboard.press("c")
    page.fill("[name=subject]", "Saved while leaving")
    page.reload()
    expect(page.locator("#compose-dock [name=subject]")).to_have_value("Saved while leaving")
    page.click("[data-dock=close]")
    expect(page.locator("#compose-dock")).to_have_count(0)
    page.goto("/mail/drafts/")
    expect(lines(page)).to_contain_text("Saved while leaving")


def test_two_windows_on_one_draft_lose_nothing(people: Any) -> None:
    ada = people("Ada Lovelace")
    first = ada.page
    first.goto("/mail/compose")
    first.fill("[name=subject]", "Shared")
    expect(first.locator("#compose-status")).to_contain_text("Saved on")
    uid = first.locator("[name=uid]").input_value()
    second = ada.window()
    second.goto(f"/mail/compose?draft={uid}")
    second.fill("[name=body]", "typed in the second")
    expect(second.locator("#compose-status")).to_contain_text("Saved on")
    first.fill("[name=body]", "typed in the first")
    expect(first.locator(".mail-problem")).to_contain_text("changed in another window")
    expect(first.locator("[name=body]")).to_have_value("typed in the first")
    first.click("text=Keep mine as a draft of its own")
    expect(first.locator("#compose-status")).to_contain_text("Saved as a draft of its own")
    first.fill("[name=body]", "typed in the first, and more")
    expect(first.locator("#compose-status")).to_contain_text("Saved on")
    first.goto("/mail/drafts/")
    expect(lines(first)).to_have_count(2)
    expect(first.locator(".mail-lines")).to_contain_text("typed in the first, and more")
    expect(first.locator(".mail-lines")).to_contain_text("typed in the second")


def test_deleting_by_keyboard_with_undo(people: Any) -> None:
    ada = people("Ada Lovelace")
    page = ada.page
    page.goto("/mail/inbox/")
    for subject in ("one", "two", "three"):
        ada.send(ada.name, subject, "text")
    expect(lines(page)).to_have_count(3)
    for key in "jjx":
        page.keyboard.press(key)
    expect(page.locator("[data-selected]")).to_have_text("1 selected")
    page.keyboard.press("#")
    expect(lines(page)).to_have_count(2)
    expect(page.locator(".mail-lines")).not_to_contain_text("two")
    page.locator(".snack", has_text="trash").get_by_role("button", name="Undo").click()
    expect(lines(page)).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("e")
    expect(lines(page)).to_have_count(2)
    page.locator(".snack", has_text="archived").get_by_role("button", name="Undo").click()
    expect(lines(page)).to_have_count(3)
    page.keyboard.press("?")
    expect(page.locator("#mail-keys")).to_be_visible()


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")], ids=["wide-light", "phone-dark"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(people: Any, scheme: str, size: dict[str, int]) -> None:
    ada = people("Ada Lovelace", viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page = ada.page

    def check() -> None:
        violations = Axe().run(page).response["violations"]
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in violations] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]

    page.goto("/mail/inbox/")
    check()
    ada.send(ada.name, "A subject " * 12, "Words " * 200 + "\n\nOn Mon, 1 Jan 2026, Ada wrote:\n> quoted\n")
    ada.send(ada.name, "Short", "Text")
    page.locator('[data-line] input[name="uid"]').first.check()
    check()
    page.locator(".mail-link").last.click()
    expect(page.locator(".mail-card").first).to_be_visible()
    check()
    page.keyboard.press("f")
    expect(page.locator("#compose-dock form")).to_be_visible()
    page.fill("#compose-dock [name=to]", "nobody-at-all")
    page.click("[data-send]")
    expect(page.locator("#error-to")).to_contain_text("nobody-at-all")
    check()
    elsewhere = ada.window()
    elsewhere.goto(f"/mail/compose?draft={page.locator('#compose [name=uid]').input_value()}")
    elsewhere.fill("[name=body]", "changed elsewhere")
    expect(elsewhere.locator("#compose-status")).to_contain_text("Saved on")
    elsewhere.close()
    page.fill("#compose [name=body]", "changed here")
    expect(page.locator(".mail-problem")).to_be_visible()
    check()
    page.click("text=Show the other version")
    expect(page.locator("#compose [name=body]")).to_have_value("changed elsewhere")
    page.click("[data-dock=close]")
    expect(page.locator("#compose-dock")).to_have_count(0)
    for path in (
        "/mail/drafts/",
        "/mail/sent/",
        "/mail/trash/",
        "/mail/archive/",
        "/mail/trash/empty",
        "/mail/compose",
    ):
        page.goto(path)
        check()
