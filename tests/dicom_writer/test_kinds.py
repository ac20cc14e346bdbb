"""Every kind of result, of every series that can be read: valid, and from a PACS the same as it went in."""

import io
import json
import shutil
import subprocess
import time
import urllib.request
from dataclasses import replace
from datetime import datetime

import numpy as np
import pydicom
import pytest
from PIL import Image

from dicom_reader import read_series
from dicom_writer import write_results
from dicom_writer.kinds import RESULT_KINDS
from dicom_writer.request.mask_request import request_of_mask
from stages import Origin, Volume, read_volume, write_volume
from tests import phantoms
from tests.dicom_writer import letters, peers
from tests.dicom_writer.series.test_mask_series import corner_mask
from tests.ports import free_port

KINDS = tuple(name for name in RESULT_KINDS if name != "volume")
LABELMAP_COMPLAINTS = {"Error - Information Object Not found"}
"""What dciodvfy of 2022 says of a label map, which is younger."""

SERIES = (
    "dcm_qa_ct_GE/GE",
    "dcmqi/23x38x3/image",
    "dcmqi/23x38x3/multiframe",
    "dcmqi/24x38x3/image",
    "dcmqi/24x38x3/multiframe",
    "dcmqi/ct-3slice",
    "dicom2nifti_failing/gantrytilting/001",
    "totalseg/example_ct_dicom",
)
SINGLE_FILES = (
    *("JPEG2000LosslessOnly", "JPEG2000T", "JPEGLSLossless", "JPEGLSLossy", "JPEGProcess14SV1"),
    *("JPEGProcess14T", "JPEGProcess1T", "JPEGProcess2_4", "RLE", "Deflated", "BigEndian"),
)


def test_no_two_kinds_have_the_same_series_number():
    offsets = [kind.series_number_offset for kind in RESULT_KINDS.values()]
    assert offsets
    assert len(set(offsets)) == len(offsets)


def all_errors(paths, dciodvfy_errors):
    """Return what dciodvfy says of results, less what is known of label maps."""
    return {
        error
        for path in paths
        for error in dciodvfy_errors(path)
        if not (path.name.endswith(".labelmap.dcm") and error in LABELMAP_COMPLAINTS)
    }


@pytest.mark.real_data
@pytest.mark.parametrize("folder", SERIES)
@pytest.mark.slow
def test_every_kind_of_every_real_series_is_valid(real_data, tmp_path, dciodvfy_errors, folder):
    ct = read_series(real_data / folder, rules=phantoms.ANY_UNITS)
    mask = read_volume(write_volume(corner_mask(ct), tmp_path / "mask"))
    paths = write_results(mask, real_data / folder, tmp_path / "out", results=KINDS)
    assert len(paths) >= 5 + len(ct.origin.slices) + 1
    assert all_errors(paths, dciodvfy_errors) == set()


@pytest.mark.real_data
@pytest.mark.parametrize("name", SINGLE_FILES)
def test_every_kind_is_valid_whatever_the_transfer_syntax(real_data, tmp_path, dciodvfy_errors, name):
    (path,) = (real_data / "transfer_syntaxes").glob(f"CTImage.dcm_{name}*")
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(path, source)
    paths = write_results(mask_of_one(pydicom.dcmread(path)), source, tmp_path / "out", results=KINDS)
    assert all_errors(paths, dciodvfy_errors) == set()


def mask_of_one(image):
    """Return a mask on a single axial image, which the reader does not take for a volume."""
    row_mm, column_mm = map(float, image.PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, column_mm], [0, row_mm, 0], [5.0, 0, 0]])
    affine[:3, 3] = [float(v) for v in image.ImagePositionPatient]
    array = np.zeros((1, image.Rows, image.Columns), np.uint8)
    array[0, 200:260, 150:280], array[0, 220:230, 160:200] = 1, 2
    origin = Origin(series_instance_uid=str(image.SeriesInstanceUID), labels=phantoms.LABELS)
    return Volume(array=array, affine=affine, origin=origin)


@pytest.mark.parametrize("orientation", letters.ORIENTATIONS)
def test_every_kind_is_valid_in_every_orientation(tmp_path, dciodvfy_errors, orientation):
    source, mask = letters.series_and_mask(tmp_path / "source", letters.ORIENTATIONS[orientation])
    paths = write_results(mask, source, tmp_path / "out", results=KINDS)
    assert all_errors(paths, dciodvfy_errors) == set()


