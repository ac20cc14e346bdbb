"""The geometry gate."""

import numpy as np
import pytest

from dicom_reader.files import read_header
from dicom_reader.slices import stack_slices
from stages import GeometryError, InputError
from stages.geometry import orientation_of
from tests import phantoms


@pytest.fixture
def stack(tmp_path):
    """Return what stacks slices as the reader does: written, headers read, in the order of file names."""

    def stacked(slices):
        folder = phantoms.save(slices, tmp_path)
        return stack_slices([read_header(p) for p in sorted(folder.rglob("IM*"))])

    return stacked


def uids(stacked):
    return [s.header.uid("SOPInstanceUID") for s in stacked.slices]


def move(ds, x=0.0, y=0.0, z=0.0):
    ds.ImagePositionPatient = list(np.add(ds.ImagePositionPatient, [x, y, z]))


def test_slices_are_ordered_by_position_toward_superior(stack):
    stacked = stack(phantoms.ct_slices()[::-1])
    assert uids(stacked) == [phantoms.uid_of(n) for n in range(5)]
    assert stacked.grid.shape == (5, 16, 20)
    assert np.allclose(stacked.grid.affine, phantoms.AFFINE)
    assert orientation_of(stacked.grid.affine) == "SPL"


def test_spacing_comes_from_positions_not_from_slice_thickness(stack):
    stacked = stack(phantoms.ct_slices(SliceThickness=9, SpacingBetweenSlices=7))
    assert stacked.grid.spacing == pytest.approx((2.5, 0.8, 0.6))


def test_oblique_slices_are_ordered_along_their_normal(stack):
    c, s = np.cos(0.3), np.sin(0.3)
    stacked = stack(phantoms.ct_slices(orientation=(1, 0, 0, 0, c, s)))
    assert np.allclose(stacked.grid.affine[:3, 0], [0, -2.5 * s, 2.5 * c], atol=1e-5)
    assert np.allclose(stacked.grid.affine[:3, 1], [0, 0.8 * c, 0.8 * s])


def test_head_first_prone_slices_grow_along_their_normal(stack):
    stacked = stack(phantoms.ct_slices(orientation=(-1, 0, 0, 0, -1, 0)))
    assert orientation_of(stacked.grid.affine) == "SAR"


def test_positions_rounded_by_the_scanner_are_accepted(stack):
    slices = phantoms.ct_slices()
    for ds, z in zip(slices, (0.03, -0.02, 0.0, 0.04, 0.01), strict=True):
        move(ds, z=z)
    assert stack(slices).grid.spacing[0] == pytest.approx(2.495)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_slice_is_refused(stack, missing):
    slices = phantoms.ct_slices()
    del slices[missing]
    message = (
        rf"slices {missing} and {missing + 1} \(IM\d+, IM\d+\) are 5.00 mm apart, the rest of the series "
        "2.50 mm; 1 slice.s. may be missing"
    )
    with pytest.raises(GeometryError, match=message):
        stack(slices)


def test_uneven_spacing_is_refused(stack):
    slices = phantoms.ct_slices()
    move(slices[4], z=1)
    with pytest.raises(
        GeometryError, match=r"uneven spacing: slices . and . .* 2\.50 mm apart, slices 4 and 5 .* 3\.50 mm"
    ):
        stack(slices)


def test_slow_drift_of_the_spacing_is_refused(stack):
    slices = phantoms.ct_slices((30, 8, 8))
    for n, ds in enumerate(slices):
        move(ds, z=0.002 * n * n)
    with pytest.raises(GeometryError, match="uneven spacing"):
        stack(slices)


def test_gantry_tilt_is_refused_with_its_angle(stack):
    slices = phantoms.ct_slices()
    for n, ds in enumerate(slices):
        move(ds, y=n * 2.5 * np.tan(np.radians(18.5)))
    with pytest.raises(
        GeometryError, match=r"gantry tilt of 18\.5 degrees: .* 10\.00 mm .* 3\.35 mm sideways"
    ):
        stack(slices)


def test_a_slice_shifted_aside_is_refused(stack):
    slices = phantoms.ct_slices()
    move(slices[2], x=3)
    with pytest.raises(GeometryError, match=r"slice 3 .* lies 3\.00 mm aside"):
        stack(slices)


def test_two_slices_at_one_position_are_refused(stack):
    slices = phantoms.ct_slices()
    slices[3].ImagePositionPatient = slices[2].ImagePositionPatient
    with pytest.raises(GeometryError, match=r"slices 3 and 4 .* lie at the same position, 0\.000 mm apart"):
        stack(slices)


def test_an_instance_twice_is_refused(stack):
    slices = phantoms.ct_slices()
    slices[3].SOPInstanceUID = slices[1].SOPInstanceUID
    with pytest.raises(GeometryError, match=r"are the same instance \(1\.2\.3\.2\.2\)"):
        stack(slices)


def test_a_single_slice_is_refused(stack):
    with pytest.raises(GeometryError, match="one slice only"):
        stack(phantoms.ct_slices((1, 16, 20)))


@pytest.mark.parametrize(
    ("keyword", "value", "what"),
    [
        ("PixelSpacing", [0.8, 0.7], "a pixel spacing"),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0.9998, 0.02], "an orientation"),
        ("Rows", 15, "a matrix"),
    ],
)
def test_mixed_slices_are_refused(stack, keyword, value, what):
    slices = phantoms.ct_slices()
    setattr(slices[2], keyword, value)
    with pytest.raises(GeometryError, match=rf"IM\d+ has {what}.* of .*, IM\d+ of .*split the series"):
        stack(slices)


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("ImagePositionPatient", "", r"Image Position \(Patient\) \(0020,0032\) is missing"),
        ("ImageOrientationPatient", None, r"Image Orientation \(Patient\) \(0020,0037\) is missing"),
        (
            "ImageOrientationPatient",
            [1, 0, 0, 1, 0, 0],
            r"Image Orientation .* must be two orthogonal unit vectors",
        ),
        (
            "ImageOrientationPatient",
            [0, 0, 0, 0, 0, 0],
            r"Image Orientation .* must be two orthogonal unit vectors",
        ),
        ("PixelSpacing", None, r"Pixel Spacing \(0028,0030\) is missing"),
        ("PixelSpacing", [0, 0.6], r"Pixel Spacing \(0028,0030\) must be positive"),
        ("Rows", None, r"Rows \(0028,0010\) is missing"),
        ("Columns", 65535, r"Columns \(0028,0011\) must be 2 to 8192, found 65535"),
    ],
)
def test_a_missing_or_senseless_attribute_is_refused_by_file_and_name(stack, keyword, value, message):
    slices = phantoms.ct_slices()
    setattr(slices[2], keyword, value)
    with pytest.raises(InputError, match=rf"^IM\d+: {message}"):
        stack(slices)
