"""The process's one client: made once, and a store that is away costs all who wait one timeout, not one each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from kvstore.errors import Unavailable
from penncloud_site import storage

CALLERS = 6
TIMEOUT = 0.3  # seconds that an attempt to connect takes here before it fails


@pytest.fixture(autouse=True)
def _nothing_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_client", None)
    monkeypatch.setattr(storage, "_failed", None)


def together(action: Callable[[], object]) -> list[object]:
    """What each of `CALLERS` threads got, or the error it met."""
    results: list[object] = []
    begin = threading.Barrier(CALLERS)

    def run() -> None:
        begin.wait(timeout=30)
        try:
            results.append(action())
        except Unavailable as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def test_all_callers_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def connect(**_options: object) -> object:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(storage, "connect", connect)
    assert together(storage.store) == made * CALLERS
    assert len(made) == 1


def test_those_who_wait_share_one_failure_and_the_next_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []
    away = threading.Event()

    def connect(**_options: object) -> object:
        attempts.append(time.monotonic())
        away.wait(TIMEOUT)
        raise Unavailable("nobody answers")

    monkeypatch.setattr(storage, "connect", connect)
    results = together(storage.store)
    assert [type(result) for result in results] == [Unavailable] * CALLERS
    assert len(attempts) < CALLERS
    before = len(attempts)
    with pytest.raises(Unavailable):
        storage.store()
    assert len(attempts) == before + 1
