"""Hounsfield units -> what a model is given."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from stages.arrays import Array, array_namespace


@dataclass(frozen=True)
class Intensity:
    """Hounsfield units -> what the model is given: ``(clip(hu) - zero) * scale + offset``.

    Parameters
    ----------
    low, high
        Bounds to which values are clipped, HU.
    zero
        What is subtracted then, HU.
    scale
        What the difference is multiplied by.
    offset
        What is added last.
    """

    low: float = -np.inf
    high: float = np.inf
    zero: float = 0.0
    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, hu: Array) -> Array:
        """Return the intensities of an array of HU; float32."""
        given = array_namespace(hu).clip(hu, self.low, self.high).astype(np.float32)
        given -= np.float32(self.zero)
        given *= np.float32(self.scale)
        given += np.float32(self.offset)
        return given

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        """Low, high, zero, scale and offset."""
        return tuple(map(float, astuple(self)))  # type: ignore[return-value]


UNCHANGED = Intensity()
