"""The coordinator's durable decisions: a log of records, with snapshots so that it stays short.

It stands on the storage engine's write-ahead log (`kvstore.storage.wal`), in the folder `journal` of the data folder. Two
kinds of log record, each with one msgpack payload:

    16  decision   one record of `kvstore.coordinator.coordinator`: a map
    17  snapshot   every record from which the state as of here is restored: an array of maps; what came before is void

Damage anywhere but in the torn tail of the last write is not guessed over: a lost decision could give one tablet to two
primaries. The coordinator then refuses to start, and its folder must be restored from a copy.
"""

from __future__ import annotations

import msgpack

from kvstore import settings
from kvstore.errors import StorageFailure
from kvstore.storage.failures import FolderLocked
from kvstore.storage.files import FileDoor, Files
from kvstore.storage.segments import WalOptions
from kvstore.storage.wal import Wal

DECISION, SNAPSHOT = 16, 17

_SEGMENT = 1 * settings.MIB
_SNAPSHOT_AFTER = 512 * settings.KIB


class Journal:
    """The journal in one data folder, locked against a second coordinator."""

    def __init__(self, data_dir: str, files: FileDoor | None = None) -> None:
        """Opens (or makes) the journal and reads it. `StorageFailure` when it cannot be trusted, or is in use; `OSError`."""
        self._files = files or Files()
        self._files.makedirs(data_dir)
        self._lock = self._files.lock(f"{data_dir}/lock")
        if self._lock is None:
            raise FolderLocked(f"another coordinator works on {data_dir}")
        self._wal = Wal.open(self._files, f"{data_dir}/journal", WalOptions(segment_size=_SEGMENT, most_spares=1))
        self.records = self._replay(data_dir)
        """What was durable when it was opened, oldest first."""
        self._since_snapshot = 0

    def _replay(self, data_dir: str) -> list[dict[str, object]]:
        records: list[dict[str, object]] = []
        for _, record in self._wal.replay():
            if record.kind == SNAPSHOT:
                records = msgpack.unpackb(record.payload, strict_map_key=False)
            elif record.kind == DECISION:
                records.append(msgpack.unpackb(record.payload, strict_map_key=False))
            else:
                raise StorageFailure(f"the journal in {data_dir} holds a record of the unknown kind {record.kind}")
        if self._wal.damage:
            raise StorageFailure(f"the journal in {data_dir} is damaged: {self._wal.damage[0]}")
        return records

    def append(self, record: dict[str, object]) -> None:
        """Add a decision. It is durable, and may be told, after the next `sync`."""
        payload = msgpack.packb(record)
        self._wal.append(DECISION, 0, 0, 0, [payload])
        self._since_snapshot += len(payload)

    def sync(self) -> None:
        """Make everything appended durable. A failure is final (`StorageFailure`): the coordinator must stop."""
        self._wal.sync()

    @property
    def wants_snapshot(self) -> bool:
        """Whether enough has been added that a snapshot would make the journal shorter."""
        return self._since_snapshot > _SNAPSHOT_AFTER

    def snapshot(self, records: list[dict[str, object]]) -> None:
        """Replace all that was appended so far by `records`, which restore the same state."""
        self._wal.append(SNAPSHOT, 0, 0, 0, [msgpack.packb(records)])
        segment = self._wal.payload_at.segment
        self._wal.sync()
        # only now: until the snapshot is on disk the older segments are the state
        for generation in sorted(self._wal.folder.segments):
            if generation < segment:
                self._wal.retire(generation)
        self._since_snapshot = 0

    def close(self) -> None:
        """Close the files; the lock ends with the process or here."""
        self._wal.close()
        if self._lock is not None:
            self._files.close(self._lock)
            self._lock = None
