"""The trash: delete, restore, delete for good, empty; and nothing is left, whatever dies in between."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from drive import outbox, schema
from drive.collect import Collector
from drive.errors import DriveError, InTrash, NotFound
from drive.node import Node
from drive.outbox import Kind
from drive.trash import Trash
from drive.tree import Tree
from drive.upload import Upload
from kvstore.client import Client
from penncloud_site.storage import store

MIB = 2**20


@pytest.fixture
def trash(real_store: object) -> Trash:
    return Trash(store(), f"d{uuid.uuid4().hex[:12]}")


def put_file(trash: Trash, name: str, folder: str = schema.ROOT, size: int = 3) -> Node:
    with Upload(trash.store, trash.user, folder, name, "", 10**9) as upload:
        upload.write(b"x" * size)
        upload.finish()
        return upload.commit()


def listed(trash: Trash, folder: str = schema.ROOT) -> list[str]:
    return sorted(line.name for line in trash.tree.lines(folder))


def rows_of(trash: Trash) -> set[str]:
    prefixes = schema.user_prefixes(trash.user)
    return {row for prefix in prefixes for row, _, _ in store().scan(prefix=prefix, keys_only=True)}


def left_over(trash: Trash) -> set[str]:
    """All rows but the root folder's, and the row of intents if it holds nothing but `VOID`s (see `outbox`)."""
    kinds = {outbox.decode(cell.value)[0] for cell in store().get_row(schema.work_row(trash.user)).values()}
    expected = {schema.node_row(trash.user, schema.ROOT)}
    if kinds <= {Kind.VOID}:
        expected.add(schema.work_row(trash.user))
    return rows_of(trash) - expected


def index_entries(trash: Trash) -> list[str]:
    return [column for row in schema.index_rows() for column in store().get_row(row, prefix=f"{trash.user}:")]


def sweep(client: Any = None) -> None:
    Collector(client or store(), lease=10_000.0, grace=0.0).run_once()


class Killed(Exception):
    pass


class DiesAt:
    """The store's client of a process that is killed before its `number`th write."""

    def __init__(self, client: Client, number: int) -> None:
        self._client, self._left = client, number

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in ("apply", "put", "cput", "delete", "delete_row"):
            return method

        def write(*args: Any) -> Any:
            self._left -= 1
            if self._left <= 0:
                raise Killed
            return method(*args)

        return write


def test_deleted_files_are_in_the_trash_and_nowhere_else(trash: Trash) -> None:
    file = put_file(trash, "a.txt")
    trash.put(file.uid)
    assert listed(trash) == []
    assert [(line.name, line.size) for line in trash.lines()] == [("a.txt", 3)]
    with pytest.raises(InTrash):
        trash.tree.node(file.uid)
    with pytest.raises(NotFound):
        trash.put(file.uid)
    put_file(trash, "a.txt")  # the name is free again


def test_a_restored_file_is_where_it_was(trash: Trash) -> None:
    folder = trash.tree.create_folder(schema.ROOT, "f")
    file = put_file(trash, "a.txt", folder.uid)
    trash.put(file.uid)
    assert trash.restore(file.uid).parent == folder.uid
    assert listed(trash, folder.uid) == ["a.txt"]
    assert trash.lines() == []
    assert trash.tree.node(file.uid) == file
    with pytest.raises(NotFound):
        trash.restore(file.uid)


def test_a_restored_file_whose_name_was_taken_gets_a_number(trash: Trash) -> None:
    file = put_file(trash, "a.txt")
    trash.put(file.uid)
    put_file(trash, "a.txt")
    assert trash.restore(file.uid).name == "a (2).txt"
    assert listed(trash) == ["a (2).txt", "a.txt"]


def test_a_restored_file_whose_folder_is_gone_comes_to_the_top(trash: Trash) -> None:
    folder = trash.tree.create_folder(schema.ROOT, "f")
    file = put_file(trash, "a.txt", folder.uid)
    trash.put(file.uid)
    trash.put(folder.uid)
    assert trash.restore(file.uid).parent == schema.ROOT
    assert listed(trash) == ["a.txt"]


def test_a_folder_goes_and_comes_back_with_all_that_is_in_it(trash: Trash) -> None:
    outer = trash.tree.create_folder(schema.ROOT, "outer")
    inner = trash.tree.create_folder(outer.uid, "inner")
    file = put_file(trash, "deep.txt", inner.uid)
    trash.put(outer.uid)
    for uid in (outer.uid, inner.uid, file.uid):
        with pytest.raises(InTrash) as caught:
            trash.tree.path(uid)
        assert caught.value.uid == outer.uid
    with pytest.raises(InTrash):
        trash.tree.create_folder(inner.uid, "new")
    with pytest.raises(InTrash):
        trash.tree.move(file.uid, schema.ROOT)
    trash.restore(outer.uid)
    assert [node.name for node in trash.tree.path(file.uid)] == ["My Drive", "outer", "inner", "deep.txt"]


def test_nothing_can_be_moved_into_the_trash_by_the_back_door(trash: Trash) -> None:
    folder, other = trash.tree.create_folder(schema.ROOT, "f"), trash.tree.create_folder(schema.ROOT, "o")
    trash.put(folder.uid)
    with pytest.raises(InTrash):
        trash.tree.move(other.uid, folder.uid)


