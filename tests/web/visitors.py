"""A person at a browser, as the web tests see one: Django's test client with the clicks of accounts.

Every name is fresh, so tests never meet each other's accounts in the store.
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.test import Client

PASSWORD = "quiet harbor 42"
OTHER_PASSWORD = "loud mountain 77"


def fresh_name(prefix: str = "u") -> str:
    """A user name that nobody has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Visitor(Client):
    """One browser. It posts a form as browsers do, in one line (Django's client would send it in parts)."""

    def post(self, path: str, data: Any = None, *args: Any, **more: Any) -> Any:
        if isinstance(data, dict) and not args and "content_type" not in more:
            return super().post(path, urlencode(data), content_type="application/x-www-form-urlencoded", **more)
        return super().post(path, data, *args, **more)

    def sign_up(self, username: str, password: str = PASSWORD, **changes: str) -> HttpResponse:
        form = {"username": username, "display_name": "Ada Lovelace", "password1": password, "password2": password}
        return self.post("/accounts/signup/", form | changes)

    def log_in(self, username: str, password: str = PASSWORD, **more: Any) -> HttpResponse:
        return self.post("/accounts/login/", {"username": username, "password": password}, **more)

    def change_password(self, old: str, new: str) -> HttpResponse:
        form = {"old_password": old, "new_password1": new, "new_password2": new}
        return self.post("/accounts/password/", form)

    @property
    def is_logged_in(self) -> bool:
        """Whether the account page opens for this browser."""
        return self.get("/accounts/").status_code == 200


def member(username: str | None = None) -> tuple[Visitor, str]:
    """A browser that has just signed up, and its user name."""
    name = username or fresh_name()
    visitor = Visitor()
    assert visitor.sign_up(name).status_code == 302
    return visitor, name
