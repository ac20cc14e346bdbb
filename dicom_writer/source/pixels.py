"""The pixels of a source image, for results that show it.

pydicom reads what is uncompressed or RLE, ``imagecodecs`` decodes the rest.

References
----------
DICOM PS3.5 8.1.1, Pixel Data encoding. PS3.3 C.7.6.3, Image Pixel; C.11.1, Modality LUT; C.7.6.16.2.9,
Pixel Value Transformation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array

from dicom_files.codestreams import DECODERS, SYNTAXES, describe
from dicom_files.dataset import lenient, open_dataset
from stages import InputError
from stages.runtime.logs import printable


def source_values(path: Path, frame: int = 0) -> NDArray[np.float32]:
    """Return the values of an image, such as Hounsfield units, shape (rows, columns).

    Parameters
    ----------
    path
        The file of the image.
    frame
        Which frame, counted from 1; 0 where the image has one only.

    Raises
    ------
    InputError
        If its pixels cannot be read or decoded.
    """
    with lenient():
        image = open_dataset(path, with_pixels=True)
        try:
            stored = _stored(image, frame)
            slope, intercept = _rescale(image, frame)
        except Exception as error:  # decoders are foreign code and raise anything at all
            raise InputError(
                f"source image {image.get('SOPInstanceUID', printable(path.name))}: its pixels cannot be "
                f"decoded to show them ({type(error).__name__}); leave capture and pdf out of --results"
            ) from error
    if stored.shape != (image.Rows, image.Columns):
        raise InputError(f"source image {image.SOPInstanceUID}: it decodes to shape {stored.shape}")
    return np.asarray(stored * np.float32(slope) + np.float32(intercept), dtype=np.float32)


def _stored(image: Dataset, frame: int) -> NDArray[Any]:
    syntax = SYNTAXES.get(image.file_meta.TransferSyntaxUID)
    if syntax is not None and (function := DECODERS.get(syntax.family)):
        return _by_imagecodecs(image, frame, function)
    whole = Dataset()  # pydicom cuts cells to the stored bits as if High Bit were the highest of them
    whole.update(image)
    whole.file_meta = image.file_meta
    whole.BitsStored, whole.HighBit = image.BitsAllocated, int(image.BitsAllocated) - 1
    whole.set_original_encoding(*image.original_encoding)
    cells = np.asarray(pixel_array(whole, raw=True, index=frame - 1 if frame else None))
    return _stored_bits(cells, image, below=_bits_below(image))


def _by_imagecodecs(image: Dataset, frame: int, function: str) -> NDArray[Any]:
    import imagecodecs

    count = int(image.get("NumberOfFrames") or 1)
    data = get_frame(image.PixelData, max(frame - 1, 0), number_of_frames=count)
    found = describe(data)
    has_whole_cells = found.bits > int(image.HighBit)
    cells = np.asarray(getattr(imagecodecs, function)(data[: found.size]))
    return _stored_bits(cells, image, below=_bits_below(image) if has_whole_cells else 0)


def _bits_below(image: Dataset) -> int:
    return int(image.HighBit) + 1 - int(image.BitsStored)


def _stored_bits(cells: NDArray[Any], image: Dataset, *, below: int) -> NDArray[Any]:
    """Return the values of the bits that are stored, whatever lies above and below them."""
    bits = int(image.BitsStored)
    values = cells.astype(np.int32) >> below & (1 << bits) - 1
    sign = 1 << bits - 1
    return (values ^ sign) - sign if int(image.PixelRepresentation) else values


def _rescale(image: Dataset, frame: int) -> tuple[float, float]:
    """Return slope and intercept, which a multi-frame image has in its functional groups."""
    holder: Dataset = image
    if frame:
        shared = (image.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        own = image.PerFrameFunctionalGroupsSequence[frame - 1]
        name = "PixelValueTransformationSequence"
        holder = (own.get(name) or shared.get(name) or [image])[0]
    slope, intercept = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)
