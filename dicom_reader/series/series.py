"""Images -> series, by UID and volume; each image is judged by itself, and set apart where it is no slice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dicom_reader.files.headers import ImageHeader
from dicom_reader.series.attributes import SeriesAttributes
from dicom_reader.series.identity import series_uid
from dicom_reader.series.image_types import PixelCharacteristics, kind_of, pixel_characteristics_of
from dicom_reader.series.subseries import split_series

_PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
_RESCALE = ("RescaleSlope", "RescaleIntercept")


@dataclass(frozen=True, eq=False)
class Series:
    """The images of a series, or of one subseries, that could make a volume, and what else it has.

    Attributes
    ----------
    uid
        *Series Instance UID* (0020,000E).
    slices
        CT images, none if the series has none.
    kinds
        How many images of each other kind there are, such as ``{"CT localizer": 1}``.
    subseries
        Which of several volumes this is, such as "acquisition-2"; empty where there is one.
    excluded
        How many images could be slices of it but for one thing, such as ``{"of another orientation": 1}``;
        they are left out.
    """

    uid: str
    slices: list[ImageHeader]
    kinds: Counter[str]
    subseries: str = ""
    excluded: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """The UID, and the subseries where there are several."""
        return f"{self.uid}_{self.subseries}" if self.subseries else self.uid

    @property
    def order(self) -> tuple[str, tuple[tuple[int, str], ...]]:
        """What sorts series: the UID, then the subseries, whose numbers count as numbers."""
        words = re.split(r"([0-9]+)", self.subseries)
        return self.uid, tuple((int(word) if word.isdecimal() else -1, word) for word in words)

    @cached_property
    def attributes(self) -> SeriesAttributes | None:
        """What the rules look at; None where there is no slice."""
        return SeriesAttributes(self.slices) if self.slices else None

    @property
    def what(self) -> str:
        """The series in a few words, which name no patient."""
        others = [f"{n} {kind}" for kind, n in sorted(self.kinds.items())]
        others += [f"{n} CT image {why}" for why, n in sorted(self.excluded.items())]
        if self.attributes is None:
            return " and ".join(others)
        words = (self.attributes.pixels.adjective, self.attributes.plane, "CT slices")
        return " and ".join([f"{len(self.slices)} {' '.join(filter(None, words))}", *others])

    def left_out(self, every: Sequence[Series]) -> str:
        """Return which images of the same series are not among the slices, in words for a refusal.

        Parameters
        ----------
        every
            All series of the folder, the other subseries of this one among them.
        """
        beside: Counter[str] = Counter()
        for other in every:
            if (
                other.uid == self.uid
                and other.attributes
                and self.attributes
                and other.attributes.pixels != self.attributes.pixels
            ):
                beside[other.attributes.pixels.adjective or "acquired"] += len(other.slices)
        images = [f"{n} {adjective} image(s)" for adjective, n in sorted(beside.items())]
        images += [f"{n} image(s) {why}" for why, n in sorted(self.excluded.items())]
        return f"{' and '.join(images)} of the series were left out" if images else ""


def group_by_series(headers: Sequence[ImageHeader]) -> list[Series]:
    """Return the series that the images belong to, each volume of theirs on its own, sorted by UID.

    Images without a series UID are of one series when modality, study and frame of reference agree.

    Parameters
    ----------
    headers
        Of all images of a folder.

    Raises
    ------
    InputError
        If a CT image has no series UID and others have.
    """
    _refuse_some_without_series(headers)
    by_key: dict[tuple[str, ...], list[ImageHeader]] = {}
    for header in headers:
        uid = header.text("SeriesInstanceUID")
        instead = [
            header.text(keyword) for keyword in ("Modality", "StudyInstanceUID", "FrameOfReferenceUID")
        ]
        by_key.setdefault((uid, *([] if uid else instead)), []).append(header)
    series = [volume for group in by_key.values() for volume in _volumes(series_uid(group), group)]
    return sorted(series, key=lambda s: s.order)


def _refuse_some_without_series(headers: Sequence[ImageHeader]) -> None:
    """Refuse a CT image without series among others that have one: it may be a damaged slice of theirs."""
    if all(header.text("SeriesInstanceUID") for header in headers):
        return
    ct = [header for header in headers if kind_of(header) is None]
    without = [header for header in ct if not header.text("SeriesInstanceUID")]
    if without and len(without) < len(ct):
        raise without[0].refuse(
            "SeriesInstanceUID", "is missing, other CT images have one; send the file again"
        )


def _volumes(uid: str, headers: Sequence[ImageHeader]) -> list[Series]:
    """Return the volumes that the images of one series make, each of pixels of one kind."""
    kinds = [kind_of(header) for header in headers]
    slices = [header for header, kind in zip(headers, kinds, strict=True) if kind is None]
    others = Counter(kind for kind in kinds if kind is not None)
    if not slices:
        return [Series(uid, [], others)]
    slices, lacking = _without_lacking(slices)
    by_pixels: dict[PixelCharacteristics, list[ImageHeader]] = {}
    for header in slices:
        by_pixels.setdefault(pixel_characteristics_of(header), []).append(header)
    return [
        Series(
            uid, found.headers, others, "-".join(filter(None, (name, found.name))), lacking + found.excluded
        )
        for pixels, group in sorted(by_pixels.items(), key=lambda item: item[0])
        for name in [pixels.name if len(by_pixels) > 1 else ""]
        for found in split_series(group)
    ]


def _without_lacking(slices: list[ImageHeader]) -> tuple[list[ImageHeader], Counter[str]]:
    """Return slices without those that lack all that places them, or scales them, where others have that.

    An image without pixels was cut off, and stays to be refused by its name.
    """
    excluded: Counter[str] = Counter()
    for keywords, why in ((_PLACE, "without position and orientation"), (_RESCALE, "without a rescale")):
        kept = [h for h in slices if h.pixel_offset is None or any(map(h.text, keywords))]
        if 0 < len(kept) < len(slices):
            excluded[why] = len(slices) - len(kept)
            slices = kept
    return slices, excluded
