"""A thread for calls that block, beside gevent's loop.

gevent's own pool tells the hub of every exception in a thread, besides raising it where the call was made; and what the hub is
told of ends a server (`kvstore.supervision`). A disk that is full is no reason to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gevent.threadpool import ThreadPool

T = TypeVar("T")


class Worker:
    """One thread, for one call at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPool(1)

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """What `function(*arguments)` returns or raises; the loop goes on meanwhile. Not to be called in the hub."""
        results, error = self._pool.apply(_outcome, (function, arguments))
        if error is not None:
            raise error
        result: T = results[0]
        return result

    def close(self) -> None:
        """Let the thread end."""
        self._pool.kill()


def _outcome(function: Callable[..., T], arguments: tuple[object, ...]) -> tuple[list[T], BaseException | None]:
    try:
        return [function(*arguments)], None
    except BaseException as error:  # noqa: BLE001  raised again where the call was made
        return [], error
