"""The addresses of the drive, below /drive/."""

from __future__ import annotations

from django.urls import path, register_converter

from drive import actions, transfers, views


class NodeConverter:
    """The uid of a file or folder; `root` for the top folder."""

    regex = "root|[0-9a-f]{32}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(NodeConverter, "node")

app_name = "drive"
urlpatterns = [
    path("", views.folder, name="root"),
    path("folder/<node:uid>/", views.folder, name="folder"),
    path("folder/<node:uid>/new", actions.new_folder, name="new_folder"),
    path("item/<node:uid>/", views.details, name="details"),
    path("item/<node:uid>/rename", actions.rename, name="rename"),
    path("upload/<node:uid>", transfers.upload, name="upload"),
    path("file/<node:uid>/download", transfers.fetch, name="download"),
    path("file/<node:uid>/show", transfers.show, name="show"),
    path("move", actions.move, name="move"),
    path("move/back", actions.move_back, name="move_back"),
    path("delete", actions.delete, name="delete"),
    path("restore", actions.restore, name="restore"),
    path("trash/", views.trash, name="trash"),
    path("trash/delete", actions.purge, name="purge"),
    path("trash/empty", actions.empty_trash, name="empty_trash"),
]
