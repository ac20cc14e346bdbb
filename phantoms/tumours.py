"""Tumours in the liver: places, sizes, and how they look in the phase of the images."""

import numpy as np
from numpy.typing import NDArray

from phantoms.anatomy import IN_LIVER, Anatomy
from phantoms.canvas import Canvas, Layer, lattice
from phantoms.fields import FloatArray, Points, random_field
from phantoms.liver import BOX, Liver
from phantoms.patient import Phase
from phantoms.shapes import Vector, box_around, ellipsoid

_STEP = 5.0


def draw_tumours(canvas: Canvas, liver: Liver, rng: np.random.Generator, radii_mm: "list[float]") -> None:
    """Draw one tumour of each radius, apart from each other where the liver has room."""
    places, depths = _places(canvas, liver)
    taken: list[tuple[NDArray[np.float64], float]] = []
    for radius in sorted(radii_mm, reverse=True):
        fits = depths < -min(radius * rng.uniform(0.3, 1.0), 24.0)
        for centre, other in taken:
            fits &= np.linalg.norm(places - centre, axis=1) > radius + other + 6
        if not fits.any():
            continue
        centre = places[rng.choice(np.flatnonzero(fits))] + rng.uniform(-2, 2, 3)
        taken.append((centre, radius))
        _draw_one(canvas, liver, (float(centre[0]), float(centre[1]), float(centre[2])), radius, rng)


def draw_radii(rng: np.random.Generator) -> list[float]:
    """Draw how many tumours there are, 0 to 6, and their radii, 2.5 to 25 mm, small ones most often."""
    count = int(rng.choice(7, p=(0.15, 0.2, 0.2, 0.15, 0.12, 0.1, 0.08)))
    return [float(2.5 * 10 ** rng.uniform(0.1, 1.0)) for _ in range(count)]


def _places(canvas: Canvas, liver: Liver) -> tuple[NDArray[np.float64], FloatArray]:
    """Points inside the liver, in patient mm, with their distance from its surface (negative)."""
    low, high = canvas.pose.image_box(BOX)
    axes = [lattice(np.array((a, b), np.float32), _STEP) for a, b in zip(low, high, strict=True)]
    points = canvas.pose.to_patient(axes[0], axes[1], axes[2])
    depth = liver.distance(points) + liver.surface.on(axes[0], axes[1], axes[2])
    inside = depth < -2
    stacked = np.stack([np.broadcast_to(a, depth.shape)[inside] for a in points], axis=1).astype(float)
    return stacked, depth[inside]


def _contrast(liver: Liver, rng: np.random.Generator) -> tuple[float, float, float]:
    """HU of the rim, the bulk and the centre of a tumour."""
    normal, phase = liver.patient.hu["liver"], liver.patient.phase
    kind = rng.random()
    if phase is Phase.ARTERIAL and kind < 0.4:  # a hypervascular tumour, often with a dead centre
        bulk = normal + rng.uniform(25, 80)
        return bulk, bulk, bulk - rng.uniform(0, 70)
    if kind < 0.12:  # a cyst
        bulk = rng.uniform(0, 18)
        return bulk, bulk, bulk
    bulk = normal - rng.uniform(18, 75)
    rim = normal + rng.uniform(10, 45) if kind < 0.35 else bulk + rng.uniform(0, 15)
    return rim, bulk, bulk - (rng.uniform(5, 35) if kind > 0.75 else 0.0)


def _draw_one(canvas: Canvas, liver: Liver, centre: Vector, radius: float, rng: np.random.Generator) -> None:
    rim, bulk, core = _contrast(liver, rng)
    a, b, c = (float(radius * f) for f in rng.uniform(0.8, 1.15, 3))
    layers = [
        Layer(rim, Anatomy.TUMOUR),
        Layer(bulk, Anatomy.TUMOUR, max(1.5, radius * 0.18)),
        Layer(core, Anatomy.TUMOUR, radius * rng.uniform(0.45, 0.65)),
    ]

    def inside(p: Points) -> FloatArray:
        return np.maximum(ellipsoid(p, centre, (a, b, c)), liver.distance(p) + 1)

    bumps = random_field(rng, step=max(8.0, radius * 0.9), amplitude=radius * 0.09)
    reach = radius * 1.5
    canvas.paint(
        inside,
        box_around(centre, (reach, reach, reach)),
        layers,
        lattice_mm=2.0 if radius < 12 else 3.0,
        wobble=bumps,
        edge_mm=max(canvas.edge_mm, float(rng.uniform(0.5, 6)) * min(1.0, radius / 8)),
        only_over=(*IN_LIVER, Anatomy.TUMOUR),
    )


def keep_inside_liver(anatomy: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0 background, 1 liver, 2 tumour; vessels in the liver count as liver."""
    truth = np.isin(anatomy, IN_LIVER).astype(np.uint8)
    truth[anatomy == Anatomy.TUMOUR] = 2
    return truth
