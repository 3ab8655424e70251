"""How a command of `manage.py` turns into the process it names.

A storage node and a coordinator run without Django; a front end needs gevent's patches in place before Django is
imported; the balancer starts in a fifth of the time without it. But `manage.py` has imported Django by the time a
command is found. So each of these commands replaces its process (`exec`: same process id, same terminal) by
`python -m <module>` and hands on its options as they are; that module parses them and explains them with `--help`.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand


class ProcessCommand(BaseCommand):
    """A command that becomes `python -m <module> <leading…> <its options>`."""

    module = ""
    leading: tuple[str, ...] = ()

    def run_from_argv(self, argv: list[str]) -> NoReturn:
        path = os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        sys.stdout.flush()
        command = [sys.executable, "-m", self.module, *self.leading, *argv[2:]]
        os.execve(sys.executable, command, environment)  # noqa: S606

    def handle(self, *args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError("this command replaces its process; it cannot be called from another one")
