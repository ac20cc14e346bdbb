"""A picture of a result: three planes, the CT on the left, the same with the mask on the right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clara_wf.report.measure import LabelMeasurement
from stages.volume.geometry import Affine, reorient
from stages.volume.slice_numbers import number_of_plane
from stages.volume.volume import Volume
from stages.volume.wording import NOTICE, volume_text

_Colour = tuple[int, int, int]
_WINDOW_HU = (-160.0, 240.0)
_WIDTH = 512
_GAP = 8
_HEADER = 58
_LINE = 24
_ALPHA = 0.32
_PLANES = (("axial", 0, "R", "L"), ("coronal", 1, "R", "L"), ("sagittal", 2, "A", "P"))


def three_planes(image: Volume, mask: Volume, findings: Sequence[LabelMeasurement]) -> Image.Image:
    """Draw an axial, a coronal and a sagittal slice, without and with the mask.

    The slices go through the middle of the smallest label that is there, which is a lesion where one is
    found, else of the volume. As in radiology, the patient's right is on the left and the head is up.

    Parameters
    ----------
    image, mask
        CT in HU and labels, on one grid.
    findings
        The labels that are spoken of: their colours, and a caption for each.
    """
    hu, affine = reorient(image.array, image.affine, "IPL")
    labels, _ = reorient(mask.array, mask.affine, "IPL")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    present = [finding for finding in findings if finding.volume_ml]
    centre = _centre(labels, sorted(present, key=lambda finding: finding.volume_ml))
    colours = {finding.label: finding.rgb for finding in findings}
    rows = []
    for name, axis, left, right in _PLANES:
        plane = [axis if a == axis else None for a in range(3)]
        index = tuple(centre[axis] if a is not None else slice(None) for a in plane)
        across, down = [spacing[a] for a in range(3) if a != axis][::-1]
        text = (name + number_of_slice(image, affine, centre, axis), left, right)
        rows.append(_row(hu[index], labels[index], colours, aspect=down / across, text=text))
    return _stack(rows, [(_caption(finding), finding.rgb) for finding in findings])


def _caption(finding: LabelMeasurement) -> str:
    agreement = "" if finding.dice is None else f", Dice {finding.dice:.3f}"
    return f"{finding.name} {volume_text(finding.volume_ml)}{agreement}"


def number_of_slice(image: Volume, affine: Affine, voxel: tuple[int, int, int], axis: int) -> str:
    """Return the number of the slice that a plane through a voxel shows, where planes are slices.

    Parameters
    ----------
    image
        The volume.
    affine
        From indices to patient coordinates, LPS, mm.
    voxel
        Its index, ``(slice, row, column)``.
    axis
        The axis of the array that the plane lies across.
    """
    at = np.linalg.solve(image.affine, affine @ [*voxel, 1])[0]
    is_slice = np.allclose(np.abs(np.linalg.solve(image.affine, affine)[:3, axis]), (1, 0, 0))
    return f", slice {number_of_plane(image, round(float(at)))}" if is_slice else ""


def _centre(labels: NDArray[np.uint8], findings: Sequence[LabelMeasurement]) -> tuple[int, int, int]:
    for finding in findings:
        marked = labels == finding.label
        counts = marked.sum(axis=(1, 2))
        if counts.any():
            level = int(counts.argmax())
            rows, columns = np.nonzero(marked[level])
            return level, int(np.median(rows)), int(np.median(columns))
    return labels.shape[0] // 2, labels.shape[1] // 2, labels.shape[2] // 2


def _row(
    hu: NDArray[np.int16],
    labels: NDArray[np.uint8],
    colours: Mapping[int, _Colour],
    *,
    aspect: float,
    text: tuple[str, str, str],
) -> Image.Image:
    low, high = _WINDOW_HU
    grey = (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    plain = np.repeat(grey[..., None], 3, axis=2)
    marked = plain.copy()
    for label, colour in colours.items():
        where = labels == label
        marked[where] = ((1 - _ALPHA) * marked[where] + _ALPHA * np.array(colour)).astype(np.uint8)
        marked[where & _edge(where)] = colour
    height = round(_WIDTH * hu.shape[0] * aspect / hu.shape[1])
    row = Image.new("RGB", (2 * _WIDTH + _GAP, height))
    for n, pixels in enumerate((plain, marked)):
        scaled = Image.fromarray(pixels).resize((_WIDTH, height), Image.Resampling.BILINEAR)
        _write_on(scaled, *text)
        row.paste(scaled, (n * (_WIDTH + _GAP), 0))
    return row


def _edge(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what is not surrounded on all four sides."""
    padded = np.pad(where, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(~inner)


def _write_on(picture: Image.Image, name: str, left: str, right: str) -> None:
    draw, middle = ImageDraw.Draw(picture), picture.height // 2
    _write(draw, (8, 6), name, (230, 230, 230))
    _write(draw, (8, middle), left, (255, 220, 90))
    _write(draw, (picture.width - 8, middle), right, (255, 220, 90), anchor="ra")


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, fill: _Colour, anchor: str = "la"
) -> None:
    """Write with a dark edge, so that it is read on bone as well."""
    font = ImageFont.load_default(16)
    draw.text(at, text, fill=fill, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _stack(rows: Sequence[Image.Image], captions: Sequence[tuple[str, _Colour]]) -> Image.Image:
    font = ImageFont.load_default(18)
    lines = list(_in_lines(captions, font, width=rows[0].width))
    header = _HEADER + _LINE * (max(len(lines), 1) - 1)
    sheet = Image.new("RGB", (rows[0].width, header + sum(row.height + _GAP for row in rows)), (24, 24, 28))
    draw = ImageDraw.Draw(sheet)
    for n, line in enumerate(lines):
        for x, caption, colour in line:
            draw.rectangle((x, 12 + n * _LINE, x + 14, 26 + n * _LINE), fill=colour)
            draw.text((x + 22, 9 + n * _LINE), caption, fill=(240, 240, 240), font=font)
    low, high = _WINDOW_HU
    note = f"{NOTICE}. Window {(low + high) / 2:.0f}/{high - low:.0f} HU."
    draw.text((10, header - 24), note, fill=(170, 170, 170), font=ImageFont.load_default(14))
    y = header
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height + _GAP
    return sheet


def _in_lines(
    captions: Sequence[tuple[str, _Colour]], font: Any, *, width: int
) -> Iterator[list[tuple[int, str, _Colour]]]:
    """Yield captions and where each begins, in lines that a sheet of this width takes."""
    line: list[tuple[int, str, _Colour]] = []
    x = 10
    for caption, colour in captions:
        length = 60 + round(font.getlength(caption))
        if line and x + length > width:
            yield line
            line, x = [], 10
        line.append((x, caption, colour))
        x += length
    if line:
        yield line
