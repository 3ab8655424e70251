"""The data folder of a cluster: what is in it, who may use it, and the two keys.

    cluster.key      64 hexadecimal digits: proves to the store's members that somebody belongs here. Mode 0600.
    secret.key       signs cookies and forms on all front ends. Mode 0600.
    cluster.json     what the cluster was made with, and the addresses of its last start (see Record)
    creation.json    what the coordinator was given when it was made
    coordinator/  node1/ node2/ …    the data
    static/          what browsers fetch, collected at every start
    run/             <name>.pid, supervisor.sock, supervisor.lock; nothing in it outlives a start
    log/             <name>.log, and <name>.log.1 when it grew large

The folder is made with mode 0700. `supervisor.lock` is locked with flock for as long as a supervisor lives: the lock
goes with the process, so a kill leaves nothing to clean up.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import CannotStart


@dataclass
class Record:
    """cluster.json. `nodes` and `replication` are what the cluster was made with (nodes may grow);
    `operator_made` says that the first operator exists; the rest describes the last start."""

    nodes: int | None = None
    replication: int | None = None
    operator_made: bool = False
    url: str = ""
    coordinators: str = ""
    balancer_status: str = ""
    addresses: dict[str, str] = field(default_factory=dict)


class DataFolder:
    """One data folder. `path` is absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.run = self.path / "run"
        self.log = self.path / "log"
        self.static = self.path / "static"
        self.cluster_key = self.path / "cluster.key"
        self.secret_key = self.path / "secret.key"
        self.record_file = self.path / "cluster.json"
        self.creation_file = self.path / "creation.json"
        self.control_socket = self.run / "supervisor.sock"
        self._lock: int | None = None

    def pid_file(self, name: str) -> Path:
        return self.run / f"{name}.pid"

    def log_file(self, name: str) -> Path:
        return self.log / f"{name}.log"

    def data(self, name: str) -> Path:
        """Where a node or the coordinator keeps its data."""
        return self.path / name

    def open(self) -> None:
        """Make what is missing, check that it can be written, and lock it.

        :raises CannotStart: it cannot be made or written, or another supervisor has it.
        """
        try:
            for folder in (self.path, self.run, self.log):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.run / "writable"
            probe.write_bytes(b"")
            probe.unlink()
            self._lock = os.open(self.run / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(f"The data folder {self.path} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            who = f" (process {holder})" if holder else ""
            raise CannotStart(f"A cluster is already running on the data folder {self.path}{who}.") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode("ascii"), 0)
        try:
            self._make_key(self.cluster_key)
            self._make_key(self.secret_key)
        except OSError as error:
            raise CannotStart(f"The data folder {self.path} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read_record(self) -> Record:
        """The record; an empty one for a new folder.

        :raises CannotStart: it is there and cannot be understood. It is never guessed over: a wrong replication or
            number of nodes would leave data out.
        """
        try:
            fields = json.loads(self.record_file.read_text(encoding="utf-8"))
            return Record(**fields)
        except FileNotFoundError:
            return Record()
        except (OSError, ValueError, TypeError) as error:
            raise CannotStart(f"{self.record_file} cannot be understood: {error}.") from error

    def write_record(self, record: Record) -> None:
        """Replace the record, whole or not at all, and on disk when this returns."""
        write_durably(self.record_file, json.dumps(asdict(record), indent=2).encode() + b"\n", 0o644)

    @staticmethod
    def _make_key(path: Path) -> None:
        if not path.exists():
            write_durably(path, secrets.token_hex(32).encode("ascii") + b"\n", 0o600)


def write_durably(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that after a crash it holds the old content or the new one: beside, fsync, rename, fsync."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
