"""An operator at a browser, as the tests of the console see one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import override_settings

from kvstore.errors import StoreError
from penncloud_site import storage
from penncloud_site.accounts.models import User
from tests.cluster import StoreCluster, running_store
from tests.web.visitors import PASSWORD, Visitor, fresh_name


def operator(**options: bool) -> tuple[Visitor, str]:
    """A browser in which a fresh operator is logged in, and the operator's name. `options` go to the browser."""
    name = fresh_name("op")
    User.objects.create_operator(name, PASSWORD)
    visitor = Visitor(**options)
    visitor.log_in(name)
    return visitor, name


def page(visitor: Visitor, address: str, status: int = 200) -> str:
    """The page at `address`, which must answer with `status`."""
    response = visitor.get(address)
    assert response.status_code == status, response.content.decode()[:2000]
    return response.content.decode()


@contextmanager
def cluster_to_harm(folder: Path, nodes: int = 3) -> Iterator[StoreCluster]:
    """A cluster of its own, to which the site of this process is turned meanwhile."""
    with running_store(folder, nodes) as cluster:
        here = {"DATA_DIR": folder, "COORDINATORS": cluster.coordinators, "KEY_FILE": str(cluster.key_file)}
        try:
            with override_settings(PENNCLOUD={**settings.PENNCLOUD, **here}):
                storage.disconnect()
                yield cluster
        finally:
            storage.disconnect()


def status_when(
    cluster: StoreCluster, holds: Callable[[dict[str, Any]], bool], patience_s: float = 30.0
) -> dict[str, Any]:
    """The first status for which `holds`."""
    deadline = time.monotonic() + patience_s
    found: dict[str, Any] = {}
    while time.monotonic() < deadline:
        try:
            found = cluster.status()
        except StoreError:
            found = {}
        if found and holds(found):
            return found
        time.sleep(0.05)  # between two looks: a status is asked for, not told
    raise AssertionError(f"not in {patience_s} s; the last status is {found}")


def page_when(visitor: Visitor, address: str, words: str, patience_s: float = 30.0) -> str:
    """The page at `address` as soon as it says `words`."""
    deadline = time.monotonic() + patience_s
    while words not in (found := visitor.get(address).content.decode()):
        assert time.monotonic() < deadline, f"no {words!r} in {found}"
        time.sleep(0.05)  # between two looks, as the browser does
    return found
