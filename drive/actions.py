"""What changes the drive: new folder, rename, move, delete, restore, delete for good."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods, require_POST

from drive import workers
from drive.access import Drive, own_drive
from drive.answers import back_to, dialog, done, folder_url
from drive.errors import NameTaken, NotFound
from drive.forms import NameForm, items_of
from drive.node import Node

MOST_UNDONE = 100
"""Items that an undo is offered for: their uids go into its address."""

form_methods = require_http_methods(["GET", "HEAD", "POST"])


def _count(nodes: list[Node]) -> str:
    return f"“{nodes[0].name}”" if len(nodes) == 1 else f"{len(nodes)} items"


def _each(uids: list[str], change: Callable[[str], Node]) -> list[Node]:
    """Change each; what somebody else has taken away meanwhile is left out, unless nothing is left.

    Another refusal half way is raised after what was done is done: the page then shows how far it went.
    """
    changed: list[Node] = []
    gone: NotFound | None = None
    for uid in uids:
        try:
            changed.append(change(uid))
        except NotFound as error:
            gone = error
    if not changed and gone is not None:
        raise gone
    return changed


def _name_form(
    request: HttpRequest, change: Callable[[str], HttpResponse], initial: str, context: dict[str, object]
) -> HttpResponse:
    form = NameForm(request.POST if request.method == "POST" else None, initial={"name": initial})
    if request.method == "POST" and form.is_valid():
        try:
            return change(form.cleaned_data["name"])
        except NameTaken as error:
            form.add_error("name", str(error))
    status = 422 if request.method == "POST" else 200
    return dialog(request, "drive/name_form.html", context | {"form": form}, status)


@form_methods
@own_drive
def new_folder(request: HttpRequest, drive: Drive, uid: str) -> HttpResponse:
    """Ask for a name, and make a folder in `uid`."""
    parent = drive.tree.folder_path(uid)[-1]

    def make(name: str) -> HttpResponse:
        node = drive.tree.create_folder(uid, name)
        return done(request, f"Folder “{node.name}” created.", back=folder_url(uid))

    return _name_form(request, make, "", {"title": "New folder", "action": "Create", "folder": parent.uid})


@form_methods
@own_drive
def rename(request: HttpRequest, drive: Drive, uid: str) -> HttpResponse:
    """Ask for another name."""
    node = drive.tree.node(uid)

    def change(name: str) -> HttpResponse:
        return done(request, f"Renamed to “{drive.tree.rename(uid, name).name}”.")

    return _name_form(request, change, node.name, {"title": "Rename", "action": "Rename", "node": node})


@form_methods
@own_drive
def move(request: HttpRequest, drive: Drive) -> HttpResponse:
    """Choose a folder, going down and up through the tree, and put the items there.

    A POST that does not say where `to` asks for the choice, like a GET: a long list of items does not fit into an address.
    """
    uids = items_of(request)
    if "to" in request.POST:
        return _moved(request, drive, uids)
    source = drive.tree.node(uids[0]).parent
    path = drive.tree.folder_path(request.GET.get("at") or request.POST.get("at") or source)
    folders = sorted(
        (line for line in drive.tree.lines(path[-1].uid) if line.is_folder), key=lambda f: f.name.casefold()
    )
    context = {
        "path": path,
        "at": path[-1],
        "folders": folders,
        "items": uids,
        "moved": set(uids),
        "name": drive.tree.node(uids[0]).name if len(uids) == 1 else "",
        "blocked": path[-1].uid == source or any(node.uid in uids for node in path),
    }
    return dialog(request, "drive/move_form.html", context)


def _moved(request: HttpRequest, drive: Drive, uids: list[str]) -> HttpResponse:
    destination = drive.tree.folder_path(request.POST.get("to", ""))[-1]
    sources: set[str] = set()

    def change(uid: str) -> Node:
        source = drive.tree.node(uid).parent
        node = drive.tree.move(uid, destination.uid)
        sources.add(source)
        return node

    nodes = _each(uids, change)
    undo = None
    if len(nodes) <= MOST_UNDONE and len(sources) == 1 and destination.uid not in sources:
        undo = "/drive/move/back?" + urlencode(
            [("item", node.uid) for node in nodes] + [("to", source) for source in sources]
        )
    return done(request, f"Moved {_count(nodes)} to “{destination.name}”.", undo)


@require_POST
@own_drive
def move_back(request: HttpRequest, drive: Drive) -> HttpResponse:
    """Undo of a move."""
    nodes = _each(items_of(request), lambda uid: drive.tree.move(uid, request.GET.get("to", "")))
    return done(request, f"Moved {_count(nodes)} back.")


@require_POST
@own_drive
def delete(request: HttpRequest, drive: Drive) -> HttpResponse:
    """Into the trash, with an undo."""
    uids = items_of(request)
    nodes = _each(uids, drive.trash.put)
    undo = None
    if len(nodes) <= MOST_UNDONE:
        undo = "/drive/restore?" + urlencode([("item", node.uid) for node in nodes])
    return done(request, f"{_count(nodes)} moved to the trash.", undo, back=_away_from(request, nodes))


def _away_from(request: HttpRequest, nodes: list[Node]) -> str | None:
    """Where to go from a page about what was just deleted; None: stay."""
    back = back_to(request)
    gone = next((node for node in nodes if node.uid in back), None)
    return folder_url(gone.parent) if gone else None


@require_POST
@own_drive
def restore(request: HttpRequest, drive: Drive) -> HttpResponse:
    """Out of the trash."""
    nodes = _each(items_of(request), drive.trash.restore)
    return done(request, f"{_count(nodes)} restored.")


@form_methods
@own_drive
def purge(request: HttpRequest, drive: Drive) -> HttpResponse:
    """Delete for good, after saying what that means: there is no undo."""
    uids = items_of(request)
    if "confirmed" not in request.POST:
        chosen = [line for line in drive.trash.lines() if line.uid in set(uids)]
        if not chosen:
            raise NotFound("This is not in the trash any more.")
        return dialog(request, "drive/purge_form.html", {"chosen": chosen, "size": sum(line.size for line in chosen)})
    nodes = _each(uids, drive.trash.purge)
    workers.nudge()
    return done(request, f"{_count(nodes)} deleted for good.", back="/drive/trash/")


@form_methods
@own_drive
def empty_trash(request: HttpRequest, drive: Drive) -> HttpResponse:
    """Delete everything in the trash for good, after asking."""
    if "confirmed" not in request.POST:
        lines = drive.trash.lines()
        context = {"chosen": lines, "size": sum(line.size for line in lines), "everything": True}
        return dialog(request, "drive/purge_form.html", context)
    message = "The trash is empty." if drive.trash.empty() else "The trash was empty already."
    workers.nudge()
    return done(request, message, back="/drive/trash/")
