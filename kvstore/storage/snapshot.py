"""A tablet as it was at one moment, for checkpoints and backups; see `kvstore.storage.blocklist`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.storage.block import Block

if TYPE_CHECKING:
    from kvstore.storage.blocklist import BlockList


class Snapshot:
    """A tablet as it was at one moment. Readable in slices while the tablet changes; to be released."""

    def __init__(self, tablet: BlockList, blocks: list[Block]) -> None:
        self._sharers = [tablet]
        self.blocks = blocks
        self.digest = tablet.digest
        self.cells = tablet.cells
        self.bytes = tablet.bytes
        self.bulk_bytes = dict(tablet.bulk_bytes)

    def shared_with(self, tablet: BlockList) -> None:
        """Some of the blocks are this tablet's now: it was cut off the one that the snapshot is of."""
        self._sharers.append(tablet)

    def release(self) -> None:
        """Let the tablet change its blocks in place again. A second call does nothing."""
        for tablet in self._sharers:
            tablet.release_snapshot(self)
        self._sharers = []
        self.blocks = []
