"""Space on the disk."""

import shutil

import pytest

from dicom_adapter.receiving.room import FullError, require_room


def test_what_would_leave_too_little_free_is_refused_with_both_figures(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_room(tmp_path, 1 << 20, free // 2)
    with pytest.raises(FullError, match=r"\d+ MiB are free, and \d+ MiB must stay so"):
        require_room(tmp_path, free, 1 << 20)
