"""A colour comes back as it was meant, by another program's arithmetic."""

import highdicom as hd
import pytest

from dicom_writer.seg.segments import cielab
from tests.phantoms import LABELS


@pytest.mark.parametrize("rgb", [label.rgb for label in LABELS] + [(0, 0, 0), (255, 255, 255), (0, 0, 255)])
def test_highdicom_gives_back_the_colour(rgb):
    assert hd.color.CIELabColor.from_dicom_value(cielab(rgb)).to_rgb() == rgb


def test_white_black_and_the_axes_are_those_of_the_standard():
    assert cielab((255, 255, 255)) == [65535, 32896, 32896]  # L* 100, a* and b* 0
    assert cielab((0, 0, 0)) == [0, 32896, 32896]
