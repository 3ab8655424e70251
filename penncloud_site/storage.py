"""This process's client of the store: the one way by which the site and its apps reach it.

`store()` is cheap: the client is made at the first call and shared by every thread or greenlet of the process.
"""

from __future__ import annotations

import threading
import time

from django.conf import settings

from kvstore.client import Client, connect
from kvstore.errors import StoreError, Unavailable

_lock = threading.Lock()
_client: Client | None = None
_failed: tuple[float, StoreError] | None = None  # when (monotonic) and why the last attempt to connect failed


def store() -> Client:
    """The client of this process, connected as `settings.PENNCLOUD` says.

    Raises what `kvstore.client.connect` raises, such as `Unavailable` after the store's timeout; the next call tries
    again.
    """
    return _client if _client is not None else _connected()


def _connected() -> Client:
    """The client, connected by whoever comes first.

    Those who wait meanwhile share the outcome, also a failure. If each of them tried in turn, the tenth visitor would
    wait for ten timeouts.
    """
    global _client, _failed
    began = time.monotonic()
    with _lock:
        if _client is not None:
            return _client
        if _failed is not None and _failed[0] >= began:
            raise Unavailable(f"no connection to the store: {_failed[1]}") from _failed[1]
        try:
            _client = connect(
                coordinators=settings.PENNCLOUD["COORDINATORS"],
                key_file=settings.PENNCLOUD["KEY_FILE"],
                timeout=settings.PENNCLOUD["STORE_TIMEOUT"],
            )
        except StoreError as error:
            _failed = (time.monotonic(), error)
            raise
        return _client


def disconnect() -> None:
    """Close the client, if there is one; the next `store()` connects anew (with the settings of then)."""
    global _client
    with _lock:
        client, _client = _client, None
    if client is not None:
        client.close()
