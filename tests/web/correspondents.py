"""A person who writes and reads mail, as the web tests see one: a logged-in browser, and the mailbox behind it."""

from __future__ import annotations

import re
import secrets
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.test import Client

from mail import addresses, delivery, schema
from mail.access import display_name
from mail.drafts import Content, Draft, Drafts, Save
from mail.mailbox import Line, Mailbox
from mail.message import Address
from mail.schema import Folder
from penncloud_site.accounts.models import User
from penncloud_site.storage import store
from tests.web.visitors import fresh_name

EMPTY = {"to": "", "cc": "", "bcc": "", "subject": "", "body": ""}


class Correspondent(Client):
    """One browser, logged in as a new account of a fresh name."""

    def __init__(self, display: str = "Ada Lovelace", prefix: str = "m") -> None:
        super().__init__()
        self.name = fresh_name(prefix)
        self.display = display
        account = User(username=self.name, display_name=display)
        account.set_unusable_password()  # nobody logs in with it, and hashing takes long
        account.save(force_insert=True)
        self.force_login(account)

    # --- the domain

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox(store(), self.name)

    @property
    def drafts(self) -> Drafts:
        return Drafts(self.mailbox, Address(self.address, self.display))

    @property
    def address(self) -> str:
        return f"{self.name}@{settings.PENNCLOUD['DOMAIN']}"

    def lines(self, folder: Folder = Folder.INBOX) -> list[Line]:
        return self.mailbox.page(folder, size=1000).lines

    def subjects(self, folder: Folder = Folder.INBOX) -> list[str]:
        return [line.summary.subject for line in self.lines(folder)]

    def write(self, to: str, subject: str = "Lunch", body: str = "At noon?", reply_to: str = "") -> Draft:
        """A saved draft, without the browser."""
        content = Content((to, "", ""), subject, body)
        return self.drafts.save(schema.new_uid(), Save("", new_editor(), 1), content, reply_to)

    def mail(self, to: str, subject: str = "Lunch", body: str = "At noon?", reply_to: str = "") -> str:
        """Send a message without the browser; its uid."""
        draft = self.write(to, subject, body, reply_to)
        domain = settings.PENNCLOUD["DOMAIN"]
        recipients = addresses.resolve(draft.content.typed, display_name, domain)
        return delivery.send(self.drafts, draft.uid, draft.revision, recipients, domain)

    # --- the browser

    def compose_form(self, query: str = "") -> dict[str, str]:
        """The fields of the compose form as the page gives them."""
        response = self.get(f"/mail/compose{query}")
        assert response.status_code == 200, response.status_code
        return fields_of(response)

    def compose(self, action: str = "send", form: dict[str, str] | None = None, **typed: str) -> HttpResponse:
        """Fill the form (a new one, unless given) in and press the button `action`."""
        return self.post("/mail/compose", (form or self.compose_form()) | typed | {"action": action})

    def autosave(self, form: dict[str, str], **typed: str) -> HttpResponse:
        """What the script does while somebody types. Counts the form's saves, as the script does."""
        response = self.post("/mail/compose", form | typed | {"action": "save"}, headers=script("compose-status"))
        form["n"] = str(int(form["n"]) + 1)
        return response

    def act(self, action: str, *uids: str, folder: Folder = Folder.INBOX, **more: Any) -> HttpResponse:
        """Tick these messages and press a button of the toolbar."""
        return self.post("/mail/act", {"folder": folder, "action": action, "uid": uids} | more)


def script(target: str) -> dict[str, str]:
    """The headers by which htmx says that it asks, and for what."""
    return {"HX-Request": "true", "HX-Target": target}


def fields_of(response: HttpResponse) -> dict[str, str]:
    """The fields of the compose form in a page, as a browser would send them back."""
    form = response.context["form"]
    to, cc, bcc = form.content.typed
    typed = {"to": to, "cc": cc, "bcc": bcc, "subject": form.content.subject, "body": form.content.body}
    page = response.content.decode()
    hidden = {}
    for name in ("uid", "base", "editor", "n", "reply_to"):
        found = re.search(rf'name="{name}" value="([^"]*)"', page)
        assert found, f"the form has no field {name}"
        hidden[name] = found[1]
    return typed | hidden


def new_editor() -> str:
    return secrets.token_hex(6)
