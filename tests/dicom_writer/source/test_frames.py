"""A mask of a multi-frame image becomes a segmentation that refers to its frames."""

import copy

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_reader import read_series
from dicom_writer import write_results
from dicom_writer.source.frames import frame_headers, image_key
from stages import read_volume, write_volume
from tests import phantoms
from tests.dicom_reader.files.test_enhanced import enhanced


def multi_frame(positions, uid="1.2.9"):
    """Return a header with shared orientation and spacing, and frames at these positions."""

    def item(sequence, keyword, value):
        group, inner = Dataset(), Dataset()
        setattr(inner, keyword, value)
        setattr(group, sequence, [inner])
        return group

    dataset = item("PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 0, 1, 0])
    shared = Dataset()
    shared.update(dataset)
    shared.update(item("PixelMeasuresSequence", "PixelSpacing", [0.8, 0.6]))
    image = Dataset()
    image.SOPInstanceUID, image.Rows = uid, 4
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [
        item("PlanePositionSequence", "ImagePositionPatient", position) for position in positions
    ]
    return image


def test_each_frame_has_its_own_place_and_what_all_share():
    frames = frame_headers(multi_frame([[0, 0, 5], [0, 0, 3]]))
    assert [image_key(f) for f in frames] == [("1.2.9", 1), ("1.2.9", 2)]
    assert [f.ImagePositionPatient[2] for f in frames] == [5, 3]
    assert all(
        f.ImageOrientationPatient == [1, 0, 0, 0, 1, 0] and f.PixelSpacing == [0.8, 0.6] for f in frames
    )
    assert all(f.Rows == 4 and "PerFrameFunctionalGroupsSequence" not in f for f in frames)


def two_enhanced_files(folder):
    """Write the phantom's four slices as two files of two frames, each from the higher to the lower."""
    whole = enhanced()
    frames = list(whole.PerFrameFunctionalGroupsSequence)
    size = len(whole.PixelData) // 4
    for n in range(2):
        part = copy.deepcopy(whole)
        part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{n + 1}"
        part.PerFrameFunctionalGroupsSequence, part.NumberOfFrames = frames[2 * n : 2 * n + 2], 2
        part.PixelData = whole.PixelData[2 * n * size : (2 * n + 2) * size]
        part.save_as(folder / f"IM{n}", enforce_file_format=True)
    return folder


def test_a_series_of_two_multi_frame_images_is_referred_to_frame_by_frame(tmp_path, dciodvfy_errors):
    folder = two_enhanced_files(tmp_path)
    ct = read_series(folder)
    assert np.array_equal(ct.array, phantoms.hounsfield((4, 16, 20)))
    where = [(s.sop_instance_uid, s.frame) for s in ct.origin.slices]
    assert where == [("1.2.9.2", 2), ("1.2.9.2", 1), ("1.2.9.1", 2), ("1.2.9.1", 1)]
    array = np.zeros(ct.array.shape, np.uint8)
    array[1, 5:9, 4:12] = 1
    array[2, 6, 7:9] = 2
    mask = read_volume(write_volume(phantoms.drawn_on(ct, array), tmp_path / "mask"))
    (path,) = write_results(mask, folder, tmp_path / "out")
    assert dciodvfy_errors(path) == []
    dataset = pydicom.dcmread(path)
    referenced = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert sorted(item.ReferencedSOPInstanceUID for item in referenced) == ["1.2.9.1", "1.2.9.2"]
    found = {}
    for group, bits in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        key = (image.ReferencedSOPInstanceUID, image.ReferencedFrameNumber)
        found[key] = (group.PlanePositionSequence[0].ImagePositionPatient[2], int(bits.sum()))
    assert found == {("1.2.9.2", 1): (102.5, 32), ("1.2.9.1", 2): (105.0, 2)}


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["dcmqi/23x38x3/multiframe", "dcmqi/24x38x3/multiframe"])
def test_a_real_multi_frame_ct_end_to_end(real_data, tmp_path, dciodvfy_errors, folder):
    import highdicom as hd

    ct = read_series(real_data / folder, rules=phantoms.ANY_UNITS)
    array = np.zeros(ct.array.shape, np.uint8)
    array[1:, 5:9, 4:12] = 1
    array[1, 6, 7:9] = 2
    mask = read_volume(write_volume(phantoms.drawn_on(ct, array), tmp_path / "mask"))
    (path,) = write_results(mask, real_data / folder, tmp_path / "out")
    assert dciodvfy_errors(path) == []
    (source,) = (pydicom.dcmread(p) for p in (real_data / folder).iterdir() if p.suffix == ".dcm")
    frames = [s.frame for s in ct.origin.slices]
    read = hd.seg.segread(path).get_pixels_by_source_frame(
        source.SOPInstanceUID, frames, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(read, array)
    measures = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(ct.spacing[0])
