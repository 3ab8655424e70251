"""Pid files: there while the process runs, and never somebody else's to remove."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from penncloud_site.supervisor.pidfile import read_pid_file, remove_pid_file, write_pid_file


def test_it_is_written_whole_and_goes_with_the_process(tmp_path: Path) -> None:
    path = tmp_path / "it.pid"
    program = (
        "import os, sys; from pathlib import Path; from penncloud_site.supervisor.pidfile import *; "
        "write_pid_file(Path(sys.argv[1])); print(os.getpid() == read_pid_file(Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_successors_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "it.pid"
    write_pid_file(path)
    remove_pid_file(path, os.getpid() + 1)
    assert read_pid_file(path) == os.getpid()
    remove_pid_file(path, os.getpid())
    assert read_pid_file(path) is None


def test_what_is_no_number_is_no_pid(tmp_path: Path) -> None:
    (tmp_path / "it.pid").write_text("soon")
    assert read_pid_file(tmp_path / "it.pid") is None
