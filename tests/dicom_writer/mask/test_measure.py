"""What a label measures, worked out by hand, and which difference is one."""

import numpy as np
import pytest

from dicom_writer.checks.measurements import require_same_measurements
from dicom_writer.mask.measure import Measurement, combine_planes, measure_plane
from stages import OutputError
from tests.phantoms import LABELS


def turned(pixels):
    """Place pixels of 2 mm along a row and 3 mm along a column on a plane turned by 45 degrees."""
    along_row, along_column = np.array([1, 1, 0]) / np.sqrt(2) * 2, np.array([0, 0, -1]) * 3
    return pixels[..., 1:] * along_row + pixels[..., :1] * along_column


def test_a_plane_is_measured_where_it_lies():
    plane = np.zeros((6, 8), np.uint8)
    plane[1, 2:5] = 1  # columns 2, 3, 4
    plane[3, 6] = 1
    part = measure_plane(plane, 6.0, turned)
    assert part.mm3 == 24
    # mean column 15 / 4, mean row 6 / 4
    assert part.centroid == pytest.approx([3.75 * np.sqrt(2), 3.75 * np.sqrt(2), -4.5])
    root = np.sqrt(2)
    assert part.box == pytest.approx(np.array([[2 * root, 2 * root, -9], [6 * root, 6 * root, -3]]))
    assert measure_plane(np.zeros((3, 3), bool), 1.0, turned) is None


def test_parts_add_up_by_their_volume():
    one = measure_plane(np.eye(1, 4, 0, dtype=bool), 1.0, turned)
    three = measure_plane(np.eye(1, 4, 2, dtype=bool), 3.0, turned)
    whole = combine_planes([one, None, three])
    assert whole.volume_ml == pytest.approx(0.004)
    assert whole.centroid_mm == pytest.approx(turned(np.array([0, 1.5])))
    assert whole.box_mm == pytest.approx(np.stack([turned(np.array([0, 0])), turned(np.array([0, 2]))]))
    assert combine_planes([None]).centroid_mm is None


def measured(volume=1.0, centroid=(1.0, 2.0, 3.0), box=((0.0, 0.0, 0.0), (2.0, 4.0, 6.0))):
    return {1: Measurement(volume, np.array(centroid), np.array(box))}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"volume": 1.002}, "segment Liver: 1.002 ml were written, the mask has 1.000 ml"),
        ({"centroid": (1, 2, 3.2)}, "segment Liver: its centroid was written 0.20 mm from that of the mask"),
        ({"box": ((0, 0, 0), (2, 4.5, 6))}, "segment Liver: its bounding box was written 0.50 mm"),
        ({"volume": np.nan}, "nan ml were written"),
    ],
)
def test_a_difference_beyond_the_tolerance_is_told(other, said):
    with pytest.raises(OutputError, match=said):
        require_same_measurements(measured(**other), measured(), LABELS[:1])


def test_a_difference_within_the_tolerance_is_none():
    require_same_measurements(measured(1.0009, (1, 2, 3.09)), measured(), LABELS[:1])


def test_a_label_that_is_gone_or_came_from_nowhere_is_told():
    nothing = {1: Measurement(0.0, None)}
    require_same_measurements(nothing, nothing, LABELS[:1])
    for written, meant in ((nothing, measured()), (measured(), nothing)):
        with pytest.raises(OutputError, match="ml were written"):
            require_same_measurements(written, meant, LABELS[:1])
