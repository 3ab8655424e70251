"""The whole of PennCloud as two people meet it in a browser, with a storage node killed under them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.cluster import WebCluster
from tests.processes import ROOT
from tests.web.visitors import PASSWORD, fresh_name

pytestmark = pytest.mark.browser

FILE_SIZE = 60 * 10**6
SLOW = 60_000
"""Milliseconds that a step may take on a busy machine."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebCluster]:
    """A PennCloud of this test's own, to be harmed."""
    cluster = WebCluster(tmp_path_factory.mktemp("flow"))
    try:
        cluster.start()
        cluster.wait_until_whole()
        yield cluster
    finally:
        cluster.destroy()


class Person:
    """Somebody who signs up with a browser of their own, and what went wrong for them."""

    def __init__(self, browser: Browser, cluster: WebCluster, display_name: str) -> None:
        self.name = fresh_name("w")
        self.context: BrowserContext = browser.new_context(base_url=cluster.url, accept_downloads=True)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(SLOW)
        self.wrong: list[str] = []
        self.page.on("response", lambda answer: self._note(answer.status, answer.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto("/accounts/signup/")
        self.page.fill("[name=username]", self.name)
        self.page.fill("[name=display_name]", display_name)
        self.page.fill("[name=password1]", PASSWORD)
        self.page.fill("[name=password2]", PASSWORD)
        self.page.press("[name=password2]", "Enter")
        expect(self.page).to_have_url(re.compile("/mail/"), timeout=SLOW)

    def _note(self, status: int, url: str) -> None:
        if status >= 500:
            self.wrong.append(f"{status} {url}")


def primary_by_status(cluster: WebCluster, row: str) -> str:
    """The primary of the row's tablet, as the command line names it."""
    command = [sys.executable, "-m", "kvstore", "--coordinators", cluster.coordinators]
    command += ["--key-file", str(cluster.key_file), "status", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    for tablet in json.loads(done.stdout)["tablets"]:
        if tablet["start"] <= row and (not tablet["end"] or row < tablet["end"]):
            return str(tablet["primary"])
    raise AssertionError(f"no tablet holds {row!r}")


def write_read_and_reply(ada: Person, grace: Person) -> None:
    """Ada writes, Grace reads and replies, Ada reads the reply."""
    page = ada.page
    page.goto("/mail/compose")
    page.fill("[name=to]", grace.name)
    page.fill("[name=subject]", "The analytical engine")
    page.fill("[name=body]", "Have you seen the drawings?")
    page.click("[data-send]")
    expect(page.get_by_text("Message sent.")).to_be_visible(timeout=SLOW)

    page = grace.page
    page.goto("/mail/inbox/")
    page.get_by_text("The analytical engine").first.click()
    expect(body(page, "Have you seen the drawings?")).to_be_visible(timeout=SLOW)
    page.get_by_role("link", name="Reply", exact=True).first.click()
    page.fill("[name=body]", "I have, and found a bug.")
    page.click("[data-send]")
    expect(page.get_by_text("Message sent.")).to_be_visible(timeout=SLOW)

    page = ada.page
    page.goto("/mail/inbox/")
    page.get_by_text("The analytical engine").first.click()
    expect(body(page, "I have, and found a bug.")).to_be_visible(timeout=SLOW)


def body(page: Page, text: str) -> Locator:
    """The body of an opened message. (The first words of each stand in the list too, and in its closed card.)"""
    return page.locator(".mail-body", has_text=text).first


def upload_while_killing(page: Page, file: Path, pid: int) -> None:
    """Upload the file; the process is killed when a quarter of it is sent."""
    page.goto("/drive/")
    page.locator("#drive-picker").set_input_files(file)
    page.wait_for_function("() => document.querySelector('.drive-progress')?.value >= 0.25", polling=10)
    os.kill(pid, signal.SIGKILL)
    expect(page.locator(".drive-tray-item")).not_to_have_class(re.compile("is-done"), timeout=1)
    expect(page.locator(".drive-tray-item")).to_have_class(re.compile("is-done"), timeout=2 * SLOW)


def download(page: Page, name: str, to: Path) -> bytes:
    """Choose the file in the list and download it; its bytes."""
    page.goto("/drive/")
    row = page.locator("[data-item]", has_text=name)
    expect(row).to_have_count(1)
    row.locator("input[name=item]").check()
    with page.expect_download(timeout=2 * SLOW) as downloading:
        page.locator("[data-download]").click()
    assert downloading.value.suggested_filename == name
    downloading.value.save_as(to)
    return to.read_bytes()


def test_mail_there_and_back_and_a_file_that_outlives_its_primary(
    browser: Browser, cluster: WebCluster, tmp_path: Path
) -> None:
    ada = Person(browser, cluster, "Ada Lovelace")
    grace = Person(browser, cluster, "Grace Hopper")
    write_read_and_reply(ada, grace)

    content = random.Random(1843).randbytes(FILE_SIZE)
    drawing = tmp_path / "drawings of the engine.bin"
    drawing.write_bytes(content)
    victim = primary_by_status(cluster, f"{ada.name}:drive")
    pid = cluster.pid(victim)
    upload_while_killing(ada.page, drawing, pid)
    assert primary_by_status(cluster, f"{ada.name}:drive") != victim
    saved = download(ada.page, drawing.name, tmp_path / "saved")
    assert hashlib.sha256(saved).hexdigest() == hashlib.sha256(content).hexdigest()

    # Nobody has seen an error, and the node comes back with everything.
    assert ada.wrong == []
    assert grace.wrong == []
    cluster.wait_until_back(victim, pid)
    cluster.wait_until_whole()
    ada.context.close()
    grace.context.close()
