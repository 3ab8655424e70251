"""This process's client of the store: the one way by which the site and its apps reach it.

`store()` is cheap: the client is made at the first call and shared by every thread or greenlet of the process.
"""

from __future__ import annotations

import threading

from django.conf import settings

from kvstore.client import Client, connect

_lock = threading.Lock()
_client: Client | None = None


def store() -> Client:
    """The client of this process, connected as `settings.PENNCLOUD` says.

    Raises what `kvstore.client.connect` raises, such as for a key file that cannot be read; the next call tries again.
    """
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                _client = connect(
                    coordinators=settings.PENNCLOUD["COORDINATORS"],
                    key_file=settings.PENNCLOUD["KEY_FILE"],
                    timeout=settings.PENNCLOUD["STORE_TIMEOUT"],
                )
    return _client


def disconnect() -> None:
    """Close the client, if there is one; the next `store()` connects anew (with the settings of then)."""
    global _client
    with _lock:
        client, _client = _client, None
    if client is not None:
        client.close()
