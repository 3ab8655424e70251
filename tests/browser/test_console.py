"""The console in a real browser, on a running PennCloud: it refreshes itself and leaves the operator's hands alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.cluster import WebCluster

pytestmark = pytest.mark.browser

PAGES = (
    "/console/",
    "/console/nodes/",
    "/console/nodes/node1/",
    "/console/nodes/node1/kill/",
    "/console/tablets/",
    "/console/tablets/1/",
    "/console/frontends/",
    "/console/data/",
    "/console/data/row/?row=user:operator",
    "/console/data/cell/?row=user:operator&column=profile",
    "/console/activity/",
)
REFRESH_MS = 2000


@pytest.fixture(scope="module")
def operator(browser: Browser, web_cluster: WebCluster) -> Iterator[BrowserContext]:
    """A browser in which the operator is logged in."""
    context = browser.new_context(base_url=web_cluster.url, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto("/accounts/login/?next=/console/")
    page.get_by_label("User name").fill("operator")
    page.get_by_label("Password").fill(web_cluster.operator_password)
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(operator: BrowserContext) -> Iterator[Page]:
    """A fresh tab. What the security policy or a script complains of fails the test."""
    page = operator.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
    yield page
    page.unroute_all(behavior="ignoreErrors")
    page.close()
    assert not complaints


def is_refresh(request: Request) -> bool:
    return request.headers.get("hx-target") == "live"


def after_refreshes(page: Page, number: int) -> None:
    """Wait until the live part was fetched so many times."""
    for _ in range(number):
        with page.expect_event("requestfinished", is_refresh):
            pass


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(page: Page, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    for address in PAGES:
        page.goto(address)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found] == [], address
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address


def test_it_refreshes_itself_and_keeps_the_focus_and_the_place(page: Page) -> None:
    page.goto("/console/")
    expect(page.locator("#health-sentence")).to_have_text(re.compile(r"^All \d+ tablets have 3 of 3 replicas"))
    link = page.locator("#live").get_by_role("link", name="node3")
    link.focus()
    page.evaluate("scrollTo(0, 60)")
    entries = page.evaluate("history.length")
    after_refreshes(page, 2)
    expect(link).to_be_focused()
    assert page.evaluate("scrollY") == 60
    assert page.evaluate("history.length") == entries


def test_it_does_not_refresh_under_a_selection(page: Page) -> None:
    page.goto("/console/tablets/")
    page.locator("#live table").evaluate("table => getSelection().selectAllChildren(table)")
    selected = page.evaluate("getSelection().toString()")
    after_refreshes(page, 2)
    assert page.evaluate("getSelection().toString()") == selected
    expect(page.locator("#freshness")).to_contain_text("not refreshed while text is selected", timeout=5 * REFRESH_MS)


def test_it_says_how_old_it_is_when_no_answer_comes_and_goes_on_by_itself(page: Page) -> None:
    page.goto("/console/")
    page.route("**/console/", lambda route: route.abort())
    expect(page.locator("#freshness")).to_have_text(
        re.compile(r"^What you see is from \d+ s ago, reconnecting…$"), timeout=6 * REFRESH_MS
    )
    page.unroute("**/console/")
    expect(page.locator("#freshness")).to_be_hidden(timeout=4 * REFRESH_MS)


def test_a_hidden_tab_asks_nothing(page: Page) -> None:
    page.goto("/console/")
    after_refreshes(page, 1)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if is_refresh(request) else None)
    page.wait_for_timeout(2 * REFRESH_MS)  # what must not happen cannot be waited for
    assert asked == []
    with page.expect_request(is_refresh):
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")


def test_the_sections_are_swapped_in_and_each_refreshes_itself(page: Page) -> None:
    page.goto("/console/")
    for section in ("Nodes", "Tablets", "Front ends"):
        page.get_by_role("navigation", name="Console").get_by_role("link", name=section).click()
        expect(page.get_by_role("heading", name=section, level=1)).to_be_visible()
        expect(page).to_have_title(f"{section} · Console · PennCloud")
        with page.expect_event("requestfinished", is_refresh) as finished:
            pass
        assert finished.value.url == page.url
    page.go_back()
    expect(page.get_by_role("heading", name="Tablets", level=1)).to_be_visible()
