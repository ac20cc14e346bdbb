"""The CT and the mask of a job as the report page carries them: reduced, 8 bit, deflated, base64.

Everything is done a few slices at a time, so that no second volume is ever held.
"""

from __future__ import annotations

import base64
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

MAX_IMAGE_VOXELS = 10_000_000  # about 5 MB of page
MAX_MASK_VOXELS = 40_000_000  # what a browser holds; a mask takes hardly any page
LEVELS_HU = np.concatenate([np.arange(-1024, -200, 20), np.arange(-200, 300, 3), np.arange(300, 1501, 30)])
"""The HU that each of the 8-bit codes stands for: finest where soft tissue is."""

_LEVEL, _RLE = 4, 1
_LOWEST = int(LEVELS_HU[0])
_CODES = (
    np.abs(np.arange(_LOWEST, LEVELS_HU[-1] + 1)[:, None] - LEVELS_HU[None, :])
    .argmin(axis=1)
    .astype(np.uint8)
)

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True)
class EncodedGrid:
    """Voxels for the page.

    Attributes
    ----------
    data
        Base64 of a zlib stream of `shape` bytes in C order.
    shape
        Slices, rows and columns of the data.
    factors
        How many voxels of the volume one voxel of the data stands for, along each axis.
    offset
        Index, in the volume, of the first voxel of the data.
    """

    data: str
    shape: Triple
    factors: Triple
    offset: Triple = (0, 0, 0)


def reducing_factors(shape: Triple, spacing_mm: tuple[float, float, float], *, at_most: int) -> Triple:
    """Return by how much each axis is reduced to leave at most so many voxels, as near to cubes as can be.

    Rows and columns are always reduced alike.

    Parameters
    ----------
    shape
        Voxels along each axis.
    spacing_mm
        Millimetres, ``(slice, row, column)``.
    at_most
        Voxels.
    """
    factor = [1, 1, 1]
    while prod(_reduced_shape(shape, (factor[0], factor[1], factor[2]))) > at_most:
        slices_are_finer = factor[0] * spacing_mm[0] < factor[1] * min(spacing_mm[1:])
        if slices_are_finer and factor[0] < shape[0]:
            factor[0] += 1
        else:
            factor[1] = factor[2] = factor[1] + 1
    return factor[0], factor[1], factor[2]


def encode_image(hu: NDArray[np.int16], factors: Triple) -> EncodedGrid:
    """Average blocks of voxels, map them to `LEVELS_HU`, and deflate the steps along the rows.

    Parameters
    ----------
    hu
        Hounsfield units, ``[slice, row, column]``.
    factors
        Voxels in a block along each axis.
    """
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
    pieces = []
    for block in _blocks(hu, factors[0]):
        codes = np.take(_CODES, _block_means(block, factors) - _LOWEST, mode="clip")
        steps = codes.copy()
        steps[:, 1:] -= codes[:, :-1]
        pieces.append(deflate.compress(steps.data))
    return EncodedGrid(
        data=_base64([*pieces, deflate.flush()]),
        shape=_reduced_shape(hu.shape, factors),
        factors=factors,
    )


def encode_mask(labels: NDArray[np.uint8], box: Box, factors: Triple) -> EncodedGrid:
    """Take the label in the middle of each block of a box that holds every label, and deflate.

    Parameters
    ----------
    labels
        Label of each voxel, ``[slice, row, column]``.
    box, factors
        The part that is encoded and voxels in a block along each axis.
    """
    steps = tuple(  # the middle of each block
        slice(part.start + (factor - 1) // 2, part.stop, factor)
        for part, factor in zip(box, factors, strict=True)
    )
    taken = labels[steps]
    deflate = zlib.compressobj(_RLE)
    pieces = [deflate.compress(np.ascontiguousarray(plane).data) for plane in taken]
    return EncodedGrid(
        data=_base64([*pieces, deflate.flush()]),
        shape=_triple(taken.shape),
        factors=factors,
        offset=(box[0].start, box[1].start, box[2].start),
    )


def labelled_box(labels: NDArray[np.uint8]) -> Box | None:
    """Return the smallest box that holds every label; None if there is none.

    Parameters
    ----------
    labels
        Label of each voxel, ``[slice, row, column]``.
    """
    rows = np.zeros(labels.shape[1], dtype=bool)
    columns = np.zeros(labels.shape[2], dtype=bool)
    slices = np.zeros(labels.shape[0], dtype=bool)
    for n, plane in enumerate(labels):
        down = plane.any(axis=1)
        slices[n] = down.any()
        if slices[n]:
            rows |= down
            columns |= plane.any(axis=0)
    if not slices.any():
        return None
    first_to_last = [np.flatnonzero(used)[[0, -1]] for used in (slices, rows, columns)]
    low_z, low_y, low_x = (slice(int(first), int(last) + 1) for first, last in first_to_last)
    return low_z, low_y, low_x


def count_labels(labels: NDArray[np.uint8]) -> dict[int, int]:
    """Return how many voxels each label has, without background.

    Parameters
    ----------
    labels
        Label of each voxel, ``[slice, row, column]``.
    """
    counts = sum(np.bincount(plane.ravel(), minlength=256) for plane in labels)
    return {int(label): int(np.asarray(counts)[label]) for label in np.flatnonzero(counts) if label}


def _blocks(array: NDArray[np.int16], size: int) -> Iterator[NDArray[np.int16]]:
    for first in range(0, len(array), size):
        yield array[first : first + size]


def _block_means(block: NDArray[np.int16], factors: Triple) -> NDArray[np.int32]:
    """Return the mean of a few slices, in blocks of rows and columns; the last ones may be smaller."""
    _, down, across = factors
    total: NDArray[np.int32] = block.sum(axis=0, dtype=np.int32)
    if factors == (1, 1, 1):
        return total
    rows, columns = total.shape
    total = np.pad(total, ((0, -rows % down), (0, -columns % across)), mode="edge")
    sums = np.zeros((total.shape[0] // down, total.shape[1] // across), dtype=np.int32)
    for row, column in itertools.product(range(down), range(across)):
        sums += total[row::down, column::across]
    voxels = down * across * len(block)
    means: NDArray[np.int32] = (sums + voxels // 2) // voxels
    return means


def _reduced_shape(shape: tuple[int, ...], factors: Triple) -> Triple:
    return _triple(tuple(-(-size // factor) for size, factor in zip(shape, factors, strict=True)))


def _triple(shape: tuple[int, ...]) -> Triple:
    return shape[0], shape[1], shape[2]


def _base64(pieces: list[bytes]) -> str:
    return base64.b64encode(b"".join(pieces)).decode("ascii")
