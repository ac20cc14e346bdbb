"""Stored values -> Hounsfield units, in place, exactly or not at all.

References
----------
DICOM PS3.5 8.1.1, Pixel Data encoding (bits that are not stored). PS3.3 C.7.6.3.1, Image Pixel;
C.7.5.1.1.2, Pixel Padding; C.11.1.1.2, Modality LUT (rescale).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_reader.files.headers import ATTRIBUTES, ImageHeader
from stages import InputError

_KEYWORDS = (
    "RescaleSlope",
    "RescaleIntercept",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
_TAGS = tuple(ATTRIBUTES[keyword][0] for keyword in _KEYWORDS)
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, kw_only=True)
class PixelEncoding:
    """How the stored values of one slice become Hounsfield units.

    Attributes
    ----------
    slope, intercept
        *Rescale Slope* (0028,1053), *Rescale Intercept* (0028,1052).
    bits_allocated, bits_stored, high_bit, signed
        *Bits Allocated* (0028,0100), *Bits Stored* (0028,0101), *High Bit* (0028,0102), *Pixel
        Representation* (0028,0103).
    padding, padding_limit
        *Pixel Padding Value* (0028,0120) and *Pixel Padding Range Limit* (0028,0121) as stored, or None.
    """

    slope: float
    intercept: float
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: int | None
    padding_limit: int | None = None

    @classmethod
    def from_header(cls, header: ImageHeader) -> PixelEncoding:
        """Read how a slice is encoded.

        Parameters
        ----------
        header
            Of the slice.

        Raises
        ------
        InputError
            If an attribute is missing, or is none that a CT slice can have.
        """
        (slope,) = header.numbers("RescaleSlope", 1)
        if slope <= 0:
            raise header.refuse("RescaleSlope", f"must be positive, found {slope:g}")
        allocated, bits = header.integer("BitsAllocated"), header.integer("BitsStored")
        expected = {
            "BitsAllocated": (8, 16),
            "BitsStored": range(1, allocated + 1),
            "HighBit": range(bits - 1, allocated),
            "PixelRepresentation": (0, 1),
            "SamplesPerPixel": (1,),
        }
        for keyword, allowed in expected.items():
            if (found := header.integer(keyword)) not in allowed:
                raise header.refuse(keyword, f"must be {_either(allowed)} in a CT slice, found {found}")
        if header.frame is None and header.text("NumberOfFrames") not in ("", "1"):
            raise header.refuse("NumberOfFrames", "must be 1 in a CT slice that is not enhanced")
        signed = header.integer("PixelRepresentation") == 1
        return cls(
            slope=slope,
            intercept=header.numbers("RescaleIntercept", 1)[0],
            bits_allocated=allocated,
            bits_stored=bits,
            high_bit=header.integer("HighBit"),
            signed=signed,
            padding=_padding(header, "PixelPaddingValue", signed),
            padding_limit=_padding(header, "PixelPaddingRangeLimit", signed),
        )

    @staticmethod
    def key(header: ImageHeader) -> tuple[object, ...]:
        """Return what `from_header` looks at: slices of one key have one encoding.

        Parameters
        ----------
        header
            Of the slice.
        """
        values = tuple(header.values.get(tag) for tag in _TAGS)
        return (header.transfer_syntax, header.frame is None, *values)

    def is_padding(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which stored values are padding.

        Parameters
        ----------
        stored
            Stored values, of any shape.
        """
        if self.padding is None:
            return np.zeros(stored.shape, dtype=np.bool_)
        limit = self.padding if self.padding_limit is None else self.padding_limit
        low, high = sorted((self.padding, limit))
        return (stored >= low) & (stored <= high)

    def fits(self, stored: int) -> bool:
        """Return whether a stored value is one of int16 in Hounsfield units.

        Parameters
        ----------
        stored
            A stored value.
        """
        hu = stored * self.slope + self.intercept
        return bool(_INT16.min - 0.5 <= hu < _INT16.max + 0.5)


def _either(allowed: Sequence[int]) -> str:
    if isinstance(allowed, range) and len(allowed) > 1:
        return f"{allowed[0]} to {allowed[-1]}"
    return " or ".join(str(value) for value in allowed)


def _padding(header: ImageHeader, keyword: str, signed: bool) -> int | None:
    value = header.integer(keyword, -1)
    return None if value < 0 else value - (value >> 15 << 16 if signed else 0)


