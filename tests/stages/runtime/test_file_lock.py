"""Locks between processes."""

import os
import subprocess
import sys

import pytest

from stages.runtime.file_lock import abandoned, holder, is_at, is_held, lock, try_lock, write_holder


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    return path


@pytest.fixture
def opened(path):
    descriptors = []

    def open_(flags=os.O_RDWR):
        descriptors.append(os.open(path, flags))
        return descriptors[-1]

    yield open_
    for each in descriptors:
        os.close(each)


def test_one_holds_a_lock_until_it_is_closed(path, opened):
    mine = os.open(path, os.O_RDWR)
    other = opened()
    assert try_lock(mine)
    assert not try_lock(other)
    os.close(mine)
    assert try_lock(other)


def test_holder_is_told_and_what_was_told_before_is_gone(opened):
    mine, other = opened(), opened()
    lock(mine)
    write_holder(mine, "process 12345 on ward-7")
    write_holder(mine, "process 1")
    assert holder(other) == "process 1"


def test_holder_that_cannot_be_read_is_nobody(opened):
    assert holder(opened(os.O_WRONLY)) == ""


def test_two_may_ask_at_once_whether_a_lock_is_held(opened):
    one, two = opened(os.O_RDONLY), opened(os.O_RDONLY)
    assert not is_held(one)
    assert not is_held(two)


def test_held_lock_is_seen(opened):
    lock(opened())
    assert is_held(opened(os.O_RDONLY))


def test_folder_can_be_locked(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert try_lock(descriptor)
    finally:
        os.close(descriptor)


def test_dead_process_lets_go_and_its_child_keeps(path, opened):
    script = (
        "import os, subprocess, sys; from stages.runtime.file_lock import lock; "
        "d = os.open(sys.argv[1], os.O_RDWR); lock(d); "
        "child = subprocess.Popen(['sleep', '60'], pass_fds=[d], stdout=subprocess.DEVNULL); "
        "print(child.pid, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True)
    child = int(done.stdout)
    try:
        assert is_held(opened())
    finally:
        os.kill(child, 9)
    lock(opened())


def test_file_that_was_removed_is_not_the_one_of_its_name(path, opened):
    descriptor = opened()
    assert is_at(descriptor, path)
    path.unlink()
    assert not is_at(descriptor, path)
    path.touch()
    assert not is_at(descriptor, path)


def test_file_that_nobody_holds_is_abandoned_and_held_meanwhile(path, opened):
    with abandoned(path) as status:
        assert status is not None
        assert is_held(opened())
    lock(opened())
    with abandoned(path) as status:
        assert status is None


def test_link_is_not_followed(tmp_path, path):
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"), abandoned(link):
        pass
