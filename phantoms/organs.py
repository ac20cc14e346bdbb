"""The other organs of the upper abdomen: spleen, kidneys, stomach, bowel, pancreas and great vessels."""

import numpy as np

from phantoms.anatomy import Anatomy
from phantoms.canvas import Canvas, Layer
from phantoms.fields import FloatArray, Points, SmoothField, random_field
from phantoms.patient import Patient
from phantoms.shapes import Box, Vector, box_around, box_of_chain, chain, ellipsoid, without

Body = tuple[Vector, Vector]
_GAS = -950.0


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


def draw_kidneys(canvas: Canvas, patient: Patient, kidneys: tuple[Body, Body], rng: np.random.Generator) -> None:
    """Cortex, medullary pyramids, and the fat of the sinus that opens towards the spine."""
    labels = (Anatomy.KIDNEY_RIGHT, Anatomy.KIDNEY_LEFT)
    for (centre, radii), label, side in zip(kidneys, labels, (-1, 1), strict=True):
        phase = rng.uniform(0, 6)
        sinus: Vector = (centre[0], centre[1] - 5, centre[2] - side * radii[2] * 0.55)

        def kidney(p: Points, centre: Vector = centre, radii: Vector = radii, sinus: Vector = sinus) -> FloatArray:
            return without(ellipsoid(p, centre, radii), ellipsoid(p, sinus, (22, 9, 14)))

        def pyramids(p: Points, c: Vector = centre, r: Vector = radii, s: Vector = sinus, f: float = phase) -> FloatArray:
            waves = np.cos(p.z * 0.36 + f) + np.cos(np.arctan2(p.y - c[1], p.x - c[2]) * 5 + f)
            return np.maximum(kidney(p, c, r, s) + 5, (0.1 - waves) * np.float32(3))

        fat = [Layer(patient.hu["fat"], Anatomy.FAT)]
        thick = rng.uniform(1, 7)
        halo = (radii[0] + thick, radii[1] + thick, radii[2] + thick)
        canvas.paint(lambda p, c=centre, r=halo: ellipsoid(p, c, r), box_around(centre, halo), fat)  # type: ignore[misc]
        box = box_around(centre, radii)
        canvas.paint(kidney, box, [Layer(patient.hu["cortex"], label)], lattice_mm=3.0)
        canvas.paint(pyramids, box, [Layer(patient.hu["medulla"], label)], lattice_mm=3.0)


def draw_spleen(canvas: Canvas, patient: Patient, kidneys: tuple[Body, Body], rng: np.random.Generator) -> None:
    """A crescent under the left ribs, hollowed by stomach and kidney."""
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
    canvas.paint(spleen, box_around(centre, radii), [Layer(patient.hu["spleen"], Anatomy.SPLEEN)], wobble=bumps)


