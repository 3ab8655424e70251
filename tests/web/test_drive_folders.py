"""Folders: made, listed, renamed and moved, also by two at once, also under hostile names."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from functools import partial

import pytest

from drive import names, schema
from drive.errors import Contended, DriveError, IntoItself, InvalidName, NameTaken, NotAFolder, NotFound, TooDeep
from drive.node import Node
from drive.tree import MAX_DEPTH, Tree
from drive.upload import Upload
from kvstore.client import Batch
from penncloud_site.storage import store


@pytest.fixture
def tree(real_store: object) -> Tree:
    return Tree(store(), f"d{uuid.uuid4().hex[:12]}")


def put_file(tree: Tree, folder: str, name: str, content: bytes = b"x") -> Node:
    with Upload(tree.store, tree.user, folder, name, "", 10**9) as upload:
        upload.write(content)
        upload.finish()
        return upload.commit()


def listed(tree: Tree, folder: str = schema.ROOT) -> list[str]:
    return sorted(line.name for line in tree.lines(folder))


def at_once(*actions: Callable[[], object]) -> list[object]:
    """What the actions, begun together, returned, or the drive's error that they raised."""
    results: list[object] = [None] * len(actions)
    barrier = threading.Barrier(len(actions))

    def run(index: int, action: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[index] = action()
        except DriveError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_new_user_has_an_empty_drive(tree: Tree) -> None:
    assert tree.lines(schema.ROOT) == []
    assert [node.name for node in tree.path(schema.ROOT)] == ["My Drive"]


def test_folders_lie_in_folders(tree: Tree) -> None:
    year = tree.create_folder(schema.ROOT, "2026")
    month = tree.create_folder(year.uid, "  November ")
    assert [node.name for node in tree.path(month.uid)] == ["My Drive", "2026", "November"]
    assert listed(tree) == ["2026"]
    assert listed(tree, year.uid) == ["November"]


def test_a_name_is_there_once_in_a_folder(tree: Tree) -> None:
    tree.create_folder(schema.ROOT, "Straße")
    other = tree.create_folder(schema.ROOT, "Other")
    with pytest.raises(NameTaken):
        tree.create_folder(schema.ROOT, "STRASSE")
    with pytest.raises(NameTaken):
        tree.rename(other.uid, "straße")
    tree.create_folder(other.uid, "Straße")


def test_two_who_create_the_same_name_at_once_get_one_folder(tree: Tree) -> None:
    results = at_once(*[lambda: tree.create_folder(schema.ROOT, "Plans")] * 4)
    assert sorted(type(result).__name__ for result in results) == ["NameTaken"] * 3 + ["Node"]
    assert listed(tree) == ["Plans"]


def test_renaming_keeps_what_is_inside_and_frees_the_old_name(tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "Draft")
    put_file(tree, folder.uid, "a.txt")
    tree.rename(folder.uid, "Final")
    assert listed(tree) == ["Final"]
    assert listed(tree, folder.uid) == ["a.txt"]
    tree.create_folder(schema.ROOT, "Draft")


def test_only_the_capitals_of_a_name_may_change(tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "readme")
    assert tree.rename(folder.uid, "README").name == "README"
    assert listed(tree) == ["README"]
    with pytest.raises(NameTaken):
        tree.create_folder(schema.ROOT, "ReadMe")


def test_two_renames_at_once_leave_one_name(tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "start")
    at_once(lambda: tree.rename(folder.uid, "left"), lambda: tree.rename(folder.uid, "right"))
    (name,) = listed(tree)
    assert name == tree.find(folder.uid).name
    tree.create_folder(
        schema.ROOT, "right" if name == "left" else "left"
    )  # no cell of the loser is left in the name index


def test_moving_takes_everything_along(tree: Tree) -> None:
    source, target = tree.create_folder(schema.ROOT, "a"), tree.create_folder(schema.ROOT, "b")
    inner = tree.create_folder(source.uid, "inner")
    tree.move(source.uid, target.uid)
    assert listed(tree) == ["b"]
    assert [node.name for node in tree.path(inner.uid)] == ["My Drive", "b", "a", "inner"]


def test_a_name_taken_at_the_destination_gets_a_number(tree: Tree) -> None:
    target = tree.create_folder(schema.ROOT, "target")
    put_file(tree, target.uid, "a.txt")
    put_file(tree, target.uid, "a (2).txt")
    file = put_file(tree, schema.ROOT, "A.txt")
    assert tree.move(file.uid, target.uid).name == "A (3).txt"
    assert tree.find(file.uid).name == "A (3).txt"


def test_moving_to_where_it_is_changes_nothing(tree: Tree) -> None:
    file = put_file(tree, schema.ROOT, "a.txt")
    assert tree.move(file.uid, schema.ROOT).name == "a.txt"
    assert listed(tree) == ["a.txt"]


def test_a_folder_cannot_go_below_itself(tree: Tree) -> None:
    outer = tree.create_folder(schema.ROOT, "outer")
    inner = tree.create_folder(outer.uid, "inner")
    for destination in (outer.uid, inner.uid):
        with pytest.raises(IntoItself):
            tree.move(outer.uid, destination)
    with pytest.raises(NotFound):
        tree.move(schema.ROOT, outer.uid)


def test_two_folders_moved_into_each_other_at_once_stay_reachable(tree: Tree) -> None:
    for attempt in range(8):
        a = tree.create_folder(schema.ROOT, f"a{attempt}")
        b = tree.create_folder(schema.ROOT, f"b{attempt}")
        results = at_once(partial(tree.move, a.uid, b.uid), partial(tree.move, b.uid, a.uid))
        assert sorted(type(result).__name__ for result in results) == ["IntoItself", "Node"]
        assert {len(tree.path(a.uid)), len(tree.path(b.uid))} == {2, 3}


def test_a_file_moved_to_two_places_at_once_is_in_one(tree: Tree) -> None:
    folders = [tree.create_folder(schema.ROOT, name) for name in ("left", "right")]
    file = put_file(tree, schema.ROOT, "one.txt")
    at_once(*[partial(tree.move, file.uid, folder.uid) for folder in folders])
    assert [listed(tree, folder.uid) for folder in folders].count(["one.txt"]) == 1
    assert listed(tree) == ["left", "right"]


def test_many_changes_of_one_folder_at_once_all_happen_or_say_so(tree: Tree) -> None:
    target = tree.create_folder(schema.ROOT, "target")
    folders = [tree.create_folder(schema.ROOT, f"f{number}") for number in range(6)]
    results = at_once(*[partial(tree.move, folder.uid, target.uid) for folder in folders])
    moved = [result for result in results if isinstance(result, Node)]
    assert all(isinstance(result, Node | Contended) for result in results)
    assert listed(tree, target.uid) == sorted(node.name for node in moved)


def test_a_file_is_no_folder(tree: Tree) -> None:
    file = put_file(tree, schema.ROOT, "a.txt")
    with pytest.raises(NotAFolder):
        tree.create_folder(file.uid, "inside")
    with pytest.raises(NotAFolder):
        put_file(tree, file.uid, "inside")


def test_folders_are_nested_only_so_deep(tree: Tree) -> None:
    current = schema.ROOT
    for _ in range(MAX_DEPTH):
        current = tree.create_folder(current, "down").uid
    with pytest.raises(TooDeep):
        tree.create_folder(current, "too deep")


def test_a_stranger_finds_nothing(tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "mine")
    stranger = Tree(tree.store, tree.user + "x")
    for action in (stranger.path, stranger.folder_path, lambda uid: stranger.rename(uid, "theirs")):
        with pytest.raises(NotFound):
            action(folder.uid)
    with pytest.raises(NotFound):
        stranger.move(folder.uid, schema.ROOT)


@pytest.mark.parametrize("uid", ["", "..", "x" * 32, "UID_1", "0" * 31, "0" * 33, "0" * 32, "0" * 32 + "\n", ":file:"])
def test_what_is_no_uid_is_not_found(tree: Tree, uid: str) -> None:
    with pytest.raises(NotFound):
        tree.path(uid)


@pytest.mark.parametrize(
    "name",
    ["", "   ", ".", "..", " .. ", "a/b", "a\0b", "a\nb", "a\x7f", "a\x85b", "tab\tbed", "gpj.\u202eexe", "line\u2028end",
     "x" * 256, "ü" * 128, "\ud800", "\u2066x"],
)  # fmt: skip
def test_names_that_are_refused(tree: Tree, name: str) -> None:
    with pytest.raises(InvalidName):
        tree.create_folder(schema.ROOT, name)
    assert tree.lines(schema.ROOT) == []


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>", "a:b", "by-name:x", "child:0", '"quoted"', "%2e%2e%2f", "CON", "...", "x" * 255, "ΐ" * 127,
     "👩\u200d👧 family"],
)  # fmt: skip
def test_odd_names_that_are_kept_as_they_are(tree: Tree, name: str) -> None:
    folder = tree.create_folder(schema.ROOT, name)
    assert listed(tree) == [name]
    assert tree.find(folder.uid).name == name
    with pytest.raises(NameTaken):
        tree.create_folder(schema.ROOT, name)


