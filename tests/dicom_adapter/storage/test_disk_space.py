"""Space on the disk."""

import errno
import os
import shutil
from types import SimpleNamespace

import pytest

from dicom_adapter.storage.disk_space import DiskFullError, require_space, write_error
from dicom_adapter.storage.instance_header import InstanceHeader
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import InstanceReceiver
from dicom_adapter.storage.study_locks import StudyLocks
from stages.errors import OutputError


def test_what_would_leave_too_little_free_is_refused_with_both_figures(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_space(tmp_path, 1 << 20, free // 2)
    with pytest.raises(DiskFullError, match=r"\d+ MiB are free, and \d+ MiB must stay so"):
        require_space(tmp_path, free, 1 << 20)


def test_what_leaves_just_the_minimum_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    require_space(tmp_path, 60, 40)
    with pytest.raises(DiskFullError):
        require_space(tmp_path, 61, 40)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_an_error_for_want_of_space_is_one_that_passes(number):
    error = write_error(OSError(number, os.strerror(number)))
    assert isinstance(error, DiskFullError)
    assert str(error) == f"an instance cannot be kept: {os.strerror(number)}"


def test_another_error_is_none_for_want_of_space():
    assert type(write_error(OSError(errno.EIO, "Input/output error"))) is OutputError


def test_while_nothing_can_be_written_down_no_instance_is_taken(tmp_path):
    receiver = InstanceReceiver(
        AdapterPaths(root=tmp_path),
        minimum_free=0,
        study_locks=StudyLocks(),
        trouble=lambda: "the database is locked",
    )
    uids = {"study_uid": "1.2.5", "series_uid": "1.2.6", "sop_instance_uid": "1.2.4", "sop_class_uid": "1.2"}
    header = InstanceHeader(**uids, modality="CT", series_description="")
    with pytest.raises(DiskFullError, match="the database is locked"):
        receiver.keep("CT_AI", header, b"", b"")
    assert list(tmp_path.iterdir()) == []
