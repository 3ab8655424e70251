"""Bytes in and bytes out."""

from __future__ import annotations

from django.conf import settings
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    JsonResponse,
    StreamingHttpResponse,
)
from django.utils.http import http_date
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from drive import download, schema
from drive.access import Drive, own_drive
from drive.answers import context_for, done, folder_url, sentence, status_of
from drive.download import Span, Unsatisfiable
from drive.errors import DriveError
from drive.form_upload import DriveUploads
from drive.node import Node
from drive.upload import Upload, check_size, give_up_earlier, receive
from penncloud_site.pages import render_page

FORM_EXTRA = 2**20
"""Bytes that a form may have besides its files."""


@csrf_exempt  # only until the upload handler is set: `_take_form` and `_take_body` are protected
@require_http_methods(["GET", "HEAD", "PUT", "POST"])
@own_drive
def upload(request: HttpRequest, drive: Drive, uid: str) -> HttpResponseBase:
    """Take a file (PUT, its bytes are the body), or those of a form (POST), into the folder `uid`."""
    if request.method == "PUT":
        return _put(request, drive, uid)
    if request.method == "POST":
        return _post(request, drive, uid)
    folder = drive.tree.folder_path(uid)[-1]
    return render_page(request, "drive/upload_page.html", context_for(request, uid, folder=folder))


def _put(request: HttpRequest, drive: Drive, uid: str) -> HttpResponseBase:
    """`?name=` names the file, `?type=` says what it is; answers JSON: `uid` and `name`, or `error`.

    `?uid=`: a fresh uid by which the sender knows this try; `?instead=`: that of an earlier one that it got no answer to.
    """

    @csrf_protect
    def take(request: HttpRequest) -> HttpResponseBase:
        length = request.headers.get("Content-Length", "")
        if not length.isdigit():
            return JsonResponse({"error": "The size of the file must be announced."}, status=411)
        limit = settings.PENNCLOUD["MAX_FILE_SIZE"]
        check_size(int(length), limit)
        earlier = request.GET.get("instead")
        node = give_up_earlier(drive.store, drive.user, earlier) if earlier else None
        if node is None:
            name, kind, own = (request.GET.get(field, "") for field in ("name", "type", "uid"))
            own_uid = own if schema.is_uid(own) else None
            with Upload(drive.store, drive.user, uid, name, kind, limit, own_uid) as arriving:
                receive(arriving, request.read, int(length))
                node = arriving.commit()
        return JsonResponse({"uid": node.uid, "name": node.name}, status=201)

    try:
        return take(request)
    except DriveError as error:
        return JsonResponse({"error": sentence(error)}, status=status_of(error))


def _post(request: HttpRequest, drive: Drive, uid: str) -> HttpResponseBase:
    limit = settings.PENNCLOUD["MAX_FILE_SIZE"]
    length = request.headers.get("Content-Length", "")
    check_size(int(length) - FORM_EXTRA if length.isdigit() else 0, limit)
    drive.tree.folder_path(uid)
    uploads = DriveUploads(request, drive, uid, limit)
    request.upload_handlers = [uploads]

    @csrf_protect
    def take(request: HttpRequest) -> HttpResponseBase:
        nodes = uploads.commit() if request.FILES else []
        count = f"“{nodes[0].name}”" if len(nodes) == 1 else f"{len(nodes)} files"
        return done(request, f"{count} uploaded." if nodes else "No file was chosen.", back=folder_url(uid))

    try:
        return take(request)
    finally:
        uploads.close()


@require_safe
@own_drive
def fetch(request: HttpRequest, drive: Drive, uid: str) -> HttpResponseBase:
    """The file, to be saved."""
    return _send(request, drive, _file(drive, uid), "attachment")


@require_safe
@own_drive
def show(request: HttpRequest, drive: Drive, uid: str) -> HttpResponseBase:
    """The file, to be shown in place if its type is one that cannot do harm; else to be saved."""
    node = _file(drive, uid)
    return _send(request, drive, node, "inline" if node.content_type in download.INLINE else "attachment")


def _file(drive: Drive, uid: str) -> Node:
    node = drive.tree.node(uid)
    if node.is_folder:
        raise DriveError("A folder cannot be downloaded, only the files in it.")
    return node


def _send(request: HttpRequest, drive: Drive, node: Node, kind: str) -> HttpResponseBase:
    tag = download.entity_tag(node)
    if tag in [given.strip().removeprefix("W/") for given in request.headers.get("If-None-Match", "").split(",")]:
        return _described(HttpResponseNotModified(), node, kind)
    try:
        span = _wanted(request, node, tag)
    except Unsatisfiable:
        response: HttpResponseBase = HttpResponse(status=416, headers={"Content-Range": f"bytes */{node.size}"})
        return _described(response, node, kind)
    part = span or Span(0, node.size)
    if request.method == "HEAD":
        response = HttpResponse(status=206 if span else 200)
    else:
        pieces = download.stream(drive.store, drive.user, node, part)
        response = StreamingHttpResponse(pieces, status=206 if span else 200)
    response["Content-Length"] = str(part.length)
    response["Content-Type"] = node.content_type
    if span:
        response["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{node.size}"
    return _described(response, node, kind)


def _wanted(request: HttpRequest, node: Node, tag: str) -> Span | None:
    """The range to be sent; None for the whole file. A range of another state of the file (If-Range) is none."""
    if request.headers.get("If-Range", tag) != tag:
        return None
    return download.parse_range(request.headers.get("Range", ""), node.size)


def _described(response: HttpResponseBase, node: Node, kind: str) -> HttpResponseBase:
    response["ETag"] = download.entity_tag(node)
    response["Last-Modified"] = http_date(node.modified.timestamp())
    response["Accept-Ranges"] = "bytes"
    response["Cache-Control"] = "private, no-cache"
    response["Content-Disposition"] = download.disposition(kind, node.name)
    response["X-Content-Type-Options"] = "nosniff"
    # Whatever a file is, it is nothing that acts in the name of who opens it.
    response["Content-Security-Policy"] = "sandbox; default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"
    return response
