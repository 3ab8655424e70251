"""`manage.py clearsessions`: removes the sessions and cache entries that have expired."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kvstore.errors import StoreError
from penncloud_site import cache, sessions


class Command(BaseCommand):
    """Safe at any time, and on several machines at once: what was renewed meanwhile stays."""

    help = "Remove the sessions and cache entries that have expired. To be run once a day or so."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ended, dropped = sessions.clear_expired(), cache.clear_expired()
        except StoreError as error:
            raise CommandError(f"The store did not answer; run it again later: {error}") from error
        self.stdout.write(f"Removed: {ended} expired sessions, {dropped} expired cache entries.")
