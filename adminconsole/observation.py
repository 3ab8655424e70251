"""What this front end knows of the cluster: the status, asked for on demand, and the last one when there is no answer.

A page must not wait as long as the store's client may try (10 s): a view waits `PATIENCE_S` and then shows what was last
known, and says how old that is. One question at a time is under way however many pages ask, and an answer younger than
`FRESH_S` is shared by all of them.

The last status is kept in memory alone. It is no state that a request relies on: a front end that has just started says
that it has not seen the cluster yet.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adminconsole.status import MalformedStatus, Status, parse
from kvstore.admin import Admin
from kvstore.errors import StoreError
from penncloud_site.storage import store

PATIENCE_S = 1.5
"""How long a page waits for the coordinator: under the two seconds between two refreshes."""
ANSWER_S = 3.0
"""How long one question may be under way before the next page asks anew."""
FRESH_S = 0.5
"""An answer this young is shared by all pages that ask."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Observation:
    """`status` is None if none was ever seen. `age_s` counts from when it was seen, or from the first question.

    The ages in the status are as of now. `problem` is empty when the status is fresh; else it says in a sentence why it is not.
    """

    status: Status | None
    age_s: float
    problem: str = ""


class Observer:
    """Asks for the status through `fetch`, which may block and may raise `StoreError` or `OSError`.

    Safe for many threads or greenlets. `clock` gives seconds of this process that never go back.
    """

    def __init__(self, fetch: Callable[[], Mapping[str, Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: threading.Event | None = None
        self._status: Status | None = None
        self._seen_at = clock()
        self._problem = ""
        self._expired = False

    def observe(self, patience_s: float = PATIENCE_S, fresh_s: float = FRESH_S) -> Observation:
        """The status, at most `fresh_s` old if it can be had within `patience_s`; else the last known one."""
        with self._lock:
            young = self._clock() - self._seen_at <= fresh_s and not self._expired
            if self._status is not None and not self._problem and young:
                return self._as_of_now("")
            answered = self._under_way
            if answered is None:
                answered = self._under_way = threading.Event()
                threading.Thread(target=self._ask, args=(answered,), name="console-status", daemon=True).start()
        in_time = answered.wait(patience_s)
        with self._lock:
            if in_time and not self._problem:
                return self._as_of_now("")
            return self._as_of_now(self._problem or f"No answer within {patience_s:.1f} s.")

    def expire(self) -> None:
        """Have the next page ask anew: something was just changed."""
        with self._lock:
            self._expired = True

    def _as_of_now(self, problem: str) -> Observation:
        age_s = self._clock() - self._seen_at
        return Observation(self._status.aged(age_s) if self._status is not None else None, age_s, problem)

    def _ask(self, answered: threading.Event) -> None:
        """Fetch once; whatever comes of it, those who wait are told and the next question may be asked."""
        status, problem = None, "This front end could not ask: see its log."
        try:
            status, problem = parse(self._fetch()), ""
        except (StoreError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        except MalformedStatus as error:
            log.exception("the coordinator's status cannot be read")
            problem = f"Its answer cannot be read: {error}"
        except Exception:
            log.exception("asking for the cluster's status failed")
            raise
        finally:
            with self._lock:
                if status is not None:
                    self._status, self._seen_at, self._expired = status, self._clock(), False
                self._problem = problem
                self._under_way = None
            answered.set()


def _fetch_status() -> Mapping[str, Any]:
    return Admin(store(), timeout=ANSWER_S).status()


observer = Observer(_fetch_status)
"""The one of this process."""
