"""Folders: finding, listing, creating, renaming, moving.

Every change is one atomic batch over a fixed number of cells, however much lies below the node, and requires what it relied on:

- *A name is there once.* A member's name is also a cell of its folder's name index; who puts it requires that it is absent.
- *A node is where it was.* Type, parent, name and trash mark of the node are required as they were read.
- *The folder is there*, both the one that gets a member and the one that loses it: its type is required. A folder that is
  deleted for good changes its type before `collect` lists it. So a member is moved out before the listing, or stays and goes.
- *No folder gets below itself.* Whether A may go into B is decided from B's ancestors, which other moves may change meanwhile:
  A into B and B into A, at the same time, would each look harmless and together cut both off from the root. So every batch
  that changes where a *folder* is raises the root's `moves` and requires the value read before the ancestors were.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from drive import names, schema
from drive.errors import Contended, IntoItself, InTrash, NameTaken, NotAFolder, NotFound, TooDeep
from drive.node import (
    ROOT_NODE,
    Line,
    Node,
    NodeType,
    decode_attributes,
    decode_line,
    encode_line,
    now,
    put_attributes,
)
from kvstore.client import Batch, Client
from kvstore.errors import RequirementFailed

MAX_DEPTH = 100
"""How deep a folder may lie that takes a new member."""

WALK_LIMIT = 2_000
"""Ancestors followed before the path is called too deep: a subtree of many levels may be moved below another one."""

ATTEMPTS = 25

T = TypeVar("T")


def settle(store: Client, build: Callable[[], tuple[Batch | None, T]]) -> T:
    """Apply what `build` makes, from fresh reads each time, until its requirements hold. `Contended` if they never do.

    A batch of None says that there is nothing to change.
    """
    for attempt in range(ATTEMPTS):
        batch, result = build()
        if batch is None:
            return result
        try:
            store.apply(batch)
        except RequirementFailed:
            # Two that lost against each other should not meet again: wait a random while, at most 50 ms.
            time.sleep(random.uniform(0, min(0.05, 0.002 * 2**attempt)))
            continue
        return result
    raise Contended


class Tree:
    """The folders of one user."""

    def __init__(self, store: Client, user: str) -> None:
        self.store = store
        self.user = user

    # --- Reading ----------------------------------------------------------------------------------------------------

    def find(self, uid: str) -> Node:
        """The node, wherever it lies, also in the trash. `NotFound` if there is none or it was deleted for good."""
        if uid == schema.ROOT:
            return ROOT_NODE
        if not schema.is_uid(uid):
            raise NotFound
        cells = self.store.get_row(schema.node_row(self.user, uid), start=schema.ATTRIBUTES)
        if "type" not in cells:
            raise NotFound
        node = decode_attributes(uid, cells)
        if node.type is NodeType.DOOMED:
            raise NotFound
        return node

    def path(self, uid: str) -> list[Node]:
        """The nodes from the root to `uid`, both included.

        `NotFound` if it or an ancestor is gone for good, `InTrash` if one of them is in the trash.
        """
        nodes = [self.find(uid)]
        while not nodes[-1].is_root:
            if nodes[-1].trashed:
                if nodes[-1].trashed != self.generation()[1]:
                    raise NotFound  # that trash was emptied
                raise InTrash(nodes[-1].uid, nodes[-1].name)
            if len(nodes) > WALK_LIMIT:
                raise TooDeep("This lies too many folders deep. Move one of the folders above it further up.")
            nodes.append(self.find(nodes[-1].parent))
        nodes.reverse()
        return nodes

    def node(self, uid: str) -> Node:
        """The node, which is neither in the trash nor below something that is."""
        return self.path(uid)[-1]

    def folder_path(self, uid: str) -> list[Node]:
        """`path` of a folder; `NotAFolder` for a file."""
        nodes = self.path(uid)
        if not nodes[-1].is_folder:
            raise NotAFolder
        return nodes

    def lines(self, uid: str) -> list[Line]:
        """All members of a folder, by age of their uids, oldest first."""
        return self.list_row(schema.node_row(self.user, uid))

    def list_row(self, row: str) -> list[Line]:
        """The members listed in a row: a folder's or the trash's."""
        cells = self.store.get_row(row, prefix=schema.CHILD)
        return [decode_line(schema.child_uid(column), cell.value) for column, cell in cells.items()]

    def generation(self) -> tuple[bytes | None, str]:
        """The trash's current generation, as the cell holds it and as text."""
        cell = self.store.get(schema.node_row(self.user, schema.ROOT), schema.TRASH)
        return (cell.value, cell.value.decode()) if cell else (None, schema.FIRST_TRASH)

    # --- Changing ---------------------------------------------------------------------------------------------------

    def create_folder(self, parent: str, raw_name: str) -> Node:
        """A new, empty folder. `InvalidName`, `NameTaken`, `NotFound`, `TooDeep`."""
        name, created = names.clean(raw_name), now()
        uid = schema.new_uid()

        def build() -> tuple[Batch, Node]:
            folder = self.receiving_folder(parent)
            self._require_free(folder, name)
            node = Node(uid, NodeType.FOLDER, folder.uid, name, created, created)
            batch = Batch()
            self.put_member(batch, node)
            put_attributes(batch, self.user, node)
            return batch, node

        return settle(self.store, build)

    def rename(self, uid: str, raw_name: str) -> Node:
        """Change the label. `InvalidName`, `NameTaken`, `NotFound`."""
        name = names.clean(raw_name)

        def build() -> tuple[Batch, Node]:
            node = self._movable(uid)
            new = replace(node, name=name)
            batch = Batch()
            self.require_unchanged(batch, node)
            if names.key(name) != names.key(node.name):
                self._require_free(self.find(node.parent), name)
            self.take_member(batch, node)
            self.put_member(batch, new, same_key=names.key(name) == names.key(node.name))
            batch.put(schema.node_row(self.user, uid), "name", name.encode())
            return batch, new

        return settle(self.store, build)

    def move(self, uid: str, destination: str) -> Node:
        """Put the node into another folder; where its name is taken there it gets a number (see the result's name).

        `IntoItself`, `NotFound`, `NotAFolder`, `TooDeep`.
        """

        def build() -> tuple[Batch | None, Node]:
            moves = self.moves()  # before anything that the decision rests on is read
            node = self._movable(uid)
            folder = self.receiving_folder(destination, not_below=node)
            if folder.uid == node.parent:
                return None, node
            new = replace(node, parent=folder.uid, name=self.free_name(folder, node.name))
            batch = Batch()
            self.require_unchanged(batch, node)
            if node.is_folder:
                self.raise_moves(batch, moves)
            self.take_member(batch, node)
            self.put_member(batch, new)
            row = schema.node_row(self.user, uid)
            batch.put(row, "parent", new.parent.encode()).put(row, "name", new.name.encode())
            return batch, new

        return settle(self.store, build)

    # --- What batches are made of -----------------------------------------------------------------------------------

    def _movable(self, uid: str) -> Node:
        node = self.node(uid)
        if node.is_root:
            raise NotFound("The top folder itself cannot be changed.")
        return node

    def receiving_folder(self, uid: str, not_below: Node | None = None) -> Node:
        """The folder that is to get a member. `IntoItself` if it is `not_below` or lies below it."""
        nodes = self.folder_path(uid)
        if not_below is not None and any(node.uid == not_below.uid for node in nodes):
            raise IntoItself(not_below.name)
        if len(nodes) > MAX_DEPTH:
            raise TooDeep(f"Folders can be nested {MAX_DEPTH} deep, and this would be deeper.")
        return nodes[-1]

    def _require_free(self, folder: Node, name: str) -> None:
        if self.store.get(schema.node_row(self.user, folder.uid), schema.name_column(names.key(name))):
            raise NameTaken(name)

    def free_name(self, folder: Node, name: str) -> str:
        """`name`, or with the first number that makes it free in `folder`."""
        row = schema.node_row(self.user, folder.uid)
        if self.store.get(row, schema.name_column(names.key(name))) is None:
            return name
        taken = self.store.get_row(row, prefix=schema.name_column(names.shared_prefix(name)), keys_only=True)
        return names.numbered(name, [column.removeprefix(schema.BY_NAME) for column in taken])

    def require_unchanged(self, batch: Batch, node: Node) -> None:
        row = schema.node_row(self.user, node.uid)
        batch.require(row, "type", node.type.value.encode())
        batch.require(row, "parent", node.parent.encode())
        batch.require(row, "name", node.name.encode())
        batch.require(row, "trashed", node.trashed.encode() if node.trashed else None)

    def _require_folder(self, batch: Batch, uid: str) -> None:
        if uid != schema.ROOT:  # which is always there
            row = schema.node_row(self.user, uid)
            batch.require(row, "type", NodeType.FOLDER.value.encode()).require(row, "trashed", None)

    def put_member(self, batch: Batch, node: Node, same_key: bool = False) -> None:
        """List the node in its parent, which must be there.

        Its name must be free, unless it is the node's own name in other capitals.
        """
        self._require_folder(batch, node.parent)
        row = schema.node_row(self.user, node.parent)
        name_column = schema.name_column(names.key(node.name))
        if not same_key:
            batch.require(row, name_column, None)
        batch.put(row, name_column, node.uid.encode()).put(row, schema.child_column(node.uid), encode_line(node))

    def take_member(self, batch: Batch, node: Node) -> None:
        """Take the node out of its parent's list; the parent must be there (else `collect` may be at work in it)."""
        self._require_folder(batch, node.parent)
        row = schema.node_row(self.user, node.parent)
        batch.delete(row, schema.name_column(names.key(node.name))).delete(row, schema.child_column(node.uid))

    def moves(self) -> bytes | None:
        """The counter that every change of a folder's place raises, as the cell holds it."""
        cell = self.store.get(schema.node_row(self.user, schema.ROOT), schema.MOVES)
        return cell.value if cell else None

    def raise_moves(self, batch: Batch, seen: bytes | None) -> None:
        row = schema.node_row(self.user, schema.ROOT)
        batch.require(row, schema.MOVES, seen).put(row, schema.MOVES, str(int(seen or b"0") + 1).encode())
