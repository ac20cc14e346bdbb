"""Outlines of a mask, drawn and filled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dicom_writer.checks.polygons import area_and_centroid, filled
from dicom_writer.mask.contours import outlines

PLANES = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)
)


def drawn(text):
    """Return the plane that # draws."""
    return np.array([[c == "#" for c in line] for line in text.split()])


def test_one_pixel_is_a_square_around_its_centre():
    (square,) = outlines(drawn("... .#. ..."))
    assert sorted(map(tuple, square)) == [(0.5, 0.5), (0.5, 1.5), (1.5, 0.5), (1.5, 1.5)]


def test_only_turns_have_a_point():
    (box,) = outlines(np.ones((3, 40)))
    assert len(box) == 4


def test_nothing_has_no_outline():
    assert outlines(np.zeros((3, 4))) == []


def test_pixels_that_touch_at_a_corner_are_two_islands():
    assert len(outlines(drawn("#. .#"))) == 2


def test_a_hole_is_joined_to_the_outline_around_it():
    plane = drawn("##### #...# #.#.# #...# #####")
    ring, island = sorted(outlines(plane), key=len, reverse=True)
    assert np.array_equal(filled(ring, (5, 5)), plane & ~drawn("..... ..... ..#.. ..... ....."))
    assert np.array_equal(filled(island, (5, 5)), drawn("..... ..... ..#.. ..... ....."))
    area, centroid = area_and_centroid(np.insert(ring, 0, 7.0, axis=1))
    assert area == pytest.approx(16)
    assert centroid == pytest.approx([7, 2, 2])


@settings(max_examples=300)
@given(PLANES)
def test_filling_gives_the_plane_back_by_either_rule(plane):
    both = [filled(outline, plane.shape) for outline in outlines(plane)]
    assert np.array_equal(np.sum(both, axis=0) if both else np.zeros(plane.shape), plane)
    assert np.array_equal(np.logical_xor.reduce(both) if both else np.zeros(plane.shape), plane)


@settings(max_examples=100)
@given(PLANES)
def test_another_program_fills_the_same_pixels(plane):
    from PIL import Image, ImageDraw

    size, scale = plane.shape, 8
    image = Image.new("1", (size[1] * scale, size[0] * scale))
    for outline in outlines(plane):
        corners = [(column, row) for row, column in (outline + 0.5) * scale - 0.5]
        ImageDraw.Draw(image).polygon(corners, fill=1)
    middles = np.array(image)[scale // 2 :: scale, scale // 2 :: scale]
    assert np.array_equal(middles, plane)


@settings(max_examples=200)
@given(PLANES)
def test_the_polygons_have_the_area_of_the_pixels(plane):
    areas = [area_and_centroid(np.insert(outline, 0, 0.0, axis=1))[0] for outline in outlines(plane)]
    assert sum(areas) == pytest.approx(int(plane.sum()))
