"""A study is either received or removed, never both at a time."""

import threading

import pytest

from dicom_adapter.storage.instance_header import InstanceHeader
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import InstanceReceiver, sweep
from dicom_adapter.storage.study_locks import StudyLocks
from stages.errors import OutputError
from tests.dicom_adapter.destinations import wait_until

STUDY = ("CT", "1.2.3")


def header(uid="1.2.3.4"):
    return InstanceHeader(
        study_uid=STUDY[1],
        series_uid="1.2.5",
        sop_instance_uid=uid,
        sop_class_uid="1.2",
        modality="CT",
        series_description="",
    )


@pytest.fixture
def study_locks():
    return StudyLocks()


@pytest.fixture
def receiver(tmp_path, study_locks):
    places = AdapterPaths(root=tmp_path)
    sweep(places)
    return InstanceReceiver(places, minimum_free=0, study_locks=study_locks)


def is_free(study_locks):
    with study_locks.removal(STUDY) as free:
        return free


def test_what_is_claimed_twice_is_free_after_the_second_drop(study_locks):
    study_locks.acquire(STUDY)
    study_locks.acquire(STUDY)
    study_locks.release(STUDY)
    assert not is_free(study_locks)
    study_locks.release(STUDY)
    assert is_free(study_locks)


def test_a_removal_that_was_refused_keeps_nobody_waiting(study_locks):
    study_locks.acquire(STUDY)
    with study_locks.removal(STUDY) as free:
        assert not free
        study_locks.acquire(STUDY)


def test_who_claims_another_study_does_not_wait(study_locks):
    with study_locks.removal(STUDY):
        study_locks.acquire(("MR", STUDY[1]))
    assert is_free(study_locks)


def test_an_instance_that_comes_again_while_it_is_removed_is_kept_anew(receiver, study_locks, tmp_path):
    first = receiver.keep("CT", header(), b"meta", b"data").received.path
    study_locks.release(STUDY)
    again = []
    comes = threading.Thread(target=lambda: again.append(receiver.keep("CT", header(), b"meta", b"data")))
    with study_locks.removal(STUDY) as free:
        assert free
        comes.start()
        wait_until(lambda: list((tmp_path / "incoming").iterdir()), what="the instance")
        first.unlink()
        assert not again
    comes.join(10)
    assert (again[0].is_new, first.exists()) == (True, True)


def test_an_instance_that_could_not_be_kept_claims_nothing(receiver, study_locks, tmp_path):
    (tmp_path / "studies" / "CT").write_text("in the way")
    with pytest.raises(OutputError):
        receiver.keep("CT", header(), b"meta", b"data")
    assert is_free(study_locks)
