"""Folders and files that somebody removes while instances come, and who may read what is kept."""

import os
import shutil
import threading

import pytest

from dicom_adapter.storage.receiver import folder_mode
from stages.runtime import atomic
from tests.dicom_adapter.instances import instance
from tests.dicom_adapter.storage_service import Service, associate

SMALL, LARGE = 1 << 12, 3 << 20  # bytes: one is in memory while it comes, one is not


def ct(number, size=SMALL):
    made = instance(number)
    made.Rows, made.Columns = size >> 12, 1 << 11
    made.PixelData = bytes(size)
    return made


@pytest.fixture
def service(tmp_path):
    running = Service(tmp_path / "adapter")
    yield running
    running.scp.stop()


def statuses(service, *instances):
    association = associate(service)
    found = [association.send_c_store(each).Status for each in instances]
    association.release()
    return found


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("removed", ["incoming", "studies", "studies/CT_AI/1.2.3"])
def test_a_folder_that_is_removed_while_it_runs_is_made_again(service, removed, size):
    assert statuses(service, ct(1)) == [0]
    shutil.rmtree(service.places.root / removed)
    assert statuses(service, ct(2, size), ct(3, size)) == [0, 0]
    assert {"1.2.3.4.2.dcm", "1.2.3.4.3.dcm"} <= {path.name for path in service.files}


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_cleaner_that_removes_what_comes_fails_that_instance_and_nothing_else(service, size):
    stop = threading.Event()

    def clean():
        while not stop.is_set():
            for each in service.places.incoming.iterdir():
                each.unlink(missing_ok=True)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    found = statuses(service, *(ct(n, size) for n in range(1, 9)))
    stop.set()
    cleaner.join()
    assert set(found) <= {0, 0x0110}
    assert 0x0110 in found
    assert len(service.files) == found.count(0)
    assert statuses(service, ct(20)) == [0]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_group_may_read_and_others_may_not_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        running = Service(tmp_path / "adapter")
        assert statuses(running, ct(1), ct(2, LARGE)) == [0, 0]
        running.scp.stop()
    finally:
        os.umask(before)
    root = running.places.root
    folders = [
        root,
        root / "incoming",
        root / "studies",
        root / "studies/CT_AI",
        root / "studies/CT_AI/1.2.3",
    ]
    assert {oct(path.stat().st_mode & 0o777) for path in running.files} == {"0o640"}
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o750"}


@pytest.mark.parametrize(
    ("files", "folders"), [(0o640, 0o750), (0o600, 0o700), (0o664, 0o775), (0o644, 0o755)]
)
def test_who_may_read_the_files_may_enter_the_folders(files, folders):
    assert folder_mode(files) == folders


def test_without_the_systems_own_call_a_name_never_replaces_a_file_either(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_renameat2", None)
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    with pytest.raises(FileExistsError):
        atomic.rename_new(tmp_path / "new", tmp_path / "old")
    atomic.rename_new(tmp_path / "new", tmp_path / "final")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old": "old", "final": "new"}


def test_a_folder_in_the_way_of_half_received_files_does_not_stop_a_start(tmp_path):
    (tmp_path / "adapter/incoming/somebodys").mkdir(parents=True)
    running = Service(tmp_path / "adapter")
    assert statuses(running, ct(1)) == [0]
    running.scp.stop()