def to_hounsfield(plane: NDArray[np.int16], encoding: PixelEncoding, *, name: str) -> list[str]:
    """Turn stored values into Hounsfield units, in place.

    Parameters
    ----------
    plane
        The 16 bits of each stored value, whatever their sign; Hounsfield units afterwards.
    encoding
        How its values are stored.
    name
        The slice, for messages.

    Returns
    -------
    list of str
        What was changed for the values to fit: padding that int16 cannot hold, bits that are not stored.
    """
    stored: NDArray[Any] = plane if encoding.signed else plane.view(np.uint16)
    low, high = _needed_limits(stored, encoding)
    repairs = []
    bottom, top = _limits_of_bits(encoding)
    if low < bottom or high > top:
        repairs = _keep_stored_bits(plane, encoding, name)
        low, high = int(stored.min()), int(stored.max())
    if not (encoding.fits(low) and encoding.fits(high)):
        repairs += _clip_padding(plane, stored, encoding, name)
    elif encoding.slope == 1 and encoding.intercept.is_integer() and abs(encoding.intercept) <= _INT16.max:
        if encoding.intercept:
            plane += np.int16(encoding.intercept)  # modulo 2^16, and the sum fits
    else:
        plane[...] = np.rint(stored * encoding.slope + encoding.intercept)
    return repairs


def _needed_limits(stored: NDArray[Any], encoding: PixelEncoding) -> tuple[int, int]:
    """Return least and greatest stored value; that of the type where every value of the type would do."""
    of_type, (bottom, top) = np.iinfo(stored.dtype), _limits_of_bits(encoding)
    free_below = bottom <= of_type.min and encoding.fits(of_type.min)
    free_above = of_type.max <= top and encoding.fits(of_type.max)
    return (
        int(of_type.min) if free_below else int(stored.min()),
        int(of_type.max) if free_above else int(stored.max()),
    )


def _limits_of_bits(encoding: PixelEncoding) -> tuple[int, int]:
    bits = encoding.bits_stored
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if encoding.signed else (0, (1 << bits) - 1)


def _keep_stored_bits(plane: NDArray[np.int16], encoding: PixelEncoding, name: str) -> list[str]:
    """Clear the bits above those that are stored, or extend the sign into them, in place.

    Return in words how many pixels had anything else there, such as an overlay.
    """
    bits = encoding.bits_stored
    foreign = _has_foreign_bits(plane, encoding)
    stored = plane if encoding.signed else plane.view(np.uint16)
    if (foreign & encoding.is_padding(stored)).any():
        raise InputError(
            f"{name}: Pixel Padding Value (0028,0120) needs more than the {bits} bits of Bits Stored "
            "(0028,0101)"
        )
    if encoding.signed:
        plane <<= 16 - bits
        plane >>= 16 - bits
    else:
        plane &= np.int16((1 << bits) - 1)
    count = int(foreign.sum())
    return [f"{name}: bits above High Bit (0028,0102) of {count} pixels left out"] if count else []


def _has_foreign_bits(plane: NDArray[np.int16], encoding: PixelEncoding) -> NDArray[np.bool_]:
    """Return which pixels have other bits above those that are stored than zeros or their sign."""
    bits = encoding.bits_stored
    above = plane.view(np.uint16) >> bits
    if not encoding.signed:
        return np.asarray(above != 0)
    sign = (1 << encoding.bits_allocated - (encoding.high_bit + 1)) - 1
    is_negative = plane.view(np.uint16) >> (bits - 1) & 1 == 1
    return np.asarray((above != 0) & ~(is_negative & (above == sign)))


def _clip_padding(
    plane: NDArray[np.int16], stored: NDArray[Any], encoding: PixelEncoding, name: str
) -> list[str]:
    """Clip values that int16 cannot hold if they are padding, and refuse all others."""
    hu = stored * np.float64(encoding.slope) + encoding.intercept
    outside = (hu < _INT16.min - 0.5) | (hu >= _INT16.max + 0.5)
    foreign = outside & ~encoding.is_padding(stored)
    if foreign.any():
        row, column = np.argwhere(foreign)[0]
        raise InputError(
            f"{name}: {hu[row, column]:g} HU at row {row}, column {column} (stored value "
            f"{stored[row, column]}) does not fit int16; Rescale Slope (0028,1053) or Intercept (0028,1052) "
            "may be wrong"
        )
    value = hu[outside][0]
    plane[...] = np.rint(np.clip(hu, _INT16.min, _INT16.max))
    return [f"{name}: {int(outside.sum())} padding pixels of {value:g} HU clipped to fit int16"]
