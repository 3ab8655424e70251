"""The data browser's pages: rows, the columns of a row, one cell, its bytes as a download.

For operators alone. What they open may be other people's mail and files, so every page that shows any of it is written
to the server log with the operator's name. Credentials are not shown at all (`browsing`).
"""

from __future__ import annotations

import logging
import re

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from adminconsole import browsing
from adminconsole.inspection import inspect
from adminconsole.wording import readable_key
from kvstore.errors import BadRequest
from penncloud_site.access import operator
from penncloud_site.pages import render_page
from penncloud_site.storage import store

log = logging.getLogger(__name__)


@operator
@require_safe
def rows(request: HttpRequest) -> HttpResponse:
    """Rows that begin with `prefix`, from `start` on or, paging back, those before `before`."""
    prefix, start, before = (request.GET.get(name, "") for name in ("prefix", "start", "before"))
    context = {"product": "console", "section": "data", "prefix": prefix, "start": start}
    _note(request, "listed rows", f"prefix={prefix} start={start} before={before}")
    try:
        page = browsing.rows_before(store(), before, prefix) if before else browsing.rows_from(store(), start, prefix)
    except BadRequest as error:
        return render_page(request, "console/rows.html", context | {"problem": str(error)}, status=400)
    return render_page(request, "console/rows.html", context | {"page": page})


@operator
@require_safe
def row(request: HttpRequest) -> HttpResponse:
    """The columns of `row`, from `start` on or those before `before`, with sizes and versions."""
    name, start, before = (request.GET.get(key, "") for key in ("row", "start", "before"))
    context = {"product": "console", "section": "data", "row": name}
    _note(request, "listed the columns of", name)
    try:
        page = browsing.columns_before(store(), name, before) if before else browsing.columns_from(store(), name, start)
    except BadRequest as error:
        return render_page(request, "console/row.html", context | {"problem": str(error)}, status=400)
    return render_page(request, "console/row.html", context | {"page": page})


@operator
@require_safe
def cell(request: HttpRequest) -> HttpResponse:
    """The cell at `row` and `column`: its version, what its bytes are, a hex dump."""
    name, column = request.GET.get("row", ""), request.GET.get("column", "")
    context = {"product": "console", "section": "data", "row": name, "column": column}
    _note(request, "opened", name, column)
    try:
        found = browsing.open_cell(store(), name, column)
    except browsing.Concealed as error:
        return render_page(request, "console/cell.html", context | {"problem": str(error)}, status=403)
    except BadRequest as error:
        return render_page(request, "console/cell.html", context | {"problem": str(error)}, status=400)
    if found is None:
        problem = "There is no such cell. It may have been deleted since the page before was made."
        return render_page(request, "console/cell.html", context | {"problem": problem}, status=404)
    context |= {"cell": found, "inspection": inspect(found.value)}
    return render_page(request, "console/cell.html", context)


@operator
@require_safe
def raw(request: HttpRequest) -> HttpResponse:
    """The cell's bytes as a file. Never a type that a browser would show: the bytes are a stranger's."""
    name, column = request.GET.get("row", ""), request.GET.get("column", "")
    _note(request, "downloaded", name, column)
    try:
        found = browsing.open_cell(store(), name, column)
    except (browsing.Concealed, BadRequest) as error:
        raise Http404(str(error)) from error
    if found is None:
        raise Http404("there is no such cell")
    response = HttpResponse(found.value, content_type="application/octet-stream")
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{name}_{column}").strip("._")[:100]
    response["Content-Disposition"] = f'attachment; filename="{stem or "cell"}.bin"'
    return response


def _note(request: HttpRequest, deed: str, *keys: str) -> None:
    """A line in the server log: who looked at what. Keys are a stranger's text, so they are spelled safely."""
    log.info("operator %s %s %s", request.user.get_username(), deed, " | ".join(map(readable_key, keys)))
