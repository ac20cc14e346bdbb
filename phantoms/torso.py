"""The frame of the body: skin, fat, muscle, bones, lungs and heart, and the table below."""

import numpy as np
from numpy.typing import NDArray

from phantoms.anatomy import Anatomy
from phantoms.canvas import Canvas, Layer
from phantoms.fields import FloatArray, Points
from phantoms.patient import Patient
from phantoms.shapes import Box, Vector, box_around, box_of_chain, chain, cylinder, ellipsoid

_EVERYWHERE: Box = ((-400, -300, -350), (400, 300, 350))


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
        _tube(canvas, nodes, radii, muscle)
        crus = [(patient.dome_left - 30, 22.0, side * 20.0), (-20.0, 34.0, side * 18.0), (-75.0, 38.0, side * 12.0)]
        _tube(canvas, crus, [rng.uniform(2, 4), rng.uniform(3.5, 7), 3], muscle)


def draw_spine(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Vertebral bodies with discs between them, the canal, arch, spinous and transverse processes."""
    hu, width, depth = patient.hu, rng.uniform(20, 25), rng.uniform(15, 18)
    pitch, phase = rng.uniform(29, 35), rng.uniform(0, 30)
    y = 46.0

    def height(p: Points) -> FloatArray:
        return np.asarray(np.abs((p.z + phase) % pitch - pitch / 2), np.float32)

    def column(p: Points) -> FloatArray:
        return cylinder(p, (y, 0), (depth, width))

    def vertebra(p: Points) -> FloatArray:
        return np.maximum(column(p), height(p) - (pitch / 2 - 4))

    def arch(p: Points) -> FloatArray:
        ring = np.abs(cylinder(p, (y + depth + 10, 0), (13, 14))) - 3
        spine = np.maximum(np.abs(p.x) - 3.5, np.maximum(np.abs(p.y - (y + depth + 36)) - 14, height(p) - 9))
        wings = np.maximum(np.abs(p.x) - 40, np.maximum(np.abs(p.y - (y + depth + 8)) - 4, height(p) - 5))
        return np.asarray(np.minimum(np.maximum(ring, height(p) - 11), np.minimum(spine, wings)), np.float32)

    bone = [Layer(hu["cortical"] * 0.7, Anatomy.SPINE), Layer(hu["bone"], Anatomy.SPINE, 2.0)]
    box: Box = ((-400, y - 22, -44), (400, y + depth + 55, 44))
    canvas.paint(arch, box, [Layer(hu["cortical"] * 0.6, Anatomy.SPINE)], lattice_mm=2.5)
    narrow: Box = ((-400, y - depth, -width), (400, y + depth, width))
    canvas.paint(column, narrow, [Layer(rng.uniform(70, 110), Anatomy.SPINE)])
    canvas.paint(vertebra, narrow, bone, lattice_mm=2.5)

    def canal(p: Points) -> FloatArray:
        return cylinder(p, (y + depth + 9, 0), (8, 10))

    canvas.paint(canal, ((-400, y + depth, -12), (400, y + depth + 20, 12)), [Layer(28, Anatomy.SPINE)])


def draw_ribs(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Ribs slope down from the spine to the front within the wall; the lowest are the shortest."""
    hu, pitch, phase = patient.hu, rng.uniform(24, 30), rng.uniform(0, 28)
    slope, lowest = rng.uniform(55, 110), rng.uniform(-60, -20)

    def ribs(p: Points) -> FloatArray:
        angle = np.arctan2(np.abs(p.x), p.y)
        z = p.z + slope * (1 - np.cos(angle)) + phase
        along = np.abs(z % pitch - pitch / 2)
        rib_z = z - z % pitch - phase
        radial = patient.cavity(p) - 3.5
        body = np.sqrt((radial / 3.2) ** 2 + (along / 5.5) ** 2) * 4 - 4
        end = np.clip(0.9 + (rib_z - lowest) / 55, 0, 2.55)
        return np.asarray(np.maximum(body, (angle - end) * 60), np.float32)

    bone = [Layer(hu["cortical"], Anatomy.RIB), Layer(hu["bone"], Anatomy.RIB, 1.8)]
    w, d = patient.half_width, patient.half_depth
    canvas.paint(ribs, ((lowest - 150, -d, -w), (400, d, w)), bone, lattice_mm=3.0)


def draw_chest(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Lungs above the diaphragm, the mediastinum between them, the heart, and vessels in the lungs."""
    hu, w, d = patient.hu, patient.half_width, patient.half_depth
    middle = rng.uniform(24, 34)

    def lungs(p: Points) -> FloatArray:
        chest = np.maximum(patient.cavity(p) + 2.5, (patient.dome(p) - p.z) * np.float32(0.6))
        return np.maximum(chest, -cylinder(p, (10, 6), (d, middle)))

    low = patient.dome_left - 110
    canvas.paint(lungs, ((low, -d, -w), (400, d, w)), [Layer(hu["lung"], Anatomy.LUNG)])
    vessel = [Layer(rng.uniform(-250, 50), Anatomy.LUNG)]
    for _ in range(10):
        side = 1 if rng.random() < 0.5 else -1
        start = np.array((patient.dome_right + rng.uniform(25, 90), rng.uniform(-20, 30), side * 38.0))
        end = start + rng.normal(0, 22, 3) + (-25, 10, side * 40)
        z, y, x = end
        if z > patient.dome_right - 75 * (((x + 78 * (x < 0) - 75 * (x > 0)) / 90) ** 2 + (y / 105) ** 2) + 10:
            _tube(canvas, [_vector(start), _vector(end)], [rng.uniform(2, 4.5), 1.0], vessel, lattice_mm=2.5)
    centre: Vector = (patient.dome_left + rng.uniform(22, 36), -28 + rng.normal(0, 5), 22 + rng.normal(0, 5))
    radii: Vector = (rng.uniform(36, 44), rng.uniform(44, 54), rng.uniform(52, 62))

    def heart(p: Points) -> FloatArray:
        return np.maximum(ellipsoid(p, centre, radii), (patient.dome(p) - p.z + 3) * np.float32(0.8))

    layers = [
        Layer(hu["fat"], Anatomy.FAT),
        Layer(min(hu["heart"], 110), Anatomy.HEART, 5),
        Layer(hu["heart"], Anatomy.HEART, 16),
    ]
    canvas.paint(heart, box_around(centre, radii), layers)


def draw_pelvis(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Iliac wings and the bladder, for images that reach down that far."""
    hu, top = patient.hu, rng.uniform(-185, -150)
    for side in (-1.0, 1.0):
        centre = (top - 60, 30.0, side * 60)

        def wing(p: Points, centre: Vector = centre) -> FloatArray:
            shell = np.abs(ellipsoid(p, centre, (70, 58, 58))) - 5
            return np.maximum(np.maximum(shell, -(p.x * np.sign(centre[2]) - 45)), p.z - (top - 4))

        bone = [Layer(hu["cortical"], Anatomy.PELVIS), Layer(hu["bone"], Anatomy.PELVIS, 2)]
        canvas.paint(wing, box_around(centre, (76, 64, 64)), bone, lattice_mm=3.0)
    bladder: Vector = (top - 90, -25.0, 0.0)
    radii: Vector = (35, 30, 42)
    fill = [Layer(40, Anatomy.PELVIS), Layer(rng.uniform(0, 20), Anatomy.PELVIS, 4)]
    canvas.paint(lambda p: ellipsoid(p, bladder, radii), box_around(bladder, radii), fill)


def draw_outside(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """The table below the patient and, sometimes, arms beside the body."""
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
            nodes = [(-380.0, -10.0, side * (patient.half_width + 52)), (380.0, 15.0, side * (patient.half_width + 46))]
            flesh = [Layer(patient.hu["fat"], Anatomy.ARM), Layer(patient.hu["muscle"], Anatomy.ARM, 7)]
            bone = [Layer(patient.hu["cortical"], Anatomy.ARM), Layer(patient.hu["bone"], Anatomy.ARM, 4)]
            _tube(canvas, nodes, [38, 44], flesh)
            _tube(canvas, nodes, [10, 11], bone)


def _tube(
    canvas: Canvas, nodes: list[Vector], radii: list[float], layers: list[Layer], lattice_mm: float = 4.0
) -> None:
    canvas.paint(lambda p: chain(p, nodes, radii), box_of_chain(nodes, radii), layers, lattice_mm=lattice_mm)


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
