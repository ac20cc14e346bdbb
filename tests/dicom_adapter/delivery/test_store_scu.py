"""C-STORE to real archives: what is sent, what is told of each instance, what a fault looks like."""

import hashlib
import socket

import pytest
from pydicom import dcmread

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Peer
from dicom_adapter.delivery.store_scu import StoreScu, answer_of
from dicom_adapter.storage.results import find_results
from tests.dicom_adapter.destinations import Storescp, Wire, free_port
from tests.phantoms import ct_slices, save, uid_of


@pytest.fixture
def files(tmp_path):
    save(ct_slices(), tmp_path / "ct")
    return find_results(tmp_path / "ct")


def peer(port, ae_title, **changed):
    told = {"name": "ARCHIVE", "host": "127.0.0.1", "calling_ae_title": "CLARA", "timeout_s": 3.0}
    return Peer(**{**told, **changed}, port=port, ae_title=ae_title)


def send(to, files):
    told = []
    StoreScu(peer=to).send(files, lambda result, answer: told.append((result.sop_instance_uid, answer)))
    return told


def test_every_instance_reaches_orthanc_and_is_told_of(files, archive):
    told = send(peer(archive.port, archive.ae_title), files)
    assert archive.instances() == [uid_of(n) for n in range(5)]
    assert [(uid, answer.verdict, answer.status) for uid, answer in told] == [
        (each.sop_instance_uid, "accepted", "0x0000") for each in files
    ]


def test_pixel_data_arrives_as_it_lies(files, tmp_path):
    with Storescp(tmp_path / "got") as archive:
        send(peer(archive.port, archive.ae_title), files)
    sent = sorted(hashlib.sha256(each.path.read_bytes()[-640:]).hexdigest() for each in files)
    got = sorted(hashlib.sha256(p.read_bytes()[-640:]).hexdigest() for p in (tmp_path / "got").iterdir())
    assert got == sent


def test_rejected_association_says_why(files, archive):
    with pytest.raises(DestinationError, match="Called AE title"):
        send(peer(archive.port, "NOBODY"), files)


def test_nobody_there_is_told_at_once(files):
    with pytest.raises(DestinationError, match="cannot be reached; is it running"):
        send(peer(free_port(), "NOBODY"), files)


def test_one_who_accepts_connections_and_says_nothing_is_given_up(files):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = peer(silent.getsockname()[1], "SILENT", timeout_s=0.5)
        with pytest.raises(DestinationError, match=r"did not answer .* longer than 0\.5 s"):
            send(to, files)


def test_a_connection_cut_half_way_keeps_what_was_told_before(files, tmp_path):
    told = []
    with Storescp(tmp_path / "got") as archive, Wire(archive.port, cut_after=[3500]) as wire:
        scu = StoreScu(peer=peer(wire.port, archive.ae_title))
        with pytest.raises(DestinationError, match="went away"):
            scu.send(files, lambda result, answer: told.append(answer.verdict))
        assert wire.cut == 1
    assert 0 < len(told) < 5
    assert set(told) == {"accepted"}


def test_what_the_peer_does_not_take_is_refused_and_the_rest_goes_on(files, archive, tmp_path):
    odd = dcmread(files[0].path)
    odd.SOPClassUID = odd.file_meta.MediaStorageSOPClassUID = "1.2.826.0.1.3680043.10.1"
    odd.SOPInstanceUID = odd.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    odd.save_as(tmp_path / "ct/zz.dcm")
    told = dict(send(peer(archive.port, archive.ae_title), find_results(tmp_path / "ct")))
    assert len(archive.instances()) == 5
    assert told["1.2.9"].verdict == "refused"
    assert "ARCHIVE does not take" in told["1.2.9"].message


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *[(0x0000, "accepted"), (0xB000, "accepted"), (0xB007, "accepted")],
        *[(0xA700, "busy"), (0x0110, "busy")],
        *[(0xA900, "refused"), (0xC001, "refused"), (0x0122, "refused"), (0x0124, "refused")],
    ],
)
def test_a_warning_says_stored_and_only_lack_of_resources_says_later(status, verdict):
    assert answer_of(status, "ARCHIVE").verdict == verdict
