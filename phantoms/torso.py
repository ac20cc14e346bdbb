"""The frame of the body: skin, fat, muscle, lungs and heart, and the table below."""

import numpy as np
from numpy.typing import NDArray

from phantoms.anatomy import Anatomy
from phantoms.canvas import Canvas, Layer
from phantoms.fields import FloatArray, Points
from phantoms.patient import Patient
from phantoms.shapes import Box, Vector, box_around, cylinder, ellipsoid, intersection


def draw_wall(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Skin, subcutaneous fat, the muscular wall, and the fat of the cavity inside it."""
    hu = patient.hu
    lean = rng.uniform(0, 1)
    skin = [Layer(rng.uniform(0, 50), Anatomy.SKIN), Layer(hu["fat"], Anatomy.FAT, 2.0)]
    around = (-400.0, -patient.half_depth, -patient.half_width * 1.06)
    box: Box = (around, (400.0, patient.half_depth, patient.half_width * 1.06))
    canvas.paint(patient.outline, box, skin)
    inside = Layer(hu["fat"] + 45 * lean**2, Anatomy.FAT, patient.muscle_mm)
    canvas.paint(patient.muscle_wall, box, [Layer(hu["muscle"], Anatomy.MUSCLE), inside])


def draw_back(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Muscles along the spine: erectors behind it, psoas beside it from the kidneys down."""
    muscle = [Layer(patient.hu["muscle"] + rng.normal(0, 4), Anatomy.MUSCLE)]
    back = patient.half_depth - patient.fat_back
    thick = rng.uniform(18, 27)
    for side in (-1, 1):
        x = side * rng.uniform(33, 41)

        def erector(p: Points, x: float = x) -> FloatArray:
            return cylinder(p, (back - thick - 3, x), (thick, 33))

        canvas.paint(erector, ((-400, back - 60, x - 36), (400, back, x + 36)), muscle)
        nodes = [(-10.0, 46.0, side * 27.0), (-90.0, 42.0, side * 42.0), (-230.0, 20.0, side * 66.0)]
        radii = [7.0, rng.uniform(17, 24), 24.0]
        canvas.paint_tube(nodes, radii, muscle)
        crus = [
            (patient.dome_left - 30, 22.0, side * 20.0),
            (-20.0, 34.0, side * 18.0),
            (-75.0, 38.0, side * 12.0),
        ]
        canvas.paint_tube(crus, [rng.uniform(2, 4), rng.uniform(3.5, 7), 3], muscle)


def draw_chest(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Lungs above the diaphragm, the mediastinum between them, the heart, and vessels in the lungs."""
    hu, w, d = patient.hu, patient.half_width, patient.half_depth
    middle = rng.uniform(24, 34)

    def lungs(p: Points) -> FloatArray:
        chest = np.maximum(patient.cavity(p) + 2.5, (patient.dome(p) - p.z) * np.float32(0.6))
        return intersection(chest, -cylinder(p, (10, 6), (d, middle)))

    low = patient.dome_left - 110
    canvas.paint(lungs, ((low, -d, -w), (400, d, w)), [Layer(hu["lung"], Anatomy.LUNG)])
    vessel = [Layer(rng.uniform(-250, 50), Anatomy.LUNG)]
    for _ in range(10):
        side = 1 if rng.random() < 0.5 else -1
        start = np.array((patient.dome_right + rng.uniform(25, 90), rng.uniform(-20, 30), side * 38.0))
        end = start + rng.normal(0, 22, 3) + (-25, 10, side * 40)
        z, y, x = end
        if (
            z
            > patient.dome_right - 75 * (((x + 78 * (x < 0) - 75 * (x > 0)) / 90) ** 2 + (y / 105) ** 2) + 10
        ):
            canvas.paint_tube(
                [_vector(start), _vector(end)], [rng.uniform(2, 4.5), 1.0], vessel, lattice_mm=2.5
            )
    centre: Vector = (patient.dome_left + rng.uniform(22, 36), -28 + rng.normal(0, 5), 22 + rng.normal(0, 5))
    radii: Vector = (rng.uniform(36, 44), rng.uniform(44, 54), rng.uniform(52, 62))

    def heart(p: Points) -> FloatArray:
        return intersection(ellipsoid(p, centre, radii), (patient.dome(p) - p.z + 3) * np.float32(0.8))

    layers = [
        Layer(hu["fat"], Anatomy.FAT),
        Layer(min(hu["heart"], 110), Anatomy.HEART, 5),
        Layer(hu["heart"], Anatomy.HEART, 16),
    ]
    canvas.paint(heart, box_around(centre, radii), layers)


def draw_outside(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Draw the table below the patient and, sometimes, arms beside the body."""
    top, curve = patient.half_depth + rng.uniform(0, 6), rng.uniform(250, 420)

    def table(p: Points) -> FloatArray:
        upper = top + 10 - p.y - p.x**2 / (2 * curve)
        lower = p.y + p.x**2 / (3 * curve) - (top + 45)
        body = np.maximum(np.maximum(upper, lower), np.abs(p.x) - 200)
        return np.asarray(np.maximum(body, 3 - patient.outline(p)), np.float32)

    if rng.random() < 0.85:
        box: Box = ((-400, top - 80, -205), (400, top + 60, 205))
        shell = Layer(rng.uniform(-350, 50), Anatomy.TABLE)
        canvas.paint(table, box, [shell, Layer(rng.uniform(-1000, -880), Anatomy.TABLE, 2.2)])
    if rng.random() < 0.15:
        for side in (-1, 1):
            nodes = [
                (-380.0, -10.0, side * (patient.half_width + 52)),
                (380.0, 15.0, side * (patient.half_width + 46)),
            ]
            flesh = [Layer(patient.hu["fat"], Anatomy.ARM), Layer(patient.hu["muscle"], Anatomy.ARM, 7)]
            bone = [Layer(patient.hu["cortical"], Anatomy.ARM), Layer(patient.hu["bone"], Anatomy.ARM, 4)]
            canvas.paint_tube(nodes, [38, 44], flesh)
            canvas.paint_tube(nodes, [10, 11], bone)


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
