"""Password hashing that does not stop the event loop.

One argon2 hash takes about 0.2 s of processor and 100 MiB of memory. Under gevent that would stall every other
request of the front end, so the work goes to a pool of real threads (argon2 releases the interpreter's lock). The
pool is small: it bounds the memory that a burst of log-ins can take; the others wait their turn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.auth.hashers import Argon2PasswordHasher

POOL_THREADS = 2


@functools.cache
def _pool() -> Any:
    from gevent.threadpool import ThreadPool

    return ThreadPool(POOL_THREADS)


def _under_gevent() -> bool:
    """Whether this process's threads are greenlets: then, and only then, a hash would stop all of them."""
    try:
        from gevent import monkey
    except ImportError:
        return False
    return bool(monkey.is_module_patched("threading"))


def off_the_loop(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `work(*arguments)`, computed in a real thread when running under gevent."""
    if _under_gevent():
        return _pool().apply(work, arguments)
    return work(*arguments)


class PooledArgon2PasswordHasher(Argon2PasswordHasher):
    """Django's argon2 hasher, with the same encoded form."""

    def encode(self, password: str, salt: str) -> str:
        return off_the_loop(super().encode, password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        return off_the_loop(super().verify, password, encoded)
