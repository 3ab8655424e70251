"""The accounts app of Django."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Connects the receivers that remember what a log-in came from."""

    name = "penncloud_site.accounts"
    label = "accounts"

    def ready(self) -> None:
        from penncloud_site.accounts import receivers  # noqa: F401  (importing it connects them)
