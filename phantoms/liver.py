"""The liver: its shape between diaphragm, wall and neighbours, and the vessels in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phantoms.anatomy import Anatomy
from phantoms.canvas import Canvas, Layer
from phantoms.fields import FloatArray, Points, SmoothField, random_field
from phantoms.patient import Patient
from phantoms.shapes import Box, Vector, box_of_chain, chain, cylinder, ellipsoid, smooth_union, without

BOX: Box = ((-170, -130, -165), (110, 105, 120))
HILUM: Vector = (-8.0, -4.0, -30.0)


@dataclass(frozen=True)
class Liver:
    """The shape of one liver and of what presses into it, in patient mm."""

    right: tuple[Vector, Vector]
    left: tuple[Vector, Vector]
    edge_height: float
    fissure_mm: float
    kidney: tuple[Vector, Vector]
    gall_bladder: tuple[Vector, Vector]
    gaps_mm: Vector  # fat left to the wall, to the diaphragm and to the kidney
    patient: Patient
    surface: SmoothField

    def distance(self, p: Points) -> FloatArray:
        """Distance from the surface, without the unevenness that `surface` adds."""
        # The under side rises from the back of the right lobe to the front left.
        under = (
            np.float32(self.edge_height) - p.z + np.float32(0.5) * (p.x + 110) - np.float32(0.25) * (p.y + 10)
        )
        right = np.maximum(ellipsoid(p, *self.right), under * np.float32(0.8))
        body = smooth_union(right, ellipsoid(p, *self.left), 14)
        body = smooth_union(body, ellipsoid(p, (14, 16, -22), (26, 17, 22)), 8)
        body = np.maximum(body, self.patient.cavity(p) + np.float32(self.gaps_mm[0]))
        body = np.maximum(body, (p.z - self.patient.dome(p) + np.float32(self.gaps_mm[1])) * np.float32(0.75))
        body = without(body, cylinder(p, (46, 0), (22, 32)))
        body = without(body, ellipsoid(p, *self.kidney), self.gaps_mm[2])
        body = without(body, ellipsoid(p, *self.gall_bladder), 1)
        if self.fissure_mm > 0:
            cut = np.maximum(np.abs(p.x + 14 + (p.y + 40) * 0.25) - self.fissure_mm, np.abs(p.z + 25) - 34)
            body = without(body, np.maximum(cut, p.y + 18))
        return np.asarray(body, np.float32)


def draw_liver_shape(
    patient: Patient,
    kidney: tuple[Vector, Vector],
    gall_bladder: tuple[Vector, Vector],
    rng: np.random.Generator,
) -> Liver:
    """Draw the sizes of a liver."""
    wide = patient.half_width / 160
    right: Vector = (-2 + rng.normal(0, 8), rng.normal(-2, 5), -78 * wide)
    right_radii: Vector = (rng.uniform(80, 104), rng.uniform(78, 95), rng.uniform(66, 84) * wide)
    left: Vector = (28 + rng.normal(0, 9), -48 + rng.normal(0, 6), rng.uniform(-22, 8))
    left_radii: Vector = (rng.uniform(28, 48), rng.uniform(28, 46), rng.uniform(52, 88))
    return Liver(
        right=(right, right_radii),
        left=(left, left_radii),
        edge_height=rng.uniform(-100, -55),
        fissure_mm=rng.uniform(1, 4) * (rng.random() < 0.6),
        kidney=kidney,
        gall_bladder=gall_bladder,
        gaps_mm=(rng.uniform(0.3, 5.5), rng.uniform(0.5, 4), rng.uniform(0.3, 5)),
        patient=patient,
        surface=random_field(rng, step=rng.uniform(22, 40), amplitude=rng.uniform(1.5, 3.5)),
    )


def draw_liver(canvas: Canvas, liver: Liver, rng: np.random.Generator) -> None:
    """Parenchyma, hepatic veins that meet at the cava, and portal branches from the hilum."""
    hu = liver.patient.hu
    canvas.paint(liver.distance, BOX, [Layer(hu["liver"], Anatomy.LIVER)], wobble=liver.surface)
    vessel = [Layer(hu["liver_vessel"], Anatomy.LIVER_VESSEL)]
    top = liver.patient.dome_right - 22
    outflow: Vector = (top, 22.0, -24.0)
    for target in ((15, 25, -120), (0, -60, -70), (25, -65, 10)):
        end = np.array(target) + rng.normal(0, 12, 3)
        _branch(canvas, liver, np.array(outflow), end, rng.uniform(4.0, 6.0), 2, vessel, rng)
    for target in ((-10, 15, -115), (20, -30, -125), (-45, -10, -115), (30, -55, 25)):
        end = np.array(target) + rng.normal(0, 12, 3)
        _branch(canvas, liver, np.add(HILUM, (6, 0, -8)), end, rng.uniform(3.5, 5.5), 2, vessel, rng)


def _branch(
    canvas: Canvas,
    liver: Liver,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    radius: float,
    depth: int,
    layers: list[Layer],
    rng: np.random.Generator,
) -> None:
    """One bent branch from `start` to `end`, cut off at the liver's surface, and its side branches."""
    length = float(np.linalg.norm(end - start))
    middle = (start + end) / 2 + rng.normal(0, 0.08 * length, 3)
    nodes = [(float(z), float(y), float(x)) for z, y, x in (start, middle, end)]
    radii = [radius, radius * 0.75, radius * 0.4]

    def inside(p: Points) -> FloatArray:
        return np.maximum(chain(p, nodes, radii), liver.distance(p) + 5)

    canvas.paint(inside, box_of_chain(nodes, radii), layers, lattice_mm=2.5)
    if depth == 0:
        return
    for origin, scale in ((middle, 0.6), ((middle + end) / 2, 0.5)):
        way = (end - start) / length + rng.normal(0, 0.75, 3)
        tip = origin + way / np.linalg.norm(way) * length * rng.uniform(0.35, 0.6)
        _branch(canvas, liver, origin, tip, radius * scale, depth - 1 if scale > 0.55 else 0, layers, rng)
