"""The bones: spine, ribs and pelvis."""

import numpy as np

from phantoms.anatomy import Anatomy
from phantoms.canvas import Canvas, Layer
from phantoms.fields import FloatArray, Points
from phantoms.patient import Patient
from phantoms.shapes import Box, Vector, box_around, cylinder, ellipsoid, intersection


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
        return intersection(column(p), height(p) - np.float32(pitch / 2 - 4))

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


def draw_pelvis(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
    """Iliac wings and the bladder, for images that reach down that far."""
    hu, top = patient.hu, rng.uniform(-185, -150)
    for side in (-1.0, 1.0):
        centre = (top - 60, 30.0, side * 60)

        def wing(p: Points, centre: Vector = centre) -> FloatArray:
            shell = np.abs(ellipsoid(p, centre, (70, 58, 58))) - 5
            return intersection(shell, 45 - p.x * np.float32(np.sign(centre[2])), p.z - np.float32(top - 4))

        bone = [Layer(hu["cortical"], Anatomy.PELVIS), Layer(hu["bone"], Anatomy.PELVIS, 2)]
        canvas.paint(wing, box_around(centre, (76, 64, 64)), bone, lattice_mm=3.0)
    bladder: Vector = (top - 90, -25.0, 0.0)
    radii: Vector = (35, 30, 42)
    fill = [Layer(40, Anatomy.PELVIS), Layer(rng.uniform(0, 20), Anatomy.PELVIS, 4)]
    canvas.paint(lambda p: ellipsoid(p, bladder, radii), box_around(bladder, radii), fill)