def test_both_ways_of_writing_an_accent_are_one_name(tree: Tree) -> None:
    assert tree.create_folder(schema.ROOT, "e\u0301te\u0301").name == "\u00e9t\u00e9"
    with pytest.raises(NameTaken):
        tree.create_folder(schema.ROOT, "\u00c9T\u00c9")


@pytest.mark.parametrize(
    ("name", "taken", "free"),
    [
        ("a.txt", [], "a.txt"),
        ("a.txt", ["a.txt"], "a (2).txt"),
        ("a (2).txt", ["a (2).txt"], "a (3).txt"),
        ("A.TXT", ["a.txt", "a (2).txt"], "A (3).TXT"),
        (".profile", [".profile"], ".profile (2)"),
        ("no extension", ["no extension"], "no extension (2)"),
    ],
)
def test_the_first_free_number_is_taken(name: str, taken: list[str], free: str) -> None:
    assert names.numbered(name, [names.key(other) for other in taken]) == free


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "👩" * 63, "x" * 250 + ".text"])
def test_a_numbered_name_is_never_too_long(name: str) -> None:
    taken = [names.key(name)]
    for _ in range(12):
        free = names.numbered(name, taken)
        assert names.clean(free) == free
        assert names.key(free).startswith(names.shared_prefix(name))
        taken.append(names.key(free))


def test_a_folder_of_three_thousand_is_listed_whole(tree: Tree) -> None:
    folder = tree.create_folder(schema.ROOT, "many")
    row = schema.node_row(tree.user, folder.uid)
    batch = Batch()
    uids = [schema.new_uid() for _ in range(3_000)]
    for uid in uids:
        line = b'{"t":"file","n":"photo","m":"2026-11-22T12:00:00+00:00","s":1,"c":"image/jpeg"}'
        batch.put(row, schema.child_column(uid), line)
    tree.store.apply(batch)
    assert sorted(line.uid for line in tree.lines(folder.uid)) == sorted(uids)
