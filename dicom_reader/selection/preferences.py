"""Which of several series is the best: preferences, and what decides where they leave a tie.

References
----------
Kernel names as they stand in files of Siemens (B60f, Br64, Bl57), GE (LUNG, BONEPLUS), Philips (YB, L)
and Canon (FC51).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from dicom_reader.series.attributes import SeriesAttributes
from dicom_reader.series.subseries import LEAST_SLICES

_SHARPEST_SOFT = 49  # of the numbers of Siemens: 50 and more are for bone and lung
_SIEMENS = re.compile(r"[A-Z]([a-z]?)([0-9]{2})[a-z]?")
_SHARP = re.compile(
    r"(?i).*(lung|bone|edge|ultra|sharp|inner ear).*"
    r"|FC(3|5|8)[0-9].*"  # Canon: bone, lung, high resolution
    r"|Y[A-E]|[DEFL]"  # Philips
)

Preference = Literal[
    "stack",
    "primary",
    "soft-kernel",
    "most-slices",
    "fewest-slices",
    "thinnest",
    "thickest",
    "longest",
    "newest",
    "oldest",
]
DEFAULT_PREFERENCES: tuple[Preference, ...] = ("stack", "primary", "soft-kernel", "most-slices", "thinnest")
ORDER: Mapping[Preference, tuple[Callable[[SeriesAttributes], float], str]] = {
    "stack": (lambda f: f.positions < LEAST_SLICES, f"at fewer than {LEAST_SLICES} positions"),
    "primary": (lambda f: "PRIMARY" not in f.image_type, "not primary"),
    "soft-kernel": (lambda f: is_sharp(f.kernel), "of a kernel for bone or lung"),
    "most-slices": (lambda f: -f.slices, "fewer slices"),
    "fewest-slices": (lambda f: f.slices, "more slices"),
    "thinnest": (lambda f: round(f.spacing_mm or 1e9, 3), "wider spacing"),
    "thickest": (lambda f: -round(f.spacing_mm or 0, 3), "closer spacing"),
    "longest": (lambda f: -round(f.length_mm, 1), "shorter"),
    "newest": (lambda f: -_day(f), "older"),
    "oldest": (lambda f: _day(f) or 1e9, "newer"),
}
TIE_BREAKERS: tuple[tuple[Callable[[SeriesAttributes], float], str, str], ...] = (
    # where the preferences leave a tie: what decides, what it is called, and why another is behind
    (lambda f: f.series_number, "the lower Series Number (0020,0011)", "of a higher series number"),
    (lambda f: f.acquired_at, "the earlier acquisition", "acquired later"),
)


def _day(attributes: SeriesAttributes) -> int:
    return int(attributes.date) if attributes.date.isdecimal() else 0


def is_sharp(kernel: str) -> bool:
    r"""Return whether a kernel is one for bone or lung; False where nothing is known of it.

    Parameters
    ----------
    kernel
        The values of *Convolution Kernel* (0018,1210), separated by a backslash.
    """
    return any(_is_sharp_name(name.strip()) for name in kernel.split("\\"))


def _is_sharp_name(name: str) -> bool:
    siemens = _SIEMENS.fullmatch(name)
    if siemens:
        return siemens[1] == "l" or int(siemens[2]) > _SHARPEST_SOFT
    return _SHARP.fullmatch(name) is not None
