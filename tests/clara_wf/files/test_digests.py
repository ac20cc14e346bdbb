"""Digests of files, read again only when they may have changed."""

import os
import time
from pathlib import Path

import pytest

from clara_wf.files.digests import Digests
from stages.lifecycle import outputs

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, in their order."""
    names, read = [], outputs.file_sha256

    def file_sha256(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(outputs, "file_sha256", file_sha256)
    return names


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"abc")
    time.sleep(0.15)  # as old as a file must be to be remembered
    return path


def digest(path):
    digests = Digests(path.parent / "digests.json")
    found = digests(path)
    digests.save()
    return found


def test_a_file_is_read_once_as_long_as_it_stays_as_it_is(file, reads):
    assert [digest(file), digest(file)] == [ABC, ABC]
    assert reads == ["data"]


def write(path):
    path.write_bytes(b"abd")


def write_and_turn_the_clock_back(path):
    before = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_one_of_the_same_age(path):
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"abd")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


def write_through_a_map(path):
    import mmap

    with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as view:
        view[2:3] = b"d"
        view.flush()


@pytest.mark.parametrize(
    "change", [write, write_and_turn_the_clock_back, replace_by_one_of_the_same_age, write_through_a_map]
)
def test_a_change_is_seen_however_it_is_made(file, change):
    assert digest(file) == ABC
    change(file)
    assert digest(file) != ABC


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, reads):
    path = tmp_path / "data"
    path.write_bytes(b"abc")
    assert [digest(path), digest(path)] == [ABC, ABC]
    assert reads == ["data", "data"]


@pytest.mark.parametrize("record", ["", "[]", "{", '{"data": 1}'])
def test_a_record_that_is_broken_costs_time_only(file, record):
    (file.parent / "digests.json").write_text(record)
    assert digest(file) == ABC


def test_a_record_that_cannot_be_kept_takes_nothing_from_the_result(file, monkeypatch):
    monkeypatch.setattr(
        "clara_wf.files.digests._tick_s", lambda path: -1.0
    )  # so that there is something to keep
    digests = Digests(Path("/proc/nowhere/digests.json"))
    assert digests(file) == ABC
    digests.save()
    assert digests(file) == ABC
