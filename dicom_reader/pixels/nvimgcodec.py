"""A series of lossless JPEG 2000 or HTJ2K in batches on the CUDA device, where nvImageCodec is installed.

The extras ``nvimgcodec-cuda12`` and ``nvimgcodec-cuda13`` install it (NVIDIA's licence, so never unasked).
The first slice is decoded by the CPU as well; where the two differ in a single bit, or the device fails, the
CPU decodes all of them.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_files.codestreams import SYNTAXES
from dicom_reader.files.headers import ImageHeader
from dicom_reader.pixels.decoders import decode, described
from dicom_reader.pixels.encapsulated import compressed_frame
from dicom_reader.pixels.hounsfield import PixelEncoding
from stages.arrays import device_available

logger = logging.getLogger(__name__)

_AT_ONCE = 64  # slices on the device together: some 100 MiB


def takes(headers: Sequence[ImageHeader]) -> bool:
    """Return whether the device decodes a series: lossless JPEG 2000 or HTJ2K, by nvImageCodec.

    Parameters
    ----------
    headers
        Of the slices.
    """
    syntaxes = [SYNTAXES.get(header.transfer_syntax) for header in headers]
    return (
        all(s is not None and s.family == "jpeg2000" and not s.lossy for s in syntaxes)
        and _installed()
        and device_available()
    )


def decode_series(
    headers: Sequence[ImageHeader], encodings: Sequence[PixelEncoding], hu: NDArray[np.int16]
) -> bool:
    """Decode the stored values of every slice into its place; False where the CPU should.

    Parameters
    ----------
    headers, encodings
        Of the slices, in one order.
    hu
        Filled with the 16 bits of each stored value, shape (slices, rows, columns).

    Raises
    ------
    InputError
        If the fragments of a slice are damaged.
    """
    try:
        for start in range(0, len(headers), _AT_ONCE):
            _decode_batch(headers[start : start + _AT_ONCE], hu[start : start + _AT_ONCE])
    except (ImportError, RuntimeError, ValueError, TypeError) as error:
        logger.warning("nvImageCodec failed, the CPU decodes instead: %s", error)
        return False
    first = np.empty_like(hu[0])
    decode(headers[0], encodings[0], first, frames=headers[0].frames)
    if not np.array_equal(first, hu[0]):
        logger.warning("nvImageCodec gave other values than the CPU, which decodes instead")
        return False
    logger.info("decoded %d slices on the CUDA device", len(headers))
    return True


def _installed() -> bool:
    try:
        return importlib.util.find_spec("nvidia.nvimgcodec") is not None
    except ModuleNotFoundError:
        return False


def _decode_batch(headers: Sequence[ImageHeader], planes: NDArray[np.int16]) -> None:
    from nvidia import nvimgcodec

    frames = [compressed_frame(header, frames=header.frames) for header in headers]
    frames = [frame[: described("jpeg2000", frame, planes[0].shape).size] for frame in frames]
    params = nvimgcodec.DecodeParams(
        apply_exif_orientation=False,
        color_spec=nvimgcodec.ColorSpec.UNCHANGED,
        allow_any_depth=True,
        sample_format=nvimgcodec.SampleFormat.I_UNCHANGED,
    )
    images = nvimgcodec.Decoder().decode([nvimgcodec.CodeStream(f) for f in frames], params=params)
    for header, image, plane in zip(headers, images, planes, strict=True):
        if image is None:
            raise RuntimeError(f"{header.name} could not be decoded")
        _put(np.asarray(image.cpu()), plane)


def _put(values: NDArray[Any], plane: NDArray[np.int16]) -> None:
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        raise ValueError(f"values of {values.dtype}, expected 16 bits")
    wide = values.reshape(plane.shape).astype(np.int16 if values.dtype.kind == "i" else np.uint16)
    plane[...] = wide.view(np.int16)
