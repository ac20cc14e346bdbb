"""Files and folders that are seen whole or not at all."""

import os
import shutil
import threading
from contextlib import ExitStack, suppress

import pytest

from stages.runtime import atomic
from stages.runtime.atomic import exchange, new_folder, rename, rename_new, sync_tree, write, writing


def folder_with(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.fixture(params=["linux", "elsewhere"])
def system(request, monkeypatch):
    """With the system calls of Linux, and without."""
    if request.param == "elsewhere":
        monkeypatch.setattr(atomic, "_renameat2", None)


@pytest.fixture
def synced(monkeypatch):
    """Return the names of what is synced, in order."""
    names = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
    )
    return names


def test_file_has_its_name_when_it_is_whole(tmp_path):
    with writing(tmp_path / "a.json") as file:
        file.write(b"one")
        assert not (tmp_path / "a.json").exists()
        assert os.path.exists(file.name)
    assert (tmp_path / "a.json").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_was_there_stays_when_the_writing_breaks_off(tmp_path):
    write(tmp_path / "a.json", "old")
    with suppress(KeyboardInterrupt), writing(tmp_path / "a.json") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert (tmp_path / "a.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "a.json").symlink_to("elsewhere")
    write(tmp_path / "a.json", b"new")
    assert (tmp_path / "elsewhere").read_text() == "kept"
    assert not (tmp_path / "a.json").is_symlink()


def test_several_files_appear_together_or_not_at_all(tmp_path):
    with suppress(OSError), ExitStack() as stack:
        for name in ("a", "b"):
            stack.enter_context(writing(tmp_path / name)).write(b"x")
        raise OSError("the disk is full")
    assert os.listdir(tmp_path) == []


def test_file_is_synced_before_its_name_and_its_folder_after(tmp_path, synced):
    write(tmp_path / "a.json", "x")
    assert synced[0].startswith(".a.json.")
    assert synced[1:] == [tmp_path.name]


def test_nothing_is_synced_where_a_lost_file_costs_nothing(tmp_path, synced):
    write(tmp_path / "a.json", "x", durable=False)
    assert synced == []


def test_permissions_are_those_asked_for(tmp_path):
    write(tmp_path / "secret", "x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("system")
def test_folder_takes_the_place_of_another_whole(tmp_path):
    old, new = folder_with(tmp_path / "model", "old"), folder_with(tmp_path / "made", "new")
    (old / "more").touch()
    rename(new, old)
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(old) == ["file"]
    assert (old / "file").read_text() == "new"


@pytest.mark.usefixtures("system")
def test_link_to_a_folder_is_replaced_as_a_link(tmp_path):
    for number in ("1", "2"):
        folder_with(tmp_path / number, number)
    (tmp_path / "current").symlink_to("1")
    (tmp_path / "next").symlink_to("2")
    rename(tmp_path / "next", tmp_path / "current")
    assert os.readlink(tmp_path / "current") == "2"
    assert (tmp_path / "1" / "file").exists()


@pytest.mark.usefixtures("system")
def test_new_name_replaces_no_file(tmp_path):
    (tmp_path / "made").write_text("new")
    (tmp_path / "kept").write_text("old")
    with pytest.raises(FileExistsError):
        rename_new(tmp_path / "made", tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "old"
    rename_new(tmp_path / "made", tmp_path / "other")
    assert (tmp_path / "other").read_text() == "new"
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("system")
def test_first_of_two_new_folders_stays(tmp_path):
    with new_folder(tmp_path / "cache") as made:
        (made / "file").write_text("mine")
        folder_with(tmp_path / "cache", "theirs")
    assert os.listdir(tmp_path) == ["cache"]
    assert (tmp_path / "cache" / "file").read_text() == "theirs"


def test_new_folder_is_gone_when_its_making_breaks_off(tmp_path):
    with suppress(ValueError), new_folder(tmp_path / "cache") as made:
        (made / "file").touch()
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_tree_is_synced_from_the_files_up(tmp_path, synced):
    folder_with(tmp_path / "out", "x")
    folder_with(tmp_path / "out" / "deep", "y")
    sync_tree(tmp_path / "out")
    assert sorted(synced[:2]) == ["file", "file"]
    assert synced[2:] == ["deep", "out"]


@pytest.mark.usefixtures("system")
def test_folders_change_places(tmp_path):
    for name in "ab":
        folder_with(tmp_path / name, name)
    exchange(tmp_path / "a", tmp_path / "b")
    assert {name: (tmp_path / name / "file").read_text() for name in os.listdir(tmp_path)} == {
        "a": "b",
        "b": "a",
    }


def test_who_looks_while_a_folder_is_replaced_always_sees_one(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    missed, ended = [], threading.Event()

    def look():
        while not ended.is_set():
            missed.extend([1] if not (tmp_path / "b/file").exists() else [])

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(300):
        exchange(tmp_path / "a", tmp_path / "b")
    ended.set()
    looking.join()
    assert missed == []


def test_failed_exchange_puts_back_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_renameat2", None)
    old = folder_with(tmp_path / "model", "old")
    (tmp_path / "made").mkdir()
    moved = type(old).rename

    def refuse(path, target):
        if path.name == "made":
            raise OSError("no space")
        return moved(path, target)

    monkeypatch.setattr(type(old), "rename", refuse)
    with pytest.raises(OSError, match="no space"):
        rename(tmp_path / "made", old)
    monkeypatch.undo()
    assert (old / "file").read_text() == "old"
    shutil.rmtree(tmp_path / "made")
    assert os.listdir(tmp_path) == ["model"]
