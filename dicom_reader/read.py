"""The road: folder -> series -> slices -> pixels -> volume."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dicom_reader.files.folder import FolderScan, scan_folder
from dicom_reader.files.headers import ImageHeader
from dicom_reader.pixels.decoders import count_lossy
from dicom_reader.pixels.hounsfield import PixelEncoding
from dicom_reader.pixels.pixels import read_pixels
from dicom_reader.resample import resample_onto_grid
from dicom_reader.selection.select import Verdict, log_choice, require_taken, select_series
from dicom_reader.series.completeness import missing_image_warnings, unit_warnings
from dicom_reader.series.identity import identify
from dicom_reader.series.merge import describe_possible_slices, merge_single_image_series, possible_slices_of
from dicom_reader.series.series import Series, group_by_series
from dicom_reader.slices.slice import Slice
from dicom_reader.slices.spacing import TOLERANCE_MM
from dicom_reader.slices.stack import Stack, stack_slices
from stages import Correction, InputError, Origin, SliceOrigin, Volume
from stages.volume.body_parts import is_known
from stages.volume.slice_numbers import number_in

if TYPE_CHECKING:
    from dicom_reader.selection.rules import Rules

logger = logging.getLogger(__name__)

AIR_HU = -1024
_MOST_LOGGED = 5  # warnings, and repairs, in the log
_AT_ONCE = 4  # slices read together where they are moved one by one


def read_series(
    folder: str | Path,
    *,
    rules: Rules | None = None,
    series_instance_uid: str | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    fill_missing: int = 0,
    merge_series: bool = False,
    strict: bool = False,
) -> Volume:
    """Return the best series of a folder as a volume: by default the largest axial CT of a soft kernel.

    Parameters
    ----------
    folder
        Where the DICOM files lie, at any depth, under any names, among any other files.
    rules
        Which series to take, besides the default rules.
    series_instance_uid
        *Series Instance UID* (0020,000E) of the series to read, whatever the default rules say.
    tolerance_mm
        How far a slice may lie from where a regular stack would have it; more is corrected.
    fill_missing
        How many slices in a row may be missing and are interpolated.
    merge_series
        Whether images of one study and place, each alone in a series, are read as one series.
    strict
        Whether a volume that may lack slices is refused; otherwise its origin's warnings say so.

    Returns
    -------
    Volume
        Int16 Hounsfield units, shape (slices, rows, columns). The slice index grows along the
        normal: toward Superior for standard axial slices. What was corrected, and the way back to
        the original slices, is in its origin.

    Raises
    ------
    InputError
        If no series passes the rules, several are equal in all that decides, a file is damaged or lacks
        an attribute, or `strict` refuses the volume.
    GeometryError
        If the slices are no stack that can be trusted.
    """
    if series_instance_uid:
        from dicom_reader.selection.rules import with_series

        rules = with_series(rules, series_instance_uid)
    found = _find(folder, merge_series=merge_series)
    verdicts = _judge(found, rules)
    (chosen,) = require_taken(verdicts, rules)
    log_choice(verdicts)
    options = _ReadOptions(found.left_out, tolerance_mm, fill_missing, strict)
    return _read(chosen, verdicts, options)


def read_all_series(
    folder: str | Path,
    *,
    rules: Rules | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    fill_missing: int = 0,
    merge_series: bool = False,
    strict: bool = False,
) -> Iterator[Volume]:
    """Yield every series of a folder that passes the rules, the best first.

    A series that is damaged or whose geometry is refused is left out, with a warning; with `strict` it is
    refused.

    Parameters
    ----------
    folder
        Where the DICOM files lie, at any depth, under any names, among any other files.
    rules
        Which series to take, besides the default rules.
    tolerance_mm
        How far a slice may lie from where a regular stack would have it, mm; more is corrected.
    fill_missing
        How many slices in a row may be missing and are interpolated.
    merge_series
        Whether images of one study and place, each alone in a series, are read as one series.
    strict
        Whether a series that is refused, or may lack slices, ends the reading.

    Raises
    ------
    InputError
        If no series passes the rules, or not one of those that do can be read.
    """
    found = _find(folder, merge_series=merge_series)
    verdicts = _judge(found, rules, take_all=True)
    options = _ReadOptions(found.left_out, tolerance_mm, fill_missing, strict)
    taken = require_taken(verdicts, rules)
    log_choice(verdicts)
    refused: list[InputError] = []
    for series in taken:
        try:
            volume = _read(series, verdicts, options)
        except InputError as error:
            if strict:
                raise
            logger.warning("series %s left out: %s", series.name, error)
            refused.append(error)
            continue
        yield volume
    if len(refused) == len(taken):
        raise refused[0]


def judge_folder(
    folder: str | Path, rules: Rules | None = None, *, take_all: bool = False, merge_series: bool = False
) -> list[Verdict]:
    """Return what became of each series of a folder.

    No pixels are read, but those of a few slices that share a position.

    Parameters
    ----------
    folder
        Where the DICOM files lie, at any depth.
    rules
        Which series to take, besides the default rules.
    take_all
        Whether all that pass are taken, not only the best.
    merge_series
        Whether images of one study and place, each alone in a series, count as one series.

    Raises
    ------
    InputError
        If there is no DICOM image, or one is damaged.
    """
    return _judge(_find(folder, merge_series=merge_series), rules, take_all=take_all)


@dataclass(frozen=True)
class _ReadOptions:
    """How series are read, and how many files of the folder were left out, by the reason."""

    left_out: Mapping[str, int]
    tolerance_mm: float
    fill_missing: int
    strict: bool


def _find(folder: str | Path, *, merge_series: bool) -> FolderScan:
    found = scan_folder(Path(folder))
    if not found.headers:
        why = [f"{count} were left out: {reason}" for reason, count in sorted(found.left_out.items())]
        raise InputError(
            "; ".join(
                [f"no DICOM image in the input folder, which holds {len(found.others)} other file(s)", *why]
            )
        )
    return replace(found, headers=merge_single_image_series(found.headers)) if merge_series else found


def _judge(found: FolderScan, rules: Rules | None, *, take_all: bool = False) -> list[Verdict]:
    return select_series(group_by_series(found.headers), rules, take_all=take_all)


def _read(series: Series, verdicts: Sequence[Verdict], options: _ReadOptions) -> Volume:
    clock = time.monotonic()
    every = [verdict.series for verdict in verdicts]
    identity = identify(series.slices)
    stack = stack_slices(
        series.slices,
        tolerance_mm=options.tolerance_mm,
        fill_missing=options.fill_missing,
        left_out=_left_out(series, every),
    )
    missing = missing_image_warnings(series, stack.slices, every, options.left_out)
    if missing and options.strict:
        raise InputError(f"{'; '.join(missing)}; --strict refuses such a volume")
    warnings = (*unit_warnings(series), *missing)
    hu, correction, clipped = _pixels_on_grid(stack)
    repairs = (*identity.repairs, *stack.repairs, *clipped)
    _log_some(
        [w for w in warnings if w not in missing[: len(options.left_out)]], "warnings"
    )  # files were told
    _log_some(repairs, "repairs")
    logger.info(
        "read %d slices of %d x %d, spacing %s mm, in %.2f s",
        *stack.grid.shape,
        " x ".join(f"{mm:.3f}" for mm in stack.grid.spacing),
        time.monotonic() - clock,
    )
    origin = Origin(
        series_instance_uid=identity.series,
        study_instance_uid=identity.study,
        frame_of_reference_uid=identity.frame_of_reference,
        body_part=_body_part(stack.slices),
        part=series.subseries,
        slices=tuple(_slice_origin(s) for s in stack.slices),
        repairs=repairs,
        correction=correction,
        selection={verdict.series.name: str(verdict) for verdict in verdicts},
        warnings=warnings,
    )
    return Volume(array=hu, affine=stack.grid.affine, origin=origin)


def _left_out(series: Series, every: Sequence[Series]) -> str:
    """Return which images that may belong to a volume are not among its slices, in words for a refusal."""
    others = possible_slices_of(series, every)
    return "; ".join(
        filter(None, (series.left_out(every), describe_possible_slices(others) if others else ""))
    )


def _body_part(slices: Sequence[Slice]) -> str:
    """Return the part of the body that all slices name; nothing where it is no term of the standard."""
    (found, *others) = {s.header.text("BodyPartExamined").upper() for s in slices}
    return found if not others and is_known(found) else ""


def _log_some(sentences: Sequence[str], what: str) -> None:
    for sentence in sentences[:_MOST_LOGGED]:
        logger.warning("%s", sentence)
    if len(sentences) > _MOST_LOGGED:
        logger.warning(
            "and %d more %s, all of them in the volume's description", len(sentences) - _MOST_LOGGED, what
        )


def _slice_origin(s: Slice) -> SliceOrigin:
    return SliceOrigin(
        sop_instance_uid=s.header.uid("SOPInstanceUID"),
        position=(s.position[0], s.position[1], s.position[2]),
        frame=s.header.frame,
        series_instance_uid=s.header.own_series_uid,
        instance_number=number_in(s.header.text("InstanceNumber")),
    )


def _pixels_on_grid(stack: Stack) -> tuple[NDArray[np.int16], Correction | None, list[str]]:
    """Read the slices into a volume; one after another where they must be moved."""
    headers = [s.header for s in stack.slices]
    if lossy := count_lossy(headers):
        logger.warning("%d of %d slices may be compressed with loss", lossy, len(headers))
    if not stack.kinds:
        hu, clipped = read_pixels(headers)
        return hu, None, clipped
    fill, clipped = _fill_value(headers[0]), []

    def planes() -> Iterator[NDArray[np.int16]]:
        for start in range(0, len(headers), _AT_ONCE):
            hu, repairs = read_pixels(headers[start : start + _AT_ONCE])
            clipped.extend(repairs)
            yield from hu

    hu = resample_onto_grid(planes(), stack.first_pixels, stack.grid.shape, fill=fill)
    correction = Correction(
        kinds=stack.kinds,
        matrix=stack.slices[0].matrix,
        first_pixels=stack.first_pixels,
        fill_hu=fill,
    )
    return hu, correction, clipped


def _fill_value(header: ImageHeader) -> int:
    """Return what the series has where it has no data: its padding, or air as scanners write it."""
    encoding = PixelEncoding.from_header(header)
    if encoding.padding is None:
        return AIR_HU
    value = round(encoding.slope * encoding.padding + encoding.intercept)
    return min(max(value, -32768), 32767)
