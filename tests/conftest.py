"""What all tests share: real clusters, and people who use them.

- `cluster`: coordinator and three storage nodes, for the whole session. Do not harm it.
- `real_store`: the site in this process (Django's test client, the domain modules) works on `cluster`.
- `new_user`: makes an account by signing up, on `cluster`; gives the browser (Django's test client) logged in as it.
- `web_cluster`: everything that `make run` starts, for the whole session. Do not harm it.
- `browser`: Debian's chromium under Playwright; tests marked `browser` are skipped where it is not installed.

Who wants to harm a cluster makes one of their own from `tests.cluster`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests import evidence
from tests.cluster import StoreCluster, WebCluster, running_store

if TYPE_CHECKING:
    from django.test import Client as Browser
    from playwright.sync_api import Browser as Chromium

    from kvstore.client import Client

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_OPTIONS = [
    "--no-sandbox",  # tests may run as root
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SECRET_KEY = "a secret of the tests, which guards nothing but their own cookies"


def pytest_configure() -> None:
    from django.conf import settings

    settings.SECRET_KEY = SECRET_KEY  # pages are signed in this process too, and no front end's key is at hand here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails tells what its clusters say."""
    report = yield
    if report.failed:
        report.sections += evidence.collect()
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    """A running store of three nodes, every tablet with all its replicas."""
    with running_store(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def web_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebCluster]:
    """A running PennCloud, as `make run` starts it."""
    cluster = WebCluster(tmp_path_factory.mktemp("web"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture(scope="session")
def _site_on_cluster(cluster: StoreCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Points the settings of the site at `cluster`, and makes password hashes cheap: hundreds of accounts are made."""
    from django.conf import settings
    from django.test import override_settings

    from penncloud_site import storage
    from penncloud_site.accounts.hashers import PooledArgon2PasswordHasher

    here = {
        "DATA_DIR": tmp_path_factory.mktemp("site"),
        "COORDINATORS": cluster.coordinators,
        "KEY_FILE": str(cluster.key_file),
    }
    cheap = pytest.MonkeyPatch()
    cheap.setattr(PooledArgon2PasswordHasher, "time_cost", 1)
    cheap.setattr(PooledArgon2PasswordHasher, "memory_cost", 1024)
    with override_settings(PENNCLOUD={**settings.PENNCLOUD, **here}):
        storage.disconnect()
        yield
        storage.disconnect()
    cheap.undo()


@pytest.fixture
def real_store(_site_on_cluster: None) -> Client:
    """The site's client of the store, `penncloud_site.storage.store()`, on `cluster`."""
    from penncloud_site.storage import store

    return store()


@pytest.fixture
def new_user(real_store: Client) -> Callable[..., Browser]:
    """`new_user()` signs somebody up, under a name nobody has, and gives their browser, logged in.

    The browser's `username` is the account's name; `prefix` is how the name begins.
    """
    from tests.web.visitors import fresh_name, member

    def make(prefix: str = "u") -> Browser:
        browser, name = member(fresh_name(prefix))
        browser.username = name
        return browser

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """Chromium, one for each module: two Playwrights cannot live at the same time in one thread."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield chromium
        chromium.close()
