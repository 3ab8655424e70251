"""The shell in a real browser: theme, toasts, waiting for a store that fails over, every width, nothing axe finds.

A failing store is played by answering the browser's requests as the site does then; that the site does answer so is
tested in tests/web/test_error_pages.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.template.loader import render_to_string
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

pytestmark = pytest.mark.browser

PASSWORD = "quiet harbor 42"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, web_cluster: Any) -> Iterator[Page]:
    """A fresh browser at the site. What the security policy or a script complains of fails the test."""
    context = chromium.new_context(
        base_url=web_cluster.url, viewport={"width": 1280, "height": 800}, reduced_motion="reduce"
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert not complaints


def sign_up(page: Page) -> str:
    name = f"b-{uuid.uuid4().hex[:12]}"
    page.goto("/accounts/signup/?next=/accounts/")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Your name").fill("Ada Lovelace")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    return name


def test_signing_up_logging_out_and_in(page: Page) -> None:
    name = sign_up(page)
    expect(page.get_by_role("status").filter(has_text="Welcome to PennCloud, Ada.")).to_be_visible()
    page.get_by_role("button", name="Account: Ada Lovelace").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_label("User name").fill(name.upper())
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    expect(page).not_to_have_url(re.compile("login"))


def test_the_first_visit_is_light_and_later_pages_are_lighter(page: Page) -> None:
    """Bytes on the wire, headers and all, as a browser counts them that keeps what it may keep."""
    sign_up(page)
    received: list[int] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: received.append(int(event["encodedDataLength"])))
    session.send("Network.clearBrowserCache")
    for path, limit in (("/mail/inbox/", 300_000), ("/drive/", 50_000), ("/mail/inbox/", 50_000)):
        received.clear()
        page.goto(path, wait_until="load")
        assert len(received) > 0
        assert sum(received) < limit, path


def test_the_theme_follows_the_system_until_one_is_chosen(page: Page) -> None:
    root = page.locator("html")
    page.emulate_media(color_scheme="dark")
    page.goto("/accounts/login/")
    expect(root).to_have_attribute("data-bs-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-bs-theme", "light")
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(root).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(root).to_have_attribute("data-bs-theme", "dark")


def test_a_link_of_the_rail_swaps_the_content_and_the_address_is_right(page: Page) -> None:
    sign_up(page)
    page.evaluate("window.sameDocument = true")
    page.get_by_role("navigation", name="Account").get_by_role("link", name="Change password").click()
    expect(page.get_by_role("heading", name="Change password")).to_be_visible()
    expect(page).to_have_url(re.compile("/accounts/password/$"))
    expect(page).to_have_title("Change password · PennCloud")
    assert page.evaluate("window.sameDocument === true")
    rail = page.get_by_role("navigation", name="Account")
    expect(rail.get_by_role("link", name="Change password")).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()


def test_a_swap_waits_for_the_store_and_goes_on_by_itself(page: Page) -> None:
    sign_up(page)
    failures = [True, True]

    def fail_twice(route: Route) -> None:
        if failures:
            failures.pop()
            route.fulfill(status=503, headers={"Retry-After": "2"})
        else:
            route.continue_()

    page.route("**/accounts/password/", fail_twice)
    banner = page.locator("#reconnecting")
    expect(banner).to_be_hidden()
    page.get_by_role("navigation", name="Account").get_by_role("link", name="Change password").click()
    expect(banner).to_be_visible()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    expect(page.get_by_role("heading", name="Change password")).to_be_visible(timeout=15_000)
    expect(banner).to_be_hidden()
    expect(page).to_have_url(re.compile("/accounts/password/$"))


def test_a_form_that_could_not_be_sent_says_so_and_keeps_what_was_typed(page: Page) -> None:
    sign_up(page)
    page.evaluate("""() => {
        const form = document.querySelector("main form");
        form.setAttribute("hx-post", form.action || location.href);
        form.setAttribute("hx-target", "#content");
        htmx.process(form);
    }""")
    page.route("**/accounts/", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    page.get_by_label("Your name").fill("Countess of Lovelace")
    page.get_by_role("button", name="Save name").click()
    expect(page.locator("#toasts")).to_contain_text("Not sent")
    expect(page.get_by_label("Your name")).to_have_value("Countess of Lovelace")


def test_the_waiting_page_goes_on_by_itself(page: Page) -> None:
    sign_up(page)
    waiting_page = render_to_string("errors/503.html", {"safe": True, "retry": 2})
    script = settings.BASE_DIR / "penncloud_site" / "static" / "site" / "waiting.js"
    failures = [True, True, True]

    def fail_at_first(route: Route) -> None:
        if failures:
            failures.pop()
            route.fulfill(status=503, content_type="text/html", body=waiting_page)
        else:
            route.continue_()

    page.route("**/accounts/password/", fail_at_first)
    # This process names static files without a hash, the front ends with one.
    page.route("**/static/site/waiting.js", lambda route: route.fulfill(path=script))
    page.goto("/accounts/password/")
    expect(page.get_by_role("heading", name="Reconnecting…")).to_be_visible()
    expect(page.get_by_role("heading", name="Change password")).to_be_visible(timeout=15_000)
    assert not failures


def test_a_toast_is_undone(page: Page) -> None:
    sign_up(page)
    posted: list[str] = []

    def undo(route: Route) -> None:
        posted.append(route.request.headers["x-csrftoken"])
        route.fulfill(status=204)

    page.route("**/undo-this/", undo)
    page.evaluate("""() => document.body.dispatchEvent(new CustomEvent("toast", {
        detail: {message: "Moved “<b>Figures</b>” to trash.", undo: "/undo-this/", level: "success"}}))""")
    toast = page.locator("[data-snack]", has_text="Moved “<b>Figures</b>” to trash.")
    expect(toast).to_be_visible()
    with page.expect_response(lambda response: response.request.headers.get("hx-target") == "content" and
                              response.request.method == "GET"):  # fmt: skip
        toast.get_by_role("button", name="Undo").click()
    expect(toast).to_have_count(0)
    assert len(posted) == 1
    assert posted[0]


def test_an_undo_does_not_wait_for_another_request(page: Page) -> None:
    sign_up(page)
    held: list[Route] = []
    page.route("**/slow-undo/", lambda route: held.append(route))
    page.route("**/quick-undo/", lambda route: route.fulfill(status=204))
    for name in ("slow", "quick"):
        page.evaluate("""name => document.body.dispatchEvent(new CustomEvent("toast", {
            detail: {message: name, undo: `/${name}-undo/`, level: "success"}}))""", name)  # fmt: skip
    page.locator("[data-snack]", has_text="slow").get_by_role("button", name="Undo").click()
    with page.expect_response("**/quick-undo/"):
        page.locator("[data-snack]", has_text="quick").get_by_role("button", name="Undo").click()
    assert len(held) == 1
    held[0].fulfill(status=204)


def test_by_keyboard_the_first_stop_skips_to_the_content(page: Page) -> None:
    sign_up(page)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to content")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_on_a_phone_the_rail_is_behind_a_button(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    sign_up(page)
    mail = page.get_by_role("navigation", name="Products").get_by_role("link", name="Mail")
    expect(mail).to_be_hidden()
    page.get_by_role("button", name="Menu", exact=True).click()
    expect(mail).to_be_visible()
    expect(page.locator("#rail")).to_be_focused()
    page.keyboard.press("Escape")
    expect(mail).to_be_hidden()


def test_on_a_phone_the_rail_closes_when_a_folder_was_chosen(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    sign_up(page)
    page.goto("/mail/inbox/")
    page.get_by_role("button", name="Menu", exact=True).click()
    page.get_by_role("navigation", name="Mail").get_by_role("link", name="Sent").click()
    expect(page.get_by_role("heading", name="Sent", exact=True)).to_be_visible()
    expect(page.locator("#rail")).to_be_hidden()
    expect(page.locator(".offcanvas-backdrop")).to_have_count(0)


@pytest.mark.parametrize(("path", "action"), [("/mail/inbox/", "Compose"), ("/drive/", "Upload")])
def test_the_main_action_is_one_button_wherever_the_rail_is(page: Page, path: str, action: str) -> None:
    sign_up(page)
    for width in (390, 991, 992, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(path)
        expect(page.get_by_role("link", name=action, exact=True)).to_have_count(1)
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("link", name="Skip to content").focus()
    button = page.get_by_role("link", name=action, exact=True)
    if action == "Upload":
        with page.expect_file_chooser():
            button.click()
    else:
        button.click()
        expect(page.locator("#compose-dock [name=to]")).to_be_focused()


def test_the_main_action_stands_in_one_place_in_every_frame(page: Page) -> None:
    """With reduced motion the rail's button once stayed for some frames after the floating one had come."""
    sign_up(page)
    page.goto("/drive/")
    page.evaluate("""() => {
        const inRail = document.querySelector(".rail-action"), floating = document.querySelector(".floating-action");
        const places = [];
        window.twentyNarrowFrames = new Promise((done) => {
            let narrow = 0;
            const look = () => {
                const rail = getComputedStyle(inRail).visibility === "visible";
                places.push(rail + (getComputedStyle(floating).display !== "none"));
                if (innerWidth < 992) narrow += 1;
                if (narrow < 20) requestAnimationFrame(look); else done(places);
            };
            look();
        });
    }""")
    page.set_viewport_size({"width": 390, "height": 800})
    assert set(page.evaluate("window.twentyNarrowFrames")) == {1}


