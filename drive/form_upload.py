"""Files sent by a plain form: Django's multipart parser feeds each straight into an upload, nothing is kept in between.

The parser runs inside the CSRF check, which needs the form's token. So chunks may be written for a request that is then
refused; they are never visible, since only the view commits, and `DriveUploads.close` removes what was not committed. (A form
on another site does not come so far: its `Origin` is checked first, and the session's cookie is not sent with it.)
"""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest

from drive.access import Drive
from drive.errors import BrokenOff
from drive.node import Node
from drive.upload import Upload


class Received(UploadedFile):
    """What the parser wants to see among the request's files. The content is in the store, not in it."""

    def __init__(self, name: str, content_type: str, size: int) -> None:
        super().__init__(file=None, name=name, content_type=content_type, size=size)

    def close(self) -> None:
        """Nothing is open."""


class DriveUploads(FileUploadHandler):
    """Every file of one form, on its way into one folder."""

    chunk_size = 256 * 1024

    def __init__(self, request: HttpRequest, drive: Drive, folder: str, limit: int) -> None:
        super().__init__(request)
        self._drive, self._folder, self._limit = drive, folder, limit
        self.uploads: list[Upload] = []
        self.interrupted = False

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        drive = self._drive
        name, content_type = self.file_name or "", self.content_type or ""
        self.uploads.append(Upload(drive.store, drive.user, self._folder, name, content_type, self._limit))

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.uploads[-1].write(raw_data)

    def file_complete(self, file_size: int) -> Received:
        self.uploads[-1].finish(expected=file_size)
        return Received(self.file_name or "", self.content_type or "", file_size)

    def upload_interrupted(self) -> None:
        self.interrupted = True

    def commit(self) -> list[Node]:
        """Make all of them visible. `BrokenOff` if the form did not arrive whole."""
        if self.interrupted:
            raise BrokenOff("The upload broke off.")
        return [upload.commit() for upload in self.uploads]

    def close(self) -> None:
        """Remove what was not committed."""
        for upload in self.uploads:
            upload.close()
