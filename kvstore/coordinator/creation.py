"""What a new cluster is to be: said once, when its coordinator starts for the first time."""

from __future__ import annotations

from dataclasses import dataclass

from kvstore import rebuild_after, settings, split_above
from kvstore.errors import BadRequest
from kvstore.keys import GroupRule, checked


@dataclass(slots=True)
class Creation:
    """What a new cluster is to be. `splits` are the first rows of all tablets but the first, in order. `rebuild_after`: seconds
    after which a gone node's replicas are rebuilt elsewhere; None: never. `spread`: whether nodes that join get their share by
    themselves. `split_above`: bytes in memory from which on a tablet is split by itself; None: never."""

    cluster: str
    group_rule: str
    splits: list[str]
    replication: int
    min_in_sync: int
    nodes_expected: int
    rebuild_after: float | None = settings.REBUILD_AFTER
    spread: bool = settings.SPREAD
    split_above: int | None = settings.SPLIT_ABOVE

    def check(self) -> None:
        """Raise `BadRequest` with what is wrong, if anything is."""
        rule = GroupRule(self.group_rule)
        for split in self.splits:
            if not checked(split, "split") or not rule.may_split_at(split):
                raise BadRequest(f"no tablet may begin at {split!r}: it is not the first row of a group")
        if self.splits != sorted(set(self.splits)):
            raise BadRequest("the splits must be in order, and all different")
        if not 1 <= self.min_in_sync <= self.replication:
            raise BadRequest(f"min_in_sync must lie between 1 and the replication, {self.replication}")
        if self.replication > self.nodes_expected:
            raise BadRequest(f"{self.nodes_expected} nodes cannot hold {self.replication} replicas")
        rebuild_after.check(self.rebuild_after)
        split_above.check(self.split_above)
