"""A mask on a corrected grid becomes a segmentation of the original slices, as they were acquired."""

import numpy as np
import pydicom
import pytest

from dicom_reader import read_series
from dicom_writer import write_results
from stages import OutputError, read_volume, write_volume
from stages.volume.original_slices import on_original_slices
from tests import phantoms

SHAPE = (10, 40, 36)


def series(folder, *, slope=0.0, heights=None):
    """Write slices that advance sideways by a share of their height; 2.5 mm apart unless told."""
    heights = 2.5 * np.arange(SHAPE[0]) if heights is None else heights
    slices = phantoms.ct_slices(SHAPE)
    for ds, height in zip(slices, heights, strict=True):
        ds.ImagePositionPatient = [-30, round(40 + slope * float(height), 6), 100 + float(height)]
    return phantoms.save(slices, folder)


def mask_on(folder, tmp_path):
    """Return a mask of two ellipsoids on the grid of the series, written and read as a stage does."""
    volume = read_series(folder)
    k, r, c = np.indices(volume.array.shape)
    centre = (np.array(volume.array.shape) - 1) / 2
    far = ((k - centre[0]) / 4) ** 2 + ((r - centre[1]) / 14) ** 2 + ((c - centre[2]) / 13) ** 2
    array = np.where(far < 0.5, 2, far < 1).astype(np.uint8)
    return read_volume(write_volume(phantoms.drawn_on(volume, array), tmp_path / "mask"))


UNEVEN = np.cumsum([0, *[2.5] * 5, *[4.0] * 4])
CASES = {
    "tilt": {"slope": 0.3},
    "other tilt": {"slope": -0.3},
    "uneven": {"heights": UNEVEN},
    "both": {"slope": 0.3, "heights": UNEVEN},
}


@pytest.fixture(params=CASES)
def made(request, tmp_path):
    """Return source folder, mask and the file written of it."""
    source = series(tmp_path / "source", **CASES[request.param])
    mask = mask_on(source, tmp_path)
    (path,) = write_results(mask, source, tmp_path / "out")
    return source, mask, path


def test_each_frame_lies_where_its_source_image_lies(made):
    source, _, path = made
    images = {
        ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, (p for p in source.rglob("IM*") if p.is_file()))
    }
    dataset = pydicom.dcmread(path)
    assert (dataset.Rows, dataset.Columns) == SHAPE[1:]
    assert dataset.NumberOfFrames > 8
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        image = images[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(position, image.ImagePositionPatient, atol=1e-6)


def test_highdicom_gives_back_what_was_drawn_on_each_image(made):
    import highdicom as hd

    _, mask, path = made
    masks = on_original_slices(mask)
    read = hd.seg.segread(path).get_pixels_by_source_instance(
        list(masks.sop_instance_uids), combine_segments=True
    )
    assert np.array_equal(read, masks.array)


def test_mask_series_and_label_map_lie_on_the_slices_as_acquired(made, tmp_path):
    import highdicom as hd

    source, mask, _ = made
    labelmap, *paths = write_results(mask, source, tmp_path / "more", results=["labelmap", "series"])
    masks = on_original_slices(mask)
    sources = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, source.rglob("IM*"))}
    assert len(paths) == len(sources) == 10
    for path, uid, plane in zip(paths, masks.sop_instance_uids, masks.array, strict=True):
        image = pydicom.dcmread(path)
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == uid
        assert image.ImagePositionPatient == sources[uid].ImagePositionPatient
        assert np.array_equal(image.pixel_array, plane)
    read = hd.seg.segread(labelmap).get_pixels_by_source_instance(
        list(masks.sop_instance_uids), combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(read, masks.array)


def test_volume_and_place_are_those_of_the_mask(made):
    from stages.volume.geometry import points_at

    _, mask, path = made
    dataset = pydicom.dcmread(path)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: dataset.NumberOfFrames * 40 * 36].reshape(-1, 40, 36)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    volume = np.zeros(3)
    moment = np.zeros((3, 3))
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        measures = group.get("PixelMeasuresSequence", shared.get("PixelMeasuresSequence"))[0]
        row_mm, column_mm = measures.PixelSpacing
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        mm3 = frame.sum() * row_mm * column_mm * measures.SliceThickness
        rows, columns = np.nonzero(frame)
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        volume[segment] += mm3
        moment[segment] += mm3 * np.array([x + columns.mean() * column_mm, y + rows.mean() * row_mm, z])
    for label in (1, 2):
        meant = mask.array == label
        assert volume[label] == pytest.approx(meant.sum() * mask.voxel_volume_mm3, rel=0.15)
        centroid = points_at(mask.affine, np.argwhere(meant)).mean(axis=0)
        assert np.abs(moment[label] / volume[label] - centroid).max() < 0.5


def test_dciodvfy_finds_no_error(made, dciodvfy_errors):
    assert dciodvfy_errors(made[2]) == []


def test_a_finding_that_came_to_lie_elsewhere_is_never_written(tmp_path, monkeypatch):
    from dataclasses import replace

    from dicom_writer.request import mask_request

    source = series(tmp_path / "source", slope=0.3)
    mask = mask_on(source, tmp_path)

    def turned(mask):
        masks = on_original_slices(mask)
        return replace(masks, array=np.roll(masks.array, 12, axis=1))

    monkeypatch.setattr(mask_request, "on_original_slices", turned)
    with pytest.raises(
        OutputError, match=r"segment Liver came to lie \d+\.\d\d mm from where the mask has it"
    ):
        write_results(mask, source, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("attributes", "left"),
    [
        ({"PatientAge": "0Y"}, {"PatientAge": None}),
        ({"PatientAge": "050Y"}, {"PatientAge": "050Y"}),
        (
            {"PatientIdentityRemoved": "YES", "DeidentificationMethod": ""},
            {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "not stated in the source"},
        ),
    ],
)
def test_what_would_make_the_result_invalid_is_left_out_or_filled(
    tmp_path, dciodvfy_errors, attributes, left, caplog
):
    from pydicom import config

    with config.disable_value_validation():
        slices = phantoms.ct_slices(**attributes)
        source = phantoms.save(slices, tmp_path / "source")
    (path,) = write_results(phantoms.mask(), source, tmp_path / "out")
    dataset = pydicom.dcmread(path)
    assert {keyword: dataset.get(keyword) for keyword in left} == left
    assert dciodvfy_errors(path) == []
    assert ("of the source is" in caplog.text) == (attributes.get("PatientAge") != "050Y")
