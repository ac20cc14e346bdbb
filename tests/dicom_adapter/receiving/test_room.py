"""Room on the disk, and what takes it before an instance has a name."""

import shutil

import pytest

from dicom_adapter.places import AdapterPlaces
from dicom_adapter.receiving import room
from dicom_adapter.receiving.claims import Claims
from dicom_adapter.receiving.headers import Header
from dicom_adapter.receiving.receive import Receiver
from dicom_adapter.receiving.room import FullError, Overflow, require_room


def test_what_would_leave_too_little_free_is_refused_with_both_figures(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_room(tmp_path, 1 << 20, free // 2)
    with pytest.raises(FullError, match=r"\d+ MiB are free, and \d+ MiB must stay so"):
        require_room(tmp_path, free, 1 << 20)


def test_an_overflow_gives_back_what_was_written_and_leaves_no_name(tmp_path):
    overflow = Overflow(tmp_path, 0)
    for piece in (b"one", b"two"):
        overflow.write(memoryview(piece))
    assert overflow.view() == b"onetwo"
    assert list(tmp_path.iterdir()) == []
    overflow.close()


def test_an_overflow_takes_no_room_below_the_watermark(tmp_path):
    overflow = Overflow(tmp_path, 1 << 60)
    with pytest.raises(FullError, match="must stay so"):
        overflow.write(memoryview(b"one"))
    overflow.close()


def test_an_overflow_looks_again_while_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_CHECK_EVERY", 4)
    overflow = Overflow(tmp_path, 0)
    overflow.write(memoryview(b"four"))
    overflow._minimum_free = 1 << 60  # as if others had filled the disk
    with pytest.raises(FullError):
        overflow.write(memoryview(b"more"))
    overflow.close()


def test_while_nothing_can_be_written_down_no_instance_is_taken(tmp_path):
    receiver = Receiver(
        AdapterPlaces(root=tmp_path),
        minimum_free=0,
        claims=Claims(),
        trouble=lambda: "the database is locked",
    )
    uids = {"study_uid": "1.2.5", "series_uid": "1.2.6", "sop_instance_uid": "1.2.4", "sop_class_uid": "1.2"}
    header = Header(**uids, modality="CT", series_description="")
    with pytest.raises(FullError, match="the database is locked"):
        receiver.keep("CT_AI", header, b"", b"")
    assert list(tmp_path.iterdir()) == []
