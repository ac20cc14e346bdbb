"""Surfaces of shapes whose volume and place are known."""

import base64
import zlib

import numpy as np
import pytest

from clara_wf.report.mesh import UNIT_MM, encode_mesh, surface_net, surface_of
from clara_wf.report.slices import labelled_box
from stages.volume.geometry import reorient

AFFINE = np.array([[0, 0, 1.0, -30.0], [0, 1.0, 0, 10.0], [2.5, 0, 0, 5.0], [0, 0, 0, 1]])


def enclosed_volume(points, triangles):
    """Return the volume in mm^3 that a surface encloses, positive if it is seen from outside."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    return float(np.einsum("ij,ij->", np.cross(a, b), c) / 6)


@pytest.fixture
def ball():
    """A ball of radius 20 mm, 33.5 ml, around voxel (20, 40, 40)."""
    z, y, x = np.ogrid[:41, :81, :81]
    inside = ((z - 20) * 2.5) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 <= 20**2
    return inside.astype(np.uint8) * 2


@pytest.mark.parametrize("orientation", ["SPL", "IPL", "LSA"])
def test_the_surface_of_a_ball_encloses_its_volume_around_its_centre(ball, orientation):
    labels, affine = reorient(ball, AFFINE, orientation)
    points, triangles = surface_of(labels, affine, label=2, box=labelled_box(labels))
    assert enclosed_volume(points, triangles) == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.03)
    centre = points.mean(axis=0)
    assert centre == pytest.approx([-30 + 40, 10 + 40, 5 + 20 * 2.5], abs=0.5)
    assert np.linalg.norm(points - centre, axis=1) == pytest.approx(20, abs=1.5)


def test_a_surface_is_closed(ball):
    _, triangles = surface_of(ball, AFFINE, label=2, box=labelled_box(ball))
    sides = np.concatenate([triangles[:, [a, (a + 1) % 3]] for a in range(3)])
    there, back = ({tuple(side) for side in each.tolist()} for each in (sides, sides[:, ::-1]))
    assert len(there) == len(sides)
    assert there == back


def test_a_lesion_of_one_voxel_beside_a_large_one_is_seen(ball):
    ball[2, 3, 3] = 2
    points, _ = surface_of(ball, AFFINE, label=2, box=labelled_box(ball))
    lesion = np.array([-30 + 3, 10 + 3, 5 + 2 * 2.5])
    assert np.linalg.norm(points - lesion, axis=1).min() < 3


def test_one_cell_gives_a_vertex_where_the_field_is_one_half():
    field = np.zeros((3, 3, 3), dtype=np.float32)
    field[1, 1, 1] = 1
    vertices, quads = surface_net(field)
    assert len(vertices) == 8
    assert len(quads) == 6
    assert vertices.min() == pytest.approx(1 - 1 / 6)  # of three crossings one is half a cell away
    assert vertices.max() == pytest.approx(1 + 1 / 6)


def test_a_surface_is_decoded_as_it_was():
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.5, 6.0], [7.0, 8.0, -9.04]])
    triangles = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.int32)
    mesh = encode_mesh(points, triangles, label=1, centre=np.array([1.0, 1.0, 1.0]))
    corners = np.frombuffer(zlib.decompress(base64.b64decode(mesh.vertices)), "<i2").reshape(-1, 3)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(mesh.triangles)), "<i4")
    assert np.allclose(corners * UNIT_MM + 1, points)
    assert np.array_equal(np.cumsum(steps).reshape(-1, 3), triangles)
