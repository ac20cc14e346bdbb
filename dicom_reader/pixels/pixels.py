"""The pixels of a series: one int16 array, filled slice by slice in place, by all cores.

Uncompressed pixels are read from the file straight into their place; compressed ones are decoded there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dicom_files.pydicom_warnings import warnings_by_kind
from dicom_files.uids import RLELossless
from dicom_reader.files.headers import ImageHeader
from dicom_reader.pixels import nvimgcodec
from dicom_reader.pixels.decoders import decode, require_decoder
from dicom_reader.pixels.hounsfield import PixelEncoding, to_hounsfield
from dicom_reader.pixels.uncompressed import NATIVE, read_uncompressed, refuse_unreadable
from stages import InputError
from stages.compute.threads import cores

_QUICK_AT_ONCE = 16  # slices a thread takes at a time, where none takes a millisecond; else one by one


@warnings_by_kind()
def read_pixels(
    headers: Sequence[ImageHeader], *, out: NDArray[np.int16] | None = None
) -> tuple[NDArray[np.int16], list[str]]:
    """Read the pixels of slices of one matrix as Hounsfield units.

    Parameters
    ----------
    headers
        Of the slices, at least one.
    out
        Filled if given: shape (slices, rows, columns), each plane contiguous.

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
    encodings = _encodings(headers)
    matrix = headers[0].integer("Rows"), headers[0].integer("Columns")
    for header, encoding in zip(headers, encodings, strict=True):
        _refuse_unreadable(header, matrix[0] * matrix[1] * encoding.bits_allocated // 8)
    hu = _empty(len(headers), matrix) if out is None else out
    decoded = nvimgcodec.takes(headers) and nvimgcodec.decode_series(headers, encodings, hu)
    at_once = _QUICK_AT_ONCE if headers[0].transfer_syntax in (*NATIVE, RLELossless) else 1

    def read(start: int) -> list[str]:
        repairs = []
        for n in range(start, min(start + at_once, len(headers))):
            if not decoded:
                _read_stored(headers[n], encodings[n], hu[n])
            repairs += _finish(headers[n], encodings[n], hu[n])
        return repairs

    starts = range(0, len(headers), at_once)
    at_work = min(cores(), len(starts))
    if at_work < 2:
        return hu, [repair for start in starts for repair in read(start)]
    with ThreadPoolExecutor(at_work, "read-pixels") as pool:
        return hu, [repair for repairs in pool.map(read, starts) for repair in repairs]


def _encodings(headers: Sequence[ImageHeader]) -> list[PixelEncoding]:
    """Read how each slice is encoded; those of a series share one or a few."""
    known: dict[tuple[object, ...], PixelEncoding] = {}
    encodings = []
    for header in headers:
        key = PixelEncoding.key(header)
        if key not in known:
            known[key] = PixelEncoding.from_header(header)
        encodings.append(known[key])
    return encodings


def _read_stored(header: ImageHeader, encoding: PixelEncoding, plane: NDArray[np.int16]) -> None:
    if header.transfer_syntax in NATIVE:
        read_uncompressed(header, encoding, plane)
    else:
        decode(header, encoding, plane, frames=header.frames)


def _finish(header: ImageHeader, encoding: PixelEncoding, plane: NDArray[np.int16]) -> list[str]:
    """Turn stored values into Hounsfield units; return what was changed for them to fit."""
    if unused := encoding.high_bit + 1 - encoding.bits_stored:
        plane.view(np.uint16)[...] >>= unused
    return to_hounsfield(plane, encoding, name=header.name)


def _empty(count: int, matrix: tuple[int, int]) -> NDArray[np.int16]:
    try:
        return np.empty((count, *matrix), dtype=np.int16)
    except MemoryError as error:
        gib = count * matrix[0] * matrix[1] * 2 / 2**30
        raise InputError(
            f"{count} slices of {matrix[0]} x {matrix[1]} pixels need {gib:.1f} GiB of memory"
        ) from error


def _refuse_unreadable(header: ImageHeader, frame_bytes: int) -> None:
    if header.transfer_syntax in NATIVE:
        refuse_unreadable(header, frame_bytes=frame_bytes, frames=header.frames)
    else:
        require_decoder(header)
