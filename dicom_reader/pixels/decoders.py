"""Compressed frames -> stored values, by a decoder that is installed and whose licence is permissive.

``imagecodecs`` (BSD; it carries libjpeg-turbo, CharLS and OpenJPEG, all permissive) decodes all of them on
as many threads as ask. HTJ2K is left to OpenJPEG as well: OpenJPH is twice as fast, but the binding to it
keeps its errors to itself, so that a damaged frame would pass in silence. Where it is not installed,
pydicom is asked, which takes its plugins: ``pylibjpeg-openjpeg`` (MIT), and ``pylibjpeg-libjpeg`` (GPL), the
extra ``gpl``, which is never installed unasked.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_files.codestreams import DECODERS, SYNTAXES, Codestream, describe_jpeg, describe_jpeg2000
from dicom_reader.files.headers import ImageHeader
from dicom_reader.pixels.encapsulated import compressed_frame
from dicom_reader.pixels.hounsfield import PixelEncoding
from stages import InputError, StageError

_DESCRIBE: Mapping[str, Callable[[bytes], Codestream]] = {
    "jpeg": describe_jpeg,
    "jpegls": describe_jpeg,
    "jpeg2000": describe_jpeg2000,
}


def load_decoders() -> None:
    """Import the decoders, so that the first slice need not wait for that."""
    if _imagecodecs_installed():
        for name in (*DECODERS.values(), "dicomrle_decode"):
            getattr(_imagecodecs(), name)


def count_lossy(headers: Sequence[ImageHeader]) -> int:
    """Return how many slices may have been compressed with loss, as their transfer syntaxes tell.

    Parameters
    ----------
    headers
        Of the slices.
    """
    syntaxes = [SYNTAXES.get(header.transfer_syntax) for header in headers]
    return sum(syntax is not None and syntax.lossy for syntax in syntaxes)


def require_decoder(header: ImageHeader) -> None:
    """Refuse a slice whose transfer syntax nothing that is installed can decode.

    Parameters
    ----------
    header
        Of the slice.

    Raises
    ------
    InputError
        Naming the syntax, and what to install.
    """
    syntax = SYNTAXES.get(header.transfer_syntax)
    if syntax is None:
        raise InputError(
            f"{header.name}: transfer syntax {header.transfer_syntax[:64]!r} (Transfer Syntax UID, "
            "0002,0010) cannot be decoded; send the series uncompressed"
        )
    if not (_imagecodecs_installed() or _pydicom_decodes(header.transfer_syntax)):
        extra = ", or the extra clara-stages[gpl]" if syntax.family in ("jpeg", "jpegls") else ""
        raise InputError(
            f"{header.name}: no decoder for transfer syntax {syntax.name} ({header.transfer_syntax}) is "
            f"installed; install imagecodecs, which belongs to clara-stages{extra}"
        )


def decode(header: ImageHeader, encoding: PixelEncoding, plane: NDArray[np.int16], *, frames: int) -> None:
    """Decode the stored values of a slice into their place.

    Parameters
    ----------
    header
        Of the slice.
    encoding
        How its values are stored.
    plane
        Filled with the 16 bits of each stored value, shape (rows, columns).
    frames
        How many frames the file has.

    Raises
    ------
    InputError
        If they cannot be decoded, or are of another size than the header says.
    """
    data = compressed_frame(header, frames=frames)
    family = SYNTAXES[header.transfer_syntax].family
    try:
        found = None if family == "rle" else described(family, data, plane.shape)
        if not _imagecodecs_installed():
            _decode_by_pydicom(header, plane)
        elif found is None:
            _decode_rle(data, encoding, plane)
        else:
            _decode_by_imagecodecs(family, data[: found.size], found, plane)
            _align(found, encoding, plane)
    except StageError:
        raise
    except Exception as error:  # decoders are foreign code and raise anything at all
        raise InputError(
            f"{header.name}: its compressed Pixel Data (7FE0,0010) cannot be decoded: {error}"
        ) from error


def described(family: str, data: bytes, shape: tuple[int, ...]) -> Codestream:
    """Return what a frame says of itself, refused where the file's header says otherwise.

    Parameters
    ----------
    family
        "jpeg", "jpegls" or "jpeg2000".
    data
        The compressed frame.
    shape
        *Rows* (0028,0010) and *Columns* (0028,0011).
    """
    try:
        found = _DESCRIBE[family](data)
    except struct.error as error:
        raise ValueError("it is cut off") from error
    if (found.rows, found.columns, found.samples) != (*shape, 1):
        raise ValueError(
            f"it has {found.rows} x {found.columns} pixels of {found.samples} sample(s), Rows (0028,0010) "
            f"and Columns (0028,0011) say {shape[0]} x {shape[1]}"
        )
    if not 1 < found.bits <= 16:
        raise ValueError(f"its values have {found.bits} bits, expected 2 to 16")
    return found


def _decode_by_imagecodecs(family: str, data: bytes, found: Codestream, plane: NDArray[np.int16]) -> None:
    function = getattr(_imagecodecs(), DECODERS[family])
    if found.bits > 8:
        function(data, out=plane if found.signed else plane.view(np.uint16))
    else:
        plane[...] = function(data)


def _align(found: Codestream, encoding: PixelEncoding, plane: NDArray[np.int16]) -> None:
    """Move values to where High Bit says that they are, which codestreams of just the stored bits do not."""
    if found.signed and not encoding.signed and plane.min() < 0:
        raise ValueError("it has negative values, Pixel Representation (0028,0103) says that there are none")
    unused = encoding.high_bit + 1 - encoding.bits_stored
    if not unused or found.bits > encoding.high_bit:
        return
    if found.bits != encoding.bits_stored:
        raise ValueError(
            f"its values have {found.bits} bits, High Bit (0028,0102) says that the highest is bit "
            f"{encoding.high_bit}"
        )
    plane <<= unused


def _decode_rle(data: bytes, encoding: PixelEncoding, plane: NDArray[np.int16]) -> None:
    segments = encoding.bits_allocated // 8
    if len(data) < 64 or int.from_bytes(data[:4], "little") != segments:
        raise ValueError(f"{segments} RLE segment(s) expected, as Bits Allocated (0028,0100) says")
    values = np.empty(plane.size, np.uint8) if segments == 1 else plane.reshape(-1).view(np.uint8)
    found = _imagecodecs().dicomrle_decode(data, "<u2" if segments == 2 else "u1", out=values)
    if len(found) != len(values):
        raise ValueError(f"{len(found)} of {len(values)} bytes are there")
    if segments == 1:
        plane[...] = values.reshape(plane.shape)


def _decode_by_pydicom(header: ImageHeader, plane: NDArray[np.int16]) -> None:
    from pydicom.pixels.utils import pixel_array

    from dicom_files.dataset import lenient

    with lenient():
        decoded = pixel_array(header.path, raw=True, index=(header.frame or 1) - 1)
    if decoded.shape != plane.shape or decoded.dtype.kind not in "iu" or decoded.dtype.itemsize > 2:
        raise ValueError(f"shape {decoded.shape} of {decoded.dtype}, expected {plane.shape} of 16 bits")
    plane[...] = decoded.astype(np.uint16 if decoded.dtype.kind == "u" else np.int16).view(np.int16)


@cache
def _imagecodecs_installed() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _imagecodecs() -> Any:
    import imagecodecs

    module: ModuleType = imagecodecs
    return module


def _pydicom_decodes(transfer_syntax: str) -> bool:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    try:
        return bool(get_decoder(UID(transfer_syntax)).is_available)
    except NotImplementedError:
        return False
