"""What happens at a log-in besides Django's own: the session remembers where it was opened."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

AGENT_LENGTH = 200  # characters kept of the browser's description of itself: sessions stay tiny


@receiver(user_logged_in)
def remember_origin(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    """Note time, address and browser, which the account page lists so that a stranger's session is noticed."""
    request.session["since"] = int(time.time())
    request.session["agent"] = request.META.get("HTTP_USER_AGENT", "")[:AGENT_LENGTH]
    request.session["address"] = request.META.get("REMOTE_ADDR", "")
