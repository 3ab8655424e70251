"""What kind of file something is, in an icon and in words."""

from __future__ import annotations

from django import template

from drive.names import split_extension
from drive.node import Line, Node

register = template.Library()

# By the content type's beginning, then by the extension: (icon, colour, words).
_TYPES = (
    ("image/", "photo", "red", "Image"),
    ("video/", "movie", "red", "Video"),
    ("audio/", "music", "purple", "Audio"),
    ("application/pdf", "file-type-pdf", "red", "PDF"),
    ("text/csv", "file-spreadsheet", "green", "Table"),
    ("text/html", "code", "blue", "Web page"),
    ("text/", "file-text", "blue", "Text"),
    ("application/json", "code", "blue", "JSON"),
    ("application/zip", "file-zip", "orange", "Archive"),
)
_EXTENSIONS = {
    **dict.fromkeys(
        (".zip", ".gz", ".xz", ".bz2", ".zst", ".tar", ".tgz", ".7z", ".rar"), ("file-zip", "orange", "Archive")
    ),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), ("file-spreadsheet", "green", "Spreadsheet")),
    **dict.fromkeys((".ppt", ".pptx", ".odp"), ("presentation", "orange", "Presentation")),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf"), ("file-text", "blue", "Document")),
    **dict.fromkeys(
        (".py", ".js", ".ts", ".c", ".h", ".rs", ".go", ".java", ".sh", ".css"), ("code", "blue", "Source code")
    ),
}


def _kind(item: Line | Node) -> tuple[str, str, str]:
    if item.is_folder:
        return "folder", "folder", "Folder"
    by_extension = _EXTENSIONS.get(split_extension(item.name)[1].lower())
    if by_extension:
        return by_extension
    for beginning, icon, color, words in _TYPES:
        if item.content_type.startswith(beginning):
            return icon, color, words
    return "file", "plain", "File"


@register.filter
def kind_icon(item: Line | Node) -> str:
    """The name of its icon."""
    return _kind(item)[0]


@register.filter
def kind_classes(item: Line | Node) -> str:
    """The classes of its icon in drive.css."""
    return f"drive-kind drive-kind-{_kind(item)[1]}"


@register.filter
def kind_words(item: Line | Node) -> str:
    """`Folder`, `Image`, `PDF`, …"""
    return _kind(item)[2]


@register.filter
def first_words(name: str) -> str:
    """All of a name but its last 8 characters, which a narrow list keeps visible: the extension is there."""
    return name[:-8] if len(name) > 24 else name


@register.filter
def last_words(name: str) -> str:
    """The rest of `first_words`."""
    return name[-8:] if len(name) > 24 else ""
