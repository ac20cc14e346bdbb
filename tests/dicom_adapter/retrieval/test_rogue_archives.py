"""Archives that say or send what they were not asked for: one line, one exit code, and nothing to run on."""

import ssl
from copy import deepcopy
from itertools import count

import pytest
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_adapter.retrieval import query_scu
from dicom_files.dataset import lenient
from stages.errors import StageError
from tests.dicom_adapter.destinations import free_port
from tests.dicom_adapter.faulty_peers import FaultyPeer, drip, noise, reset, silence
from tests.dicom_adapter.retrieval.rogue_archive import RogueArchive, answer
from tests.phantoms import STUDY, ct_slices, uid_of

SECRETS = ("P-1", "Doe", "A-1", STUDY, "P-2", "19500101")


@pytest.fixture
def rogue():
    with RogueArchive().running() as archive:
        yield archive


@pytest.fixture
def refused(fetching):
    """Return what fetches from an archive and returns the exit code and the line that follow."""
    fetching.timeout_s = 1

    def fetch(port, **query):
        keys = {key: query.pop(key) for key in ("tls", "retrieve") if key in query}
        fetching.destinations = []
        fetching.add("PACS", **{"host-ip": "127.0.0.1", "port": port, "ae-title": "ROGUE", **keys})
        with pytest.raises(StageError) as error:
            fetching.fetch("PACS", **query)
        line = str(error.value)
        assert not [word for word in SECRETS if word in line]
        assert "\n" not in line
        assert not [path for path in fetching.left() if "reader" in path.parts]
        return error.value.exit_code, line

    return fetch


def test_honest_archive_gives_the_study(rogue, fetching):
    fetching.add("PACS", **{"host-ip": "127.0.0.1", "port": rogue.port, "ae-title": "ROGUE"})
    (fetched,) = fetching.fetch("PACS")
    assert sorted(fetching.files(fetched)) == [uid_of(n) for n in range(4)]
    fetching.fetch("PACS")
    assert rogue.asked.count("C-GET") == 1


