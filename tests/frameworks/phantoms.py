"""The phantoms that the tiny models are trained on, and those that they are asked about."""

from dataclasses import dataclass

import numpy as np

from phantoms import Anatomy, make_abdomen

ORGANS = (
    Anatomy.SPLEEN,
    Anatomy.KIDNEY_LEFT,
    Anatomy.KIDNEY_RIGHT,
    Anatomy.STOMACH,
    Anatomy.HEART,
)
LIVER = (Anatomy.LIVER, Anatomy.TUMOUR, Anatomy.LIVER_VESSEL)
BONES = (Anatomy.SPINE, Anatomy.RIB, Anatomy.PELVIS)
TRAINED_ON = (11, 12, 13, 14, 15)
ASKED = 77


@dataclass(frozen=True)
class PhantomGrid:
    """Voxels and their spacing, (slice, row, column), mm."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def make(self, seed):
        """Return a phantom on this grid."""
        return make_abdomen(seed, shape=self.shape, spacing_mm=self.spacing_mm)


def truth_of(phantom):
    """Return 0 for background, 1 for other organs, 2 for the liver, 3 for bones."""
    truth = np.zeros_like(phantom.anatomy)
    for label, values in enumerate((ORGANS, LIVER, BONES), 1):
        truth[np.isin(phantom.anatomy, [int(value) for value in values])] = label
    return truth


EVEN = PhantomGrid((56, 112, 112), (3.5, 3.5, 3.5))
"""What is trained on where voxels are about cubes."""

EVEN_ASKED = PhantomGrid((72, 120, 124), (2.8, 3.1, 3.1))

THICK = PhantomGrid((30, 150, 150), (7.0, 2.4, 2.4))
"""What is trained on where slices are thick."""

THICK_ASKED = PhantomGrid((42, 176, 180), (5.0, 2.0, 2.0))
