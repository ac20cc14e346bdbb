"""One series torn into many: anonymised studies whose every image has a series UID of its own.

References
----------
DICOM PS3.15 Annex E, Attribute Confidentiality Profiles: UIDs are to be replaced consistently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dicom_reader.headers import ATTRIBUTES, Header
from dicom_reader.identity import derived_uid
from dicom_reader.images import kind_of
from dicom_reader.series import Series
from dicom_reader.slices import Slice
from stages import InputError

_SERIES_UID = ATTRIBUTES["SeriesInstanceUID"][0]
_SHARED = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "SeriesNumber", "ConvolutionKernel")
_DIGITS = 4  # of millimetres and cosines that are compared

Key = tuple[object, ...]


def merge_torn_series(headers: Sequence[Header]) -> list[Header]:
    """Give images of one study and place one series UID, where each is alone in a series of its own.

    Parameters
    ----------
    headers
        All images of a folder.

    Returns
    -------
    list of Header
        The same in the same order; those that were joined have a derived *Series Instance UID*
        (0020,000E), and their own in `Header.own_series_uid`.

    Raises
    ------
    InputError
        If there are only such images, and no two of them agree in study, frame of reference, patient,
        series number, kernel, orientation, pixel spacing and matrix.
    """
    series = _by_series(headers)
    alone = [images[0] for images in series.values() if len(images) == 1]
    groups: dict[Key, list[Header]] = {}
    for header in alone:
        if (key := torn_key(header)) is not None:
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


def refuse_torn_series(candidates: Sequence[Series]) -> None:
    """Refuse the first series where it is one image of many that look like one series torn into pieces.

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
    if len(first) != 1 or (key := torn_key(first[0])) is None:
        return
    pieces = 1 + sum(len(slices) == 1 and torn_key(slices[0]) == key for slices in others)
    if pieces > 1:
        raise InputError(
            f"the best series has one slice only, and {pieces} such series with equal study, frame of "
            "reference and geometry lie in the folder: each image seems to have got a series UID of its own, "
            "as some programs for anonymisation do; --merge-series reads them as one series"
        )


def _by_series(headers: Sequence[Header]) -> Mapping[str, list[Header]]:
    found: dict[str, list[Header]] = {}
    for header in headers:
        if header.text("SeriesInstanceUID") and kind_of(header) is None:
            found.setdefault(header.text("SeriesInstanceUID"), []).append(header)
    return found


def _renamed(header: Header, merged: Mapping[str, str]) -> Header:
    own = header.text("SeriesInstanceUID")
    if own not in merged:
        return header
    return replace(header, values={**header.values, _SERIES_UID: merged[own].encode()}, own_series_uid=own)


def torn_key(header: Header) -> Key | None:
    """Return what images of one torn series share; None for one that says too little of its place."""
    shared = tuple(header.text(keyword) for keyword in _SHARED)
    if not all(shared[:2]):
        return None
    try:
        place = Slice.from_header(header)
    except InputError:
        return None
    numbers = (*place.orientation, *place.pixel_spacing)
    return (*shared, place.matrix, *(round(number, _DIGITS) + 0.0 for number in numbers))
