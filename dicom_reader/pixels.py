"""Stored values -> Hounsfield units: one preallocated int16 array, filled slice by slice in place.

Uncompressed pixels are read from the file straight into their place; compressed ones go through
pydicom's decoders.

References
----------
DICOM PS3.3 C.7.6.3.1, Image Pixel; C.11.1.1.2, Modality LUT (rescale); PS3.5 8.1.1, Pixel Data encoding.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_reader.files import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicom_reader.headers import EXPLICIT_BIG, Header
from stages import InputError, StageError

logger = logging.getLogger(__name__)

_NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the stored values of one slice become Hounsfield units.

    Attributes
    ----------
    slope, intercept
        *Rescale Slope* (0028,1053), *Rescale Intercept* (0028,1052).
    bits_stored, signed
        *Bits Stored* (0028,0101), *Pixel Representation* (0028,0103).
    padding
        *Pixel Padding Value* (0028,0120) as stored, or None.
    """

    slope: float
    intercept: float
    bits_stored: int
    signed: bool
    padding: int | None

    @classmethod
    def from_header(cls, header: Header) -> Encoding:
        """Read how a slice is encoded.

        Raises
        ------
        InputError
            If an attribute is missing, or is none that a CT slice can have.
        """
        (slope,) = header.numbers("RescaleSlope", 1)
        if slope == 0:
            raise header.refuse("RescaleSlope", "must not be 0")
        bits = header.integer("BitsStored")
        expected = {
            "BitsAllocated": (16,),
            "BitsStored": range(1, 17),
            "HighBit": (bits - 1,),
            "PixelRepresentation": (0, 1),
            "SamplesPerPixel": (1,),
        }
        for keyword, allowed in expected.items():
            if (found := header.integer(keyword)) not in allowed:
                raise header.refuse(keyword, f"must be {_either(allowed)} in a CT slice, found {found}")
        if header.text("NumberOfFrames") not in ("", "1"):
            raise header.refuse("NumberOfFrames", "must be 1 in a CT slice")
        signed = header.integer("PixelRepresentation") == 1
        padding = header.integer("PixelPaddingValue", -1)
        return cls(
            slope=slope,
            intercept=header.numbers("RescaleIntercept", 1)[0],
            bits_stored=bits,
            signed=signed,
            padding=None if padding < 0 else padding - (padding >> 15 << 16 if signed else 0),
        )


def _either(allowed: Sequence[int]) -> str:
    return f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 1 else str(allowed[0])


def read_pixels(headers: Sequence[Header]) -> tuple[NDArray[np.int16], list[str]]:
    """Read the pixels of slices of one matrix as Hounsfield units.

    Returns
    -------
    hu, repairs
        Shape (slices, rows, columns), int16; and what was changed for the values to fit, if anything.

    Raises
    ------
    InputError
        If pixels are missing, truncated, cannot be decoded, or do not fit int16 Hounsfield units;
        names file and value.
    """
    encodings = [Encoding.from_header(header) for header in headers]
    matrix = headers[0].integer("Rows"), headers[0].integer("Columns")
    for header in headers:
        _refuse_unreadable(header, expected=matrix[0] * matrix[1] * 2)
    _log_lossy(headers)
    hu = np.empty((len(headers), *matrix), dtype=np.int16)
    repairs = []
    for header, encoding, plane in zip(headers, encodings, hu, strict=True):
        if header.transfer_syntax in _NATIVE:
            _read_native(header, plane)
        else:
            _decode(header, plane)
        repairs += to_hounsfield(plane, encoding, name=header.name)
    return hu, repairs


def _refuse_unreadable(header: Header, *, expected: int) -> None:
    """Refuse, before anything is allocated, pixels that are not there or cannot be decoded."""
    if header.transfer_syntax not in _NATIVE:
        _require_decoder(header)
        return
    if header.pixel_offset is None:
        raise InputError(f"{header.name} has no Pixel Data (7FE0,0010)")
    if header.pixel_length is None or header.pixel_length - expected not in (0, 1):
        raise InputError(
            f"{header.name}: Pixel Data (7FE0,0010) has {header.pixel_length or 'an undefined number of'} "
            f"bytes, its matrix needs {expected}"
        )
    there = header.path.stat().st_size - header.pixel_offset
    if there < expected:
        raise InputError(
            f"{header.name} is truncated: {max(there, 0)} of {expected} bytes of Pixel Data (7FE0,0010) "
            "are there; send it again"
        )


def _require_decoder(header: Header) -> None:
    from pydicom import config
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    if header.transfer_syntax == DEFLATED:
        return
    try:
        with config.disable_value_validation():
            uid = UID(header.transfer_syntax)
            decoder = get_decoder(uid)
    except NotImplementedError as error:
        raise InputError(
            f"{header.name}: transfer syntax {header.transfer_syntax[:64]!r} cannot be decoded"
        ) from error
    if not decoder.is_available:
        needed = " or ".join(decoder.missing_dependencies)
        raise InputError(
            f"{header.name}: no decoder for transfer syntax {uid.name} ({uid}) is installed; needed: {needed}"
        )


