"""The drive in a real browser, on everything that `make run` starts: the list, the tray, and uploads through failures."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect

from tests.cluster import WebCluster
from tests.processes import wait_for
from tests.web.visitors import PASSWORD, fresh_name

pytestmark = pytest.mark.browser

MIB = 2**20
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


class Person:
    """Somebody at a browser: signed up, with an empty drive open."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.name = fresh_name("b")
        self.context: BrowserContext = browser.new_context(base_url=url, **({"viewport": WIDE} | options))
        self.complaints: list[str] = []
        self.page = page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if "Content Security" in said.text else None)
        page.goto("/accounts/signup/")
        for field, value in {
            "username": self.name,
            "display_name": "Ada",
            "password1": PASSWORD,
            "password2": PASSWORD,
        }.items():
            page.fill(f"[name={field}]", value)
        page.press("[name=password2]", "Enter")
        expect(page).to_have_url(re.compile("/mail/"))
        page.goto("/drive/")

    def make_folder(self, name: str) -> None:
        self.page.click("text=New folder")
        self.page.fill("dialog [name=name]", name)
        self.page.keyboard.press("Enter")
        expect(item(self.page, name)).to_be_visible()

    def choose_files(self, *files: FilePayload | str | Path) -> None:
        self.page.set_input_files("#drive-picker", list(files))  # type: ignore[arg-type]

    def slow_down(self, bytes_per_second: int) -> None:
        session = self.context.new_cdp_session(self.page)
        session.send("Network.enable")
        rates = {"downloadThroughput": 10**8, "uploadThroughput": bytes_per_second}
        session.send("Network.emulateNetworkConditions", {"offline": False, "latency": 5, **rates})

    def downloaded(self, name: str) -> bytes:
        row = self.page.locator("[data-item]", has=self.page.locator(f'[title="{name}"]'))
        row.hover()
        with self.page.expect_download() as download:
            row.get_by_label(f"Download {name}").click()
        assert download.value.suggested_filename == name
        return Path(download.value.path()).read_bytes()


def item(page: Page, name: str) -> Any:
    return page.locator(f'.drive-link[title="{name}"]')


def text_file(name: str, content: str = "hello") -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": content.encode()}


def people_at(browser: Browser, cluster: WebCluster) -> Iterator[Any]:
    made: list[Person] = []

    def make(**options: Any) -> Person:
        made.append(Person(browser, cluster.url, **options))
        return made[-1]

    yield make
    for person in made:
        person.context.close()
        assert person.complaints == []


@pytest.fixture
def people(browser: Browser, web_cluster: WebCluster) -> Iterator[Any]:
    yield from people_at(browser, web_cluster)


def violations(page: Page) -> list[str]:
    return [found["id"] for found in Axe().run(page).response["violations"]]


def test_a_first_day_in_the_drive(people: Any) -> None:
    page = (ada := people()).page
    expect(page.get_by_text("Your files will be here")).to_be_visible()
    ada.make_folder("Reports")
    ada.choose_files(text_file("a.txt"), text_file("b.txt", "x" * 1400))
    expect(page.get_by_role("heading", name="2 uploads complete")).to_be_visible()
    expect(item(page, "b.txt")).to_be_visible()
    assert ada.downloaded("b.txt") == b"x" * 1400
    item(page, "a.txt").click()
    expect(page.locator("#drive-details")).to_contain_text(hashlib.sha256(b"hello").hexdigest())
    page.get_by_label("Select a.txt").check()
    page.get_by_label("Select b.txt").check()
    expect(page.locator("[data-count]")).to_have_text("2 selected, 1.4 kB")
    page.locator(".drive-bar").get_by_text("Move").click()
    page.locator("dialog").get_by_text("Reports").click()
    page.locator("dialog").get_by_text("Move here").click()
    expect(page.get_by_text("Moved 2 items to “Reports”.")).to_be_visible()
    expect(item(page, "a.txt")).to_have_count(0)
    item(page, "Reports").click()
    expect(page).to_have_url(re.compile("/drive/folder/"))
    expect(item(page, "a.txt")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="My Drive")).to_be_visible()


