"""The geometry gate."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicom_reader.files.headers import ATTRIBUTES, ImageHeader, read_header
from dicom_reader.slices.duplicates import are_duplicates
from dicom_reader.slices.slice import Slice
from dicom_reader.slices.spacing import TOLERANCE_MM
from dicom_reader.slices.stack import stack_slices
from stages import GeometryError, InputError
from stages.volume.geometry import orientation_of, points_at
from tests import phantoms


@pytest.fixture
def stack(tmp_path):
    """Return what stacks slices as the reader does: written, headers read, in the order of file names."""

    def stacked(slices, **how):
        folder = phantoms.save(slices, tmp_path)
        return stack_slices([read_header(p) for p in sorted(folder.rglob("IM*"))], **how)

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


def test_one_wider_gap_is_resampled_on_the_common_spacing(stack):
    slices = phantoms.ct_slices()
    move(slices[4], z=1)
    stacked = stack(slices)
    # 2.5 + 2.5 + 2.5 + 3.5 = 11 mm, 4 steps of 2.5 fit best
    assert stacked.kinds == ("uneven spacing",)
    assert stacked.grid.shape == (5, 16, 20)
    assert stacked.grid.spacing[0] == pytest.approx(11 / 4)
    heights = [0, 2.5, 5, 7.5, 11]
    assert [first[0] * 11 / 4 for first in stacked.first_pixels] == pytest.approx(heights)
    assert stacked.repairs == (
        "uneven spacing (3 x 2.50, 1 x 3.50 mm) resampled: 5 slices onto 5 planes 2.750 mm apart",
    )


def test_of_two_spacings_the_finer_one_is_kept(stack):
    slices = phantoms.ct_slices((9, 8, 8))
    for n, ds in enumerate(slices):
        move(ds, z=2.5 * max(0, n - 4))  # 4 x 2.5 mm, then 4 x 5 mm
    stacked = stack(slices)
    assert stacked.kinds == ("uneven spacing",)
    assert stacked.grid.shape[0] == 13
    assert [first[0] for first in stacked.first_pixels] == pytest.approx([0, 1, 2, 3, 4, 6, 8, 10, 12])


def test_slow_drift_of_the_spacing_is_resampled(stack):
    slices = phantoms.ct_slices((30, 8, 8))
    for n, ds in enumerate(slices):
        move(ds, z=0.002 * n * n)
    stacked = stack(slices)
    assert stacked.kinds == ("uneven spacing",)
    assert stacked.grid.shape[0] == 30  # 74.182 mm in steps near the finest tenth, 2.502 to 2.55 mm
    assert stacked.repairs[0].endswith("resampled: 30 slices onto 30 planes 2.558 mm apart")


@pytest.mark.parametrize("sign", [1, -1])
def test_gantry_tilt_of_either_sign_widens_the_grid(stack, sign):
    slices = phantoms.ct_slices()
    for n, ds in enumerate(slices):
        move(ds, y=sign * n * 0.6)  # 0.75 of the 0.8 mm between rows a slice, 3 rows in all
    stacked = stack(slices)
    assert stacked.kinds == ("gantry tilt",)
    assert stacked.grid.shape == (5, 19, 20)
    assert stacked.grid.spacing == pytest.approx((2.5, 0.8, 0.6))
    assert stacked.grid.affine[:3, 3] == pytest.approx([-30, 40 if sign > 0 else 37.6, 100])
    rows = [0, 0.75, 1.5, 2.25, 3]
    assert [first[1] for first in stacked.first_pixels] == pytest.approx(rows if sign > 0 else rows[::-1])
    assert stacked.repairs[0].startswith(
        "gantry tilt of 13.5 degrees corrected: slices moved sideways by up to 2.40"
    )


@pytest.mark.parametrize(("along_y", "degrees"), [(2.475, 44.7), (2.51, 45.1)])
def test_a_gantry_tilts_by_45_degrees_at_most(stack, along_y, degrees):
    slices = phantoms.ct_slices()
    for n, ds in enumerate(slices):
        move(ds, y=n * along_y)
    if degrees < 45:
        assert stack(slices).repairs[0].startswith(f"gantry tilt of {degrees} degrees corrected")
    else:
        with pytest.raises(GeometryError, match=f"a gantry does not tilt by {degrees} degrees"):
            stack(slices)


def test_a_tilt_no_gantry_has_is_refused(stack):
    slices = phantoms.ct_slices()
    for n, ds in enumerate(slices):
        move(ds, y=n * 2.6)
    with pytest.raises(
        GeometryError, match=r"10\.00 mm .* 10\.40 mm sideways: a gantry does not tilt by 46\.1 deg"
    ):
        stack(slices)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_slice_may_be_filled_where_asked_for(stack, missing):
    slices = phantoms.ct_slices()
    del slices[missing]
    stacked = stack(slices, fill_missing=1)
    assert stacked.kinds == ("missing slices",)
    assert np.allclose(stacked.grid.affine, phantoms.AFFINE)
    assert stacked.grid.shape == (5, 16, 20)
    assert [first[0] for first in stacked.first_pixels] == [n for n in range(5) if n != missing]
    assert stacked.repairs[0].startswith(
        f"1 missing slice(s) interpolated between slices {missing} and {missing + 1}"
    )


def test_more_missing_slices_than_may_be_filled_are_refused(stack):
    slices = phantoms.ct_slices((8, 8, 8))
    del slices[3:5]
    with pytest.raises(GeometryError, match=r"2 slice.s. may be missing, .* --fill-missing 2"):
        stack(slices, fill_missing=1)


@pytest.mark.parametrize("gap", [8.6, 100.0])
def test_a_gap_far_wider_than_those_beside_it_is_refused(stack, gap):
    slices = phantoms.ct_slices((8, 8, 8))
    for ds in slices[4:]:
        move(ds, z=gap - 2.5)
    with pytest.raises(GeometryError, match=rf"{gap:.2f} mm apart, the rest of the series 2\.50 mm"):
        stack(slices)


@pytest.mark.parametrize(
    ("gaps", "refused"),
    [
        ([5, 10], True),
        ([5, 5, 10], True),  # the end may be another spacing as well; refused to be safe
        ([5, 10, 5, 10, 5, 10], True),
        ([5, 5, 10, 10, 5, 5], True),
        ([5, 5, 10, 10, 10, 5, 5], False),  # three in a row are a spacing of the scanner's
        ([2.5, 2.5, 5, 2.5, 2.5, 1, 1, 1, 1, 1, 1, 1], True),
        ([2.5, 2.5, 0.3, 2.5, 2.5], False),
        ([4] * 13 + [1.08] + [7] * 13, False),
        ([5, 5, 7, 5, 5], False),
    ],
)
def test_gaps_that_slices_are_missing_from_are_told_from_other_spacings(stack, gaps, refused):
    slices = phantoms.ct_slices((len(gaps) + 1, 8, 8))
    for ds, height in zip(slices, np.cumsum([0, *gaps]), strict=True):
        ds.ImagePositionPatient = [-30, 40, float(height)]
    if refused:
        with pytest.raises(GeometryError, match=r"1 slice.s. may be missing"):
            stack(slices)
    else:
        assert stack(slices).kinds == ("uneven spacing",)


@pytest.mark.parametrize(
    ("orientation", "letters"), [((1, 0, 0, 0, 0, -1), "PIL"), ((0, 1, 0, 0, 0, -1), "RIP")]
)
def test_coronal_and_sagittal_slices_keep_the_grid_they_were_acquired_on(stack, orientation, letters):
    stacked = stack(phantoms.ct_slices(orientation=orientation))
    assert stacked.kinds == ()
    assert stacked.grid.shape == phantoms.SHAPE
    assert orientation_of(stacked.grid.affine) == letters
    assert stacked.grid.spacing == pytest.approx(phantoms.SPACING)


def test_a_slice_shifted_aside_is_refused(stack):
    slices = phantoms.ct_slices()
    move(slices[2], x=3)
    with pytest.raises(GeometryError, match=r"slice 3 .* lies 3\.00 mm aside"):
        stack(slices)


def test_two_slices_at_one_position_are_refused(stack):
    slices = phantoms.ct_slices()
    slices[3].ImagePositionPatient = slices[2].ImagePositionPatient
    with pytest.raises(GeometryError, match=r"slices 3 and 4 .* lie at the same position, 0\.000 mm apart;"):
        stack(slices)
    slices[1].ImagePositionPatient = slices[0].ImagePositionPatient
    with pytest.raises(GeometryError, match=r"slices 1 and 2 .* 0\.000 mm apart \(2 such pairs\);"):
        stack(slices)


@pytest.mark.parametrize("uid", [phantoms.uid_of(2), "9.9"], ids=["one instance", "another instance"])
def test_a_copy_of_a_slice_is_left_out_and_named(stack, uid):
    slices = [*phantoms.ct_slices(), phantoms.ct_slices()[2]]
    slices[5].SOPInstanceUID = uid
    stacked = stack(slices)
    assert uids(stacked) == [phantoms.uid_of(n) for n in range(5)]
    assert stacked.kinds == ()
    assert stacked.repairs == ("IM035 left out: it has the place and the pixels of IM014",)


def test_more_copies_are_counted(stack):
    slices = [*phantoms.ct_slices(), phantoms.ct_slices()[2], phantoms.ct_slices()[4]]
    (repair,) = stack(slices).repairs
    assert repair.endswith("the pixels of IM014, and 1 more")


def test_slices_whose_pixels_cannot_be_read_are_no_duplicates(tmp_path):
    good, cut = phantoms.ct_slices()[2], phantoms.ct_slices()[2]
    cut.PixelData = cut.PixelData[:-2]
    paths = [tmp_path / "good", tmp_path / "cut"]
    for path, each in zip(paths, (good, cut), strict=True):
        each.save_as(path, enforce_file_format=True)
    first, second = (Slice.from_header(read_header(path)) for path in paths)
    assert are_duplicates(first, first)
    assert not are_duplicates(first, second)


def test_one_instance_with_two_contents_is_refused(stack):
    slices = [*phantoms.ct_slices(), phantoms.ct_slices()[2]]
    slices[5].PixelData = bytes(len(slices[5].PixelData))
    message = r"IM014 and IM035 are the same instance \(1\.2\.3\.2\.3\) with different content"
    with pytest.raises(GeometryError, match=message):
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
@pytest.mark.parametrize("n", [0, 1, 4])
def test_mixed_slices_are_refused(stack, keyword, value, what, n):
    slices = phantoms.ct_slices()
    setattr(slices[n], keyword, value)
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
        ("Rows", 1, r"Rows \(0028,0010\) must be 2 to 8192, found 1$"),
        ("Columns", 8193, r"Columns \(0028,0011\) must be 2 to 8192, found 8193"),
        ("Columns", 65535, r"Columns \(0028,0011\) must be 2 to 8192, found 65535"),
    ],
)
def test_a_missing_or_senseless_attribute_is_refused_by_file_and_name(stack, keyword, value, message):
    slices = phantoms.ct_slices()
    setattr(slices[2], keyword, value)
    with pytest.raises(InputError, match=rf"^IM\d+: {message}"):
        stack(slices)


@pytest.mark.parametrize("rows", [2, 8192])
def test_the_smallest_and_the_largest_matrix_are_taken(stack, rows):
    slices = phantoms.ct_slices()
    for each in slices:
        each.Rows = rows  # the pixels stay: headers alone are read
    assert stack(slices).grid.shape == (5, rows, 20)


@given(
    gaps=st.lists(st.floats(0.5, 1.4), min_size=2, max_size=12),
    slope=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)),
    scale=st.floats(0.3, 5),
    angle=st.floats(-3, 3),
)
@example(gaps=[0.5, 0.5], slope=(0.125, 0.15625), scale=0.3125, angle=1.0)  # little along each axis
def test_whatever_is_corrected_the_map_leads_to_every_original_position(gaps, slope, scale, angle):
    # any plane, any tilt in it, any gaps of which none is a multiple of another
    c, s = np.cos(angle), np.sin(angle)
    along_row, along_column = np.array([c, s, 0]), np.array([-s * 0.8, c * 0.8, 0.6])
    normal = np.cross(along_row, along_column)
    step = normal + slope[0] * along_row + slope[1] * along_column
    heights = np.cumsum([0, *gaps]) * scale
    positions = np.array([10, -20, 30]) + heights[:, None] * step
    orientation = (*along_row, *along_column)
    stacked = stack_slices(
        [in_memory(n, position, orientation) for n, position in enumerate(positions)], fill_missing=99
    )
    for first, position in zip(stacked.first_pixels, positions, strict=True):
        off = points_at(stacked.grid.affine, first) - position
        assert abs(off @ normal) <= TOLERANCE_MM * 1.01
        assert np.linalg.norm(off - (off @ normal) * normal) <= TOLERANCE_MM * 1.01
        assert min(first) >= -1e-6
        end = np.add(first, (0, 15, 19))
        assert (end <= np.array(stacked.grid.shape) - 0.5 + 1e-6).all()
    axes = stacked.grid.affine[:3, :3] / stacked.grid.spacing
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)


def in_memory(n, position, orientation):
    """Return the header of a slice of 16 x 20 pixels without a file."""
    values = {
        "SOPInstanceUID": f"1.2.{n}".encode(),
        "ImagePositionPatient": "\\".join(f"{v:.9f}" for v in position).encode(),
        "ImageOrientationPatient": "\\".join(f"{v:.12f}" for v in orientation).encode(),
        "PixelSpacing": b"0.8\\0.6",
        "Rows": (16).to_bytes(2, "little"),
        "Columns": (20).to_bytes(2, "little"),
    }
    by_tag = {ATTRIBUTES[keyword][0]: value for keyword, value in values.items()}
    return ImageHeader(Path(f"IM{n}"), by_tag, "1.2.840.10008.1.2.1", None, None)
