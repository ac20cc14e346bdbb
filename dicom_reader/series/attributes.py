"""What the rules look at: a few words and numbers on each series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dicom_files import character_sets
from dicom_reader.files.headers import ATTRIBUTES, ImageHeader
from dicom_reader.series.identity import series_uid
from dicom_reader.series.image_types import PixelCharacteristics, image_type_of, pixel_characteristics_of
from dicom_reader.slices.slice import normal_of
from dicom_reader.slices.spacing import TOLERANCE_MM
from stages import GeometryError, InputError

MAX_DEGREES_FROM_PLANE = 35.0
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Patient axis (x, y, z) that the slices of each plane are stacked along."""


@dataclass(frozen=True, eq=False)
class SeriesAttributes:
    """What is known of a series without its pixels; of its images the first one speaks for all.

    Attributes
    ----------
    headers
        The images, at least one.
    """

    headers: Sequence[ImageHeader]

    def text(self, keyword: str) -> str:
        """Return an attribute of the first image, empty where it is missing.

        Parameters
        ----------
        keyword
            One of `dicom_reader.files.headers.ATTRIBUTES`.
        """
        return decoded(self.headers[0], keyword)

    @property
    def uid(self) -> str:
        """*Series Instance UID* (0020,000E), derived where it is missing."""
        return series_uid(self.headers)

    @property
    def modality(self) -> str:
        """*Modality* (0008,0060)."""
        return self.text("Modality")

    @property
    def sop_class(self) -> str:
        """*SOP Class UID* (0008,0016)."""
        return self.text("SOPClassUID")

    @cached_property
    def image_type(self) -> tuple[str, ...]:
        """*Image Type* (0008,0008), the values that more than half of the images have, upper case."""
        count = Counter(value for header in self.headers for value in dict.fromkeys(image_type_of(header)))
        return tuple(value for value, images in count.items() if 2 * images > self.slices)

    @cached_property
    def pixels(self) -> PixelCharacteristics:
        """What the values mean, and whether the images were acquired; the slices of a series share it."""
        return pixel_characteristics_of(self.headers[0])

    @property
    def rescale_type(self) -> str:
        """*Rescale Type* (0028,1054), upper case; HU in any spelling, and where it is missing."""
        return self.pixels.units or "HU"

    @property
    def photometric(self) -> str:
        """*Photometric Interpretation* (0028,0004), upper case; MONOCHROME2 where it is missing."""
        return self.pixels.colour or self.text("PhotometricInterpretation").upper() or "MONOCHROME2"

    @property
    def description(self) -> str:
        """*Series Description* (0008,103E); people write names into it, so it is never logged."""
        return self.text("SeriesDescription")

    @property
    def kernel(self) -> str:
        r"""*Convolution Kernel* (0018,1210); several values are separated by a backslash."""
        return self.text("ConvolutionKernel")

    @property
    def body_part(self) -> str:
        """*Body Part Examined* (0018,0015), upper case."""
        return self.text("BodyPartExamined").upper()

    @property
    def date(self) -> str:
        """*Acquisition Date* (0008,0022), or that of series or study: YYYYMMDD."""
        dates = (self.text(keyword) for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"))
        return next((date.replace(".", "") for date in dates if date), "")

    @property
    def series_number(self) -> float:
        """*Series Number* (0020,0011); infinite where it is missing or no number."""
        return _number(self.text("SeriesNumber"))

    @cached_property
    def acquired_at(self) -> float:
        """*Acquisition Date* and *Time* (0008,0022), (0008,0032) of the first image, as one number.

        Infinite where the time is unknown.
        """
        each = ((header.text("AcquisitionDate"), header.text("AcquisitionTime")) for header in self.headers)
        return min(_number(date or "0") * 1e6 + _number(time) for date, time in each)

    @property
    def slices(self) -> int:
        """How many images there are."""
        return len(self.headers)

    @cached_property
    def normal(self) -> NDArray[np.float64] | None:
        """The normal of the slices; None where it is unknown."""
        for header in self.headers:
            try:
                return normal_of(header.numbers("ImageOrientationPatient", 6))
            except (InputError, GeometryError):
                continue
        return None

    @cached_property
    def heights(self) -> NDArray[np.float64] | None:
        """Where the slices lie along their normal, mm, growing; None where that is unknown."""
        if self.normal is None:
            return None
        try:
            positions = [header.numbers("ImagePositionPatient", 3) for header in self.headers]
        except InputError:
            return None
        return np.sort(np.array(positions) @ self.normal)

    @property
    def positions(self) -> int:
        """At how many places along their normal slices lie; how many there are where that is unknown."""
        if self.heights is None:
            return self.slices
        return 1 + int((np.diff(self.heights) > TOLERANCE_MM).sum())

    @property
    def spacing_mm(self) -> float | None:
        """The usual distance between slices, mm; None where it is unknown."""
        return None if self.heights is None or self.slices < 2 else float(np.median(np.diff(self.heights)))

    @property
    def length_mm(self) -> float:
        """From the first slice to the last, mm; 0 where it is unknown."""
        return 0.0 if self.heights is None else float(np.ptp(self.heights))

    def degrees_from(self, plane: str) -> float | None:
        """Return the angle between the slices and a plane of the patient; None where it is unknown.

        Parameters
        ----------
        plane
            One of `PLANES`.
        """
        if self.normal is None:
            return None
        return float(np.degrees(np.arccos(min(abs(float(self.normal[PLANES[plane]])), 1.0))))

    @property
    def plane(self) -> str:
        """The nearest plane: "axial", "coronal" or "sagittal"; empty where it is unknown."""
        if self.normal is None:
            return ""
        return min(PLANES, key=lambda plane: self.degrees_from(plane) or 0.0)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return np.inf
    return number if np.isfinite(number) else np.inf


def decoded(header: ImageHeader, keyword: str) -> str:
    """Return a text in the file's own character set, on one line.

    Parameters
    ----------
    header
        The header of the image.
    keyword
        One of `dicom_reader.files.headers.ATTRIBUTES`.
    """
    stated = header.values.get(ATTRIBUTES["SpecificCharacterSet"][0], b"")
    return character_sets.decoded(header.values.get(ATTRIBUTES[keyword][0], b""), stated)
