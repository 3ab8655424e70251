"""People who use PennCloud over the network as their browsers do: real requests, cookies, forms, and no knowledge of what
is behind the address.

A person keeps what they were shown: every status of 500 and more ends up in `errors`. When a form is answered with "it cannot
be told whether that was carried out", they do what the page says and send the same form again.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from typing import NamedTuple

PASSWORD = "quiet harbor 42"
TIMEOUT = 60.0
UNSURE = frozenset({502, 503, 504})


class Shown(NamedTuple):
    """What came back, redirects followed."""

    status: int
    url: str
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def field(self, name: str) -> str:
        """The value of a form's field."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found, f"{self.url} ({self.status}) has no field {name}: {self.text[:2000]}"
        return found[1]


class Person:
    """One person and their browser, signed up under a fresh name that begins with `prefix`."""

    def __init__(self, url: str, prefix: str = "p") -> None:
        self.url = url
        self.name = f"{prefix}-{secrets.token_hex(5)}"
        self.errors: list[str] = []
        self.again = 0
        """How often a form was sent again because its fate was not known."""
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        form = {"username": self.name, "display_name": self.name, "password1": PASSWORD, "password2": PASSWORD}
        page = self.post("/accounts/signup/", form, self.get("/accounts/signup/").field("csrfmiddlewaretoken"))
        assert page.status == 200, page
        assert "/mail/" in page.url, page.text[:2000]
        self._token = self.get("/mail/compose").field("csrfmiddlewaretoken")

    # --- requests

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Shown:
        """One request; a connection that breaks is an error that a person sees as well."""
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return Shown(answer.status, answer.url, answer.read())
        except urllib.error.HTTPError as error:
            shown = Shown(error.code, path, error.read())
        except (OSError, http.client.HTTPException) as error:
            shown = Shown(599, path, repr(error).encode())
        if shown.status >= 500:
            self.errors.append(f"{method} {path}: {shown.status} {shown.text[:300]}")
        return shown

    def get(self, path: str) -> Shown:
        return self.request("GET", path)

    def post(self, path: str, form: dict[str, str], token: str) -> Shown:
        """Send a form as browsers do."""
        body = urllib.parse.urlencode(form | {"csrfmiddlewaretoken": token}).encode()
        return self.request("POST", path, body, **{"Content-Type": "application/x-www-form-urlencoded"})

    # --- mail

    def send(self, to: str, subject: str, body: str = "At noon?") -> None:
        """Write a message and send it, once more when it is not clear whether it went out."""
        page = self.get("/mail/compose")
        form = {name: page.field(name) for name in ("uid", "base", "editor", "n", "reply_to")}
        form |= {"to": to, "cc": "", "bcc": "", "subject": subject, "body": body, "action": "send"}
        shown = self.post("/mail/compose", form, page.field("csrfmiddlewaretoken"))
        for _ in range(5):
            if shown.status not in UNSURE:
                break
            self.again += 1
            shown = self.post("/mail/compose", form, page.field("csrfmiddlewaretoken"))
        assert shown.status == 200, shown

    def sees_in_inbox(self, text: str) -> bool:
        """Whether the first page of the inbox shows the text."""
        return text in self.get("/mail/inbox/").text

    # --- drive

    def upload(self, name: str, content: bytes) -> str:
        """Put a file into the root folder as the script does; its uid. What broke off is sent again, "instead"."""
        own, earlier = "", ""
        for _ in range(6):
            own, earlier = secrets.token_hex(16), own
            query = {"name": name, "type": "application/octet-stream", "uid": own}
            query |= {"instead": earlier} if earlier else {}
            headers = {"X-CSRFToken": self._token, "Content-Type": "application/octet-stream"}
            shown = self.request("PUT", f"/drive/upload/root?{urllib.parse.urlencode(query)}", content, **headers)
            if shown.status == 201:
                return json.loads(shown.body)["uid"]
            assert shown.status in UNSURE, shown
            self.again += 1
        raise AssertionError(f"{name} could not be uploaded")

    def download(self, uid: str) -> bytes:
        shown = self.get(f"/drive/file/{uid}/download")
        assert shown.status == 200, shown
        return shown.body

    def sees_in_drive(self, text: str) -> bool:
        return text in self.get("/drive/").text
