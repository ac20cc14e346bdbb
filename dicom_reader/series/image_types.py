"""What one image is by itself, whatever lies beside it: no slice at all, or a slice of some kind.

Slices of one volume share what their pixels are: acquired or derived, and what their values mean.

References
----------
DICOM PS3.3 C.7.6.1.1.2 and C.8.16.1, Image Type; C.7.6.3.1.2, Photometric Interpretation; C.11.1.1.2,
Rescale Type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dicom_files import uids
from dicom_reader.files.headers import ImageHeader

CT_IMAGES = frozenset(
    {uids.CTImageStorage, uids.EnhancedCTImageStorage, uids.LegacyConvertedEnhancedCTImageStorage}
)
SECONDARY_CAPTURES = frozenset(
    {
        uids.SecondaryCaptureImageStorage,
        uids.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uids.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uids.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"})
_DOSE_TYPES = frozenset({"SCREEN SAVE", "DOSE", "DOSE_INFO", "DOSE_REPORT", "DOSE REPORT"})
_DOSE_WORDS = re.compile(
    r"(?i)\b(dose (report|record|info|summary)|(patient|exam) protocol|dosisprotokoll)\b"
)
_DERIVED_WORDS = frozenset(
    {"DERIVED", "MIP", "MINIP", "MPR", "CPR", "REFORMATTED", "PROJECTION", "AVERAGE", "VRT", "SSD"}
    | {"MAXIMUM", "MINIMUM", "MEAN", "SUBTRACTION"}
)
_HOUNSFIELD = re.compile(r"HU|HOUNSFIELD([ _-]?UNITS?)?|")
_GREY = ("", "MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, order=True)
class PixelCharacteristics:
    """What slices of one volume have in common besides their geometry.

    Attributes
    ----------
    is_derived
        Whether they were made of other images: *Image Type* (0008,0008) says so.
    units
        *Rescale Type* (0028,1054), upper case; empty where it stands for Hounsfield units.
    colour
        *Photometric Interpretation* (0028,0004), upper case; empty where it stands for grey values.
    """

    is_derived: bool = False
    units: str = ""
    colour: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether they are acquired slices in Hounsfield units."""
        return self == PixelCharacteristics()

    @property
    def name(self) -> str:
        """A name for such slices among others of their series, fit for a file; empty for plain ones."""
        words = ("derived" if self.is_derived else "", self.units, self.colour)
        slugs = [re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words if word]
        return "-".join(slug or "other" for slug in slugs)

    @property
    def adjective(self) -> str:
        """The same in words, such as "derived"; empty for plain ones."""
        return " ".join(filter(None, ("derived" if self.is_derived else "", self.units, self.colour)))


def kind_of(header: ImageHeader) -> str | None:
    """Return what an image is if it cannot be a slice of a CT volume; None where it can.

    Parameters
    ----------
    header
        The header of the image.
    """
    modality = header.text("Modality")
    if modality != "CT":
        return modality[:16] or "of no modality"
    sop_class = header.text("SOPClassUID")
    if sop_class in SECONDARY_CAPTURES:
        return "CT screen capture"
    if sop_class not in CT_IMAGES:
        return f"CT of SOP class {sop_class[:64] or 'unknown'}"
    image_type = image_type_of(header)
    if _LOCALIZERS.intersection(image_type):
        return "CT localizer"
    if _DOSE_TYPES.intersection(image_type) or _DOSE_WORDS.search(header.text("SeriesDescription")):
        return "CT dose screen"
    if header.integer("SamplesPerPixel", 1) != 1:
        return "CT in colour"
    return None


def pixel_characteristics_of(header: ImageHeader) -> PixelCharacteristics:
    """Return whether a slice was acquired or derived, and what its values mean.

    Parameters
    ----------
    header
        Of the slice.
    """
    return _pixel_characteristics(
        *map(header.text, ("ImageType", "RescaleType", "PhotometricInterpretation"))
    )


@lru_cache(maxsize=256)
def _pixel_characteristics(image_type: str, rescale_type: str, photometric: str) -> PixelCharacteristics:
    units, colour = _word(rescale_type), _word(photometric)
    return PixelCharacteristics(
        is_derived_type(_values(image_type)),
        "" if _HOUNSFIELD.fullmatch(units) else units,
        "" if colour in _GREY else colour,
    )


def _word(text: str) -> str:
    """Return a coded value, upper case, on one line, and no longer than such a value may be."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()).upper()[:16]


def image_type_of(header: ImageHeader) -> tuple[str, ...]:
    """Return the values of *Image Type* (0008,0008), upper case.

    Parameters
    ----------
    header
        The header of the image.
    """
    return _values(header.text("ImageType"))


@lru_cache(maxsize=256)
def _values(image_type: str) -> tuple[str, ...]:
    return tuple(value.strip().upper() for value in image_type.split("\\") if value.strip())


def is_derived_type(image_type: tuple[str, ...]) -> bool:
    """Return whether the values of *Image Type* (0008,0008) are those of an image made of others.

    Parameters
    ----------
    image_type
        The values, upper case.
    """
    return any(not _DERIVED_WORDS.isdisjoint(re.split(r"[ _]+", value)) for value in image_type)
