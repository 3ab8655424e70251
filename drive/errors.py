"""What can go wrong in the drive, each with a sentence that may be shown to the user as it is.

Failures of the store itself (`kvstore.errors`) are not wrapped: they pass through to the site's own handling.
"""

from __future__ import annotations


class DriveError(Exception):
    """Base; `str(error)` is a sentence for the user."""


class NotFound(DriveError):
    """No such file or folder, or it belongs to somebody else, or it was deleted for good."""

    def __init__(self, message: str = "This file or folder does not exist any more.") -> None:
        super().__init__(message)


class InTrash(NotFound):
    """The file or folder, or a folder that it lies in, is in the trash. `uid` names what was deleted."""

    def __init__(self, uid: str, name: str) -> None:
        super().__init__(f"“{name}” is in the trash.")
        self.uid = uid
        self.name = name


class InvalidName(DriveError):
    """The name cannot be used; the message says why."""


class NameTaken(DriveError):
    """The folder already has a member of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"This folder already has something named “{name}”. Choose another name.")
        self.name = name


class NotAFolder(DriveError):
    """A folder was asked for and the uid is a file's."""

    def __init__(self) -> None:
        super().__init__("This is a file, not a folder.")


class IntoItself(DriveError):
    """A folder cannot be moved into itself or below itself."""

    def __init__(self, name: str) -> None:
        super().__init__(f"“{name}” cannot be moved into itself or into a folder inside it.")


class TooDeep(DriveError):
    """Folders may be nested only so far."""


class Contended(DriveError):
    """The change lost against other changes again and again. Nothing happened."""

    def __init__(self) -> None:
        super().__init__("Someone else is changing this at the same time. Nothing was changed; please try again.")


class TooLarge(DriveError):
    """The file is over the limit. `limit` in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"This file is larger than the limit of {limit:,} bytes.")
        self.limit = limit


class BrokenOff(DriveError):
    """The upload ended before the file was whole. Nothing of it is kept."""


class UploadLost(DriveError):
    """The upload was given up: it stood still for too long, or was sent again. Nothing of this try is kept."""

    def __init__(self) -> None:
        super().__init__("The upload stood still for too long and was given up. Please try again.")
