"""The solid organs beside the liver, the gall bladder, and the great vessels."""

import numpy as np

from phantoms.anatomy import Anatomy
from phantoms.canvas import Canvas, Layer
from phantoms.fields import FloatArray, Points, random_field
from phantoms.patient import Patient
from phantoms.shapes import Vector, box_around, ellipsoid, intersection, without

Body = tuple[Vector, Vector]


def place_kidneys(rng: np.random.Generator) -> tuple[Body, Body]:
    """Centre and radii of the right and of the left kidney; the right one lies lower."""
    bodies: list[Body] = []
    for side, height in ((-1.0, -68.0), (1.0, -50.0)):
        centre = (height + rng.normal(0, 10), 44 + rng.normal(0, 4), side * rng.uniform(62, 74))
        bodies.append((centre, (rng.uniform(47, 60), rng.uniform(24, 31), rng.uniform(24, 31))))
    return bodies[0], bodies[1]


def place_gall_bladder(rng: np.random.Generator) -> Body:
    """Centre and radii; a vanishing one where it was removed."""
    if rng.random() < 0.15:
        return (-48.0, -52.0, -50.0), (0.5, 0.5, 0.5)
    centre = (-48 + rng.normal(0, 8), -48 + rng.normal(0, 6), -52 + rng.normal(0, 7))
    width = rng.uniform(10, 19)
    return centre, (rng.uniform(22, 34), width * 1.2, width)


def draw_gall_bladder(canvas: Canvas, patient: Patient, body: Body) -> None:
    """Bile within a thin wall."""
    layers = [Layer(35, Anatomy.GALL_BLADDER), Layer(patient.hu["bile"], Anatomy.GALL_BLADDER, 1.5)]
    canvas.paint(lambda p: ellipsoid(p, *body), box_around(*body), layers, lattice_mm=3.0)


def draw_kidneys(
    canvas: Canvas, patient: Patient, kidneys: tuple[Body, Body], rng: np.random.Generator
) -> None:
    """Cortex, medullary pyramids, and the fat of the sinus that opens towards the spine."""
    for body, label, side in zip(kidneys, (Anatomy.KIDNEY_RIGHT, Anatomy.KIDNEY_LEFT), (-1, 1), strict=True):
        _draw_kidney(canvas, patient, body, label, side, rng)


def _draw_kidney(
    canvas: Canvas, patient: Patient, body: Body, label: Anatomy, side: int, rng: np.random.Generator
) -> None:
    (z, y, x), radii = body
    wave, thick = rng.uniform(0, 6), rng.uniform(1, 7)
    sinus: Vector = (z, y - 5, x - side * radii[2] * 0.55)

    def kidney(p: Points) -> FloatArray:
        return without(ellipsoid(p, *body), ellipsoid(p, sinus, (22, 9, 14)))

    def pyramids(p: Points) -> FloatArray:
        waves = np.cos(p.z * 0.36 + wave) + np.cos(np.arctan2(p.y - y, p.x - x) * 5 + wave)
        return intersection(kidney(p) + 5, (0.1 - waves) * np.float32(3))

    halo = (radii[0] + thick, radii[1] + thick, radii[2] + thick)
    fat = [Layer(patient.hu["fat"], Anatomy.FAT)]
    canvas.paint(lambda p: ellipsoid(p, body[0], halo), box_around(body[0], halo), fat)
    canvas.paint(kidney, box_around(*body), [Layer(patient.hu["cortex"], label)], lattice_mm=3.0)
    canvas.paint(pyramids, box_around(*body), [Layer(patient.hu["medulla"], label)], lattice_mm=3.0)


