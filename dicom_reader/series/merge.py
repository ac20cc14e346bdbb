"""Series of one image each, read as one: anonymised studies where every image got a series UID.

References
----------
DICOM PS3.15 Annex E, Attribute Confidentiality Profiles: UIDs are to be replaced consistently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dicom_reader.files.headers import ATTRIBUTES, ImageHeader
from dicom_reader.series.identity import derived_uid
from dicom_reader.series.image_types import kind_of
from dicom_reader.series.series import Series
from dicom_reader.slices.slice import Slice
from stages import InputError

_SERIES_UID = ATTRIBUTES["SeriesInstanceUID"][0]
_SHARED = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "SeriesNumber", "ConvolutionKernel")
_OFF_PLANE = 0.05  # of the spacing
_DIGITS = 4  # of millimetres and cosines that are compared

Key = tuple[object, ...]


def merge_single_image_series(headers: Sequence[ImageHeader]) -> list[ImageHeader]:
    """Return images, with one series UID for those of one study and place that are each alone in a series.

    Parameters
    ----------
    headers
        All images of a folder.

    Returns
    -------
    list of Header
        The same in the same order; those that were joined have a derived *Series Instance UID*
        (0020,000E), and their own in `ImageHeader.own_series_uid`.

    Raises
    ------
    InputError
        If there are only such images, and no two of them agree in study, frame of reference, patient,
        series number, kernel, orientation, pixel spacing and matrix.
    """
    series = _by_series(headers)
    alone = [images[0] for images in series.values() if is_one_image(images)]
    groups: dict[Key, list[ImageHeader]] = {}
    for header in alone:
        if (key := merge_key(header)) is not None:
            groups.setdefault(key, []).append(header)
    joined = [group for group in groups.values() if len(group) > 1]
    if 1 < len(alone) == len(series) and not joined:
        raise InputError(
            f"--merge-series: the {len(alone)} series of one image each differ in study, frame of reference, "
            "patient, series number, kernel, orientation, pixel spacing or matrix, or lack one of the first "
            "two; they are no one series"
        )
    merged: dict[str, str] = {}
    for group in joined:
        uids = sorted(header.text("SeriesInstanceUID") for header in group)
        merged |= dict.fromkeys(uids, derived_uid("merged series", *uids))
    return [_renamed(header, merged) for header in headers]


def refuse_single_image_series(candidates: Sequence[Series]) -> None:
    """Refuse the first series where it is one image of many that look like one series.

    Parameters
    ----------
    candidates
        What passes the rules, the best first.

    Raises
    ------
    InputError
        If it has one slice, and others of one slice have the same study, frame of reference and geometry.
    """
    first, *others = (series.slices for series in candidates)
    if not is_one_image(first) or (key := merge_key(first[0])) is None:
        return
    count = 1 + sum(is_one_image(slices) and merge_key(slices[0]) == key for slices in others)
    if count > 1:
        raise InputError(
            f"the best series has one slice only, and {count} such series with equal study, frame of "
            "reference and geometry lie in the folder: each image seems to have got a series UID of its own, "
            "as some programs for anonymisation do; --merge-series reads them as one series"
        )


def possible_slices_of(series: Series, every: Sequence[Series]) -> list[ImageHeader]:
    """Return images in series of one image that may be slices of a series: where it has none.

    Parameters
    ----------
    series
        What is read.
    every
        All series of the folder, this one among them.

    Returns
    -------
    list of Header
        Those that share all that images of one series do, and lie on its planes continued.
    """
    others = [other.slices[0] for other in every if other.uid != series.uid and is_one_image(other.slices)]
    return images_at_missing_slices(series, others)


def images_at_missing_slices(series: Series, headers: Sequence[ImageHeader]) -> list[ImageHeader]:
    """Return which images share all that slices of a series do, and lie on its planes where it has none.

    Parameters
    ----------
    series
        What is read.
    headers
        Of images that are not in it.
    """
    attributes = series.attributes
    key = merge_key(series.slices[0]) if series.slices else None
    if (
        key is None
        or attributes is None
        or attributes.normal is None
        or attributes.heights is None
        or not attributes.spacing_mm
    ):
        return []
    found = []
    for header in headers:
        if merge_key(header) != key:
            continue
        height = float(np.array(header.numbers("ImagePositionPatient", 3)) @ attributes.normal)
        steps = (height - float(attributes.heights[0])) / attributes.spacing_mm
        is_taken = float(np.abs(attributes.heights - height).min()) < attributes.spacing_mm / 2
        if not is_taken and abs(steps - round(steps)) < _OFF_PLANE:
            found.append(header)
    return found


def describe_possible_slices(headers: Sequence[ImageHeader]) -> str:
    """Return in words where images lie that may be slices of a series.

    Parameters
    ----------
    headers
        Those of `possible_slices_of`, at least one.
    """
    return (
        f"{len(headers)} image(s) of the same study, series number and geometry lie where the series has no "
        "slice, each in a series of its own"
    )


def is_one_image(headers: Sequence[ImageHeader]) -> bool:
    """Return whether all of these are one image, be it there more than once.

    Parameters
    ----------
    headers
        Of any images.
    """
    return len({(header.text("SOPInstanceUID"), header.frame) for header in headers}) == 1


def _by_series(headers: Sequence[ImageHeader]) -> Mapping[str, list[ImageHeader]]:
    found: dict[str, list[ImageHeader]] = {}
    for header in headers:
        if header.text("SeriesInstanceUID") and kind_of(header) is None:
            found.setdefault(header.text("SeriesInstanceUID"), []).append(header)
    return found


def _renamed(header: ImageHeader, merged: Mapping[str, str]) -> ImageHeader:
    own = header.text("SeriesInstanceUID")
    if own not in merged:
        return header
    return replace(header, values={**header.values, _SERIES_UID: merged[own].encode()}, own_series_uid=own)


def merge_key(header: ImageHeader) -> Key | None:
    """Return what images share that are merged; None for one that says too little of its place.

    Parameters
    ----------
    header
        The header of the image.
    """
    shared = tuple(header.text(keyword) for keyword in _SHARED)
    if not all(shared[:2]):
        return None
    try:
        place = Slice.from_header(header)
    except InputError:
        return None
    numbers = (*place.orientation, *place.pixel_spacing)
    return (*shared, place.matrix, *(round(number, _DIGITS) + 0.0 for number in numbers))
