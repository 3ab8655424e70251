"""The client's map of the tablets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.messages import Configuration, Member
from kvstore.tabletmap import TabletMap


def configuration(
    tablet: int, start: str, end: str | None, epoch: int = 1, node: str = "node1", range_version: int = 1
) -> Configuration:
    return Configuration(tablet, start, end, range_version, epoch, Member(node, 1), (Member(node, 1),))


def primary(tablets: TabletMap, row: str) -> str:
    found = tablets.find(row)
    assert found is not None
    assert found.primary is not None
    return found.primary.node


def test_a_row_is_found_in_the_tablet_whose_range_holds_it() -> None:
    tablets = TabletMap()
    tablets.learn([configuration(2, "m", None, node="b"), configuration(1, "", "m", node="a")])
    assert [primary(tablets, row) for row in ("", "a", "lzzz", "m", "z")] == ["a", "a", "a", "b", "b"]


def test_a_row_in_a_gap_of_the_map_is_not_guessed() -> None:
    tablets = TabletMap()
    assert tablets.find("a") is None
    tablets.learn([configuration(1, "b", "c")])
    assert tablets.find("a") is None
    assert tablets.find("c") is None


def test_a_higher_epoch_is_taken_in_and_a_lower_one_is_not() -> None:
    tablets = TabletMap()
    assert tablets.learn([configuration(1, "", None, epoch=2, node="a")])
    assert not tablets.learn([configuration(1, "", None, epoch=1, node="b")])
    assert not tablets.learn([configuration(1, "", None, epoch=2, node="c")])
    assert primary(tablets, "x") == "a"
    assert tablets.learn([configuration(1, "", None, epoch=3, node="d")])
    assert primary(tablets, "x") == "d"


def test_where_only_one_half_of_a_split_is_known_it_wins_over_the_old_whole() -> None:
    tablets = TabletMap()
    tablets.learn([configuration(1, "", None, epoch=9, node="old")])
    tablets.learn([configuration(2, "m", None, epoch=1, node="new", range_version=2)])
    assert primary(tablets, "z") == "new"


def test_the_rows_below_a_bound_lie_in_the_tablet_that_ends_there() -> None:
    tablets = TabletMap()
    tablets.learn([configuration(1, "", "m", node="a"), configuration(2, "m", None, node="b")])

    def below(row: str | None) -> int | None:
        found = tablets.find_below(row)
        return found.tablet if found is not None else None

    assert [below(row) for row in (None, "z", "m\0", "m", "a", "")] == [2, 2, 2, 1, 1, None]


def test_addresses_are_added_and_replaced_never_forgotten() -> None:
    tablets = TabletMap()
    tablets.learn_addresses({"a": "h:1", "b": "h:2"})
    before = tablets.addresses
    tablets.learn_addresses({"b": "h:3"})
    assert tablets.addresses == {"a": "h:1", "b": "h:3"}
    assert before == {"a": "h:1", "b": "h:2"}, "who reads the old addresses reads them whole"


@given(st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=3), unique=True, max_size=8), st.text("abcdefghi"))
def test_every_row_lies_in_exactly_the_tablet_found(splits: list[str], row: str) -> None:
    bounds = ["", *sorted(splits)]
    tablets = TabletMap()
    tablets.learn(
        configuration(number, start, end)
        for number, (start, end) in enumerate(zip(bounds, [*bounds[1:], None], strict=True))
    )
    found = tablets.find(row)
    assert found is not None
    assert found.start <= row
    assert found.end is None or row < found.end


@given(st.data())
def test_however_little_of_many_splits_is_known_no_row_is_looked_for_where_it_is_known_not_to_be(
    data: st.DataObject,
) -> None:
    """Tablets are split again and again; a map hears of some configurations, in any order."""
    current = {1: configuration(1, "", None)}
    ever = list(current.values())
    for child, row in enumerate(data.draw(st.lists(st.sampled_from("bcdefghijk"), unique=True)), start=2):
        whole = next(c for c in current.values() if c.start < row and (c.end is None or row < c.end))
        epoch, version = whole.epoch + 1, whole.range_version + 1
        current[whole.tablet] = configuration(whole.tablet, whole.start, row, epoch, range_version=version)
        current[child] = configuration(child, row, whole.end, epoch, range_version=version)
        ever += [current[whole.tablet], current[child]]
    heard = data.draw(st.lists(st.sampled_from(ever)))
    tablets = TabletMap()
    for each in heard:
        tablets.learn([each])
    for row in "abcdefghijkl":
        found = tablets.find(row)
        assert found is None or (found.start <= row and (found.end is None or row < found.end))
        right = next(c for c in current.values() if c.start <= row and (c.end is None or row < c.end))
        if right in heard:
            assert found == right
