"""Space on the disk."""

import shutil

import pytest

from dicom_adapter.storage.disk_space import DiskFullError, require_space
from dicom_adapter.storage.instance_header import InstanceHeader
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import InstanceReceiver
from dicom_adapter.storage.study_locks import StudyLocks


def test_what_would_leave_too_little_free_is_refused_with_both_figures(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_space(tmp_path, 1 << 20, free // 2)
    with pytest.raises(DiskFullError, match=r"\d+ MiB are free, and \d+ MiB must stay so"):
        require_space(tmp_path, free, 1 << 20)


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
