"""How a replica becomes two, when its tablet was split: in one step of the log, by itself, whenever it hears of that.

    has the log up to the split      applies up to there, cuts what is behind, parts
    is intact, and short of that     cuts its tail, parts where it stands: two old copies, which have to learn what differs
    is not intact                    drops its upper rows, and has nothing of the child

A member of the set has all of the log up to the split, and the birth tells it that this is committed. Who has less was no
member; who has more was a member under a primary that is no more. Neither's tail was ever committed.

Nothing is acknowledged or granted, for either half, before the log is on disk up to here (`Replica.settle`). What this node
has promised as to the parent it has promised as to the child.
"""

from __future__ import annotations

from kvstore.messages import Birth, Configuration
from kvstore.node.replica import Replica
from kvstore.storage.replica import Learning


def part(replica: Replica, child: Configuration) -> Replica | None:
    """`child` came of a split of the replica's tablet: make its replica, which is not in any role yet, of this one; None if
    there is nothing whole to make it of."""
    birth, disk, engine = child.born, replica.disk, replica.host.engine
    assert birth is not None
    if disk.learning is Learning.SETTLING:
        replica.apply(disk.settle_at)
    replica.host.behind.pop(replica, None)
    replica.was_whole = replica.intact and _holds(replica, birth)
    if not replica.intact:
        replica.settle(engine.narrow_tablet(replica.tablet, child.start, birth.range_version))
        replica.cut_to(disk.last)
        return None
    assert disk.commit <= birth.sequence, "a primary went on after it had asked: that may be in rows of the child"
    if replica.was_whole:
        replica.apply(birth.sequence)
    if replica.last > disk.commit:
        replica.settle(engine.append_cut(replica.tablet, disk.commit))
        replica.cut_to(disk.commit)
    at = disk.commit_epoch, disk.commit
    lsn = engine.split_tablet(replica.tablet, child.tablet, child.start, *at, birth.range_version)
    replica.settle(lsn)
    other = Replica(replica.host, child.tablet, 0)
    other.settle(lsn)
    replica.host.leases.inherit(replica.tablet, child.tablet)
    return other


def _holds(replica: Replica, birth: Birth) -> bool:
    """Whether the log has the entry after which the tablet was split."""
    disk = replica.disk
    if birth.sequence <= disk.commit:
        return (birth.epoch, birth.sequence) == (disk.commit_epoch, disk.commit)
    return any((entry.epoch, entry.last) == (birth.epoch, birth.sequence) for entry in disk.tail)