ANSWERS = {
    "another study": ({"StudyInstanceUID": "1.2.9"}, {}, 3, "a study of another StudyInstanceUID"),
    "another patient": ({"PatientID": "P-2"}, {"patient_id": "P-1"}, 3, "a study of another Patient ID"),
    "another number": ({"AccessionNumber": "A-2"}, {"accession": "A-1"}, 3, "another Accession Number"),
    "another day": (
        {"StudyDate": "20200101"},
        {"accession": "A-1", "dates": "2026-01-01.."},
        3,
        "another date",
    ),
    "a path for a UID": ({"StudyInstanceUID": "../../etc"}, {"accession": "A-1"}, 3, "is no UID"),
    "no UID": ({"StudyInstanceUID": ""}, {"accession": "A-1"}, 3, "it is missing or empty"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answer_that_is_not_what_was_asked_for(rogue, refused, case):
    changed, query, code, words = ANSWERS[case]
    known = {"StudyInstanceUID": STUDY, "PatientID": "P-1", "AccessionNumber": "A-1", "StudyDate": "20260102"}
    rogue.studies = lambda: [answer(**{**known, **changed})]
    found, line = refused(rogue.port, **query)
    assert (found, words in line) == (code, True), line
    assert "C-GET" not in rogue.asked


def test_archive_that_does_not_match_by_modality_is_looked_through(rogue, fetching):
    known = {"PatientID": "P-1", "StudyDate": "20260102"}
    others = [answer(StudyInstanceUID=f"1.2.{n}", ModalitiesInStudy=["MR", "SR"], **known) for n in (7, 8)]
    meant = answer(StudyInstanceUID=STUDY, ModalitiesInStudy=["CT", "SR"], **known)
    rogue.studies = lambda: [*others, meant]
    fetching.add("PACS", **{"host-ip": "127.0.0.1", "port": rogue.port, "ae-title": "ROGUE"})
    assert [each.instances for each in fetching.fetch("PACS", patient_id="P-1", modality="ct")] == [4]


def test_endless_answers_end(rogue, refused):
    rogue.studies = lambda: (answer(StudyInstanceUID=f"1.2.{n}", PatientID="P-1") for n in count())
    code, line = refused(rogue.port, patient_id="P-1")
    assert code == 5
    assert "finds more than 1000, or does not end" in line


def test_endless_instances_end(rogue, refused, monkeypatch):
    monkeypatch.setattr(query_scu, "MOST_INSTANCES", 3)
    assert refused(rogue.port)[0] == 5


def test_fewer_instances_listed_than_counted(rogue, refused):
    rogue.count = 9
    code, line = refused(rogue.port)
    assert code == 3
    assert "has 9 instances and lists 4; is it still arriving" in line


def test_nothing_listed(rogue, refused):
    rogue.studies = lambda: [answer(StudyInstanceUID=STUDY)]
    rogue.holds = []
    assert refused(rogue.port) == (3, refused(rogue.port)[1])
    assert "lists no instance of the study" in refused(rogue.port)[1]


def changed(n, **attributes):
    """Return an instance of the series with other values."""
    found = deepcopy(ct_slices((4, 16, 20))[n])
    with lenient():
        for keyword, value in attributes.items():
            setattr(found, keyword, value)
    return found


SENT = {
    "another study": ([changed(0, StudyInstanceUID="1.2.9")], 3, "an instance of another study"),
    "another patient": ([changed(0, PatientID="P-2")], 3, "an instance of another patient"),
    "another series": ([changed(0, SeriesInstanceUID="1.2.8")], 3, "an instance of another series"),
    "not listed": ([changed(0, SOPInstanceUID="1.2.7")], 3, "an instance that it did not list"),
    "a path": ([changed(0, StudyInstanceUID="/etc/passwd")], 3, "is no UID"),
    "two that differ": ([changed(0), changed(0, PatientSex="M")], 3, "two instances of one SOPInstanceUID"),
    "too few": ([changed(0), changed(1)], 5, "lists 4 instances and sent 2; the same command asks"),
}


@pytest.mark.parametrize("way", ["get", "move"])
@pytest.mark.parametrize("case", SENT)
def test_instances_that_were_not_asked_for(rogue, refused, fetching, case, way):
    rogue.sends, code, words = SENT[case]
    fetching.port = rogue.calls = free_port()
    found, line = refused(rogue.port, retrieve=way)
    assert (found, words in line) == (code, True), line


def test_archive_that_sends_nothing(rogue, refused):
    rogue.sends = []
    code, line = refused(rogue.port)
    assert (code, "lists 4 instances and sent 0" in line) == (5, True), line


def test_what_came_before_a_refusal_is_not_asked_for_twice(rogue, fetching, refused):
    rogue.sends = [changed(0), changed(1)]
    refused(rogue.port)
    rogue.sends = ct_slices((4, 16, 20))
    (fetched,) = fetching.fetch("PACS")
    assert (fetched.retrieved, len(fetching.files(fetched))) == (2, 4)


@pytest.mark.parametrize(
    ("status", "words"), [(0xA900, "identifier"), (0xA700, "resources"), (0xC123, "0xC123")]
)
def test_refused_query_is_told_with_its_status(rogue, refused, status, words):
    rogue.status = status
    code, line = refused(rogue.port)
    assert (code, words in line) == (5, True), line


@pytest.mark.parametrize("at", ["C-FIND", "C-GET"])
def test_archive_that_falls_silent_has_an_exit_code_of_its_own(rogue, refused, at):
    rogue.hangs_at = at
    code, line = refused(rogue.port)
    assert (code, "longer than 1" in line) == (4, True), line


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ([StudyRootQueryRetrieveInformationModelFind], "does not answer queries"),
        (
            [StudyRootQueryRetrieveInformationModelGet, StudyRootQueryRetrieveInformationModelMove],
            "answers neither C-GET nor C-MOVE",
        ),
    ],
)
def test_archive_without_a_service_is_told(refused, without, words):
    archive = RogueArchive()
    for each in without:
        archive.forget_context(each)
    with archive.running():
        code, line = refused(archive.port)
    assert (code, words in line) == (5, True), line


def test_archive_that_gives_no_role_for_images_is_told(refused, rogue):
    archive = RogueArchive()
    for each in list(archive._ae.supported_contexts):
        each.scu_role = each.scp_role = None
    with archive.running():
        code, line = refused(archive.port, retrieve="get")
    assert (code, "does not send CT Image Storage by C-GET" in line) == (5, True), line


def test_nobody_there(refused):
    code, line = refused(free_port())
    assert (code, "cannot be reached" in line) == (5, True)


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (silence, 4),
        (lambda wire: drip(wire, b"\2\0\0\0\x40\0" + bytes(2000)), 4),
        (reset, 5),
        (lambda wire: wire.sendall(noise(4096)), 5),
    ],
    ids=["silent", "dripping", "resetting", "noisy"],
)
def test_peer_that_is_no_archive(refused, behave, code):
    with FaultyPeer(behave) as peer:
        assert refused(peer.port)[0] == code


def test_certificate_that_nobody_vouches_for(refused, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "stranger.pem", certificates / "stranger.key")
    with RogueArchive().running(ssl_context=context) as archive:
        code, line = refused(archive.port, tls={"authorities": str(certificates / "server.pem")})
        assert (code, "shows a certificate that we do not trust" in line) == (5, True), line
        code, line = refused(archive.port, tls={"authorities": str(certificates / "nowhere.pem")})
        assert (code, "is no file" in line) == (2, True), line


def test_study_comes_over_tls_of_both_sides(fetching, certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "client.pem")
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    tls = {"authorities": "server.pem", "certificate": "client.pem", "key": "client.key"}
    tls = {key: str(certificates / name) for key, name in tls.items()}
    with RogueArchive().running(ssl_context=context) as archive:
        fetching.add(
            "PACS", **{"host-ip": "127.0.0.1", "port": archive.port, "ae-title": "ROGUE", "tls": tls}
        )
        (fetched,) = fetching.fetch("PACS")
    assert len(fetching.files(fetched)) == 4
