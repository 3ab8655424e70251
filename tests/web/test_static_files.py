"""Static files as they are served: hashed, compressed, light, and exactly the vendored ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.test import override_settings

from tests.web.visitors import Visitor

FIRST_VISIT = 300_000  # bytes, compressed
VENDOR = settings.BASE_DIR / "penncloud_site" / "static" / "vendor"


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Static files collected as for serving, and the site's pages referring to them."""
    root = tmp_path_factory.mktemp("static")
    storages = settings.STORAGES | {"staticfiles": {"BACKEND": "penncloud_site.static_files.HashedStorage"}}
    with override_settings(STORAGES=storages, STATIC_ROOT=root):
        call_command("collectstatic", interactive=False, verbosity=0)
        yield root


def files_of(page: str) -> set[str]:
    """The static files that a page asks for, as names under the root."""
    return set(re.findall(r'(?:src|href)="/static/([^"]+)"', page))


@pytest.mark.usefixtures("real_store")
def test_the_first_visit_is_light_and_names_hold_their_hash(collected: Path) -> None:
    page = Visitor().get("/accounts/login/").content
    names = files_of(page.decode())
    assert len(names) >= 5
    weight = len(page)
    for name in names:
        path = collected / name
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", name), f"{name} holds no hash"
        compressed = path.with_name(path.name + ".gz")
        weight += (compressed if compressed.exists() else path).stat().st_size
    assert weight < FIRST_VISIT


def test_all_files_that_refer_to_others_find_them(collected: Path) -> None:
    """Collecting rewrites references to hashed names and fails on a missing one; every file of ours is in there."""
    for name in ("site/site.css", "site/shell.js", "site/theme.js", "vendor/tabler/tabler.min.css"):
        assert (collected / staticfiles_storage.stored_name(name)).is_file()


def test_vendored_files_are_the_ones_their_notes_name() -> None:
    notes = list(VENDOR.rglob("VENDOR"))
    assert notes
    for note in notes:
        text = note.read_text()
        assert re.search(r"^name:\s+\S+", text, re.MULTILINE)
        assert re.search(r"^version:\s+\d+\.\d+", text, re.MULTILINE)
        assert list(note.parent.glob("LICENSE*")), f"{note.parent.name} comes without its license"
        named = dict(reversed(line.split()) for line in re.findall(r"^sha256 (\w{64}  \S+)$", text, re.MULTILINE))
        present = {path.name for path in note.parent.iterdir() if path.suffix in {".js", ".css", ".woff2"}}
        assert present == set(named)
        for name, digest in named.items():
            assert hashlib.sha256((note.parent / name).read_bytes()).hexdigest() == digest, name
