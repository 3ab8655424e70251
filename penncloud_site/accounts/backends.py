"""Checks a user name and password against the accounts in the store."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import BaseBackend
from django.http import HttpRequest

from penncloud_site.accounts.models import User


class StoreBackend(BaseBackend):
    """Django's authentication backend for the store's accounts."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        """The account, if the password is its own and it is active."""
        if username is None or password is None:
            return None
        try:
            user = User.objects.get_by_natural_key(username)
        except User.DoesNotExist:
            # Hash all the same: the time of the answer must not tell whether there is such an account.
            User().set_password(password)
            return None
        return user if user.check_password(password) and user.is_active else None

    def get_user(self, user_id: str) -> User | None:
        """The account a session names, read anew for each request."""
        try:
            user = User.objects.get(pk=user_id)
        except User.DoesNotExist:
            return None
        return user if user.is_active else None