def test_deleted_for_good_is_gone_at_once_and_its_chunks_soon(trash: Trash) -> None:
    file = put_file(trash, "a.bin", size=9 * MIB)
    with pytest.raises(NotFound):
        trash.purge(file.uid)  # only what is in the trash
    trash.put(file.uid)
    trash.purge(file.uid)
    assert trash.lines() == []
    for action in (trash.tree.find, trash.restore, trash.purge):
        with pytest.raises(NotFound):
            action(file.uid)
    sweep()
    assert left_over(trash) == set()
    assert index_entries(trash) == []


def test_emptying_takes_everything_and_nothing_that_comes_later(trash: Trash) -> None:
    first, second = put_file(trash, "first"), put_file(trash, "second")
    trash.put(first.uid)
    assert trash.empty()
    trash.put(second.uid)
    with pytest.raises(NotFound):
        trash.restore(first.uid)
    with pytest.raises(NotFound):
        trash.tree.path(first.uid)
    sweep()
    assert [line.name for line in trash.lines()] == ["second"]
    assert trash.restore(second.uid).name == "second"
    assert not trash.empty()


def test_a_stranger_cannot_touch_the_trash(trash: Trash) -> None:
    file = put_file(trash, "mine")
    trash.put(file.uid)
    stranger = Trash(store(), trash.user + "x")
    assert stranger.lines() == []
    for action in (stranger.put, stranger.restore, stranger.purge):
        with pytest.raises(NotFound):
            action(file.uid)


def planted(trash: Trash, name: str) -> Node:
    """A folder with two folders, three files of one chunk and one of two."""
    top = trash.tree.create_folder(schema.ROOT, name)
    put_file(trash, "one", top.uid)
    for number in range(2):
        inner = trash.tree.create_folder(top.uid, f"inner{number}")
        put_file(trash, "two", inner.uid, size=5 * MIB if number else 3)
    return top


@pytest.mark.parametrize("way", ["purge", "empty"])
def test_a_worker_killed_at_any_step_is_taken_over(trash: Trash, way: str) -> None:
    number, over = 0, False
    while not over:
        number += 1
        trash.put(planted(trash, "folder").uid)
        if way == "purge":
            trash.purge(trash.lines()[0].uid)
        else:
            trash.empty()
        try:
            sweep(DiesAt(store(), number))
            over = True
        except Killed:
            sweep()
        assert left_over(trash) == set()
        assert index_entries(trash) == []
    assert number > 8


@pytest.mark.parametrize("way", ["purge", "empty"])
def test_a_front_end_killed_while_it_deletes_for_good_has_done_it_or_not(trash: Trash, way: str) -> None:
    number, over = 0, False
    while not over:
        number += 1
        file = put_file(trash, "a")
        trash.put(file.uid)
        dying = Trash(DiesAt(store(), number), trash.user)  # type: ignore[arg-type]
        try:
            dying.purge(file.uid) if way == "purge" else dying.empty()
            over = True
        except Killed:
            assert [line.uid for line in trash.lines()] == [file.uid]
            sweep()
            assert trash.restore(file.uid).uid == file.uid
            trash.put(file.uid)
            trash.purge(file.uid)
        sweep()
        assert left_over(trash) == set()
        assert index_entries(trash) == []


def test_a_folder_of_many_is_collected_in_bounded_batches(trash: Trash, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drive.collect.BATCH", 4)
    top = trash.tree.create_folder(schema.ROOT, "many")
    for number in range(9):
        put_file(trash, f"file{number}", top.uid)
        trash.tree.create_folder(top.uid, f"folder{number}")
    put_file(trash, "chunks", top.uid, size=21 * MIB)
    trash.put(top.uid)
    trash.purge(top.uid)
    sweep()
    assert left_over(trash) == set()


def test_very_deep_folders_are_collected(trash: Trash) -> None:
    top = current = trash.tree.create_folder(schema.ROOT, "top").uid
    for _ in range(60):
        current = trash.tree.create_folder(current, "down").uid
    trash.put(top)
    trash.empty()
    sweep()
    assert left_over(trash) == set()


def test_deleting_and_restoring_at_once_ends_in_one_place(trash: Trash) -> None:
    file = put_file(trash, "a")
    for _ in range(5):
        trash.put(file.uid)
        errors: list[DriveError] = []

        def run(action: Any, uid: str = file.uid, errors: list[DriveError] = errors) -> None:
            try:
                action(uid)
            except DriveError as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(action,)) for action in (trash.restore, trash.restore)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 1
        assert listed(trash) == ["a"]
        assert trash.lines() == []


def test_what_is_moved_out_while_its_folder_is_deleted_for_good_stays_or_goes_whole(trash: Trash) -> None:
    """The move is decided before the folder is deleted and applied after: it must be refused, or the collector would delete
    a file that is in another folder by then."""
    folder, refuge = trash.tree.create_folder(schema.ROOT, "going"), trash.tree.create_folder(schema.ROOT, "refuge")
    file = put_file(trash, "a", folder.uid)

    class Late:
        """A client whose first write happens after the folder was deleted for good and marked by the collector."""

        waited = False

        def __getattr__(self, name: str) -> Any:
            return getattr(store(), name)

        def apply(self, batch: Any) -> Any:
            if not self.waited:
                self.waited = True
                trash.put(folder.uid)
                trash.purge(folder.uid)
            return store().apply(batch)

    with pytest.raises(NotFound):
        Tree(Late(), trash.user).move(file.uid, refuge.uid)  # type: ignore[arg-type]
    sweep()
    assert listed(trash, refuge.uid) == []
    assert left_over(trash) == {schema.node_row(trash.user, refuge.uid)}
