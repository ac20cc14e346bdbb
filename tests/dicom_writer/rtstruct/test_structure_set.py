"""The mask as an RT Structure Set."""

import numpy as np
import pydicom
import pytest

from dicom_writer import Provenance, write_results
from dicom_writer.rtstruct.structure_set import RtstructResult
from dicom_writer.rtstruct.verify import verify_rtstruct
from stages import OutputError
from tests import phantoms
from tests.dicom_writer import peers
from tests.dicom_writer.test_corrected import CASES, mask_on, series


@pytest.fixture
def structures(source, tmp_path):
    """Return what writes a mask as a structure set and gives the data set."""

    def write(array=None, **how):
        (path,) = write_results(phantoms.mask(array), source, tmp_path / "out", results=["rtstruct"], **how)
        return pydicom.dcmread(path)

    return write


def test_each_label_is_a_region_in_its_colour(structures):
    dataset = structures()
    assert [r.ROIName for r in dataset.StructureSetROISequence] == ["Liver", "Liver tumour"]
    assert [list(r.ROIDisplayColor) for r in dataset.ROIContourSequence] == [[221, 130, 101], [255, 205, 60]]
    assert [o.RTROIInterpretedType for o in dataset.RTROIObservationsSequence] == ["ORGAN", ""]
    assert [o.RTROIIdentificationCodeSequence[0].CodeValue for o in dataset.RTROIObservationsSequence] == [
        "10200004",
        "108369006",
    ]
    assert dataset.ApprovalStatus == "UNAPPROVED"


def test_the_tumour_is_the_box_along_the_edges_of_its_pixels(structures):
    # slice 2, rows 4 and 5, columns 6 and 7; the first pixel at (-30, 40, 100), 0.6 and 0.8 mm apart
    _, tumour = structures().ROIContourSequence
    (contour,) = tumour.ContourSequence
    assert contour.ContourGeometricType == "CLOSED_PLANAR"
    assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == phantoms.uid_of(2)
    corners = sorted(map(tuple, np.reshape(np.array(contour.ContourData, float), (-1, 3))))
    x, y, z = (-26.7, -25.5), (42.8, 44.4), 105.0
    assert np.allclose(corners, [(x[0], y[0], z), (x[0], y[1], z), (x[1], y[0], z), (x[1], y[1], z)])


def test_all_images_are_referenced(structures):
    (frame,) = structures().ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (of,) = study.RTReferencedSeriesSequence
    assert (study.ReferencedSOPInstanceUID, of.SeriesInstanceUID) == (phantoms.STUDY, phantoms.SERIES)
    assert [i.ReferencedSOPInstanceUID for i in of.ContourImageSequence] == [
        phantoms.uid_of(n) for n in range(5)
    ]


def test_a_hole_and_the_island_in_it_stay_what_they_are(structures, empty):
    empty[2, 2:13, 3:16] = 1
    empty[2, 4:11, 5:14] = 0
    empty[2, 6:8, 8:10] = 1
    liver, _ = structures(empty).ROIContourSequence
    assert len(liver.ContourSequence) == 2
    flat = [np.reshape(np.array(c.ContourData, float), (-1, 3))[:, :2] for c in liver.ContourSequence]
    inside = {
        (r, c)
        for r in range(16)
        for c in range(20)
        if sum(abs(peers.turns_around(p, (-30 + 0.6 * c, 40 + 0.8 * r))) > 0.5 for p in flat) == 1
    }
    assert inside == {tuple(map(int, at)) for at in np.argwhere(empty[2])}


def test_an_outline_of_any_length_fits(tmp_path):
    pierced = np.zeros((1, 200, 200), np.uint8)
    pierced[0, 1:-1, 1:-1] = 1
    pierced[0, 2:-2:2, 2:-2:2] = 0  # 98 x 98 holes of four corners
    source = phantoms.save(phantoms.ct_slices(pierced.shape), tmp_path / "source")
    (path,) = write_results(phantoms.mask(pierced), source, tmp_path / "out", results=["rtstruct"])
    liver, _ = pydicom.dcmread(path).ROIContourSequence
    (contour,) = liver.ContourSequence
    assert contour.NumberOfContourPoints > 4 * 98 * 98
    assert len(contour.get_item("ContourData").value) > 10 * 2**16


