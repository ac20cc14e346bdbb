"""A picture of a written result compared with mask and source: the verification of captures and pages.

Each pixel of a picture belongs to one of its source image, as both pixel spacings say; a label's colour
must be there in the pixels at its edge, and in no other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_writer.pictures.picture import MARGIN, grey_levels
from dicom_writer.request.result_request import ResultRequest
from stages import OutputError
from stages.volume.labels import Label


def compare_picture(framed: NDArray[np.uint8], pixel_mm: float, request: ResultRequest, n: int) -> None:
    """Check that a picture, from its margin on, shows slice n.

    Parameters
    ----------
    framed
        The picture with its margin, RGB, shape (rows, columns, 3).
    pixel_mm
        Of the picture, which has square pixels; mm.
    request
        What should be shown.
    n
        Which slice, from 0.

    Raises
    ------
    OutputError
        If a label's colour is elsewhere than at its edge, or the image behind is another one.
    """
    source, plane = request.sources[n], request.masks.array[n]
    rows, columns = (
        _source_index(count, float(mm), pixel_mm)
        for count, mm in zip(plane.shape, source.PixelSpacing, strict=True)
    )
    if framed.shape[0] < len(rows) + 2 * MARGIN or framed.shape[1] < len(columns) + 2 * MARGIN:
        raise OutputError(f"the picture of slice {n + 1} is smaller than its source image")
    picture = framed[MARGIN : MARGIN + len(rows), MARGIN : MARGIN + len(columns)]
    outlined = np.zeros(picture.shape[:2], dtype=np.bool_)
    for rgb, labels in _by_colour(request).items():
        coloured = (picture == rgb).all(axis=2)
        edges = np.logical_or.reduce([_edge(plane == label.value) for label in labels])
        _compare_outline(coloured, (rows, columns), edges, " and ".join(x.name for x in labels), n)
        outlined |= coloured
    behind = grey_levels(request, n)[np.ix_(rows, columns)]
    different = (picture != behind[..., None]).any(axis=2) & ~outlined
    if different.any():
        raise OutputError(
            f"{int(np.count_nonzero(different))} pixels of the picture of slice {n + 1} are neither its "
            "source image nor an outline"
        )


def _source_index(count: int, source_mm: float, pixel_mm: float) -> NDArray[np.int64]:
    """Return which row, or column, of the source has the centre of each of a picture."""
    centres_mm = np.arange(round(count * source_mm / pixel_mm)) * pixel_mm + pixel_mm / 2
    return np.asarray(np.clip(np.floor(centres_mm / source_mm), 0, count - 1), dtype=np.int64)


def _by_colour(request: ResultRequest) -> dict[tuple[int, int, int], list[Label]]:
    """Return the labels that are drawn in each colour; several may share one."""
    found: dict[tuple[int, int, int], list[Label]] = {}
    for label in request.labels:
        found.setdefault(label.drawn_rgb, []).append(label)
    return found


def _edge(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a label that touch, also at a corner, one that is not of it."""
    if not there.any():
        return there
    around, inner = np.pad(there, 1), np.ones_like(there)
    for row, column in np.ndindex(3, 3):
        inner &= around[row : row + there.shape[0], column : column + there.shape[1]]
    return np.asarray(there & ~inner)


def _compare_outline(
    coloured: NDArray[np.bool_],
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    edges: NDArray[np.bool_],
    name: str,
    n: int,
) -> None:
    """Check that a colour is in exactly those pixels of the source that lie at the label's edge."""
    found = np.zeros(edges.shape, dtype=np.bool_)
    row, column = np.nonzero(coloured)
    found[places[0][row], places[1][column]] = True
    different = found != edges
    if different.any():
        row, column = np.argwhere(different)[0]
        raise OutputError(
            f"the outline of {name} on slice {n + 1} is wrong in {int(np.count_nonzero(different))} "
            f"pixels, the first at row {row}, column {column}"
        )
