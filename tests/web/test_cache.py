"""The cache on the store: what front ends count together, they count exactly."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.core.cache import cache
from django.core.management import call_command

from penncloud_site.storage import store

pytestmark = pytest.mark.usefixtures("real_store")


@pytest.fixture
def key() -> str:
    return f"test {uuid.uuid4().hex} with: blanks and colons"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The cache's clock: `now[0]` may be moved."""
    clock = [1_800_000_000.0]
    monkeypatch.setattr("penncloud_site.cache.time.time", lambda: clock[0])
    return clock


def test_what_was_set_is_there_until_it_is_deleted(key: str) -> None:
    assert cache.get(key, "nothing") == "nothing"
    cache.set(key, {"count": [1, 2, None]})
    assert cache.get(key) == {"count": [1, 2, None]}
    assert key in cache
    assert cache.delete(key)
    assert not cache.delete(key)
    assert cache.get(key) is None


def test_add_takes_only_an_absent_or_expired_key(key: str, now: list[float]) -> None:
    assert cache.add(key, 1, timeout=10)
    assert not cache.add(key, 2, timeout=10)
    assert cache.get(key) == 1
    now[0] += 11
    assert key not in cache
    assert cache.add(key, 3, timeout=10)
    assert cache.get(key) == 3


def test_a_touched_entry_lives_on_and_incr_does_not_prolong(key: str, now: list[float]) -> None:
    cache.set(key, 1, timeout=10)
    now[0] += 8
    assert cache.touch(key, timeout=10)
    now[0] += 8
    assert cache.incr(key) == 2
    now[0] += 3
    assert cache.get(key) is None
    assert not cache.touch(key)


def test_an_entry_without_end_stays(key: str, now: list[float]) -> None:
    cache.set(key, "for ever", timeout=None)
    now[0] += 10**9
    assert cache.get(key) == "for ever"


def test_counting_what_is_not_there_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match="not found"):
        cache.incr(key)


def test_many_count_at_once_and_no_count_is_lost(key: str) -> None:
    cache.set(key, 0)
    begin = threading.Barrier(6)

    def count() -> None:
        begin.wait(timeout=30)
        for _ in range(5):
            cache.incr(key)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert cache.get(key) == 30


def test_of_many_adds_at_once_one_wins(key: str) -> None:
    begin, won = threading.Barrier(6), []

    def add(number: int) -> None:
        begin.wait(timeout=30)
        if cache.add(key, number):
            won.append(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert won == [cache.get(key)]


def test_a_key_cannot_name_another_row(key: str) -> None:
    cache.set(f"{key}:x", 1)
    rows = [row for row, _column, cell in store().scan(prefix="cache:") if key.encode() in cell.value]
    assert len(rows) == 1
    assert rows[0].removeprefix("cache:").isalnum()


def test_what_is_too_large_or_cannot_be_written_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="limit"):
        cache.set(key, "x" * 20_000)
    with pytest.raises(TypeError):
        cache.set(key, object())
    assert key not in cache


def test_expired_entries_are_cleared_away_and_live_ones_stay(key: str, now: list[float]) -> None:
    cache.set(f"{key} old", 1, timeout=10)
    cache.set(f"{key} new", 1, timeout=1000)
    now[0] += 11
    call_command("clearsessions")
    left = [cell.value for _row, _column, cell in store().scan(prefix="cache:") if key.encode() in cell.value]
    assert len(left) == 1
    assert b"new" in left[0]