def _log_lossy(headers: Sequence[Header]) -> None:
    lossy = {
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.91",
    }
    count = sum(header.transfer_syntax in lossy for header in headers)
    if count:
        logger.warning("%d of %d slices may be compressed with loss", count, len(headers))


def _read_native(header: Header, plane: NDArray[np.int16]) -> None:
    try:
        with header.path.open("rb", buffering=0) as file:
            file.seek(header.pixel_offset or 0)
            read = file.readinto(plane.reshape(-1).view(np.uint8).data)
    except OSError as error:
        raise InputError(f"cannot read {header.name}: {error.strerror}") from error
    if read != plane.nbytes:
        raise InputError(
            f"{header.name} is truncated: {read} of {plane.nbytes} bytes of Pixel Data were read"
        )
    if header.transfer_syntax == EXPLICIT_BIG:
        plane.byteswap(inplace=True)


def _decode(header: Header, plane: NDArray[np.int16]) -> None:
    from pydicom import config, dcmread
    from pydicom.pixels.utils import pixel_array

    try:
        with config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a decoder's remarks; the result is checked below
            decoded = pixel_array(dcmread(header.path), raw=True)
    except StageError:  # the driver's, when it stops the stage
        raise
    except Exception as error:  # decoders are foreign code and raise anything at all
        raise InputError(f"{header.name}: its compressed pixels cannot be decoded: {error}") from error
    if decoded.shape != plane.shape or decoded.dtype.kind not in "iu" or decoded.dtype.itemsize > 2:
        raise InputError(
            f"{header.name}: decodes to shape {decoded.shape} of {decoded.dtype}, "
            f"expected {plane.shape} of 16 bits"
        )
    plane[...] = decoded.astype(np.uint16 if decoded.dtype.kind == "u" else np.int16).view(np.int16)


def to_hounsfield(plane: NDArray[np.int16], encoding: Encoding, *, name: str) -> list[str]:
    """Turn stored values into Hounsfield units, in place.

    Parameters
    ----------
    plane
        The 16 bits of each stored value, whatever their sign; Hounsfield units afterwards.
    name
        The slice, for messages.

    Returns
    -------
    list of str
        What was changed for the values to fit: padding that int16 cannot hold.
    """
    stored = _without_unused_bits(plane, encoding, name)
    low, high = (encoding.slope * int(v) + encoding.intercept for v in (stored.min(), stored.max()))
    repairs = []
    if min(low, high) < _INT16.min - 0.5 or max(low, high) >= _INT16.max + 0.5:
        repairs = _clip_padding(plane, stored, encoding, name)
    elif encoding.slope == 1 and encoding.intercept.is_integer() and abs(encoding.intercept) <= _INT16.max:
        plane += np.int16(encoding.intercept)  # modulo 2^16, and the sum fits
    else:
        plane[...] = np.rint(stored * encoding.slope + encoding.intercept)
    return repairs


def _without_unused_bits(plane: NDArray[np.int16], encoding: Encoding, name: str) -> NDArray[Any]:
    """Return the stored values, their sign extended where the file left that out."""
    stored: NDArray[Any] = plane if encoding.signed else plane.view(np.uint16)
    low, high = int(stored.min()), int(stored.max())
    bits = encoding.bits_stored
    bottom, top = (-(1 << bits - 1), (1 << bits - 1) - 1) if encoding.signed else (0, (1 << bits) - 1)
    if bottom <= low and high <= top:
        return stored
    if encoding.signed and low >= 0 and high < 1 << bits:
        unused = 16 - bits
        plane <<= unused
        plane >>= unused
        return plane
    worst = low if low < bottom else high
    raise InputError(
        f"{name}: the stored value {worst} needs more than the {bits} bits of Bits Stored (0028,0101)"
    )


def _clip_padding(plane: NDArray[np.int16], stored: NDArray[Any], encoding: Encoding, name: str) -> list[str]:
    """Clip values that int16 cannot hold if they are padding, and refuse all others."""
    hu = stored * np.float64(encoding.slope) + encoding.intercept
    outside = (hu < _INT16.min - 0.5) | (hu >= _INT16.max + 0.5)
    foreign = outside if encoding.padding is None else outside & (stored != encoding.padding)
    if foreign.any():
        row, column = np.argwhere(foreign)[0]
        raise InputError(
            f"{name}: {hu[row, column]:g} HU at row {row}, column {column} (stored value "
            f"{stored[row, column]}) does not fit int16; Rescale Slope (0028,1053) or Intercept (0028,1052) "
            "may be wrong"
        )
    value = encoding.slope * (encoding.padding or 0) + encoding.intercept
    plane[...] = np.rint(np.clip(hu, _INT16.min, _INT16.max))
    return [f"{name}: {int(outside.sum())} padding pixels of {value:g} HU clipped to fit int16"]