def draw_spleen(
    canvas: Canvas, patient: Patient, kidneys: tuple[Body, Body], rng: np.random.Generator
) -> None:
    """Draw a crescent under the left ribs, hollowed by stomach and kidney."""
    wide = patient.half_width / 160
    centre: Vector = (12 + rng.normal(0, 10), 34 + rng.normal(0, 6), 104 * wide)
    radii: Vector = (rng.uniform(38, 62), rng.uniform(36, 52), rng.uniform(28, 40) * wide)
    left, gap = kidneys[1], rng.uniform(0.3, 5.5)
    hollow: Body = ((centre[0] + 6, centre[1] - 34, centre[2] - 34), (60, 36, 36))

    def spleen(p: Points) -> FloatArray:
        body = without(ellipsoid(p, centre, radii), ellipsoid(p, *left), gap)
        body = np.maximum(body, patient.cavity(p) + np.float32(gap))
        body = np.maximum(body, (p.z - patient.dome(p) + 3) * np.float32(0.75))
        return without(body, ellipsoid(p, *hollow))

    bumps = random_field(rng, step=30, amplitude=2.5)
    canvas.paint(
        spleen, box_around(centre, radii), [Layer(patient.hu["spleen"], Anatomy.SPLEEN)], wobble=bumps
    )


def draw_pancreas(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """From the head beside the duodenum across the spine to the hilum of the spleen."""
    nodes: list[Vector] = [
        (-52 + rng.normal(0, 4), -6, -34),
        (-34, -16, -8),
        (-26 + rng.normal(0, 4), -10, 28),
        (-12, 18, 76),
    ]
    radii = [float(r) for r in rng.uniform((12, 8, 7, 6), (17, 12, 11, 10))]
    layers = [Layer(patient.hu["pancreas"], Anatomy.PANCREAS)]
    bumps = random_field(rng, step=14, amplitude=2.0)
    canvas.paint_tube(nodes, radii, layers, wobble=bumps)


def draw_vessels(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Aorta left of the midline, inferior vena cava right of it, portal and splenic vein, main branches."""
    hu, r = patient.hu, rng.uniform(8.5, 12.5)
    aorta = Layer(hu["aorta"], Anatomy.AORTA)
    cava = Layer(hu["cava"], Anatomy.INFERIOR_VENA_CAVA)
    portal = Layer(hu["liver_vessel"], Anatomy.PORTAL_VEIN)
    c = rng.uniform(9.5, 13)
    top = patient.dome_right - 18
    tubes: list[tuple[Layer, list[Vector], list[float]]] = [
        (aorta, [(400, 28, 20), (60, 24, 13), (-60, 18, 9), (-150, 14, 4)], [r + 2, r + 1, r, r - 1.5]),
        (aorta, [(-18, 10, 10), (-26, -6, 10), (-80, -18, 6)], [3.5, 3.5, 3]),
        (aorta, [(-8, 12, 10), (-6, -6, 8), (-6, -8, 38)], [3.5, 3, 2.5]),
        (aorta, [(-45, 20, 8), (-50, 34, 50)], [3, 2.5]),
        (aorta, [(-48, 20, 6), (-62, 34, -50)], [3, 2.5]),
        (aorta, [(-150, 14, 4), (-230, 10, 45)], [6, 5]),
        (aorta, [(-150, 14, 4), (-230, 10, -40)], [6, 5]),
        (
            cava,
            [(top + 25, 8, -18), (top, 20, -24), (-10, 20, -25), (-150, 20, -20)],
            [c + 1, c + 1, c, c - 1],
        ),
        (cava, [(-48, 14, -18), (-46, 6, 12), (-50, 32, 50)], [5, 4, 4]),
        (portal, [(-60, -12, -6), (-32, -8, -12), (-8, -4, -30), (-2, -4, -40)], [6, 6.5, 7, 6]),
        (portal, [(-32, -8, -10), (-22, -2, 30), (-8, 20, 78)], [5, 4, 3.5]),
        (portal, [(-60, -12, -6), (-130, -22, -8)], [6, 4]),
    ]
    for layer, nodes, radii in tubes:
        moved = [(z, y + rng.normal(0, 1.5), x + rng.normal(0, 2)) for z, y, x in nodes]
        moved[0] = nodes[0]
        canvas.paint_tube(moved, radii, [layer], lattice_mm=2.5)