def test_a_label_without_a_voxel_is_a_region_without_contours(structures, empty):
    empty[2, 4:6, 4:6] = 1
    dataset = structures(empty)
    assert [r.ROIName for r in dataset.StructureSetROISequence] == ["Liver", "Liver tumour"]
    assert ["ContourSequence" in r for r in dataset.ROIContourSequence] == [True, False]
    assert dataset.StructureSetDescription == "Liver, no liver tumour found"


def test_an_empty_mask_has_no_structure_set_and_the_others_say_so(source, tmp_path, empty, caplog):
    # OHIF waits for ever for contours that are not there
    paths = write_results(phantoms.mask(empty), source, tmp_path, results=["seg", "rtstruct"])
    assert [path.name for path in paths] == [f"{phantoms.SERIES}.seg.dcm"]
    assert "nothing to write as rtstruct: no label has a voxel" in caplog.text
    assert write_results(phantoms.mask(empty), source, tmp_path, results=["rtstruct"]) == []


def test_a_structure_set_of_an_earlier_run_does_not_outlive_an_empty_mask(source, tmp_path, empty):
    write_results(phantoms.mask(), source, tmp_path, results=["rtstruct"])
    write_results(phantoms.mask(empty), source, tmp_path, results=["rtstruct"])
    assert list(tmp_path.glob("*.dcm")) == []


def test_equal_content_has_the_same_uid(structures):
    one, again, other = (structures(provenance=Provenance(algorithm_version=version)) for version in "112")
    assert one.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID == again.SeriesInstanceUID != phantoms.SERIES


def one_point_away(contour):
    points = np.array(contour.ContourData, float)
    points[0] += 0.7  # x alone
    contour.ContourData = list(points)


def off_its_plane(contour):
    contour.ContourData = list(np.array(contour.ContourData, float) + [0, 0, 0.3] * 4)


def on_another_image(contour):
    contour.ContourImageSequence[0].ReferencedSOPInstanceUID = phantoms.uid_of(1)


def open_line(contour):
    contour.ContourGeometricType = "OPEN_PLANAR"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_point_away, "Liver tumour: 0.*ml were written|1 pixels in slice 3"),
        (off_its_plane, "contour of Liver tumour lies 0.30 mm off slice 3"),
        (on_another_image, "has Liver tumour in slice 3, which has no contour"),
        (open_line, "is OPEN_PLANAR"),
    ],
)
def test_a_contour_that_was_changed_is_refused(result_request, tmp_path, damage, message):
    what = result_request()
    (path,) = RtstructResult().make(what, tmp_path)
    dataset = pydicom.dcmread(path)
    damage(dataset.ROIContourSequence[1].ContourSequence[0])
    dataset.save_as(path)
    with pytest.raises(OutputError, match=message):
        verify_rtstruct(path, what)


@pytest.mark.parametrize("case", CASES)
def test_contours_of_a_corrected_series_lie_on_the_slices_as_acquired(tmp_path, dciodvfy_errors, case):
    from stages.volume.original_slices import on_original_slices

    source = series(tmp_path / "source", **CASES[case])
    mask = mask_on(source, tmp_path)
    (path,) = write_results(mask, source, tmp_path / "out", results=["rtstruct"])
    assert dciodvfy_errors(path) == []
    images = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, source.rglob("IM*"))}
    masks = on_original_slices(mask)
    filled = np.zeros_like(masks.array)
    for number, region in enumerate(pydicom.dcmread(path).ROIContourSequence, start=1):
        for contour in region.ContourSequence:
            uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            x, y, z = map(float, images[uid].ImagePositionPatient)
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            assert np.allclose(points[:, 2], z, atol=1e-3)
            plane = filled[masks.sop_instance_uids.index(uid)]
            for r, c in np.argwhere(plane == 0):
                if abs(peers.turns_around(points[:, :2], (x + 0.6 * c, y + 0.8 * r))) > 0.5:
                    plane[r, c] = number
    assert np.array_equal(filled, masks.array)
