"""What the label map says, and that other programs read it."""

import highdicom as hd
import numpy as np
import pydicom
import pytest

from dicom_writer.request.result_request import Options
from dicom_writer.seg.labelmap import rle_frame
from stages import SettingsError
from tests import phantoms


@pytest.mark.parametrize("compression", [None, "none", "rle", "deflate"])
@pytest.mark.parametrize("keep", [True, False])
def test_pydicom_and_highdicom_give_back_the_mask(written, compression, keep):
    path = written(results=["labelmap"], options=Options(compression=compression, keep_empty_frames=keep))
    dataset = pydicom.dcmread(path)
    name = {None: "RLE Lossless", "none": "Explicit VR Little Endian", "rle": "RLE Lossless"}
    syntax = name.get(compression, "Deflated Explicit VR Little Endian")
    assert dataset.file_meta.TransferSyntaxUID.name == syntax
    assert dataset.SegmentationType == "LABELMAP"
    assert np.array_equal(dataset.pixel_array, phantoms.labels()[slice(None) if keep else slice(1, 3)])
    found = hd.seg.segread(path).get_pixels_by_source_instance(
        [phantoms.uid_of(n) for n in range(5)], combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(found, phantoms.labels())


def test_an_empty_mask_gives_one_empty_frame_that_says_so(written, empty):
    dataset = pydicom.dcmread(written(empty, results=["labelmap"]))
    assert dataset.NumberOfFrames == 1
    assert not dataset.pixel_array.any()
    assert dataset.ContentDescription == "No liver or liver tumour found"
    (series,) = dataset.ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (64, 129)])
def test_what_is_rle_is_decoded_as_it_was(seed, shape):
    from pydicom.pixels.decoders.rle import _rle_decode_frame

    rng = np.random.default_rng(seed)
    plane = np.repeat(rng.integers(0, 4, shape, dtype=np.uint8), rng.integers(1, 9), axis=1)
    decoded = _rle_decode_frame(rle_frame(plane), *plane.shape, 1, 8)
    assert np.array_equal(np.frombuffer(decoded, np.uint8).reshape(plane.shape), plane)


def test_the_old_validator_only_says_that_it_does_not_know_label_maps(written, dciodvfy_errors):
    assert dciodvfy_errors(written(results=["labelmap"])) == ["Error - Information Object Not found"]


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_binary_segmentation_may_be_deflated_and_keep_its_empty_frames(
    written, tmp_path, dciodvfy_errors, compression, keep
):
    path = written(options=Options(compression=compression, keep_empty_frames=keep))
    dataset = pydicom.dcmread(path)
    assert dataset.NumberOfFrames == (10 if keep else 3)
    assert np.array_equal(phantoms.read_back(path), phantoms.labels())
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "inflated.dcm")  # dciodvfy cannot
    assert dciodvfy_errors(tmp_path / "inflated.dcm") == []


def test_a_binary_segmentation_cannot_be_rle(written, tmp_path):
    with pytest.raises(SettingsError, match="cannot be RLE"):
        written(options=Options(compression="rle"))
    assert list((tmp_path / "out").iterdir()) == []
