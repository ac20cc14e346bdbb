"""Group the images of a folder by series, choose one and say why."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dicom_reader.enhanced import ENHANCED_CT, LEGACY_CONVERTED_CT
from dicom_reader.find import Found
from dicom_reader.headers import Header
from dicom_reader.identity import series_uid
from dicom_reader.slices import normal_of
from stages import GeometryError, InputError

logger = logging.getLogger(__name__)

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
MAX_DEGREES_FROM_AXIAL = 35.0
_HOUNSFIELD_TYPES = ("", "HU", "US")
_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.7": "CT screen capture",
}


@dataclass(frozen=True)
class Series:
    """The images of one series that could make a volume, and why the rest could not.

    Attributes
    ----------
    uid
        *Series Instance UID* (0020,000E).
    slices
        Axial CT images, none if the series is not one of those.
    kinds
        How many images of each other kind there are, such as ``{"CT localizer": 1}``.
    """

    uid: str
    slices: list[Header]
    kinds: Counter[str]

    @property
    def what(self) -> str:
        """The series in a few words."""
        parts = [f"{len(self.slices)} axial CT slices"] if self.slices else []
        return " and ".join([*parts, *(f"{n} {kind}" for kind, n in sorted(self.kinds.items()))])


def choose_series(found: Found, *, series_instance_uid: str | None = None) -> tuple[Series, dict[str, str]]:
    """Choose the axial CT series with most slices; of equals, the first by its UID.

    Parameters
    ----------
    series_instance_uid
        Choose this series rather than the largest.

    Returns
    -------
    series, selection
        The series, and by UID why each series was chosen or not.

    Raises
    ------
    InputError
        If there is none; the message says what was found instead.
    """
    if not found.headers:
        raise InputError(f"no DICOM image in the input folder, which holds {len(found.others)} other file(s)")
    _refuse_some_without_series(found.headers)
    every = group_by_series(found.headers)
    able = [s for s in every if s.slices and series_instance_uid in (None, s.uid)]
    if not able:
        wanted = f"series {series_instance_uid}" if series_instance_uid else "axial CT series"
        raise InputError(f"no {wanted} in the input folder; found {summary(every)}")
    chosen = max(able, key=lambda s: len(s.slices))  # the first of equals, and they are sorted by UID
    if series_instance_uid:
        why = dict.fromkeys((s.uid for s in every), "another one was asked for")
    else:
        why = {s.uid: _why_not(s, chosen) for s in every}
    return chosen, {s.uid: _reason(s, chosen, why[s.uid]) for s in every}


def _refuse_some_without_series(headers: Sequence[Header]) -> None:
    """Refuse a CT image without series among others that have one: it may be a damaged slice of theirs."""
    ct = [header for header in headers if header.text("Modality") == "CT"]
    without = [header for header in ct if not header.text("SeriesInstanceUID")]
    if without and len(without) < len(ct):
        raise without[0].refuse(
            "SeriesInstanceUID", "is missing, other CT images have one; send the file again"
        )


def group_by_series(headers: Sequence[Header]) -> list[Series]:
    """Return the series that the images belong to, sorted by UID.

    Images without a series UID are of one series when modality, study and frame of reference agree.
    """
    by_key: dict[tuple[str, ...], list[Header]] = {}
    for header in headers:
        uid = header.text("SeriesInstanceUID")
        instead = [
            header.text(keyword) for keyword in ("Modality", "StudyInstanceUID", "FrameOfReferenceUID")
        ]
        by_key.setdefault((uid, *([] if uid else instead)), []).append(header)
    series = [_series(series_uid(group), group) for group in by_key.values()]
    return sorted(series, key=lambda s: s.uid)


def summary(every: Sequence[Series]) -> str:
    """Say what there is instead of an axial CT series, such as "3 series: 2 MR, 1 CT localizer"."""
    kinds = Counter(kind for s in every for kind in (s.kinds if not s.slices else ["axial CT"]))
    return f"{len(every)} series: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())


def _series(uid: str, headers: Sequence[Header]) -> Series:
    kinds = [_kind(header) for header in headers]
    slices = [header for header, kind in zip(headers, kinds, strict=True) if kind is None]
    others = Counter(kind for kind in kinds if kind is not None)
    oblique = [_is_axial(header) for header in slices]
    if slices and not any(oblique):
        others[f"CT more than {MAX_DEGREES_FROM_AXIAL:.0f} degrees from axial"] += len(slices)
        slices = []
    return Series(uid, slices, others)


def _kind(header: Header) -> str | None:
    """Name what an image is if it cannot be a slice of a CT volume."""
    modality = header.text("Modality")
    if modality != "CT":
        return modality[:16] or "of no modality"
    sop_class = header.text("SOPClassUID")
    if sop_class not in (CT_IMAGE_STORAGE, ENHANCED_CT, LEGACY_CONVERTED_CT):
        return _SOP_CLASSES.get(sop_class, f"CT of SOP class {sop_class[:64] or 'unknown'}")
    if "LOCALIZER" in header.text("ImageType").split("\\"):
        return "CT localizer"
    if header.integer("SamplesPerPixel", 1) != 1:
        return "CT in colour"
    if header.text("RescaleType") not in _HOUNSFIELD_TYPES:
        return f"CT in {header.text('RescaleType')[:16]} instead of Hounsfield units"
    return None


def _is_axial(header: Header) -> bool:
    """Tell whether a slice lies about across the patient; unknown is for the geometry gate to refuse."""
    try:
        normal = normal_of(header.numbers("ImageOrientationPatient", 6))
    except (InputError, GeometryError):
        return True
    return abs(float(normal[2])) >= math.cos(math.radians(MAX_DEGREES_FROM_AXIAL))


def _why_not(series: Series, chosen: Series) -> str:
    if not series.slices:
        return "no axial CT"
    return "as many slices" if len(series.slices) == len(chosen.slices) else "fewer slices"


def _reason(series: Series, chosen: Series, why: str) -> str:
    if series is chosen:
        left_out = ", the latter left out" if series.kinds else ""
        return f"chosen: {series.what}{left_out}"
    return f"not chosen, {why}: {series.what}"


def log_choice(chosen: Series, selection: Mapping[str, str]) -> None:
    """Tell the log which series was chosen; why each of the others was not stands in the volume's origin."""
    logger.info("series %s %s", chosen.uid, selection[chosen.uid])
    others = [uid for uid in selection if uid != chosen.uid]
    if others:
        reasons = Counter(selection[uid].partition(":")[0] for uid in others)
        logger.info("other series: %s", ", ".join(f"{n} {why}" for why, n in reasons.most_common()))
    for uid in others:
        logger.debug("series %s %s", uid[:64], selection[uid])
