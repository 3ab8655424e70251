"""A tablet as it was at one moment, for checkpoints and backups; see `kvstore.storage.tablet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.storage.block import Block

if TYPE_CHECKING:
    from kvstore.storage.tablet import Tablet


class Snapshot:
    """A tablet as it was at one moment. Readable in slices while the tablet changes; to be released."""

    def __init__(self, tablet: Tablet, blocks: list[Block]) -> None:
        self._tablet: Tablet | None = tablet
        self.blocks = blocks
        self.digest = tablet.digest
        self.cells = tablet.cells
        self.bytes = tablet.bytes
        self.bulk_bytes = dict(tablet.bulk_bytes)

    def release(self) -> None:
        """Let the tablet change its blocks in place again. A second call does nothing."""
        if self._tablet is not None:
            self._tablet.release_snapshot()
        self._tablet = None
        self.blocks = []
