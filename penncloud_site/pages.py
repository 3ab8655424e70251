"""Rendering pages in the shell, and the toasts that say what was done.

A page's template extends `shell.html` and fills its blocks. Asked for by the browser it comes whole; asked for by
htmx with the target `content` it comes as the title, the content and the product's rail (swapped out of band).
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

WHOLE_PAGE = "layouts/whole.html"
SWAPPED_PART = "layouts/swapped.html"
LONGEST_KEPT_UNDO = 1_300  # characters
LEVELS = {"success": messages.SUCCESS, "info": messages.INFO, "warning": messages.WARNING, "error": messages.ERROR}


def layout_for(request: HttpRequest) -> str:
    """The layout that shell.html extends for this request."""
    htmx = getattr(request, "htmx", None)
    swaps_content = htmx and htmx.target == "content" and not htmx.history_restore_request
    return SWAPPED_PART if swaps_content else WHOLE_PAGE


def render_page(
    request: HttpRequest, template: str, context: dict[str, Any] | None = None, *, status: int = 200
) -> HttpResponse:
    """The page, whole or as the part that htmx asked for.

    The two differ under one address, so caches are told what they depend on.
    """
    response = render(request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request", "HX-Target", "HX-History-Restore-Request"])
    return response


def toast(response: HttpResponse, message: str, undo_url: str | None = None, level: str = "success") -> HttpResponse:
    """Have the page that receives this htmx response say `message`, and offer to undo it.

    `undo_url` is posted to; its answer is swapped into the content (or, if it is empty, the content is fetched
    again). `level`: success, info, warning or error. For an answer that redirects, use `flash`: htmx follows the
    redirect without looking at its headers.
    """
    assert level in LEVELS, level
    triggers = json.loads(response.headers.get("HX-Trigger", "{}"))
    triggers["toast"] = {"message": message, "undo": undo_url, "level": level}
    response.headers["HX-Trigger"] = json.dumps(triggers)
    return response


def flash(request: HttpRequest, message: str, undo_url: str | None = None, level: str = "success") -> None:
    """Have the next page that this visitor sees, whole or swapped in, say `message` and offer to undo it.

    An undo whose address is longer than `LONGEST_KEPT_UNDO` is not offered: message and undo travel in one cookie, and
    what does not fit into it is lost as a whole, without a word.
    """
    offered = undo_url is not None and len(undo_url) <= LONGEST_KEPT_UNDO
    messages.add_message(request, LEVELS[level], message, extra_tags=f"undo={undo_url}" if offered else "")
