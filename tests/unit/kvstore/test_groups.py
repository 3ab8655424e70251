"""Which rows may be written together: every row is compared where a batch is made, the outermost two where it arrives."""

from __future__ import annotations

import pytest

from kvstore.batch import Batch
from kvstore.errors import CrossTabletBatch
from kvstore.keys import GroupRule
from kvstore.messages import Configuration
from kvstore.mutation import Mutation
from kvstore.node.rows import check_rows
from penncloud_site.tablets import GROUP_RULE

RULE = GroupRule(GROUP_RULE)


def batch_of(*rows: str) -> Batch:
    batch = Batch()
    for row in rows:
        batch.put(row, "c", b"v")
    return batch


def arrives(*rows: str) -> None:
    configuration = Configuration(1, "", None, 1, 1, None, ())
    check_rows(Mutation(1, 1, 1, [], batch_of(*rows).operations), configuration, RULE)


@pytest.mark.parametrize(
    "rows", [("ada:mailbox", "ada:mailmsg:1"), ("ada:drive", "ada:drive:UID_1"), ("user:ada",) * 2]
)
def test_rows_of_one_group_may_be_written_together(rows: tuple[str, ...]) -> None:
    assert batch_of(*rows).only_row(RULE) in rows
    arrives(*rows)


@pytest.mark.parametrize(
    "rows",
    [
        ("ada:drive", "ada:mailbox"),
        ("ada:mailbox", "bob:mailbox", "ada:mailbox"),  # the first and the last are of one group
        ("ada:drive:file:1:0", "ada:drive:file:2:0"),
    ],
)
def test_rows_of_several_groups_are_refused_where_a_batch_is_made_and_where_it_arrives(rows: tuple[str, ...]) -> None:
    with pytest.raises(CrossTabletBatch):
        batch_of(*rows).only_row(RULE)
    with pytest.raises(CrossTabletBatch):
        arrives(*rows)


def test_a_row_of_another_group_between_two_of_one_is_found_where_a_batch_is_made() -> None:
    """After a split between them a repeat of such a batch would be refused, though the first was carried out."""
    with pytest.raises(CrossTabletBatch):
        batch_of("ada", "ada:drive", "ada:zzz").only_row(RULE)


def test_a_requirement_counts_as_well() -> None:
    with pytest.raises(CrossTabletBatch):
        batch_of("ada:mailbox").require("ada:drive", "c", None).only_row(RULE)
