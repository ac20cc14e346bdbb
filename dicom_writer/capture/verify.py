"""Compare captures with mask and source: which pixels have a label's colour, and the grey of all others.

pydicom reads the file; `pictures.comparison` looks at its pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset

from dicom_writer.capture.words import TOP, with_words
from dicom_writer.checks.identity import require_comments, require_same_identity
from dicom_writer.mask.measure import Measurement
from dicom_writer.pictures.comparison import compare_picture
from dicom_writer.pictures.key_slices import key_slices
from dicom_writer.pictures.picture import draw
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from stages import OutputError


def verify_capture(paths: Sequence[Path], request: ResultRequest) -> dict[int, Measurement]:
    """Read captures back; they say no numbers that a program reads.

    Parameters
    ----------
    paths, request
        The captures in the order of `key_slices`, and what should be in them.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    with config.disable_value_validation(), ThreadPoolExecutor(os.cpu_count()) as pool:
        shown = list(pool.map(lambda path: _verify(path, request), paths))
    if shown != key_slices(request):
        raise OutputError(f"the captures show slices {[n + 1 for n in shown]}, not the key slices")
    return {}


def _verify(path: Path, request: ResultRequest) -> int:
    """Compare one capture, and return which slice it shows."""
    image = dcmread(path)
    require_same_identity(image, request)
    require_comments(image, request)
    if image.PhotometricInterpretation != "RGB" or image.BurnedInAnnotation != "NO":
        raise OutputError("a capture is not RGB without the patient's identity")
    n = _slice_of(image, request)
    pixels = np.frombuffer(image.PixelData, np.uint8)[: image.Rows * image.Columns * 3]
    whole = pixels.reshape(image.Rows, image.Columns, 3)
    words = with_words(draw(request, n), request, n)
    compare_picture(whole[TOP:], float(image.PixelSpacing[0]), request, n)
    if words.shape != whole.shape or not np.array_equal(words, whole):
        raise OutputError(f"the words in the capture of slice {n + 1} are not those of the mask")
    return n


def _slice_of(image: Dataset, request: ResultRequest) -> int:
    (item,) = image.SourceImageSequence
    key = (str(item.ReferencedSOPInstanceUID), int(item.get("ReferencedFrameNumber") or 0))
    for n, source in enumerate(request.sources):
        if image_key(source) == key:
            return n
    raise OutputError(f"a capture is of image {key[0]}, which is not of the source")
