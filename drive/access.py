"""Whose drive a view works on: the one of who is logged in, and no other. Decided here for every view of the app.

Every key begins with that user's name, so a uid of somebody else's file is simply not found.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from drive.answers import refused
from drive.errors import DriveError
from drive.trash import Trash
from drive.tree import Tree
from kvstore.client import Client
from penncloud_site.access import member
from penncloud_site.storage import store


@dataclass(frozen=True, slots=True)
class Drive:
    """The drive of who is logged in."""

    store: Client
    user: str
    tree: Tree
    trash: Trash


def own_drive(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """`view(request, drive, …)` for members; what the domain refuses becomes an answer that says why."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        client, user = store(), request.user.username
        drive = Drive(client, user, Tree(client, user), Trash(client, user))
        try:
            return view(request, drive, *args, **kwargs)
        except DriveError as error:
            return refused(request, error)

    return member(guarded)
