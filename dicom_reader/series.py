"""Images -> series, by UID and volume; what cannot be a slice of a CT volume is set apart by its kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dicom_reader.enhanced import ENHANCED_CT, LEGACY_CONVERTED_CT
from dicom_reader.facts import Facts, image_type_of
from dicom_reader.headers import Header
from dicom_reader.identity import series_uid
from dicom_reader.parts import split

CT_IMAGES = frozenset({"1.2.840.10008.5.1.4.1.1.2", ENHANCED_CT, LEGACY_CONVERTED_CT})
SECONDARY_CAPTURES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.7", *(f"1.2.840.10008.5.1.4.1.1.7.{n}" for n in range(1, 5))}
)
_HOUNSFIELD_TYPES = ("", "HU", "US")
_DOSE_TYPES = frozenset({"SCREEN SAVE", "DOSE", "DOSE_INFO", "DOSE_REPORT", "DOSE REPORT"})
_DOSE_WORDS = re.compile(
    r"(?i)\b(dose (report|record|info|summary)|(patient|exam) protocol|dosisprotokoll)\b"
)


@dataclass(frozen=True, eq=False)
class Series:
    """The images of a series, or of one part of it, that could make a volume, and what else it has.

    Attributes
    ----------
    uid
        *Series Instance UID* (0020,000E).
    slices
        CT images, none if the series has none.
    kinds
        How many images of each other kind there are, such as ``{"CT localizer": 1}``.
    part
        Which of several volumes this is, such as "acquisition-2"; empty where there is one.
    """

    uid: str
    slices: list[Header]
    kinds: Counter[str]
    part: str = ""

    @property
    def name(self) -> str:
        """The UID, and the part where there are several."""
        return f"{self.uid}_{self.part}" if self.part else self.uid

    @cached_property
    def facts(self) -> Facts | None:
        """What the rules look at; None where there is no slice."""
        return Facts(self.slices) if self.slices else None

    @property
    def what(self) -> str:
        """The series in a few words, which name no patient."""
        others = [f"{n} {kind}" for kind, n in sorted(self.kinds.items())]
        if self.facts is None:
            return " and ".join(others)
        kind = "derived " if "DERIVED" in self.facts.image_type else ""
        plane = f"{self.facts.plane} " if self.facts.plane else ""
        return " and ".join([f"{len(self.slices)} {kind}{plane}CT slices", *others])


def group_by_series(headers: Sequence[Header]) -> list[Series]:
    """Return the series that the images belong to, each volume of theirs on its own, sorted by UID.

    Images without a series UID are of one series when modality, study and frame of reference agree.

    Raises
    ------
    InputError
        If a CT image has no series UID and others have.
    """
    _refuse_some_without_series(headers)
    by_key: dict[tuple[str, ...], list[Header]] = {}
    for header in headers:
        uid = header.text("SeriesInstanceUID")
        instead = [
            header.text(keyword) for keyword in ("Modality", "StudyInstanceUID", "FrameOfReferenceUID")
        ]
        by_key.setdefault((uid, *([] if uid else instead)), []).append(header)
    series = [part for group in by_key.values() for part in _volumes(series_uid(group), group)]
    return sorted(series, key=lambda s: (s.uid, s.part))


def _refuse_some_without_series(headers: Sequence[Header]) -> None:
    """Refuse a CT image without series among others that have one: it may be a damaged slice of theirs."""
    ct = [header for header in headers if header.text("Modality") == "CT"]
    without = [header for header in ct if not header.text("SeriesInstanceUID")]
    if without and len(without) < len(ct):
        raise without[0].refuse(
            "SeriesInstanceUID", "is missing, other CT images have one; send the file again"
        )


def _volumes(uid: str, headers: Sequence[Header]) -> list[Series]:
    kinds = [_kind(header) for header in headers]
    slices = [header for header, kind in zip(headers, kinds, strict=True) if kind is None]
    others = Counter(kind for kind in kinds if kind is not None)
    if not slices:
        return [Series(uid, [], others)]
    return [Series(uid, part.headers, others, part.name) for part in split(slices)]


def _kind(header: Header) -> str | None:
    """Name what an image is if it cannot be a slice of a CT volume."""
    modality = header.text("Modality")
    if modality != "CT":
        return modality[:16] or "of no modality"
    sop_class = header.text("SOPClassUID")
    if sop_class in SECONDARY_CAPTURES:
        return "CT screen capture"
    if sop_class not in CT_IMAGES:
        return f"CT of SOP class {sop_class[:64] or 'unknown'}"
    image_type = image_type_of(header)
    if "LOCALIZER" in image_type:
        return "CT localizer"
    if _DOSE_TYPES.intersection(image_type) or _DOSE_WORDS.search(header.text("SeriesDescription")):
        return "CT dose screen"
    if header.integer("SamplesPerPixel", 1) != 1:
        return "CT in colour"
    if header.text("RescaleType") not in _HOUNSFIELD_TYPES:
        return f"CT in {header.text('RescaleType')[:16]} instead of Hounsfield units"
    return None
