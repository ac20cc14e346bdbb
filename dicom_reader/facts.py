"""What the rules look at: a few words and numbers on each series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dicom_reader.headers import ATTRIBUTES, Header
from dicom_reader.identity import series_uid
from dicom_reader.slices import normal_of
from stages import GeometryError, InputError

MAX_DEGREES_FROM_PLANE = 35.0
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Patient axis (x, y, z) that the slices of each plane are stacked along."""


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of a series without its pixels; of its images the first one speaks for all.

    Attributes
    ----------
    headers
        The images, at least one.
    """

    headers: Sequence[Header]

    def text(self, keyword: str) -> str:
        """Return an attribute of the first image, empty where it is missing."""
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
        """*Image Type* (0008,0008), the values that all images share, upper case."""
        each = [image_type_of(header) for header in self.headers]
        return tuple(value for value in each[0] if all(value in other for other in each))

    @property
    def description(self) -> str:
        """*Series Description* (0008,103E); people write names into it, so it is never logged."""
        return self.text("SeriesDescription")

    @property
    def kernel(self) -> str:
        r"""*Convolution Kernel* (0018,1210); several values are parted by a backslash."""
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
    def spacing_mm(self) -> float | None:
        """The usual distance between slices, mm; None where it is unknown."""
        return None if self.heights is None or self.slices < 2 else float(np.median(np.diff(self.heights)))

    @property
    def length_mm(self) -> float:
        """From the first slice to the last, mm; 0 where it is unknown."""
        return 0.0 if self.heights is None else float(np.ptp(self.heights))

    def degrees_from(self, plane: str) -> float | None:
        """Return the angle between the slices and a plane of the patient; None where it is unknown."""
        if self.normal is None:
            return None
        return float(np.degrees(np.arccos(min(abs(float(self.normal[PLANES[plane]])), 1.0))))

    @property
    def plane(self) -> str:
        """The nearest plane: "axial", "coronal" or "sagittal"; empty where it is unknown."""
        if self.normal is None:
            return ""
        return min(PLANES, key=lambda plane: self.degrees_from(plane) or 0.0)


def image_type_of(header: Header) -> tuple[str, ...]:
    """Return the values of *Image Type* (0008,0008), upper case."""
    return tuple(value.strip().upper() for value in header.text("ImageType").split("\\") if value.strip())


def decoded(header: Header, keyword: str) -> str:
    """Return a text in the file's own character set, on one line."""
    raw = header.values.get(ATTRIBUTES[keyword][0], b"")
    if raw.isascii():
        text = raw.decode("ascii")
    else:
        from pydicom import config
        from pydicom.charset import convert_encodings, decode_bytes

        try:
            with config.strict_reading():  # raises where it would warn
                encodings = convert_encodings(header.text("SpecificCharacterSet").split("\\"))
                text = decode_bytes(raw, encodings, set())
        except (LookupError, ValueError):
            text = raw.decode("latin-1")
    return "".join(c if c.isprintable() else " " for c in text).strip()
