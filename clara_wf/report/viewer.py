"""The part of the report page that shows slices and surfaces: what its scripts are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clara_wf.report.measure import LabelMeasurement
from clara_wf.report.mesh import UNIT_MM, encode_mesh, surface_of
from clara_wf.report.slices import (
    LEVELS_HU,
    MAX_IMAGE_VOXELS,
    MAX_MASK_VOXELS,
    Box,
    EncodedGrid,
    Triple,
    count_labels,
    encode_image,
    encode_mask,
    labelled_box,
    reducing_factors,
)
from stages.volume.geometry import Affine, orientation_of, points_at, reorient, reorienting, spacing_of
from stages.volume.slice_numbers import number_of_plane
from stages.volume.volume import Volume

SHOWN_AS = "IPL"  # axial slices from head to feet, anterior up, the patient's right on the left
WINDOWS_HU = {"Soft tissue": (40, 400), "Liver": (70, 150), "Lung": (-600, 1500), "Bone": (400, 1800)}


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """A label of the mask: its colour as ``#rrggbb``, and the voxel in the middle of its largest slice.

    Attributes
    ----------
    value
        The label's value in the mask.
    name
        What the label means.
    rgb
        Its colour, 0 to 255.
    colour
        Its colour as ``#rrggbb``.
    volume_ml
        Its volume, millilitres.
    dice
        Overlap with the truth, 0 to 1; None without one.
    centre
        Index of that voxel; None where slices are not shown.
    """

    value: int
    name: str
    rgb: tuple[int, int, int]
    colour: str
    volume_ml: float
    dice: float | None
    centre: tuple[int, int, int] | None


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """What the page's scripts are given.

    Attributes
    ----------
    setup
        One JSON object: geometry, labels, windows, and how `blocks` are laid out.
    blocks
        Base64 by element ID.
    labels
        Its row for each label.
    resolution
        What resolution the page shows, in words.
    """

    setup: Mapping[str, Any]
    blocks: Mapping[str, str]
    labels: Sequence[LabelRow]
    resolution: str


def make_viewer(image: Volume, mask: Volume | None, findings: Sequence[LabelMeasurement]) -> Viewer:
    """Reduce and encode a job's CT and, if there is one, its mask.

    Parameters
    ----------
    image
        The CT volume, Hounsfield units.
    mask
        The mask; None where there is none.
    findings
        What was measured of each label.
    """
    hu, affine = reorient(image.array, image.affine, SHOWN_AS)
    shape, spacing = (hu.shape[0], hu.shape[1], hu.shape[2]), spacing_of(affine)
    factors = reducing_factors(shape, spacing, at_most=MAX_IMAGE_VOXELS)
    axes, flips = reorienting(orientation_of(image.affine), SHOWN_AS)
    with ThreadPoolExecutor(1) as threads:
        encoding = threads.submit(encode_image, hu, factors)
        drawn = _draw_mask(mask, findings)
        shown = encoding.result()
    setup = {
        "shape": shape,
        "spacing": spacing,
        "affine": affine[:3].tolist(),
        "axes": axes,
        "flips": flips,
        "slice_numbers": [number_of_plane(image, index) for index in range(image.grid.shape[0])],
        "levels_hu": LEVELS_HU.tolist(),
        "window_hu": WINDOWS_HU["Soft tissue"],
        "unit_mm": UNIT_MM,
        "start": drawn.start or [size // 2 for size in shape],
        "image": _layout(shown),
        "mask": _layout(drawn.grid) if drawn.grid else None,
        "labels": [_for_script(row, drawn.glass) for row in drawn.rows],
        "meshes": drawn.meshes,
    }
    blocks = {"image-data": shown.data, **drawn.blocks}
    return Viewer(
        setup=setup,
        blocks=blocks,
        labels=drawn.rows,
        resolution=_resolution(shape, spacing, shown.factors, drawn.grid.factors if drawn.grid else None),
    )


@dataclass(frozen=True, kw_only=True)
class _DrawnMask:
    grid: EncodedGrid | None
    rows: list[LabelRow]
    meshes: list[dict[str, Any]]
    blocks: dict[str, str]
    glass: int | None
    start: tuple[int, int, int] | None


def _draw_mask(mask: Volume | None, findings: Sequence[LabelMeasurement]) -> _DrawnMask:
    if mask is None:
        return _DrawnMask(grid=None, rows=[], meshes=[], blocks={}, glass=None, start=None)
    labels, affine = reorient(mask.array, mask.affine, SHOWN_AS)
    counts, box = count_labels(labels), labelled_box(labels)
    centres = {row.label: _centre(labels, row.label) for row in findings if row.label in counts}
    rows = label_rows(findings, centres)
    if box is None:
        return _DrawnMask(grid=None, rows=rows, meshes=[], blocks={}, glass=None, start=None)
    size = tuple(part.stop - part.start for part in box)
    factors = reducing_factors((size[0], size[1], size[2]), spacing_of(affine), at_most=MAX_MASK_VOXELS)
    grid = encode_mask(labels, box, factors)
    meshes, blocks = _surfaces(labels, affine, box, counts)
    present = [row for row in rows if row.centre]
    return _DrawnMask(
        grid=grid,
        rows=rows,
        meshes=meshes,
        blocks={"mask-data": grid.data, **blocks},
        glass=max(counts, key=lambda label: counts[label]) if len(counts) > 1 else None,
        start=present[-1].centre,
    )


def label_rows(
    findings: Sequence[LabelMeasurement], centres: Mapping[int, tuple[int, int, int]] | None = None
) -> list[LabelRow]:
    """Return a row for each label that is spoken of; `centres` are those that can be shown in slices.

    Parameters
    ----------
    findings
        What was measured of each label.
    centres
        Index of a voxel to show for each label; None where slices are not shown.
    """
    return [
        LabelRow(
            value=finding.label,
            name=finding.name,
            rgb=finding.rgb,
            colour="#{:02x}{:02x}{:02x}".format(*finding.rgb),
            volume_ml=finding.volume_ml,
            dice=finding.dice,
            centre=(centres or {}).get(finding.label),
        )
        for finding in findings
    ]


def _centre(labels: NDArray[np.uint8], label: int) -> tuple[int, int, int]:
    """Return a voxel of the label, about in the middle of the slice that has most of it."""
    level = int(np.argmax([np.count_nonzero(plane == label) for plane in labels]))
    places = np.argwhere(labels[level] == label)
    nearest = places[np.square(places - np.median(places, axis=0)).sum(axis=1).argmin()]
    return level, int(nearest[0]), int(nearest[1])


def _surfaces(
    labels: NDArray[np.uint8], affine: Affine, box: Box, counts: Mapping[int, int]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    centre = points_at(affine, [(part.start + part.stop - 1) / 2 for part in box])
    meshes: list[dict[str, Any]] = []
    blocks: dict[str, str] = {}
    for label in counts:
        points, triangles = surface_of(labels, affine, label=label, box=box)
        encoded = encode_mesh(points, triangles, label=label, centre=centre)
        names = {"vertices": f"vertices-{label}", "triangles": f"triangles-{label}"}
        meshes.append({"label": label, **names})
        blocks |= {names["vertices"]: encoded.vertices, names["triangles"]: encoded.triangles}
    return meshes, blocks


def _layout(grid: EncodedGrid) -> dict[str, Triple]:
    return {"shape": grid.shape, "factors": grid.factors, "offset": grid.offset}


def _for_script(row: LabelRow, glass: int | None) -> dict[str, Any]:
    return {
        "value": row.value,
        "name": row.name,
        "rgb": row.rgb,
        "colour": row.colour,
        "shown": True,
        "glass": row.value == glass,
    }


def _resolution(shape: Triple, spacing: tuple[float, ...], image: Triple, mask: Triple | None) -> str:
    """Return in words what is shown of the volume; nothing is reduced in silence."""
    steps = f"{_step(-200)} HU from -200 to 300 HU, {_step(-1024)} HU below and {_step(300)} HU above"
    if image == (1, 1, 1):
        text = f"The CT is shown in full resolution, {_size(shape, spacing)}"
    else:
        voxel = tuple(mm * factor for mm, factor in zip(spacing, image, strict=True))
        text = (
            f"The CT is shown reduced, by averaging {_size(image)} voxels of the volume's "
            f"{_size(shape, spacing)}, to voxels of {_millimetres(voxel)}"
        )
    text += f"; its values are rounded to steps of {steps}."
    if mask == (1, 1, 1):
        text += " The mask is shown voxel for voxel."
    elif mask is not None:
        text += f" Of the mask, one of each {_size(mask)} voxels is shown."
    if mask is not None:
        text += " Volumes and Dice are of every voxel. The surfaces are smoothed, for orientation only."
    return text


def _step(hu: int) -> int:
    """Return how far the level at some HU is from the next."""
    at = int(np.searchsorted(LEVELS_HU, hu))
    return int(LEVELS_HU[at + 1] - LEVELS_HU[at])


def _size(counts: Sequence[int], spacing: Sequence[float] | None = None) -> str:
    size = " × ".join(str(n) for n in counts)
    return f"{size} voxels of {_millimetres(spacing)}" if spacing else size


def _millimetres(spacing: Sequence[float]) -> str:
    return " × ".join(f"{mm:.2f}" for mm in spacing) + " mm"
