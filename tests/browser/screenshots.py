"""Takes the pictures of the README from a running PennCloud: `python -m tests.browser.screenshots [FOLDER]`.

A cluster of its own is started, a team signs up, writes to each other and puts files away, all through the pages; then the
pages are pictured in light and dark, wide and narrow. Not a test: run it when the pages have changed, and look.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from playwright.sync_api import sync_playwright

from tests.cluster import WebCluster
from tests.conftest import CHROMIUM, CHROMIUM_OPTIONS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

PASSWORD = "quiet harbor 42"
TEAM = {"maria": "Maria Sánchez", "ken": "Ken Watanabe", "ayo": "Ayodele Okafor", "lena": "Lena Fischer"}
LETTERS = [
    ("ken", "Offsite in October", "I found a house by the lake for twelve people. Shall I book it before Friday?"),
    (
        "ayo",
        "Figures for the quarter",
        "Revenue is up 12 % on last year. The sheet is in my drive; tell me what is missing.",
    ),
    (
        "lena",
        "Poster for the open day",
        "Three drafts, the second one is my favourite. Print deadline is Wednesday noon.",
    ),
    ("ken", "Re-cabling of the second rack", "Node 2 will be off for ten minutes on Thursday. Nobody should notice."),
    ("ayo", "Lunch?", "The new place around the corner has opened."),
    (
        "lena",
        "A very long subject, to see what a line does with it: minutes of the meeting about the minutes",
        "Attached soon.",
    ),
    (
        "ken",
        "Welcome to the team, Maria!",
        "Your desk is the one by the window. Coffee is in the kitchen, mail is here.",
    ),
]
FOLDERS = ["Contracts", "Open day", "Photos from the lake"]
FILES = {
    "Budget 2027.xlsx": 48_120,
    "Floor plan.pdf": 1_912_004,
    "Interview with the founders.mp4": 24_730_112,
    "Meeting notes.md": 3_120,
    "Poster, draft 2.png": 2_400_871,
}


def sign_up(browser: Browser, url: str, name: str, scheme: Scheme = "light", width: int = 1280) -> Page:
    """A window of a new member of the team, at their inbox."""
    page = browser.new_context(base_url=url, viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    page.goto("/accounts/signup/")
    page.fill("[name=username]", name)
    page.fill("[name=display_name]", TEAM[name])
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=password2]", PASSWORD)
    page.click("form button[type=submit]:has-text('Sign up')")
    page.wait_for_url("**/mail/inbox/")
    return page


def log_in(browser: Browser, url: str, name: str, password: str, scheme: Scheme, width: int) -> Page:
    """Another window of somebody who has an account."""
    page = browser.new_context(base_url=url, viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    page.goto("/accounts/login/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", password)
    page.click("form button[type=submit]:has-text('Log in')")
    page.wait_for_url("**/mail/inbox/")
    return page


def write(page: Page, to: str, subject: str, body: str) -> None:
    """Send a message from the plain page."""
    page.goto("/mail/compose")
    page.fill("[name=to]", to)
    page.fill("[name=subject]", subject)
    page.fill("[name=body]", body)
    page.click("#content button:has-text('Send')")
    page.wait_for_url(lambda url: "compose" not in url)


def fill_drive(page: Page, folder: Path) -> None:
    """Make folders and upload files, as a person does."""
    page.goto("/drive/")
    for name in FOLDERS:
        page.click("#content >> text=New folder")
        page.fill("dialog[open] input[name=name], .modal.show input[name=name]", name)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#content >> text={name}")
    for name, size in FILES.items():
        (folder / name).write_bytes(bytes(size))
    page.set_input_files("input[type=file]", [folder / name for name in FILES])
    for name in FILES:
        page.wait_for_selector(f"#content >> text={name}", timeout=60_000)


def picture(page: Page, target: Path, path: str, name: str) -> None:
    """One page, once it is quiet."""
    page.goto(path)
    page.wait_for_load_state("load")
    page.wait_for_selector("#content")
    page.screenshot(path=target / f"{name}.png")


def picture_of_writing(page: Page, target: Path, name: str) -> None:
    """The inbox with a message half written; then it is thrown away."""
    page.goto("/mail/inbox/")
    page.click(".rail-action")
    page.fill("#compose-dock [name=to]", "ken")
    page.fill("#compose-dock [name=subject]", "Re: Offsite in October")
    page.fill("#compose-dock [name=body]", "Hello Ken,\n\nthe house by the lake sounds good to me. Please book it, and")
    page.wait_for_selector("#compose-status :text('replicas')")
    page.screenshot(path=target / f"{name}.png")
    page.click("#compose-dock [value=discard]")
    page.wait_for_selector("#compose-dock", state="detached")


def take(cluster: WebCluster, browser: Browser, target: Path, folder: Path) -> None:
    """Fill the cluster with a team's life, and picture it."""
    windows = {name: sign_up(browser, cluster.url, name) for name in TEAM}
    for sender, subject, body in LETTERS:
        write(windows[sender], "maria", subject, f"Hello Maria,\n\n{body}\n\n{TEAM[sender].split()[0]}")
    for subject in ("Lunch?", "Figures for the quarter", "Offsite in October"):
        windows["maria"].goto("/mail/inbox/")
        windows["maria"].click(f"[data-line]:has-text('{subject}') .mail-link")
        windows["maria"].wait_for_selector("[data-mail-message]")
    fill_drive(windows["maria"], folder)
    password = cluster.operator_password
    for scheme in SCHEMES:
        for width, suffix in ((1280, ""), (390, "-narrow")):
            page = log_in(browser, cluster.url, "maria", PASSWORD, scheme, width)
            if suffix:
                picture(page, target, "/mail/inbox/", f"mail-{scheme}{suffix}")
            else:
                picture_of_writing(page, target, f"mail-{scheme}")
            picture(page, target, "/drive/", f"drive-{scheme}{suffix}")
            page = log_in(browser, cluster.url, "operator", password, scheme, width)
            picture(page, target, "/console/", f"console-{scheme}{suffix}")


def main() -> None:
    """Start, fill, picture, stop."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/screenshots")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        cluster = WebCluster(Path(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        try:
            cluster.start()
            (Path(folder) / "files").mkdir()
            take(cluster, browser, target, Path(folder) / "files")
        finally:
            browser.close()
            cluster.destroy()


if __name__ == "__main__":
    main()