def test_without_scripts_the_menus_open_and_nothing_is_offered_in_vain(chromium: Browser, web_cluster: Any) -> None:
    context = chromium.new_context(
        base_url=web_cluster.url, java_script_enabled=False, viewport={"width": 390, "height": 800}, color_scheme="dark"
    )
    page = context.new_page()
    sign_up(page)
    page.goto("/mail/inbox/")
    expect(page.get_by_role("button", name="Theme")).to_be_hidden()
    expect(page.get_by_role("button", name="Menu", exact=True)).to_be_hidden()
    page.get_by_role("link", name="Compose").click()
    expect(page.get_by_role("heading", name="New message")).to_be_visible()
    page.get_by_role("button", name="Account: Ada Lovelace").focus()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    context.close()


@pytest.mark.parametrize("width", [390, 1280, 2560])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_overflows_and_axe_finds_nothing(page: Page, width: int, theme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    for path in ("/accounts/login/", "wrong", "/accounts/signup/", "/no-such-page", None, "/accounts/password/"):
        if path is None:
            sign_up(page)
        elif path == "wrong":
            page.get_by_label("User name").fill(f"b-{uuid.uuid4().hex[:12]}")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("alert")).to_be_visible()
        else:
            page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        found = Axe().run(page).response["violations"]
        assert not found, (path, [(violation["id"], violation["nodes"][0]["target"]) for violation in found])