def draw_stomach(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Fundus below the left diaphragm to the pylorus; gas on top of what was drunk or eaten."""
    nodes: list[Vector] = [
        (38 + rng.normal(0, 6), 8 + rng.normal(0, 6), 66 + rng.normal(0, 5)),
        (8, -28, 72 + rng.normal(0, 8)),
        (-38 + rng.normal(0, 8), -52, 48),
        (-42 + rng.normal(0, 8), -50, 2),
        (-36, -32, -22),
    ]
    full = rng.uniform(0.55, 1.1)
    radii = [36 * full, 33 * full, 26 * full, 17 * full, 10]
    wall = patient.hu["bowel"] + rng.uniform(-10, 10)
    content = rng.choice((rng.uniform(0, 25), rng.uniform(20, 80), rng.uniform(120, 350)), p=(0.5, 0.35, 0.15))
    level = rng.uniform(-75, -5)
    gullet: list[Vector] = [(400, 16, 2), (patient.dome_left, 12, 8), nodes[0]]
    tube = [Layer(wall, Anatomy.STOMACH)]
    canvas.paint(lambda p: chain(p, gullet, (9, 8, 7)), box_of_chain(gullet, (9, 8, 7)), tube)

    def stomach(p: Points) -> FloatArray:
        return np.maximum(chain(p, nodes, radii), np.maximum(p.z - patient.dome(p) + 4, patient.cavity(p) + 4))

    box = box_of_chain(nodes, radii)
    bumps = random_field(rng, step=25, amplitude=2.5)
    canvas.paint(
        stomach, box, [Layer(wall, Anatomy.STOMACH), Layer(content, Anatomy.STOMACH, 4.5)], wobble=bumps
    )
    gas = [Layer(_GAS, Anatomy.STOMACH)]
    canvas.paint(lambda p: np.maximum(stomach(p) + 5, p.y - np.float32(level)), box, gas, wobble=bumps)


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
    canvas.paint(lambda p: chain(p, nodes, radii), box_of_chain(nodes, radii), layers, wobble=bumps)


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
        (cava, [(top + 25, 8, -18), (top, 20, -24), (-10, 20, -25), (-150, 20, -20)], [c + 1, c + 1, c, c - 1]),
        (cava, [(-48, 14, -18), (-46, 6, 12), (-50, 32, 50)], [5, 4, 4]),
        (portal, [(-60, -12, -6), (-32, -8, -12), (-8, -4, -30), (-2, -4, -40)], [6, 6.5, 7, 6]),
        (portal, [(-32, -8, -10), (-22, -2, 30), (-8, 20, 78)], [5, 4, 3.5]),
        (portal, [(-60, -12, -6), (-130, -22, -8)], [6, 4]),
    ]
    for layer, nodes, radii in tubes:
        moved = [(z, y + rng.normal(0, 1.5), x + rng.normal(0, 2)) for z, y, x in nodes]
        moved[0] = nodes[0]
        box: Box = box_of_chain(moved, radii)
        canvas.paint(lambda p, n=moved, r=radii: chain(p, n, r), box, [layer], lattice_mm=2.5)  # type: ignore[misc]


def draw_bowel(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """The colon as a frame, loops of small bowel within it, and the duodenum around the pancreas."""
    w, d = patient.half_width - patient.fat_side, patient.half_depth - patient.fat_front
    side = w - patient.muscle_mm - 24
    front = -(d - patient.muscle_mm - 22)
    flexure = rng.uniform(-95, -70)
    colon: list[Vector] = [
        (-230.0, -5.0, -side * 0.75),
        (-170.0, 8.0, -side * 0.85),
        (flexure, 5.0, -side * 0.9),
        (flexure - 5, front * 0.75, -side * 0.6),
        (-85 + rng.normal(0, 14), front * 0.9, 0.0),
        (-30 + rng.normal(0, 10), front * 0.7, side * 0.7),
        (-8 + rng.normal(0, 10), 0.0, side * 0.93),
        (-80.0, 25.0, side * 0.93),
        (-230.0, 15.0, side * 0.8),
    ]
    bumps = random_field(rng, step=18, amplitude=2.5)
    for a, b in zip(colon[:-1], colon[1:], strict=True):
        _loop(canvas, patient, [a, b], rng.uniform(14, 22), rng, bumps)
    _loop(canvas, patient, [(-38, -28, -26), (-55, -8, -48), (-88, 10, -30), (-92, 8, 20)], 11, rng, bumps)
    for _ in range(int(rng.integers(28, 55))):
        start = np.array((rng.uniform(-230, -40), rng.uniform(front * 0.8, 10), rng.uniform(-0.65, 0.65) * side))
        nodes = [start, start + rng.normal(0, (14, 10, 28)), start + rng.normal(0, (22, 14, 34))]
        loop = [(min(float(z), -55.0 if x < 25 else -22.0), float(y), float(x)) for z, y, x in nodes]
        _loop(canvas, patient, loop, rng.uniform(9, 15), rng, bumps)


def _loop(
    canvas: Canvas, patient: Patient, nodes: list[Vector], radius: float, rng: np.random.Generator, bumps: SmoothField
) -> None:
    """One piece of bowel: wall, contents, and gas above a level."""
    radii = [radius * float(f) for f in rng.uniform(0.8, 1.2, len(nodes))]
    wall = patient.hu["bowel"] + rng.normal(0, 6)
    content = float(rng.choice((rng.uniform(0, 40), rng.uniform(-80, 60), rng.uniform(100, 400)), p=(0.55, 0.35, 0.1)))
    box = box_of_chain(nodes, radii)

    def inside(p: Points) -> FloatArray:
        return np.maximum(chain(p, nodes, radii), patient.cavity(p) + 3)

    layers = [Layer(wall, Anatomy.BOWEL), Layer(content, Anatomy.BOWEL, rng.uniform(2, 4))]
    canvas.paint(inside, box, layers, wobble=bumps)
    if rng.random() < 0.45:
        level = np.float32(np.mean([y for _, y, _ in nodes]) + rng.uniform(-0.8, 0.6) * radius)
        gas = [Layer(_GAS, Anatomy.BOWEL)]
        canvas.paint(lambda p: np.maximum(inside(p) + 3.5, p.y - level), box, gas, wobble=bumps)
