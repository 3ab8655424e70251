"""The addresses of mail, below /mail/."""

from __future__ import annotations

from django.urls import path, register_converter
from django.views.generic import RedirectView

from mail import compose_views, views
from mail.schema import UID_DIGITS, Folder


class FolderConverter:
    """The name of a folder."""

    regex = "|".join(Folder)

    def to_python(self, value: str) -> Folder:
        return Folder(value)

    def to_url(self, value: Folder) -> str:
        return str(value)


class UidConverter:
    """The uid of a message."""

    regex = f"[0-9a-f]{{{UID_DIGITS}}}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(FolderConverter, "mailfolder")
register_converter(UidConverter, "mailuid")

app_name = "mail"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="mail:inbox", permanent=False)),
    path("inbox/", views.folder_page, {"folder": Folder.INBOX}, name="inbox"),
    path("trash/empty", views.empty_trash, name="empty_trash"),
    path("<mailfolder:folder>/", views.folder_page, name="folder"),
    path("<mailfolder:folder>/<mailuid:uid>", views.message_page, name="message"),
    path("card/<mailuid:uid>", views.card, name="card"),
    path("act", views.act, name="act"),
    path("undo", views.undo, name="undo"),
    path("compose", compose_views.compose, name="compose"),
]
