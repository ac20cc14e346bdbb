"""A study is either received or removed, never both at a time."""

import threading

import pytest

from dicom_adapter.storage.instance_header import Header
from dicom_adapter.storage.paths import AdapterPlaces
from dicom_adapter.storage.receiver import Receiver, sweep
from dicom_adapter.storage.study_locks import Claims
from stages.errors import OutputError
from tests.dicom_adapter.destinations import wait_until

STUDY = ("CT", "1.2.3")


def header(uid="1.2.3.4"):
    return Header(
        study_uid=STUDY[1],
        series_uid="1.2.5",
        sop_instance_uid=uid,
        sop_class_uid="1.2",
        modality="CT",
        series_description="",
    )


@pytest.fixture
def claims():
    return Claims()


@pytest.fixture
def receiver(tmp_path, claims):
    places = AdapterPlaces(root=tmp_path)
    sweep(places)
    return Receiver(places, minimum_free=0, claims=claims)


def is_free(claims):
    with claims.removal(STUDY) as free:
        return free


def test_what_is_claimed_twice_is_free_after_the_second_drop(claims):
    claims.take(STUDY)
    claims.take(STUDY)
    claims.drop(STUDY)
    assert not is_free(claims)
    claims.drop(STUDY)
    assert is_free(claims)


def test_a_removal_that_was_refused_keeps_nobody_waiting(claims):
    claims.take(STUDY)
    with claims.removal(STUDY) as free:
        assert not free
        claims.take(STUDY)


def test_who_claims_another_study_does_not_wait(claims):
    with claims.removal(STUDY):
        claims.take(("MR", STUDY[1]))
    assert is_free(claims)


def test_an_instance_that_comes_again_while_it_is_removed_is_kept_anew(receiver, claims, tmp_path):
    first = receiver.keep("CT", header(), b"meta", b"data").received.path
    claims.drop(STUDY)
    again = []
    comes = threading.Thread(target=lambda: again.append(receiver.keep("CT", header(), b"meta", b"data")))
    with claims.removal(STUDY) as free:
        assert free
        comes.start()
        wait_until(lambda: list((tmp_path / "incoming").iterdir()), what="the instance")
        first.unlink()
        assert not again
    comes.join(10)
    assert (again[0].is_new, first.exists()) == (True, True)


def test_an_instance_that_could_not_be_kept_claims_nothing(receiver, claims, tmp_path):
    (tmp_path / "studies" / "CT").write_text("in the way")
    with pytest.raises(OutputError):
        receiver.keep("CT", header(), b"meta", b"data")
    assert is_free(claims)
