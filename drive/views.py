"""The pages of the drive: a folder, the trash, and the details of one thing."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from drive import download, schema
from drive.access import Drive, own_drive
from drive.answers import context_for, folder_url
from drive.listing import Order, Page, cut
from penncloud_site.pages import render_page

VIEW_COOKIE = "drive_view"
YEAR = 365 * 24 * 3600  # seconds


@require_safe
@own_drive
def folder(request: HttpRequest, drive: Drive, uid: str = schema.ROOT) -> HttpResponse:
    """A folder's members, sorted and paged."""
    path = drive.tree.path(uid)
    if not path[-1].is_folder:
        return redirect("drive:details", uid=uid)
    order = Order.asked(request.GET)
    page = cut(order.sort(drive.tree.lines(uid)), request.GET)
    shape = request.GET.get("view") or request.COOKIES.get(VIEW_COOKIE, "")
    context = context_for(
        request, uid, path=path, folder=path[-1], order=order, grid=shape == "grid", here=folder_url(path[-1])
    )
    response = _list(request, "drive/folder.html", context | {"page": page})
    if "view" in request.GET:
        response.set_cookie(VIEW_COOKIE, "grid" if shape == "grid" else "list", max_age=YEAR, samesite="Lax")
    return response


@require_safe
@own_drive
def trash(request: HttpRequest, drive: Drive) -> HttpResponse:
    """What was deleted and can be restored, the latest first."""
    order = Order.asked(request.GET, ("name", "deleted", "size"), "deleted")
    page: Page = cut(order.sort(drive.trash.lines()), request.GET)
    context = context_for(request, order=order, here="/drive/trash/", in_trash=True)
    return _list(request, "drive/trash.html", context | {"page": page})


def _list(request: HttpRequest, template: str, context: dict[str, object]) -> HttpResponse:
    htmx = getattr(request, "htmx", None)
    if htmx and htmx.target == "more":
        return render(request, "drive/rows.html", context)
    return render_page(request, template, context)


@require_safe
@own_drive
def details(request: HttpRequest, drive: Drive, uid: str) -> HttpResponse:
    """Everything known about a file or folder, in the pane at the right or as a page."""
    path = drive.tree.path(uid)
    node = path[-1]
    shown = node.content_type in download.IMAGES and node.size <= 20 * 10**6
    context = context_for(request, path[-2].uid if len(path) > 1 else uid, node=node, path=path[:-1], preview=shown)
    htmx = getattr(request, "htmx", None)
    if htmx and htmx.target == "drive-details":
        return render(request, "drive/details.html", context)
    return render_page(request, "drive/details_page.html", context)
