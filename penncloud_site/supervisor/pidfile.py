"""`<data-dir>/run/<name>.pid`: one line with the process id, there as long as the process serves.

The process itself writes it, once it listens, which is also how the supervisor knows that it is ready. It takes it away
when it ends; of one that was killed the supervisor takes it away.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from pathlib import Path


def write_pid_file(path: Path) -> None:
    """Write this process's id, whole or not at all, and remove the file when the interpreter ends.

    :raises OSError: the folder is missing or cannot be written.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(f"{os.getpid()}\n", encoding="ascii")
    beside.replace(path)
    atexit.register(remove_pid_file, path, os.getpid())


def read_pid_file(path: Path) -> int | None:
    """The process id in the file; None when there is no file, or no number in it."""
    try:
        return int(path.read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError):
        return None


def remove_pid_file(path: Path, pid: int) -> None:
    """Remove the file if it is still that of `pid`; a successor's stays."""
    if read_pid_file(path) == pid:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
