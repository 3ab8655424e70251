"""PennCloud's group rule and split keys."""

from __future__ import annotations

import re

import pytest

from penncloud_site.tablets import GROUP_RULE, SPLIT_KEYS, creation


def group(row: str) -> str:
    found = re.match(GROUP_RULE, row)
    assert found, row
    return found.group()


def tablet(row: str) -> int:
    """Which tablet, counted from 0, a row falls into."""
    return sum(row.encode() >= split.encode() for split in SPLIT_KEYS)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("user:ada", "user:ada"),
        ("session:0123abcd", "session:0123abcd"),
        ("cache:axes", "cache:axes"),
        ("ada:mailbox", "ada:mail"),
        ("ada:mailmsg:0001", "ada:mail"),
        ("ada:drive", "ada:drive"),
        ("ada:drive:UID_0001", "ada:drive"),
        ("ada:drive:file:0001:000000", "ada:drive:file:0001"),
        ("ada:drive:file:0001:000001", "ada:drive:file:0001"),
    ],
)
def test_groups_are_what_must_change_together(row: str, expected: str) -> None:
    assert group(row) == expected


def test_split_keys_are_in_order_and_lie_between_groups() -> None:
    assert list(SPLIT_KEYS) == sorted(set(SPLIT_KEYS), key=str.encode)
    for split in SPLIT_KEYS:
        assert group(split) == split, "the first row of a tablet must be the first of its group"


@pytest.mark.parametrize("user", ["ada", "d", "dora", "j", "n", "sessions", "users", "zoe", "0day", "sess", "use"])
def test_no_group_is_cut_in_two(user: str) -> None:
    rows = [f"{user}:mailbox", f"{user}:mailmsg:~", f"{user}:drive", f"{user}:drive:UID_~", f"user:{user}"]
    by_group: dict[str, set[int]] = {}
    for row in rows:
        by_group.setdefault(group(row), set()).add(tablet(row))
    assert all(len(tablets) == 1 for tablets in by_group.values())


def test_sessions_and_accounts_have_tablets_of_their_own() -> None:
    assert tablet("session:00") == tablet("session:zz") == SPLIT_KEYS.index("session:") + 1
    assert tablet("sessions:mailbox") != tablet("session:zz"), "a user called 'sessions' is no session"
    assert tablet("user:ada") == tablet("user:zoe") == len(SPLIT_KEYS)


def test_a_coordinator_is_told_all_of_it() -> None:
    assert set(creation(3)) == {"group_rule", "splits", "replication", "min_in_sync"}
    assert creation(2)["replication"] == 2
