"""Key slices as Secondary Capture, RGB: outlines, legend and volumes burned in, for what shows nothing else.

No patient is named in the picture.

References
----------
DICOM PS3.3 A.8.1, Secondary Capture Image IOD; C.8.6.1, SC Equipment; C.8.6.2, SC Image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_writer.finding import finding
from dicom_writer.header import code_item, copy_lossiness, image_reference, new_result, references_to
from dicom_writer.key_slices import key_slices
from dicom_writer.measure import Measurement
from dicom_writer.picture import MARGIN, direction, draw, font, raster
from dicom_writer.results import Given
from dicom_writer.series import copy_body_part
from dicom_writer.wording import NOTICE, largest, lines
from stages.labels import Code

SERIES_NUMBER_OFFSET = 6
TOP = 56
_WIDEST_TEXT = 560
_LINE = 26
_MOST_LINES, _MOST_LESIONS = 12, 3
_WHITE, _DIM = (255, 255, 255), (170, 170, 170)


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
                heads[number - 1].save_as(path, enforce_file_format=True)
            heads[number - 1].PixelData = b""
            return path

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda one: write(*one), numbered))

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read each by pydicom, and find grey levels and outlines in it again."""
        from dicom_writer.verify_capture import verify_capture

        return verify_capture(paths, given)


RESULT = CaptureResult()


def captured(given: Given, n: int) -> NDArray[np.uint8]:
    """Return slice n as it is shown, with words above and below."""
    return with_words(draw(given, n), given, n)


def with_words(picture: NDArray[np.uint8], given: Given, n: int) -> NDArray[np.uint8]:
    """Return a picture between title and legend."""
    said = list(_legend(given))
    height, width = TOP + len(picture) + _LINE * len(said) + 8, max(picture.shape[1], _WIDEST_TEXT)
    image = Image.new("RGB", (width, height))
    pen, left = ImageDraw.Draw(image), MARGIN
    provenance = given.provenance
    pen.text((left, 16), NOTICE, fill=_WHITE, font=font(18), anchor="lm")
    by = f"{provenance.algorithm_name} {provenance.version}: slice {n + 1} of {len(given.sources)}"
    pen.text((left, 40), by, fill=_DIM, font=font(15), anchor="lm")
    for k, (rgb, text) in enumerate(said):
        y = TOP + len(picture) + _LINE * k + _LINE // 2
        if rgb:
            pen.rectangle((left, y - 8, left + 16, y + 8), fill=rgb)
        pen.text((left + 26, y), text, fill=_WHITE if rgb else _DIM, font=font(18), anchor="lm")
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


def _head(given: Given, n: int, number: int) -> Dataset:
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
        head.DerivationDescription = f"Outlines and volumes burned into slice {n + 1} of {len(given.sources)}"
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
        head.PixelSpacing = [format_number_as_ds(raster(given).pixel_mm)] * 2
        copy_body_part(head, source)
        copy_lossiness(head, given)
    return head


def _put_pixels(head: Dataset, picture: NDArray[np.uint8]) -> None:
    head.Rows, head.Columns, head.SamplesPerPixel = picture.shape
    head.PhotometricInterpretation, head.PlanarConfiguration = "RGB", 0
    head.BitsAllocated = head.BitsStored = 8
    head.HighBit, head.PixelRepresentation = 7, 0
    pixels = picture.tobytes()
    head.PixelData = pixels + bytes(len(pixels) % 2)
    head["PixelData"].VR = "OB"
