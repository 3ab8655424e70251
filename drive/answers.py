"""How views answer: a page, a dialog, a toast with undo, or an error that says what happened.

One view serves three askers. A browser without scripts gets whole pages and redirects. htmx asking for the dialog gets the form
alone. htmx after a change gets no content but the event `driveChanged`, at which the page fetches its list again where it is.
"""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from drive import schema
from drive.errors import Contended, DriveError, InTrash, NotFound, TooLarge
from drive.node import Node
from penncloud_site.pages import flash, render_page, toast
from penncloud_site.templatetags.human import human_size


def context_for(request: HttpRequest, upload_to: str = schema.ROOT, **more: Any) -> dict[str, Any]:
    """What every page of the drive needs. `upload_to`: the uid of the folder where an upload goes."""
    return {"product": "drive", "upload_to": upload_to, "max_file_size": settings.PENNCLOUD["MAX_FILE_SIZE"]} | more


def in_dialog(request: HttpRequest) -> bool:
    htmx = getattr(request, "htmx", None)
    return htmx is not None and htmx.target == "drive-dialog"


def dialog(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """A form: alone for the dialog, as a page of its own otherwise. `template` is included by both."""
    context = context_for(request, **context) | {"dialog": template, "back": back_to(request)}
    if in_dialog(request):
        return render(request, template, context, status=status)
    return render_page(request, "drive/dialog_page.html", context, status=status)


def back_to(request: HttpRequest) -> str:
    """The page of the drive that the visitor came from, as the form or the browser says; the top folder if neither does."""
    asked = request.POST.get("back") or request.GET.get("back") or request.headers.get("Referer", "")
    path = asked.removeprefix(f"{request.scheme}://{request.get_host()}")
    if path.startswith("/drive/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None):
        return path
    return "/drive/"


def done(request: HttpRequest, message: str, undo: str | None = None, back: str | None = None) -> HttpResponse:
    """A change was made: say so, and show the list as it is now."""
    if not getattr(request, "htmx", None) or request.htmx.boosted:
        flash(request, message, undo)
        return redirect(back or back_to(request))
    response = HttpResponse(status=204)
    response["HX-Trigger"] = json.dumps({"driveChanged": {"to": back}})
    return toast(response, message, undo)


def sentence(error: DriveError) -> str:
    if isinstance(error, TooLarge):
        return f"This file is larger than the limit of {human_size(error.limit)}."
    return str(error)


def status_of(error: DriveError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Contended):
        return 409
    return 413 if isinstance(error, TooLarge) else 422


def refused(request: HttpRequest, error: DriveError) -> HttpResponseBase:
    """The answer to a request that the domain refused."""
    if request.method in ("GET", "HEAD"):
        if isinstance(error, InTrash):
            return in_trash(request, error)
        if isinstance(error, NotFound):
            raise Http404(str(error))
    if getattr(request, "htmx", None) and not request.htmx.boosted:
        return toast(HttpResponse(status=status_of(error)), sentence(error), level="error")
    if request.method == "POST":
        flash(request, sentence(error), level="error")
        return redirect(back_to(request))
    return HttpResponse(sentence(error), status=status_of(error), content_type="text/plain; charset=utf-8")


def in_trash(request: HttpRequest, error: InTrash) -> HttpResponse:
    """Somebody followed a link to what is in the trash, or lies in a folder that is."""
    return render_page(request, "drive/in_trash.html", context_for(request, uid=error.uid, name=error.name), status=404)


def folder_url(node: Node | str) -> str:
    uid = node if isinstance(node, str) else node.uid
    return "/drive/" if uid == schema.ROOT else f"/drive/folder/{uid}/"
