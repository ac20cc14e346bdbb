"""The words of a capture: the notice and the slice above the picture, labels, lesions and warnings below."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_writer.pictures.picture import MARGIN, font
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.wording import (
    WARNING,
    label_lines,
    largest_lesions,
    lesions_not_shown,
    more_warnings,
    shortened,
    warnings_of,
)
from stages.volume.wording import NOTICE

TOP = 56
_WIDEST_TEXT = 720  # the notice
_LINE = 26
_MOST_LINES, _MOST_LESIONS, _MOST_WARNINGS = 12, 3, 4
_INDENT = MARGIN + 26 + 8
_WHITE, _DIM, _AMBER = (255, 255, 255), (170, 170, 170), (255, 191, 0)


def with_words(picture: NDArray[np.uint8], request: ResultRequest, n: int) -> NDArray[np.uint8]:
    """Return a picture between title and legend.

    Parameters
    ----------
    picture
        Of slice n, with its margin, RGB, shape (rows, columns, 3).
    request
        What is written, and of what.
    n
        Which slice, from 0.
    """
    legend, provenance = list(_legend(request)), request.provenance
    by = f"Slice {request.slice_numbers[n]}: {provenance.algorithm_name} {provenance.version}"
    widest = max(_INDENT + _pixels(text) + MARGIN for text in (by, *(text for _, text in legend)))
    width = max(picture.shape[1], _WIDEST_TEXT, ceil(widest))  # as wide as the longest name needs
    lines = [*legend, *((None, text) for text in _warnings(request, width))]
    height = TOP + len(picture) + _LINE * len(lines) + 8
    image = Image.new("RGB", (width, height))
    pen, left = ImageDraw.Draw(image), MARGIN
    pen.text((left, 16), NOTICE, fill=_WHITE, font=font(18), anchor="lm")
    pen.text((left, 40), by, fill=_DIM, font=font(15), anchor="lm")
    for k, (rgb, text) in enumerate(lines):
        y = TOP + len(picture) + _LINE * k + _LINE // 2
        if rgb:
            pen.rectangle((left, y - 8, left + 16, y + 8), fill=rgb)
        pen.text((left + 26, y), text, fill=_colour_of(rgb, text), font=font(18), anchor="lm")
    image.paste(Image.fromarray(picture), (0, TOP))
    return np.array(image)


def _legend(request: ResultRequest) -> Iterator[tuple[tuple[int, int, int] | None, str]]:
    """Yield the lines below a picture: colour and text of labels, text of the largest lesions."""
    all_of_them = label_lines(request)
    for line in all_of_them[:_MOST_LINES]:
        yield line.rgb, f"{line.name}: {line.found}"
    if len(all_of_them) > _MOST_LINES:
        yield None, f"and {len(all_of_them) - _MOST_LINES} more labels"
    for lesion, size in largest_lesions(request, _MOST_LESIONS):
        yield None, f"{lesion.name}: {size}"
    if more := lesions_not_shown(request, _MOST_LESIONS):
        yield None, more


def _warnings(request: ResultRequest, width: int) -> Iterator[str]:
    """Yield the warnings of the mask, each in a line of a picture that is so wide, in pixels."""
    warnings = warnings_of(request)
    for text in warnings[:_MOST_WARNINGS]:
        yield _fitting(text, width - _INDENT)
    if len(warnings) > _MOST_WARNINGS:
        yield more_warnings(len(warnings) - _MOST_WARNINGS)


def _fitting(text: str, width: int) -> str:
    """Return a text shortened to a width in pixels."""
    if _pixels(text) <= width:
        return text
    lengths = range(min(len(text), width))  # no letter is narrower than a pixel
    return shortened(text, bisect(lengths, float(width), key=lambda n: _pixels(shortened(text, n))) - 1)


def _pixels(text: str) -> float:
    return float(font(18).getlength(text))


def _colour_of(rgb: tuple[int, int, int] | None, text: str) -> tuple[int, int, int]:
    if text.startswith(WARNING):
        return _AMBER
    return _WHITE if rgb else _DIM
