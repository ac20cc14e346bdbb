"""Key slices as Secondary Capture, RGB: outlines, legend and volumes burned in, for what shows nothing else.

No patient is named in the picture.

References
----------
DICOM PS3.3 A.8.1, Secondary Capture Image IOD; C.8.6.1, SC Equipment; C.8.6.2, SC Image.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_writer.dicom.header import (
    add_comments,
    code_item,
    copy_lossiness,
    image_reference,
    new_result,
    references_to,
)
from dicom_writer.encoding import save
from dicom_writer.finding import finding
from dicom_writer.mask.measure import Measurement
from dicom_writer.pictures.key_slices import key_slices
from dicom_writer.pictures.picture import MARGIN, direction, draw, font, raster
from dicom_writer.request.result_request import Given
from dicom_writer.series.mask_series import copy_body_part
from dicom_writer.source.values import decimal_string
from dicom_writer.wording import WARNING, largest, lines, more_warnings, not_shown, shortened, warnings_of
from stages.volume.labels import Code
from stages.volume.notice import NOTICE

SERIES_NUMBER_OFFSET = 6
TOP = 56
_WIDEST_TEXT = 720  # the notice
_LINE = 26
_MOST_LINES, _MOST_LESIONS, _MOST_WARNINGS = 12, 3, 4
_INDENT = MARGIN + 26 + 8
_WHITE, _DIM, _AMBER = (255, 255, 255), (170, 170, 170), (255, 191, 0)


class CaptureResult:
    """Images of the key slices, in a folder of their own."""

    name = "capture"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write one file a key slice, on all cores."""
        inside = folder / f"{given.file_name}.capture"
        inside.mkdir()
        numbered = list(enumerate(key_slices(given), start=1))
        heads = [_head(given, n, number) for number, n in numbered]

        def write(number: int, n: int) -> Path:
            path = inside / f"{number:04d}.dcm"
            _put_pixels(heads[number - 1], captured(given, n))
            with config.disable_value_validation():
                save(heads[number - 1], path)
            heads[number - 1].PixelData = b""
            return path

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda one: write(*one), numbered))

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read each by pydicom, and find grey levels and outlines in it again."""
        from dicom_writer.capture.verify import verify_capture

        return verify_capture(paths, given)


RESULT = CaptureResult()


def captured(given: Given, n: int) -> NDArray[np.uint8]:
    """Return slice n as it is shown, with words above and below."""
    return with_words(draw(given, n), given, n)


def with_words(picture: NDArray[np.uint8], given: Given, n: int) -> NDArray[np.uint8]:
    """Return a picture between title and legend."""
    legend, provenance = list(_legend(given)), given.provenance
    by = f"Slice {given.slice_numbers[n]}: {provenance.algorithm_name} {provenance.version}"
    widest = max(_INDENT + _pixels(text) + MARGIN for text in (by, *(text for _, text in legend)))
    width = max(picture.shape[1], _WIDEST_TEXT, ceil(widest))  # as wide as the longest name needs
    said = [*legend, *((None, text) for text in _warnings(given, width))]
    height = TOP + len(picture) + _LINE * len(said) + 8
    image = Image.new("RGB", (width, height))
    pen, left = ImageDraw.Draw(image), MARGIN
    pen.text((left, 16), NOTICE, fill=_WHITE, font=font(18), anchor="lm")
    pen.text((left, 40), by, fill=_DIM, font=font(15), anchor="lm")
    for k, (rgb, text) in enumerate(said):
        y = TOP + len(picture) + _LINE * k + _LINE // 2
        if rgb:
            pen.rectangle((left, y - 8, left + 16, y + 8), fill=rgb)
        pen.text((left + 26, y), text, fill=_colour_of(rgb, text), font=font(18), anchor="lm")
    image.paste(Image.fromarray(picture), (0, TOP))
    return np.array(image)


def _legend(given: Given) -> Iterator[tuple[tuple[int, int, int] | None, str]]:
    """Yield the lines below a picture: colour and text of labels, text of the largest lesions."""
    all_of_them = lines(given)
    for line in all_of_them[:_MOST_LINES]:
        yield line.rgb, f"{line.name}: {line.said}"
    if len(all_of_them) > _MOST_LINES:
        yield None, f"and {len(all_of_them) - _MOST_LINES} more labels"
    for lesion, said in largest(given, _MOST_LESIONS):
        yield None, f"{lesion.name}: {said}"
    if more := not_shown(given, _MOST_LESIONS):
        yield None, more


def _warnings(given: Given, width: int) -> Iterator[str]:
    """Yield what everybody has to be told, each in a line of a picture that is so wide, in pixels."""
    said = warnings_of(given)
    for text in said[:_MOST_WARNINGS]:
        yield _fitting(text, width - _INDENT)
    if len(said) > _MOST_WARNINGS:
        yield more_warnings(len(said) - _MOST_WARNINGS)


def _fitting(text: str, width: int) -> str:
    """Return a text shortened to a width in pixels."""
    if _pixels(text) <= width:
        return text
    lengths = range(min(len(text), width))  # no letter is narrower than a pixel
    return shortened(text, bisect(lengths, float(width), key=lambda n: _pixels(shortened(text, n))) - 1)


def _pixels(text: str) -> float:
    return float(font(18).getlength(text))


def _colour_of(rgb: tuple[int, int, int] | None, text: str) -> tuple[int, int, int]:
    if text.startswith(WARNING):
        return _AMBER
    return _WHITE if rgb else _DIM


def _head(given: Given, n: int, number: int) -> FileDataset:
    source = given.sources[n]
    with config.disable_value_validation():
        head = new_result(
            given,
            sop_class_uid=SecondaryCaptureImageStorage,
            what="capture",
            modality="OT",
            series_offset=SERIES_NUMBER_OFFSET,
            description=f"AI pictures: {finding(given.labels, given.measured)}",
            instance_number=number,
        )
        head.ImageType, head.ConversionType = ["DERIVED", "SECONDARY"], "WSD"
        head.SecondaryCaptureDeviceManufacturer = head.Manufacturer
        head.BurnedInAnnotation = "NO"  # nothing that names the patient
        head.DerivationDescription = f"Outlines and volumes burned into slice {given.slice_numbers[n]}"
        reference = image_reference(source)
        reference.SpatialLocationsPreserved = "NO"
        purpose = Code("121322", "DCM", "Source image for image processing operation")
        reference.PurposeOfReferenceCodeSequence = [code_item(purpose)]
        head.SourceImageSequence = [reference]
        series = Dataset()
        series.SeriesInstanceUID = source.SeriesInstanceUID
        series.ReferencedInstanceSequence = references_to([source])
        head.ReferencedSeriesSequence = [series]
        cosines = np.array(source.ImageOrientationPatient, dtype=float).reshape(2, 3)
        head.PatientOrientation = [direction(cosines[0]), direction(cosines[1])]
        head.PixelSpacing = [decimal_string(raster(given).pixel_mm)] * 2
        copy_body_part(head, source)
        copy_lossiness(head, given)
        add_comments(head, given)
    return head


def _put_pixels(head: Dataset, picture: NDArray[np.uint8]) -> None:
    head.Rows, head.Columns, head.SamplesPerPixel = picture.shape
    head.PhotometricInterpretation, head.PlanarConfiguration = "RGB", 0
    head.BitsAllocated = head.BitsStored = 8
    head.HighBit, head.PixelRepresentation = 7, 0
    pixels = picture.tobytes()
    head.PixelData = pixels + bytes(len(pixels) % 2)
    head["PixelData"].VR = "OB"
