"""Deleting: into the trash, back out of it, for good, and all at once.

In the trash a node keeps its row, with `trashed` naming the trash's generation, and loses its place in its folder's list. What
lies below it is untouched and reached by nobody, because a path is followed upward (`Tree.path`). Deleting for good takes the
node out of the trash and records an intent in the same batch; `collect` does the rest. Emptying the trash begins a new
generation: one cell changes, whatever the old generation held, and an intent names the old one.
"""

from __future__ import annotations

from dataclasses import replace

from drive import outbox, schema
from drive.errors import InTrash, NotFound
from drive.node import Line, Node, NodeType, encode_line, now
from drive.outbox import Kind
from drive.tree import Tree, settle
from kvstore.client import Batch, Client


class Trash:
    """What one user has deleted and may restore."""

    def __init__(self, store: Client, user: str) -> None:
        self.store = store
        self.user = user
        self.tree = Tree(store, user)

    def lines(self) -> list[Line]:
        """What is in the trash, oldest uid first."""
        return self.tree.list_row(schema.trash_row(self.user, self.tree.generation()[1]))

    def put(self, uid: str) -> Node:
        """Delete a file, or a folder with all below it, so that it can be restored. `NotFound` if it is not there."""

        def build() -> tuple[Batch, Node]:
            moves, (pointer, generation) = self.tree.moves(), self.tree.generation()
            node = self.tree.node(uid)
            if node.is_root:
                raise NotFound("The top folder itself cannot be deleted.")
            batch = Batch()
            self.tree.require_unchanged(batch, node)
            self._require_generation(batch, pointer)
            if node.is_folder:
                self.tree.raise_moves(batch, moves)
            self.tree.take_member(batch, node)
            batch.put(schema.trash_row(self.user, generation), schema.child_column(uid), encode_line(node, now()))
            batch.put(schema.node_row(self.user, uid), "trashed", generation.encode())
            return batch, node

        return settle(self.store, build)

    def restore(self, uid: str) -> Node:
        """Back into its folder, or into the root when that is gone; numbered if its name was taken meanwhile."""

        def build() -> tuple[Batch, Node]:
            moves, (pointer, generation) = self.tree.moves(), self.tree.generation()
            node = self._deleted(uid, generation)
            folder = self._home(node)
            new = replace(node, parent=folder.uid, name=self.tree.free_name(folder, node.name), trashed="")
            batch = Batch()
            self._take(batch, node, pointer, generation)
            if node.is_folder:
                self.tree.raise_moves(batch, moves)
            self.tree.put_member(batch, new)
            row = schema.node_row(self.user, uid)
            batch.put(row, "parent", new.parent.encode()).put(row, "name", new.name.encode()).delete(row, "trashed")
            return batch, new

        return settle(self.store, build)

    def purge(self, uid: str) -> Node:
        """Delete for good something that is in the trash. Nobody sees it from now on; its chunks go soon after."""
        intent = schema.new_uid()

        def build() -> tuple[Batch, Node]:
            pointer, generation = self.tree.generation()
            node = self._deleted(uid, generation)
            outbox.announce(self.store, self.user, intent)
            batch = Batch()
            self._take(batch, node, pointer, generation)
            batch.put(schema.node_row(self.user, uid), "type", NodeType.DOOMED.value.encode())
            outbox.record(batch, self.user, intent, outbox.encode(Kind.PURGE, target=uid))
            return batch, node

        return settle(self.store, build)

    def empty(self) -> bool:
        """Delete for good everything that is in the trash. False if there was nothing."""
        intent = schema.new_uid()

        def build() -> tuple[Batch | None, bool]:
            pointer, generation = self.tree.generation()
            if not self.store.get_row(schema.trash_row(self.user, generation), limit=1, keys_only=True):
                return None, False
            outbox.announce(self.store, self.user, intent)
            batch = Batch()
            self._require_generation(batch, pointer)
            batch.put(schema.node_row(self.user, schema.ROOT), schema.TRASH, schema.new_uid().encode())
            outbox.record(batch, self.user, intent, outbox.encode(Kind.EMPTY, target=generation))
            return batch, True

        return settle(self.store, build)

    def _deleted(self, uid: str, generation: str) -> Node:
        node = self.tree.find(uid)
        if node.is_root or node.trashed != generation:
            raise NotFound("This is not in the trash any more.")
        return node

    def _home(self, node: Node) -> Node:
        """Where a restored node goes."""
        try:
            return self.tree.receiving_folder(node.parent, not_below=node)
        except (NotFound, InTrash):
            return self.tree.find(schema.ROOT)

    def _require_generation(self, batch: Batch, pointer: bytes | None) -> None:
        # Without this, something could be put into a generation that is being collected, or restored out of it.
        batch.require(schema.node_row(self.user, schema.ROOT), schema.TRASH, pointer)

    def _take(self, batch: Batch, node: Node, pointer: bytes | None, generation: str) -> None:
        self.tree.require_unchanged(batch, node)
        self._require_generation(batch, pointer)
        batch.delete(schema.trash_row(self.user, generation), schema.child_column(node.uid))
