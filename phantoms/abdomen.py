"""A synthetic CT of the abdomen with its ground truth, the same for the same seed on any grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phantoms.bones import draw_pelvis, draw_ribs, draw_spine
from phantoms.canvas import Canvas
from phantoms.digestive import draw_bowel, draw_stomach
from phantoms.fields import FloatArray, random_field
from phantoms.liver import draw_liver, draw_liver_shape
from phantoms.organs import (
    draw_gall_bladder,
    draw_kidneys,
    draw_pancreas,
    draw_spleen,
    draw_vessels,
    place_gall_bladder,
    place_kidneys,
)
from phantoms.patient import Phase, draw_patient, draw_pose
from phantoms.texture import add_noise, cut_field_of_view
from phantoms.torso import draw_back, draw_chest, draw_outside, draw_wall
from phantoms.tumours import draw_radii, draw_tumours, keep_inside_liver

DEMO_SEED = 20_240_108
DEMO_SHAPE = (84, 512, 512)
DEMO_SPACING_MM = (2.5, 0.78, 0.78)
DEMO_CENTRE_MM = (-12.0, 0.0, 0.0)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class AbdomenPhantom:
    """A synthetic CT volume; arrays are indexed [slice, row, column] = [up, back, patient's left].

    Attributes
    ----------
    hu
        Hounsfield units, int16.
    truth
        0 background, 1 liver, 2 tumour, uint8. A tumour always lies inside the liver.
    anatomy
        Values of `phantoms.Anatomy`, uint8.
    spacing_mm
        Distance between voxel centres, (slice, row, column).
    first_mm
        Position of the centre of the first voxel, (slice, row, column): LPS coordinates (z, y, x).
    seed
        What the patient was drawn from.
    phase
        Contrast phase.
    """

    hu: NDArray[np.int16]
    truth: NDArray[np.uint8]
    anatomy: NDArray[np.uint8]
    spacing_mm: Triple
    first_mm: Triple
    seed: int
    phase: Phase


def make_abdomen(
    seed: int,
    *,
    shape: tuple[int, int, int],
    spacing_mm: Triple,
    centre_mm: Triple = (0.0, 0.0, 0.0),
    tumour_radii_mm: tuple[float, ...] | None = None,
) -> AbdomenPhantom:
    """Draw a patient and image the upper abdomen on a grid.

    Parameters
    ----------
    seed
        Decides the patient: anatomy, position, contrast phase, tumours. Noise also depends on the grid.
    shape
        Voxels, (slice, row, column).
    spacing_mm
        Distance between voxel centres, (slice, row, column).
    centre_mm
        Where the middle of the grid lies; 0 is about the middle of the liver's height, in front of the spine.
    tumour_radii_mm
        Radii of the tumours, instead of random ones.

    Returns
    -------
    AbdomenPhantom
        Images and ground truth.
    """
    z, y, x = (
        (c + (np.arange(n) - (n - 1) / 2) * s).astype(np.float32)
        for c, n, s in zip(centre_mm, shape, spacing_mm, strict=True)
    )
    streams = [np.random.default_rng([seed, k]) for k in range(5)]
    canvas = Canvas(
        (z, y, x), draw_pose(streams[0]), edge_mm=max(float(streams[1].uniform(1.0, 2.2)), spacing_mm[2])
    )
    phase = _draw_anatomy(canvas, streams[2], streams[3], tumour_radii_mm)
    _image(canvas, streams[1], streams[4], spacing_mm)
    hu = np.clip(np.rint(canvas.hu), -1024, 3071).astype(np.int16)
    return AbdomenPhantom(
        hu=hu,
        truth=keep_inside_liver(canvas.anatomy),
        anatomy=canvas.anatomy,
        spacing_mm=spacing_mm,
        first_mm=(float(z[0]), float(y[0]), float(x[0])),
        seed=seed,
        phase=phase,
    )


def make_demo() -> AbdomenPhantom:
    """Make the phantom of the demo: 84 slices of 2.5 mm, 512 x 512 pixels of 0.78 mm, three tumours."""
    return make_abdomen(
        DEMO_SEED,
        shape=DEMO_SHAPE,
        spacing_mm=DEMO_SPACING_MM,
        centre_mm=DEMO_CENTRE_MM,
        tumour_radii_mm=(19.0, 11.0, 6.5),
    )


def _draw_anatomy(
    canvas: Canvas, rng: np.random.Generator, of_tumours: np.random.Generator, radii: tuple[float, ...] | None
) -> Phase:
    """Draw from the outside in; what is drawn later lies in front."""
    patient = draw_patient(rng)
    kidneys, gall_bladder = place_kidneys(rng), place_gall_bladder(rng)
    liver = draw_liver_shape(patient, kidneys[0], gall_bladder, rng)
    draw_wall(canvas, patient, rng)
    draw_chest(canvas, patient, rng)
    draw_back(canvas, patient, rng)
    draw_ribs(canvas, patient, rng)
    draw_spine(canvas, patient, rng)
    draw_pelvis(canvas, patient, rng)
    draw_bowel(canvas, patient, rng)
    draw_pancreas(canvas, patient, rng)
    draw_spleen(canvas, patient, kidneys, rng)
    draw_stomach(canvas, patient, rng)
    draw_kidneys(canvas, patient, kidneys, rng)
    draw_liver(canvas, liver, rng)
    draw_gall_bladder(canvas, patient, gall_bladder)
    draw_vessels(canvas, patient, rng)
    draw_tumours(canvas, liver, of_tumours, list(radii) if radii is not None else draw_radii(of_tumours))
    draw_outside(canvas, patient, rng)
    return patient.phase


def _image(canvas: Canvas, rng: np.random.Generator, noise: np.random.Generator, spacing_mm: Triple) -> None:
    """Add uneven tissue, noise and the field of view."""
    z, y, x = canvas.axes
    texture = random_field(rng, step=14, amplitude=rng.uniform(0.5, 2.5))
    _add_texture(canvas.hu, texture.on(z, y, x))
    # Larger voxels average more noise away, less than in proportion since noise is correlated.
    voxel = (spacing_mm[0] * spacing_mm[1] * spacing_mm[2]) ** (1 / 3)
    sigma = rng.uniform(7, 24) * float(np.clip(1.3 / voxel, 0.4, 1.3))
    add_noise(canvas.hu, noise, sigma_hu=sigma, grain_mm=rng.uniform(0.5, 1.0), spacing_mm=spacing_mm)
    if rng.random() < 0.7:
        cut_field_of_view(canvas.hu, y, x, radius_mm=(x[-1] - x[0]) / 2 + 1)


def _add_texture(hu: FloatArray, texture: FloatArray) -> None:
    texture[hu < -200] = 0
    hu += texture
