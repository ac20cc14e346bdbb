"""Gullet, stomach and bowel, with what is in them."""

from itertools import pairwise

import numpy as np

from phantoms.anatomy import Anatomy
from phantoms.canvas import Canvas, Layer
from phantoms.fields import FloatArray, Points, SmoothField, random_field
from phantoms.patient import Patient
from phantoms.shapes import Vector, box_of_chain, chain, intersection

_GAS = -950.0


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
    content = rng.choice(
        (rng.uniform(0, 25), rng.uniform(20, 80), rng.uniform(120, 350)), p=(0.5, 0.35, 0.15)
    )
    level = rng.uniform(-75, -5)
    gullet: list[Vector] = [(400, 16, 2), (patient.dome_left, 12, 8), nodes[0]]
    tube = [Layer(wall, Anatomy.STOMACH)]
    canvas.paint_tube(gullet, (9, 8, 7), tube)

    def stomach(p: Points) -> FloatArray:
        return intersection(chain(p, nodes, radii), p.z - patient.dome(p) + 4, patient.cavity(p) + 4)

    box = box_of_chain(nodes, radii)
    bumps = random_field(rng, step=25, amplitude=2.5)
    canvas.paint(
        stomach, box, [Layer(wall, Anatomy.STOMACH), Layer(content, Anatomy.STOMACH, 4.5)], wobble=bumps
    )
    gas = [Layer(_GAS, Anatomy.STOMACH)]
    canvas.paint(lambda p: intersection(stomach(p) + 5, p.y - np.float32(level)), box, gas, wobble=bumps)


def draw_bowel(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Draw the colon as a frame, loops of small bowel within it, and the duodenum around the pancreas."""
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
    for a, b in pairwise(colon):
        _loop(canvas, patient, [a, b], rng.uniform(14, 22), rng, bumps)
    _loop(canvas, patient, [(-38, -28, -26), (-55, -8, -48), (-88, 10, -30), (-92, 8, 20)], 11, rng, bumps)
    for _ in range(int(rng.integers(28, 55))):
        start = np.array(
            (rng.uniform(-230, -40), rng.uniform(front * 0.8, 10), rng.uniform(-0.65, 0.65) * side)
        )
        nodes = [start, start + rng.normal(0, (14, 10, 28)), start + rng.normal(0, (22, 14, 34))]
        loop = [(min(float(z), -55.0 if x < 25 else -22.0), float(y), float(x)) for z, y, x in nodes]
        _loop(canvas, patient, loop, rng.uniform(9, 15), rng, bumps)


def _loop(
    canvas: Canvas,
    patient: Patient,
    nodes: list[Vector],
    radius: float,
    rng: np.random.Generator,
    bumps: SmoothField,
) -> None:
    """One piece of bowel: wall, contents, and gas above a level."""
    radii = [radius * float(f) for f in rng.uniform(0.8, 1.2, len(nodes))]
    wall = patient.hu["bowel"] + rng.normal(0, 6)
    content = float(
        rng.choice((rng.uniform(0, 40), rng.uniform(-80, 60), rng.uniform(100, 400)), p=(0.55, 0.35, 0.1))
    )
    box = box_of_chain(nodes, radii)

    def inside(p: Points) -> FloatArray:
        return intersection(chain(p, nodes, radii), patient.cavity(p) + 3)

    layers = [Layer(wall, Anatomy.BOWEL), Layer(content, Anatomy.BOWEL, rng.uniform(2, 4))]
    canvas.paint(inside, box, layers, wobble=bumps)
    if rng.random() < 0.45:
        level = np.float32(np.mean([y for _, y, _ in nodes]) + rng.uniform(-0.8, 0.6) * radius)
        gas = [Layer(_GAS, Anatomy.BOWEL)]
        canvas.paint(lambda p: intersection(inside(p) + 3.5, p.y - level), box, gas, wobble=bumps)
