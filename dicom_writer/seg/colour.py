"""A colour of the screen as DICOM has it.

References
----------
DICOM PS3.3 C.10.7.1.1, Encoding of CIELab Values; IEC 61966-2-1, sRGB. White is D65, as viewers and
other writers of segmentations have it.
"""

from __future__ import annotations

import numpy as np

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def cielab(rgb: tuple[int, int, int]) -> list[int]:
    """Return *Recommended Display CIELab Value* (0062,000D) of an sRGB colour, three numbers of 16 bits."""
    share = np.array(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratio = _TO_XYZ @ linear / _WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    scaled = [(116 * y - 16) / 100, (500 * (x - y) + 128) / 255, (200 * (y - z) + 128) / 255]
    return [int(v) for v in np.clip(np.rint(np.array(scaled) * 65535), 0, 65535)]
