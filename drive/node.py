"""A file or folder as the store holds it: the attributes of its row, and its line in its folder's list.

The line repeats what a list shows (JSON: `t` type, `n` name, `m` modified; for a file `s` size and `c` content type; in the
trash also `d` deleted at and `f` the folder it was in), so that a list is one read. Both are written in the same batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from drive import schema
from kvstore.client import Batch, Cell


class NodeType(StrEnum):
    FOLDER = "folder"
    FILE = "file"
    DOOMED = "doomed"
    """Deleted for good, being collected: nothing may be put into it and nobody sees it."""


def now() -> datetime:
    """Wall time in whole seconds: for people to read, never to decide by."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Node:
    """One file or folder. The root folder is a node too, which no row describes."""

    uid: str
    type: NodeType
    parent: str
    name: str
    created: datetime
    modified: datetime
    size: int = 0
    content_type: str = ""
    chunks: int = 0
    sha256: str = ""
    trashed: str = ""
    """The generation of the trash that it was put into; empty: it is not in the trash itself."""

    @property
    def is_folder(self) -> bool:
        return self.type is NodeType.FOLDER

    @property
    def is_root(self) -> bool:
        return self.uid == schema.ROOT


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROOT_NODE = Node(schema.ROOT, NodeType.FOLDER, "", "My Drive", _EPOCH, _EPOCH)


@dataclass(frozen=True, slots=True)
class Line:
    """A member of a folder, or of the trash, as a list shows it."""

    uid: str
    type: NodeType
    name: str
    modified: datetime
    size: int = 0
    content_type: str = ""
    deleted: datetime | None = None
    folder: str = ""
    """In the trash: the uid of the folder it was in."""

    @property
    def is_folder(self) -> bool:
        return self.type is NodeType.FOLDER


def encode_line(node: Node, deleted: datetime | None = None) -> bytes:
    fields: dict[str, str | int] = {"t": node.type.value, "n": node.name, "m": node.modified.isoformat()}
    if not node.is_folder:
        fields |= {"s": node.size, "c": node.content_type}
    if deleted is not None:
        fields |= {"d": deleted.isoformat(), "f": node.parent}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def decode_line(uid: str, value: bytes) -> Line:
    fields = json.loads(value)
    return Line(
        uid=uid,
        type=NodeType(fields["t"]),
        name=fields["n"],
        modified=datetime.fromisoformat(fields["m"]),
        size=fields.get("s", 0),
        content_type=fields.get("c", ""),
        deleted=datetime.fromisoformat(fields["d"]) if "d" in fields else None,
        folder=fields.get("f", ""),
    )


def put_attributes(batch: Batch, user: str, node: Node) -> None:
    """Add the puts of all attributes of a new node."""
    row = schema.node_row(user, node.uid)
    attributes = {
        "type": node.type.value,
        "parent": node.parent,
        "name": node.name,
        "created": node.created.isoformat(),
        "modified": node.modified.isoformat(),
    }
    if node.type is NodeType.FILE:
        attributes |= {
            "size": str(node.size),
            "content_type": node.content_type,
            "chunks": str(node.chunks),
            "sha256": node.sha256,
        }
    for column, value in attributes.items():
        batch.put(row, column, value.encode())


def decode_attributes(uid: str, cells: dict[str, Cell]) -> Node:
    """The node of a row read with `start=schema.ATTRIBUTES`; there must be a `type`."""

    def text(column: str, default: str = "") -> str:
        return cells[column].value.decode() if column in cells else default

    return Node(
        uid=uid,
        type=NodeType(text("type")),
        parent=text("parent"),
        name=text("name"),
        created=datetime.fromisoformat(text("created")),
        modified=datetime.fromisoformat(text("modified")),
        size=int(text("size", "0")),
        content_type=text("content_type"),
        chunks=int(text("chunks", "0")),
        sha256=text("sha256"),
        trashed=text("trashed"),
    )
