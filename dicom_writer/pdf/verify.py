"""Compare a written page with mask and source: every text that must be on it, and every picture.

pypdf reads the page; each picture is compared with mask and source as that of a capture.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pypdf import PageObject, PdfReader

from dicom_writer.checks.identity import require_same_identity
from dicom_writer.checks.references import require_references
from dicom_writer.mask.measure import Measurement
from dicom_writer.pdf.page import MOST_PICTURES, texts
from dicom_writer.pictures.comparison import compare_picture
from dicom_writer.pictures.key_slices import key_slices
from dicom_writer.pictures.picture import MARGIN
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.frames import image_key
from stages import OutputError


def verify_pdf(path: Path, request: ResultRequest) -> dict[int, Measurement]:
    """Read a page back; it says no numbers that a program reads.

    Parameters
    ----------
    path, request
        The page, and what should be in it.

    Raises
    ------
    OutputError
        At the first thing that differs.
    """
    with config.disable_value_validation():
        dataset = dcmread(path)
        require_same_identity(dataset, request)
        require_references(_references(dataset, request), request)
        if dataset.MIMETypeOfEncapsulatedDocument != "application/pdf" or dataset.BurnedInAnnotation != "NO":
            raise OutputError("the document is not a PDF without the patient's identity")
        document = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    pages = PdfReader(io.BytesIO(document)).pages
    if len(pages) != 1:
        raise OutputError(f"the document has {len(pages)} pages, expected 1")
    _compare_texts(pages[0], request)
    _compare_pictures(pages[0], request)
    return {}


def _references(dataset: Dataset, request: ResultRequest) -> set[str]:
    known = {image_key(source)[0] for source in request.sources}
    return {str(item.ReferencedSOPInstanceUID) for item in dataset.SourceInstanceSequence} & known


def _compare_texts(page: PageObject, request: ResultRequest) -> None:
    """Check that the texts of a page are those that must be on it."""
    written = [line.strip() for line in page.extract_text().splitlines() if line.strip()]
    missing = [text for text in texts(request) if text not in written]
    if missing:
        raise OutputError(f"the page does not say {missing[0]!r}")
    if len(written) != len(texts(request)):
        raise OutputError(f"the page has {len(written)} texts, expected {len(texts(request))}")


def _compare_pictures(page: PageObject, request: ResultRequest) -> None:
    """Check that a page shows each key slice, and nothing else.

    Slices that look the same are one picture in the file, drawn several times.
    """
    pictures = [np.array(image.image.convert("RGB")) for image in page.images if image.image is not None]
    unknown = set(range(len(pictures)))
    for n in key_slices(request, MOST_PICTURES):
        wrong = [_difference(picture, request, n) for picture in pictures]
        if None not in wrong:
            raise OutputError(f"no picture of the page shows slice {n + 1}: {wrong[0] if wrong else 'none'}")
        unknown -= {k for k, difference in enumerate(wrong) if difference is None}
    if unknown:
        raise OutputError(f"{len(unknown)} pictures of the page show no key slice")


def _difference(picture: NDArray[np.uint8], request: ResultRequest, n: int) -> OutputError | None:
    """Return what is wrong with a picture as one of slice n."""
    _, _, columns = request.masks.array.shape
    pixel_mm = columns * float(request.sources[n].PixelSpacing[1]) / (picture.shape[1] - 2 * MARGIN)
    try:
        compare_picture(picture, pixel_mm, request, n)
    except OutputError as error:
        return error
    return None