def test_deleting_by_keyboard_and_undo(people: Any) -> None:
    page = (ada := people()).page
    ada.choose_files(text_file("a.txt"), text_file("b.txt"))
    expect(page.get_by_role("heading", name="2 uploads complete")).to_be_visible()
    expect(item(page, "b.txt")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(item(page, "b.txt")).to_be_focused()
    page.keyboard.press("Delete")
    expect(item(page, "b.txt")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(item(page, "b.txt")).to_be_visible()


def test_renaming_from_the_menu_of_a_row(people: Any) -> None:
    page = (ada := people()).page
    ada.choose_files(text_file("draft.txt"))
    expect(item(page, "draft.txt")).to_be_visible()
    page.reload()
    page.get_by_label("More for draft.txt").click()
    page.locator(".dropdown-menu.show").get_by_text("Rename").click()
    field = page.locator("dialog [name=name]")
    expect(field).to_be_focused()
    page.keyboard.type("final")  # the stem is marked, the extension stays
    page.keyboard.press("Enter")
    expect(item(page, "final.txt")).to_be_visible()


def test_dragging_a_file_onto_a_folder(people: Any) -> None:
    page = (ada := people()).page
    ada.make_folder("Box")
    ada.choose_files(text_file("a.txt"))
    expect(item(page, "a.txt")).to_be_visible()
    page.locator("[data-item]", has=item(page, "a.txt")).drag_to(page.locator("[data-item]", has=item(page, "Box")))
    expect(page.get_by_text("Moved “a.txt” to “Box”.")).to_be_visible()
    expect(item(page, "a.txt")).to_have_count(0)


def test_an_upload_goes_on_while_folders_change_and_can_be_cancelled(people: Any, tmp_path: Path) -> None:
    page = (ada := people()).page
    ada.make_folder("Elsewhere")
    ada.slow_down(2 * 10**6)
    for name in ("long.bin", "other.bin"):
        (tmp_path / name).write_bytes(b"x" * (6 * MIB))
    ada.choose_files(tmp_path / "long.bin", tmp_path / "other.bin")
    expect(page.get_by_role("heading", name="Uploading 2 files")).to_be_visible()
    item(page, "Elsewhere").click()
    expect(page.get_by_role("heading", name="Elsewhere")).to_be_visible()
    page.get_by_label("Cancel other.bin").click()
    expect(page.get_by_role("heading", name="1 upload complete")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="My Drive").first.click()
    expect(item(page, "long.bin")).to_be_visible()
    expect(item(page, "other.bin")).to_have_count(0)


def test_the_trash_is_emptied_after_a_question(people: Any) -> None:
    page = (ada := people()).page
    ada.choose_files(text_file("a.txt"))
    page.get_by_label("Select a.txt").check()
    page.keyboard.press("Delete")
    expect(page.get_by_text("Your files will be here")).to_be_visible()
    page.get_by_role("link", name="Trash").click()
    expect(page.locator(".drive-link", has_text="a.txt")).to_be_visible()
    page.get_by_text("Empty trash").click()
    expect(page.locator("dialog")).to_contain_text("cannot be undone")
    page.locator("dialog").get_by_role("button", name="Empty trash").click()
    expect(page.get_by_role("heading", name="The trash is empty")).to_be_visible()


@pytest.mark.parametrize(("theme", "size"), [("light", WIDE), ("dark", PHONE)])
def test_axe_finds_nothing(people: Any, theme: str, size: dict[str, int]) -> None:
    page = (ada := people(color_scheme=theme, viewport=size)).page
    assert violations(page) == []
    ada.make_folder("Folder with a name that is much too long for any column" * 3)
    ada.choose_files(text_file("a.txt"), text_file("b.txt"))
    expect(page.get_by_role("heading", name="2 uploads complete")).to_be_visible()
    expect(item(page, "b.txt")).to_be_visible()
    assert violations(page) == []
    page.locator(".drive-tray").get_by_role("button", name="Close").click()
    page.get_by_label("Select a.txt").check()
    assert violations(page) == []
    page.locator(".drive-bar button[data-delete]").click()
    expect(item(page, "a.txt")).to_have_count(0)
    item(page, "b.txt").click()
    expect(page.locator("#drive-details h2")).to_be_visible()
    assert violations(page) == []
    for address in ("/drive/?view=grid", "/drive/trash/", "/drive/upload/root"):
        page.goto(address)
        assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# --- Through failures: a cluster of its own, which is harmed --------------------------------------------------------


@pytest.fixture(scope="module")
def harmed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebCluster]:
    cluster = WebCluster(tmp_path_factory.mktemp("harmed"))
    try:
        cluster.start()
        cluster.wait_until_whole()
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture
def sufferers(browser: Browser, harmed_cluster: WebCluster) -> Iterator[Any]:
    yield from people_at(browser, harmed_cluster)


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "large.bin"
    path.write_bytes(random.Random(60).randbytes(60 * 10**6))
    return path


def begin(person: Person, file: Path) -> None:
    """Begin to upload, and return when a quarter is through."""
    person.slow_down(15 * 10**6)
    person.choose_files(file)
    bar = person.page.locator(".drive-progress")
    wait_for(lambda: float(bar.evaluate("bar => bar.value")) > 0.25, "a quarter of the upload")


def peak_of(pid: int) -> int:
    """The most bytes of memory that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_an_upload_takes_bounded_memory_in_a_front_end(
    sufferers: Any, harmed_cluster: WebCluster, large_file: Path
) -> None:
    ada = sufferers()
    ada.choose_files(text_file("warm.txt"))
    expect(item(ada.page, "warm.txt")).to_be_visible()
    frontends = [name for name in harmed_cluster.names() if name.startswith("frontend")]
    before = {name: peak_of(harmed_cluster.pid(name)) for name in frontends}
    ada.choose_files(large_file)
    expect(item(ada.page, "large.bin")).to_be_visible(timeout=60_000)
    for name in frontends:
        assert peak_of(harmed_cluster.pid(name)) - before[name] < 64 * MIB
    assert ada.downloaded("large.bin") == large_file.read_bytes()


def test_an_upload_survives_its_front_end(sufferers: Any, harmed_cluster: WebCluster, large_file: Path) -> None:
    ada = sufferers()
    begin(ada, large_file)
    for name in [name for name in harmed_cluster.names() if name.startswith("frontend")]:
        harmed_cluster.wait_until_back(name, harmed_cluster.kill(name))
    expect(item(ada.page, "large.bin")).to_be_visible(timeout=60_000)
    expect(ada.page.locator("[data-item]")).to_have_count(1)
    assert ada.downloaded("large.bin") == large_file.read_bytes()


def test_an_upload_survives_the_primary_of_its_drive(
    sufferers: Any, harmed_cluster: WebCluster, large_file: Path
) -> None:
    ada = sufferers()
    begin(ada, large_file)
    primary = harmed_cluster.tablet_of(f"{ada.name}:drive")["primary"]
    harmed_cluster.kill(primary)
    expect(item(ada.page, "large.bin")).to_be_visible(timeout=60_000)
    expect(ada.page.locator("[data-item]")).to_have_count(1)
    assert ada.downloaded("large.bin") == large_file.read_bytes()
