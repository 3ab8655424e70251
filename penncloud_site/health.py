"""What the load balancer asks a front end: can you serve?

The answer is 200 as soon as this process can run a view. It does not depend on the store: while a storage node fails
over, all front ends would turn "unhealthy" at once and nobody could be shown the page that waits. Whether the store
answers is only reported, from a probe that runs beside the requests, at most once every `PROBE_INTERVAL`.
"""

from __future__ import annotations

import os
import threading
import time

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from kvstore.errors import StoreError
from penncloud_site.storage import store

PROBE_INTERVAL = 5.0  # seconds
PROBE_ROW, PROBE_COLUMN = "system", "health"  # nothing is stored there; the read needs its tablet's primary


class StoreProbe:
    """Remembers whether the store answered when it was last asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: float | None = None  # on the monotonic clock
        self.state = "unknown"

    def look(self) -> str:
        """`reachable`, `unreachable` or `unknown`, at once; asks the store again if the answer is getting old."""
        with self._lock:
            due = self._asked is None or time.monotonic() - self._asked >= PROBE_INTERVAL
            if due:
                self._asked = time.monotonic()
        if due:
            threading.Thread(target=self._ask, name="store-probe", daemon=True).start()
        return self.state

    def _ask(self) -> None:
        try:
            store().get(PROBE_ROW, PROBE_COLUMN)
        except (StoreError, OSError):
            self.state = "unreachable"
        else:
            self.state = "reachable"


probe = StoreProbe()


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 with this process's id and what is known of the store."""
    return JsonResponse({"status": "ok", "pid": os.getpid(), "store": probe.look()})
