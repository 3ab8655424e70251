"""What the terminal shows of a cluster: which process is starting, which is ready, what died, and where to go.

On a terminal with colours and a spinner for what is still awaited (rich); anywhere else plain lines, one an event. A
terminal that went away is no reason to stop a cluster: what cannot be written is dropped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.text import Text

from .child import Child, describe


class Report:
    """Prints to `console`; rich itself leaves out colours and spinner when that is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._spinner: Status | None = None
        self._begun = time.monotonic()

    def note(self, text: str, style: str = "") -> None:
        """A line of its own."""
        with contextlib.suppress(OSError):
            self._console.print(Text(text, style=style))

    def begin(self, folder: Path, nodes: int, replication: int) -> None:
        self.note(f"PennCloud: {nodes} storage nodes, {replication} replicas of everything, data in {folder}", "bold")

    def awaiting(self, children: Iterable[Child]) -> None:
        """Name what the start waits for now; nothing is shown when that is nobody."""
        names = ", ".join(child.name for child in children)
        with contextlib.suppress(OSError):
            if not names:
                self._end_spinner()
            elif self._console.is_terminal:
                if self._spinner is None:
                    self._spinner = self._console.status("")
                    self._spinner.start()
                self._spinner.update(f"starting {escape(names)}")

    def starting(self, child: Child) -> None:
        host, port = child.spec.address
        self.note(f"  {child.name:<13} starting   {host}:{port}", "dim")

    def ready(self, child: Child) -> None:
        self.note(f"  {child.name:<13} ready      {time.monotonic() - child.since:.1f} s", "green")

    def died(self, child: Child, status: int, pause: float) -> None:
        """It ended without having been told to."""
        again = "starts again at once" if pause < 0.5 else f"starts again in {pause:g} s"
        self.note(f"  {child.name:<13} {describe(status)}; {again}", "yellow")
        if child.restarts.looping:
            words = child.last_words()
            self.note(
                f"  {child.name:<13} keeps dying: {child.restarts.quick_deaths} times in a row soon after its start"
                + (f"; its log ends with: {words}" if words else ""),
                "bold red",
            )

    def stopped(self, child: Child, status: int) -> None:
        """It ended because it was told to."""
        self.note(f"  {child.name:<13} stopped" + (f" ({describe(status)})" if status else ""), "dim")

    def killed(self, child: Child) -> None:
        self.note(f"  {child.name:<13} did not stop in time and is killed", "yellow")

    def running(self, url: str, folder: Path) -> None:
        self._end_spinner()
        self.note("")
        self.note(f"PennCloud is running at {url}", "bold green")
        self.note(
            f"It was ready after {time.monotonic() - self._begun:.1f} s. Logs: {folder / 'log'}. Ctrl-C stops it."
        )

    def operator(self, username: str, password: str) -> None:
        """The first operator, whose password is shown this one time."""
        self.note("")
        self.note(f"Operator account: {username}")
        self.note(f"Password:         {password}   (shown only now; change it under Account)")

    def stopping(self) -> None:
        self._end_spinner()
        self.note("Stopping…", "bold")

    def end(self) -> None:
        self.note("Everything is stopped.")

    def _end_spinner(self) -> None:
        if self._spinner is not None:
            with contextlib.suppress(OSError):
                self._spinner.stop()
            self._spinner = None
