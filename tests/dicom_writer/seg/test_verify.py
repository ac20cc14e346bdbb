"""What was written wrongly is found when it is read back."""

import numpy as np
import pydicom
import pytest

from dicom_writer import write
from dicom_writer.mask.measure import measure_label
from dicom_writer.request.mask_request import request_of_mask
from dicom_writer.seg.verify import verify_segmentation
from stages import OutputError
from stages.volume.original_slices import on_original_slices
from tests import phantoms


@pytest.fixture
def verify(written, source):
    """Return what changes a written file and verifies it against the mask, or against another one."""

    def changed(change=lambda ds: None, mask=None):
        path = written()
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)
        return verify_segmentation(path, request_of_mask(mask or phantoms.mask(), source))

    return changed


def frames(ds):
    size = ds.Rows * ds.Columns * ds.NumberOfFrames
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")[:size]
    return bits.reshape(ds.NumberOfFrames, ds.Rows, ds.Columns)


def test_what_was_written_rightly_is_measured(verify):
    measured = verify()
    # 24 liver and 4 tumour voxels of 2.5 x 0.8 x 0.6 = 1.2 mm^3
    assert measured[1].volume_ml == pytest.approx(24 * 1.2 / 1000)
    assert measured[2].volume_ml == pytest.approx(4 * 1.2 / 1000)
    # tumour: slice 2, rows 4 and 5, columns 6 and 7
    assert measured[2].centroid_mm == pytest.approx([-30 + 6.5 * 0.6, 40 + 4.5 * 0.8, 100 + 2 * 2.5])


def test_a_mask_is_measured_through_its_affine():
    tumour = measure_label(on_original_slices(phantoms.mask()), 2)
    assert tumour.volume_ml == pytest.approx(4 * 1.2 / 1000)
    assert tumour.centroid_mm == pytest.approx([-26.1, 43.6, 105.0])
    assert tumour.box_mm == pytest.approx(np.array([[-26.4, 43.2, 105.0], [-25.8, 44.0, 105.0]]))
    assert measure_label(on_original_slices(phantoms.mask()), 7).centroid_mm is None


def test_one_wrong_bit_is_found(verify):
    def flip(ds):
        bits = frames(ds).copy()
        bits[0, 2, 3] ^= 1
        ds.PixelData = np.packbits(bits, bitorder="little").tobytes()

    with pytest.raises(OutputError, match=r"1 voxels of label 1 in slice 2 differ .* row 2, column 3"):
        verify(flip)


@pytest.mark.parametrize("axis", [1, 2])
def test_mirrored_frames_are_found(verify, axis):
    def mirror(ds):
        bits = np.flip(frames(ds), axis)
        ds.PixelData = np.packbits(bits, bitorder="little").tobytes()

    with pytest.raises(OutputError, match="differ from the mask"):
        verify(mirror)


def test_a_mirrored_mask_is_found(verify):
    mirrored = phantoms.mask(phantoms.labels()[:, :, ::-1].copy())
    with pytest.raises(OutputError, match="differ from the mask"):
        verify(mask=mirrored)


def test_bits_in_the_wrong_order_are_found(verify):
    def reverse(ds):
        ds.PixelData = np.packbits(frames(ds), bitorder="big").tobytes()

    with pytest.raises(OutputError, match="differ from the mask"):
        verify(reverse)


def test_a_shifted_frame_is_found(verify):
    def shift(ds):
        position = ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
        position.ImagePositionPatient = list(np.add(position.ImagePositionPatient, [0, 0, 2.5]))

    with pytest.raises(OutputError, match=r"frame 2 lies 2\.50 mm from slice"):
        verify(shift)


def test_swapped_pixel_spacing_is_found(verify):
    def swap(ds):
        ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.6, 0.8]

    with pytest.raises(OutputError, match=r"frame 1 lies .* mm from slice 2"):
        verify(swap)


def test_a_mirrored_orientation_is_found(verify):
    def mirror(ds):
        orientation = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        orientation.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]

    with pytest.raises(OutputError, match=r"frame 1 lies .* mm from slice 2"):
        verify(mirror)


def test_a_wrong_spacing_between_slices_is_found(verify):
    def stretch(ds):
        ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 3

    with pytest.raises(OutputError, match=r"segment Liver: 0\.035 ml were written, the mask has 0\.029 ml"):
        verify(stretch)


def test_swapped_segments_are_found(verify):
    def swap(ds):
        for group in ds.PerFrameFunctionalGroupsSequence:
            item = group.SegmentIdentificationSequence[0]
            item.ReferencedSegmentNumber = 3 - item.ReferencedSegmentNumber

    with pytest.raises(OutputError, match="differ from the mask"):
        verify(swap)


def test_a_wrong_reference_is_found(verify):
    def confuse(ds):
        source = ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedSOPInstanceUID = phantoms.uid_of(4)

    with pytest.raises(OutputError, match=r"frame 1 lies 7\.50 mm from slice 5"):
        verify(confuse)


def test_a_missing_frame_is_found(verify):
    def drop(ds):
        bits = frames(ds)[:-1]
        ds.NumberOfFrames -= 1
        ds.PerFrameFunctionalGroupsSequence.pop()
        ds.PixelData = np.packbits(bits, bitorder="little").tobytes()

    with pytest.raises(OutputError, match="the mask has voxels of label 2 in slice 3, which has no frame"):
        verify(drop)


def test_a_missing_reference_is_found(verify):
    def drop(ds):
        ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence.pop()

    with pytest.raises(OutputError, match="1 source images are not referenced"):
        verify(drop)


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "PatientName"])
def test_another_patient_or_study_is_found_without_naming_it(verify, keyword):
    with pytest.raises(OutputError, match=f"{keyword} of the written result is not that of its source$"):
        verify(lambda ds: setattr(ds, keyword, "9.9"))


def test_a_truncated_file_is_found(written, result_request):
    path = written()
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(OutputError, match="the written seg cannot be read back"):
        write.verify("seg", result_request(), [path])


@pytest.mark.parametrize("keyword", ["Modality", "SoftwareVersions", "SeriesInstanceUID"])
def test_a_missing_attribute_is_found(verify, keyword):
    with pytest.raises(OutputError, match=f"{keyword} is missing in the written result"):
        verify(lambda ds: setattr(ds, keyword, ""))


def test_an_instance_that_calls_itself_otherwise_than_its_file_is_found(verify):
    def rename(ds):
        ds.SOPInstanceUID = "1.2.3.9"

    with pytest.raises(OutputError, match="SOPInstanceUID of the written result is not that of its meta"):
        verify(rename)


def test_a_private_attribute_is_found(verify):
    def add(ds):
        ds.SegmentSequence[0].private_block(0x0019, "X", create=True).add_new(0x01, "LO", "private")

    with pytest.raises(OutputError, match="holds a private attribute"):
        verify(add)