def test_every_kind_of_an_empty_mask_is_valid_and_says_so(source, tmp_path, dciodvfy_errors, empty):
    paths = write_results(phantoms.mask(empty), source, tmp_path / "out", results=KINDS)
    assert all_errors(paths, dciodvfy_errors) == set()
    assert not [path for path in paths if ".rtstruct" in path.name]  # there are no contours of nothing
    for path in paths:
        assert pydicom.dcmread(path).SeriesDescription.endswith("No liver or liver tumour found"), path.name


def test_every_kind_is_a_series_of_its_own_of_the_patient(source, tmp_path):
    paths = write_results(phantoms.mask(), source, tmp_path / "out", results=KINDS)
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    assert len({ds.SeriesInstanceUID for ds in heads}) == len(KINDS)
    assert len({ds.SeriesNumber for ds in heads}) == len(KINDS)
    assert len({ds.SeriesDescription for ds in heads}) == len(KINDS)
    assert len({ds.SOPInstanceUID for ds in heads}) == len(paths)
    assert {(str(ds.PatientName), ds.PatientID, ds.StudyInstanceUID) for ds in heads} == {
        ("Doe^Jane", "P-1", phantoms.STUDY)
    }
    for ds in heads:
        assert ds.ContributingEquipmentSequence[-1].ManufacturerModelName
        assert not [element for element in ds.iterall() if element.tag.is_private]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """Start an Orthanc on a free port of the loopback, and return what asks it."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed")
    folder = tmp_path_factory.mktemp("orthanc")
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": port,
        "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomServerEnabled": False, "Plugins": [],
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))

    def ask(path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    log = (folder / "log").open("wb")
    server = subprocess.Popen([program, str(folder / "settings.json")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                ask("/system")
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
        yield ask
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture(scope="module")
def stored(orthanc, tmp_path_factory):
    """Send every kind of result to Orthanc, and return mask, source and what came back, by kind."""
    folder = tmp_path_factory.mktemp("stored")
    source, mask = letters.series_and_mask(folder / "source", letters.ORIENTATIONS["oblique"])
    back, ids = {}, {}
    for kind in KINDS:
        paths = write_results(mask, source, folder / "out", results=[kind])
        for path in paths:
            if f".{kind}" not in str(path.relative_to(folder / "out")):
                continue  # the segmentation that comes with a report
            answer = json.loads(orthanc("/instances", path.read_bytes()))
            assert answer["Status"] in ("Success", "AlreadyStored")
            kept = folder / "back" / path.relative_to(folder / "out")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(orthanc(f"/instances/{answer['ID']}/file"))
            back.setdefault(kind, []).append(kept)
            ids.setdefault(kind, []).append(answer["ID"])
    return source, mask, back, ids


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_back_from_a_pacs_is_what_was_verified(stored, kind):
    source, mask, back, _ = stored
    head = pydicom.dcmread(back[kind][0], stop_before_pixels=True)
    made = datetime.strptime(head.ContentDate + head.ContentTime, "%Y%m%d%H%M%S.%f")
    measured = RESULT_KINDS[kind].verify(replace(request_of_mask(mask, source), moment=made), back[kind])
    assert set(measured) in ({1, 2}, set())


@pytest.mark.parametrize("kind", ["seg", "labelmap", "series", "rtstruct"])
def test_the_mask_that_comes_back_stands_where_the_patient_has_it(stored, kind):
    _, mask, back, _ = stored
    points, labels = peers.voxels_of(kind, back[kind])
    assert np.array_equal(labels, letters.label_at(points))
    assert np.bincount(labels)[1:].tolist() == np.bincount(mask.array.ravel())[1:].tolist()


def test_orthanc_files_all_kinds_under_the_study(orthanc, stored):
    _, _, _, ids = stored
    studies = {
        json.loads(orthanc(f"/instances/{one}/study"))["ID"] for those in ids.values() for one in those
    }
    (study,) = studies
    found = {
        json.loads(orthanc(f"/series/{series}"))["MainDicomTags"]["Modality"]
        for series in json.loads(orthanc(f"/studies/{study}"))["Series"]
    }
    assert found == {"SEG", "CT", "RTSTRUCT", "SR", "OT", "DOC"}


def test_orthanc_shows_the_capture(orthanc, stored):
    _, _, back, ids = stored
    png = orthanc(f"/instances/{ids['capture'][0]}/preview")
    shown = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
    assert np.array_equal(shown, pydicom.dcmread(back["capture"][0]).pixel_array)


def test_orthanc_hands_out_the_page(orthanc, stored):
    from pypdf import PdfReader

    _, _, _, ids = stored
    (page,) = PdfReader(io.BytesIO(orthanc(f"/instances/{ids['pdf'][0]}/pdf"))).pages
    assert "AI segmentation: Liver and liver tumour" in page.extract_text()
