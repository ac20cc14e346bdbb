"""The writer shows the values that the reader reads, whatever bits lie around those that are stored."""

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from dicom_writer.source.pixels import source_values
from tests import phantoms


def shown(ds, folder):
    ds.save_as(folder / "IM1", enforce_file_format=True)
    return source_values(folder / "IM1")


@pytest.mark.parametrize(
    ("stored", "high_bit", "expected"),
    [
        (np.array([[0x8005, 0x0FFF], [0xF000, 5]], np.uint16), 11, [[5, 4095], [0, 5]]),
        (np.array([[-32763, 0x0FFF], [0x7800, 5]], np.int16), 11, [[5, -1], [-2048, 5]]),
        (np.array([[0xC000 | 5 << 2 | 3, 4 << 2], [0, 1]], np.uint16), 13, [[5, 4], [0, 0]]),
        (np.array([[0, 16], [-16, -32768]], np.int16), 15, [[0, 1], [-1, -2048]]),
    ],
)
def test_only_the_stored_bits_are_shown(tmp_path, stored, high_bit, expected):
    (ds,) = phantoms.ct_slices((1, 2, 2), RescaleIntercept=0)
    phantoms.put_pixels(ds, stored, bits_stored=12)
    ds.HighBit = high_bit
    assert shown(ds, tmp_path).tolist() == expected


@pytest.mark.parametrize("precision", [12, 16])
def test_compressed_cells_whole_or_cut_to_their_values_are_shown_alike(tmp_path, precision):
    imagecodecs = pytest.importorskip("imagecodecs")
    (ds,) = phantoms.ct_slices((1, 48, 40))
    hu = phantoms.hounsfield((1, 48, 40))[0]
    stored = (hu + 1024).astype(np.uint16) << (precision - 12)
    frame = imagecodecs.jpeg2k_encode(
        stored, level=0, codecformat="j2k", reversible=True, bitspersample=precision
    )
    ds.file_meta.TransferSyntaxUID, ds.HighBit = "1.2.840.10008.1.2.4.90", 15
    ds.PixelData = encapsulate([bytes(frame) + b"\xcc"])
    ds["PixelData"].VR = "OB"
    assert np.array_equal(shown(ds, tmp_path), hu)
