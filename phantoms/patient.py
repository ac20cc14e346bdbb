"""One random patient: body build, position and how each tissue appears in one contrast phase."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from phantoms.canvas import Pose
from phantoms.fields import FloatArray, Points, random_field
from phantoms.shapes import cylinder


class Phase(Enum):
    """When the images were taken after the injection of contrast medium."""

    NATIVE = "native"
    ARTERIAL = "arterial"
    PORTAL_VENOUS = "portal venous"


# Mean HU: native, arterial, portal venous; and how far patients differ (standard deviation).
_APPEARANCE = {
    "liver": ((56, 72, 108), 11),
    "liver_vessel": ((42, 85, 160), 12),
    "spleen": ((48, 110, 118), 10),
    "cortex": ((34, 180, 185), 20),
    "medulla": ((30, 75, 160), 15),
    "aorta": ((42, 310, 155), 30),
    "cava": ((40, 90, 140), 20),
    "pancreas": ((40, 95, 90), 12),
    "bowel": ((35, 80, 85), 12),
    "heart": ((42, 220, 145), 22),
    "muscle": ((55, 60, 64), 6),
    "fat": ((-105, -103, -102), 6),
    "bile": ((8, 8, 8), 7),
}
_PHASES = (Phase.NATIVE, Phase.ARTERIAL, Phase.PORTAL_VENOUS)


@dataclass(frozen=True)
class Patient:
    """Sizes in mm, in patient coordinates: origin in the upper abdomen in front of the spine."""

    half_width: float
    half_depth: float
    fat_side: float
    fat_front: float
    fat_back: float
    muscle_mm: float
    dome_right: float
    dome_left: float
    phase: Phase
    hu: dict[str, float]

    def outline(self, p: Points) -> FloatArray:
        """Distance from the skin; chest and hips a little wider than the waist."""
        p = self._straight(p)
        return cylinder(p, (0, 0), (self.half_depth, self.half_width), 2.35)

    def muscle_wall(self, p: Points) -> FloatArray:
        """Distance from where subcutaneous fat meets muscle."""
        p = self._straight(p)
        depth = self.half_depth - (self.fat_front + self.fat_back) / 2
        centre = (self.fat_front - self.fat_back) / 2
        return cylinder(p, (centre, 0), (depth, self.half_width - self.fat_side), 2.3)

    def cavity(self, p: Points) -> FloatArray:
        """Distance from the inner face of the muscular wall: ribs lie just outside."""
        return self.muscle_wall(p) + np.float32(self.muscle_mm)

    def dome(self, p: Points) -> FloatArray:
        """Height of the diaphragm above each point of the transverse plane."""
        right = ((p.x + 78) / 95) ** 2 + ((p.y + 5) / 105) ** 2
        left = ((p.x - 75) / 85) ** 2 + ((p.y + 5) / 100) ** 2
        height = np.maximum(self.dome_right - 75 * right, self.dome_left - 70 * left)
        return np.asarray(height, np.float32)

    def _straight(self, p: Points) -> Points:
        """Undo the change of girth with height."""
        girth = 1 + np.float32(0.05) * np.cos((p.z - 60) / np.float32(75))
        return Points(p.z, p.y, p.x / girth)


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw body build, phase and tissue values."""
    phase_index = int(rng.choice(3, p=(0.25, 0.2, 0.55)))
    shared = rng.normal(0, 0.6)
    hu = {
        name: means[phase_index] + spread * float(np.clip(rng.normal() + shared * (name != "fat"), -2.2, 2.2))
        for name, (means, spread) in _APPEARANCE.items()
    }
    if rng.random() < 0.15:  # a fatty liver is darker than its vessels
        hu["liver"] -= rng.uniform(15, 50)
    hu["lung"] = rng.uniform(-900, -780)
    hu["bone"] = rng.uniform(140, 280)
    hu["cortical"] = rng.uniform(450, 900)
    fat = rng.uniform(0, 1) ** 1.3
    width = rng.uniform(140, 172) + 28 * fat
    right = rng.uniform(62, 92)
    return Patient(
        half_width=width,
        half_depth=width * rng.uniform(0.66, 0.74) + 6 * fat,
        fat_side=5 + 26 * fat,
        fat_front=5 + 26 * fat * rng.uniform(0.6, 1.3),
        fat_back=5 + 18 * fat,
        muscle_mm=rng.uniform(9, 15),
        dome_right=right,
        dome_left=right - rng.uniform(5, 22),
        phase=_PHASES[phase_index],
        hu=hu,
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw how the patient lies: turned and tilted a little, scaled, off centre, and bent."""
    about_z, about_x, about_y = rng.normal(0, (0.06, 0.05, 0.04))
    turn = _rotation(1, 2, about_z) @ _rotation(0, 1, about_x) @ _rotation(0, 2, about_y)
    matrix: NDArray[np.float64] = turn / np.clip(rng.normal(1, 0.06, 3), 0.86, 1.14)
    shift = rng.uniform((-6, -12, -12), (6, 12, 12))
    wide = [random_field(rng, step=90, amplitude=a) for a in (5.0, 4.0, 5.0)]
    return Pose(matrix, shift, (wide[0], wide[1], wide[2]), reach_mm=16.0)


def _rotation(a: int, b: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix
