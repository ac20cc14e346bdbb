"""Key slices as Secondary Capture, RGB: outlines, legend and volumes burned in, for what shows nothing else.

No patient is named in the picture.

References
----------
DICOM PS3.3 A.8.1, Secondary Capture Image IOD; C.8.6.1, SC Equipment; C.8.6.2, SC Image.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_writer.capture.words import with_words
from dicom_writer.dicom.codes import code_item
from dicom_writer.dicom.header import add_comments, copy_body_part, copy_lossiness, new_result
from dicom_writer.dicom.references import image_reference, references_to
from dicom_writer.encoding import save
from dicom_writer.mask.measure import Measurement
from dicom_writer.pictures.key_slices import key_slices
from dicom_writer.pictures.picture import direction, draw, picture_grid
from dicom_writer.request.result_kind import ResultKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.values import decimal_string
from dicom_writer.wording import (
    summary,
)
from stages.volume.labels import Code


class CaptureResult(ResultKind):
    """Images of the key slices, in a folder of their own."""

    name = "capture"
    series_number_offset = 6

    def make(self, request: ResultRequest, folder: Path) -> list[Path]:
        """Write one file a key slice, on all cores."""
        inside = folder / f"{request.file_name}.capture"
        inside.mkdir()
        numbered = list(enumerate(key_slices(request), start=1))
        heads = [_head(request, n, number) for number, n in numbered]

        def write(number: int, n: int) -> Path:
            path = inside / f"{number:04d}.dcm"
            _put_pixels(heads[number - 1], _captured(request, n))
            with config.disable_value_validation():
                save(heads[number - 1], path)
            heads[number - 1].PixelData = b""
            return path

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda one: write(*one), numbered))

    def verify(self, request: ResultRequest, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read each by pydicom, and find grey levels and outlines in it again."""
        from dicom_writer.capture.verify import verify_capture

        return verify_capture(paths, request)


KIND = CaptureResult()


def _captured(request: ResultRequest, n: int) -> NDArray[np.uint8]:
    """Return slice n as it is shown, with words above and below."""
    return with_words(draw(request, n), request, n)


def _head(request: ResultRequest, n: int, number: int) -> FileDataset:
    source = request.sources[n]
    with config.disable_value_validation():
        head = new_result(
            request,
            KIND,
            sop_class_uid=SecondaryCaptureImageStorage,
            modality="OT",
            description=f"AI pictures: {summary(request.labels, request.measured)}",
            instance_number=number,
        )
        head.ImageType, head.ConversionType = ["DERIVED", "SECONDARY"], "WSD"
        head.SecondaryCaptureDeviceManufacturer = head.Manufacturer
        head.BurnedInAnnotation = "NO"  # nothing that names the patient
        head.DerivationDescription = f"Outlines and volumes burned into slice {request.slice_numbers[n]}"
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
        head.PixelSpacing = [decimal_string(picture_grid(request).pixel_mm)] * 2
        copy_body_part(head, source)
        copy_lossiness(head, request)
        add_comments(head, request)
    return head


def _put_pixels(head: Dataset, picture: NDArray[np.uint8]) -> None:
    head.Rows, head.Columns, head.SamplesPerPixel = picture.shape
    head.PhotometricInterpretation, head.PlanarConfiguration = "RGB", 0
    head.BitsAllocated = head.BitsStored = 8
    head.HighBit, head.PixelRepresentation = 7, 0
    pixels = picture.tobytes()
    head.PixelData = pixels + bytes(len(pixels) % 2)
    head["PixelData"].VR = "OB"
