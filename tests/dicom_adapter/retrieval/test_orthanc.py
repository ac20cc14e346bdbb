"""Studies fetched from a real Orthanc, in each way that it knows."""

import socket

import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from dicom_adapter.retrieval.study_folder import StudyFolder
from stages.errors import InputError, OutputError, SettingsError
from tests.dicom_adapter.destinations import DICOMWEB
from tests.phantoms import STUDY, ct_slices, mr_slices, uid_of

WAYS = [
    "GET",
    "MOVE",
    pytest.param("WEB", marks=pytest.mark.skipif(not DICOMWEB.exists(), reason="no DICOMweb plugin")),
]


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


def test_study_arrives_whole_and_value_by_value(orthanc, fetching, way):
    slices = [*ct_slices((7, 16, 20)), *mr_slices(3)]
    orthanc.add(*slices)
    (fetched,) = fetching.fetch(way)
    files = fetching.files(fetched)
    assert (fetched.instances, fetched.retrieved, len(files)) == (10, 10, 10)
    for each in slices:
        assert dcmread(files[each.SOPInstanceUID]) == each


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_instances_come_as_they_lie_there(orthanc, fetching, way, syntax):
    slices = ct_slices((2, 64, 64))
    for each in slices:
        each.compress(syntax, generate_instance_uid=False)
    orthanc.add(*slices)
    files = fetching.files(*fetching.fetch(way))
    for each in slices:
        found = dcmread(files[each.SOPInstanceUID])
        assert found.file_meta.TransferSyntaxUID == syntax
        assert found.PixelData == each.PixelData


def test_what_is_there_is_not_asked_for_again(orthanc, fetching, way):
    orthanc.add(*ct_slices((6, 16, 20)))
    assert [each.retrieved for each in fetching.fetch(way)] == [6]
    assert [each.retrieved for each in fetching.fetch(way)] == [0]
    orthanc.add(*ct_slices((2, 16, 20), series="1.2.3.77"))
    (late,) = fetching.fetch(way)
    assert (late.instances, late.retrieved, len(fetching.files(late))) == (8, 2, 8)


def test_interrupted_retrieval_goes_on_with_what_is_missing(orthanc, fetching, way, monkeypatch):
    orthanc.add(*ct_slices((6, 16, 20)))
    (fetched,) = fetching.fetch(way)
    job = fetching.places.test_data / fetched.job
    folder = StudyFolder(job, "reader/input", STUDY, 0o640)
    folder.begin([uid_of(n) for n in range(4)])  # as a process leaves it that was killed after four
    (folder.paths.incoming / "half").write_bytes(b"x")
    for path in [*(job / "reader/input").iterdir()]:
        path.unlink()
    (job / "reader/input").rmdir()
    (again,) = fetching.fetch(way)
    assert (again.instances, again.retrieved) == (6, 2)
    assert len(fetching.files(again)) == 6
    assert [path.name for path in job.iterdir()] == ["reader"]


def test_what_the_archive_has_no_more_goes(orthanc, fetching, way):
    orthanc.add(*ct_slices((4, 16, 20)))
    fetching.fetch(way)
    orthanc.delete(uid_of(2))
    (fetched,) = fetching.fetch(way)
    assert sorted(fetching.files(fetched)) == [uid_of(n) for n in (0, 1, 3)]


@pytest.mark.parametrize(
    "query",
    [
        {"accession": "A-1"},
        {"patient_id": "P-1", "dates": "2026-01-01.."},
        {"patient_id": "P-1", "dates": "2026-01-02", "modality": "CT"},
    ],
    ids=str,
)
def test_study_is_found_by_what_people_know(orthanc, fetching, way, query):
    orthanc.add(*ct_slices((2, 16, 20)))
    other = {"StudyInstanceUID": "1.2.9", "AccessionNumber": "A-2", "StudyDate": "20200101"}
    orthanc.add(*ct_slices((1, 16, 20), series="1.2.9.1", PatientID="P-2", **other))
    (fetched,) = fetching.fetch(way, **query)
    assert sorted(fetching.files(fetched)) == [uid_of(0), uid_of(1)]


def test_several_studies_are_fetched_only_if_all_are_meant(orthanc, fetching, way):
    orthanc.add(*ct_slices((2, 16, 20)))
    orthanc.add(*ct_slices((3, 16, 20), series="1.2.9.1", StudyInstanceUID="1.2.9", AccessionNumber="A-2"))
    with pytest.raises(SettingsError, match="2 studies match"):
        fetching.fetch(way, patient_id="P-1")
    assert fetching.left() == []
    assert fetching.fetch(way, patient_id="P-1", options={"only_list": True}) == []
    fetched = fetching.fetch(way, patient_id="P-1", options={"every": True})
    assert sorted(each.instances for each in fetched) == [2, 3]


def test_full_disk_is_told_as_such(orthanc, fetching, way):
    orthanc.add(*ct_slices((2, 16, 20)))
    fetching.storage = {"minimum-free": "1000T"}
    with pytest.raises(OutputError, match="must stay so"):
        fetching.fetch(way)


def test_port_that_is_taken_is_told_with_what_to_do(orthanc, fetching):
    orthanc.add(*ct_slices((1, 16, 20)))
    with socket.create_server(("127.0.0.1", 0)) as other:
        fetching.port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=r"name another port in dicom\.scu\.move-port"):
            fetching.fetch("MOVE")


def test_study_that_is_not_there_is_told(orthanc, fetching, way):
    with pytest.raises(InputError, match="no such study is there"):
        fetching.fetch(way)


def test_identity_is_shown_only_if_that_is_asked_for(orthanc, fetching, way):
    orthanc.add(*ct_slices((2, 16, 20), StudyDescription="Leberläsion", SpecificCharacterSet="ISO_IR 100"))
    secrets = ["Doe", "P-1", "19500101", "A-1", "20260102", STUDY, "Leberläsion"]
    fetching.fetch(way)
    assert not [word for word in secrets if word in " ".join(fetching.lines)]
    fetching.fetch(way, options={"only_list": True, "show_identifiers": True})
    assert [word for word in secrets if word not in " ".join(fetching.lines)] == []
