"""The UIDs of a series; what a file lacks is derived from the rest, always the same way, and recorded.

De-identified and research data often lack UIDs that the standard requires. A missing UID says nothing
wrong of the geometry, so the series is read; a present but invalid one is refused.

References
----------
DICOM PS3.5 B.2, UUID Derived UID.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_reader.files.headers import ImageHeader

_NAMESPACE = uuid.UUID("0d4f2c1e-8f0b-5c58-9d26-3d6f0c1f7a11")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The UIDs of one series, and which of them were derived.

    Attributes
    ----------
    series, study, frame_of_reference
        *Series Instance UID* (0020,000E), *Study Instance UID* (0020,000D), *Frame of Reference UID*
        (0020,0052).
    repairs
        One sentence for each UID that the files lack, and for series that were read as one.
    """

    series: str
    study: str
    frame_of_reference: str
    repairs: tuple[str, ...]


def derived_uid(*parts: str) -> str:
    """Return a UID that is always the same for the same parts.

    Parameters
    ----------
    parts
        Texts, their order counts.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(parts)).int}"


def series_uid(headers: Sequence[ImageHeader]) -> str:
    """Return the series UID of images that share one, or one derived from their instances.

    Parameters
    ----------
    headers
        Of the images of one series, in any order.
    """
    return headers[0].text("SeriesInstanceUID") or derived_uid(
        "series", *sorted(header.text("SOPInstanceUID") for header in headers)
    )


def identify(headers: Sequence[ImageHeader]) -> Identity:
    """Return the UIDs of a series.

    Parameters
    ----------
    headers
        Of the slices of one volume.

    Raises
    ------
    InputError
        If images differ in study or frame of reference, or a UID is none.
    """
    first = headers[0]
    _refuse_strangers(headers)
    series = series_uid(headers)
    derived = {
        "SeriesInstanceUID": series,
        "StudyInstanceUID": derived_uid("study", first.text("FrameOfReferenceUID") or series),
        "FrameOfReferenceUID": derived_uid("frame of reference", series),
    }
    missing = [keyword for keyword in derived if not first.text(keyword)]
    uids = {keyword: first.uid(keyword) for keyword in derived if keyword not in missing}
    from_meta = sum(header.instance_from_meta for header in headers)
    repairs = [
        f"{first.named(keyword)} is missing in every file; derived {derived[keyword]}" for keyword in missing
    ]
    if from_meta:
        repairs.append(
            f"{first.named('SOPInstanceUID')} is missing in {from_meta} file(s); "
            "taken from their meta information"
        )
    if merged := len({header.own_series_uid for header in headers if header.own_series_uid}):
        repairs.append(f"{merged} series of one image each read as one series, named {series}")
    found = derived | uids
    return Identity(
        series=found["SeriesInstanceUID"],
        study=found["StudyInstanceUID"],
        frame_of_reference=found["FrameOfReferenceUID"],
        repairs=tuple(repairs),
    )


def _refuse_strangers(headers: Sequence[ImageHeader]) -> None:
    """Refuse images that share a series but not the study or the frame of reference."""
    first = headers[0]
    for header in headers[1:]:
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
            if header.text(keyword) != first.text(keyword):
                raise header.refuse(keyword, f"differs from that of {first.name}, of the same series")
