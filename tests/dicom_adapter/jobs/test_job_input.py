"""The input of a job: copies of what was received, which a stage may do with as it likes."""

import errno
import logging
import os

import pytest

from dicom_adapter.config.blocks import Storage
from dicom_adapter.jobs import job_input
from dicom_adapter.storage.disk_space import DiskFullError
from stages.errors import InputError
from tests.dicom_adapter.jobs.test_job_run import Bench

KEPT = bytes(range(256)) * 3000


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.files[0].path.write_bytes(KEPT)
    made.files = [made.files[0].__class__(**{**vars(made.files[0]), "size": len(KEPT)})]
    return made


def first(bench):
    return bench.payload.folder("pass/input") / "1.2.3.0.dcm"


def storage(**more):
    return Storage.model_validate({"minimum-free": "1M", **more})


def test_a_stage_that_writes_into_its_input_does_not_change_what_was_received(bench):
    bench.fill()
    with first(bench).open("r+b") as file:
        file.write(b"changed")
    assert bench.files[0].path.read_bytes() == KEPT


def test_the_input_is_what_was_received_and_the_log_says_how_it_was_made(bench, caplog):
    with caplog.at_level(logging.INFO):
        bench.fill()
    assert first(bench).read_bytes() == KEPT
    assert "job j1 has 1 files as cop" in caplog.text or "job j1 has 1 files as clones" in caplog.text


def test_links_are_made_where_somebody_asks_for_them(bench):
    bench.storage = storage(**{"job-input": "link"})
    bench.fill()
    assert first(bench).samefile(bench.files[0].path)


def test_a_file_system_that_neither_clones_nor_copies_within_the_kernel_is_no_hindrance(bench, monkeypatch):
    def not_here(*arguments):
        raise OSError(errno.EXDEV, "between two file systems")

    monkeypatch.setattr(job_input.os, "copy_file_range", not_here)
    bench.fill()
    assert first(bench).read_bytes() == KEPT


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_who_is_not_of_the_group_reads_nothing_of_a_job(bench, umask):
    before = os.umask(umask)
    try:
        bench.fill()
    finally:
        os.umask(before)
    folder = bench.payload.folder("pass/input")
    modes = [each.stat().st_mode & 0o777 for each in (bench.payload.root, folder, first(bench))]
    assert modes == [0o750, 0o750, 0o640]


def test_copies_for_which_there_is_no_space_are_not_begun(bench):
    bench.storage = storage(**{"minimum-free": "900T"})
    with pytest.raises(DiskFullError, match="must stay so"):
        bench.fill()
    assert first(bench).stat().st_size == 0


def test_a_received_file_that_is_gone_is_told_without_its_whole_name(bench):
    bench.files[0].path.unlink()
    with pytest.raises(InputError, match="gone; ask for the study once more") as told:
        bench.fill()
    assert bench.files[0].path.name not in str(told.value)
