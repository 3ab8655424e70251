"""Numbers, ages and keys in words."""

from __future__ import annotations

import pytest

from adminconsole.wording import age, count, key_range, listing, readable_key


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.42, "0.4 s"),
        (14.2, "14 s"),
        (119, "119 s"),
        (200, "3 min"),
        (9000, "2 h"),
        (400_000, "5 days"),
    ],
)
def test_ages(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_counts_and_lists() -> None:
    assert [count(number, "tablet") for number in (0, 1, 1204)] == ["0 tablets", "1 tablet", "1,204 tablets"]
    assert count(2, "reply", "replies") == "2 replies"
    assert [listing(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert listing(["a", "b"], "or") == "a or b"


def test_a_key_cannot_deceive() -> None:
    assert readable_key("ada:drive:UID_7") == "ada:drive:UID_7"
    assert readable_key("Zoë’s 日本") == "Zoë’s 日本"
    assert readable_key("gnp.\u202ecod\n\0\u200b") == "gnp.\\u{202e}cod\\u{a}\\u{0}\\u{200b}"


def test_ranges() -> None:
    assert key_range("", None) == "every row"
    assert key_range("", "m") == "the first row up to “m”"
    assert key_range("m", None) == "“m” to the last row"
    assert key_range("a\n", "b") == "“a\\u{a}” up to “b”"
