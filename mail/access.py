"""Whose mail a request may touch: decided here, and nowhere else in the app.

Every view takes its mailbox from `mailbox_of`, and every key is made of the user name in it. A uid of somebody else's
message is therefore just a uid that this user does not have: the view answers 404, as for one that never was.
"""

from __future__ import annotations

from django.http import HttpRequest

from mail.drafts import Drafts
from mail.mailbox import Mailbox
from mail.message import Address
from mail.text import clean_line
from penncloud_site.accounts import names
from penncloud_site.accounts.models import User
from penncloud_site.storage import store


def mailbox_of(request: HttpRequest) -> Mailbox:
    """The mailbox of who is logged in. Only for views behind `access.member`."""
    assert request.user.is_authenticated, "a view of the mail app lacks @member"
    return Mailbox(store(), request.user.username)


def drafts_of(request: HttpRequest) -> Drafts:
    """The drafts of who is logged in, with the address that their messages come from."""
    return Drafts(mailbox_of(request), address_of(request))


def address_of(request: HttpRequest) -> Address:
    """The mail address of who is logged in."""
    user = request.user
    return Address(user.address, clean_line(user.display_name))


def display_name(username: str) -> str | None:
    """The `addresses.Directory` of this installation."""
    if username != names.normalized(username):
        return None
    try:
        return User.objects.get(username=username).display_name or username
    except User.DoesNotExist:
        return None
