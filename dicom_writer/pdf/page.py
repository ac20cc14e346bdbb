"""The page itself: A4, text that can be searched, pictures without loss."""

from __future__ import annotations

import io
from typing import Any, TypeAlias, cast

from PIL import Image
from reportlab import rl_config
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase.pdfdoc import PDFDictionary, PDFInfo, PDFString
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from dicom_writer.mask.lesions import Lesion
from dicom_writer.pictures.key_slices import key_slices
from dicom_writer.pictures.picture import draw
from dicom_writer.request.provenance import MANUFACTURER, MODEL_NAME, software_version
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.wording import (
    label_lines,
    largest_lesions,
    lesions_not_shown,
    more_warnings,
    shortened,
    summary,
    warnings_of,
)
from stages.volume.wording import NOTICE

rl_config.useA85 = 0  # streams as bytes: letters for them take a quarter more, and a second a page

MOST_LABELS, MOST_LESIONS, MOST_PICTURES, MOST_WARNING_LINES = 14, 8, 4, 8
_LONG_WARNING = 300  # characters: three lines
_Font: TypeAlias = tuple[str, float]
_BOLD, _PLAIN, _SMALL = ("Helvetica-Bold", 11.0), ("Helvetica", 11.0), ("Helvetica", 9.5)
_INDENT, _NAMES = 18.0, 210.0  # where names begin, and what is said of them unless a name is longer
_LEFT, _WIDTH, _BOTTOM, _LINE, _GAP = 48.0, A4[0] - 96, 40.0, 15.0, 10.0


def draw_page(request: ResultRequest) -> bytes:
    """Return a PDF of one page.

    Parameters
    ----------
    request
        What the page is of.
    """
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=1, lang="en")
    _add_document_information(canvas, request)
    y = _draw_heading(canvas, request)
    y = _draw_table(canvas, request, y)
    y = _draw_warnings(canvas, request, y)
    _draw_pictures(canvas, request, y)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def _add_document_information(canvas: Canvas, request: ResultRequest) -> None:
    """Add what the document is and what made it: no patient and no time, the DICOM header has both."""
    canvas._doc.info = _DocumentInformation()
    canvas.setTitle(title(request))
    canvas.setSubject(NOTICE)
    canvas.setAuthor(f"{request.provenance.algorithm_name} {request.provenance.version}")
    canvas.setCreator(MODEL_NAME)
    canvas.setProducer(f"{MANUFACTURER} {software_version()}")
    canvas.setViewerPreference("DisplayDocTitle", "true")


class _DocumentInformation(PDFInfo):  # type: ignore[misc]
    """What a PDF says of itself, without the times that reportlab puts there."""

    def format(self, document: Any) -> bytes:
        described = {"Title": self.title, "Author": self.author, "Subject": self.subject}
        made = {"Creator": self.creator, "Producer": self.producer}
        texts = {key: PDFString(value) for key, value in {**described, **made}.items()}
        return cast(bytes, PDFDictionary(texts).format(document))


def texts(request: ResultRequest) -> list[str]:
    """Return each piece of text that the page must hold.

    Parameters
    ----------
    request
        What the page is of.
    """
    labels, lesions = label_lines(request), list(largest_lesions(request, MOST_LESIONS))
    found = [title(request), NOTICE, *_heading_lines(request)]
    for line in labels[:MOST_LABELS]:
        found += [line.name, line.found]
    if len(labels) > MOST_LABELS:
        found.append(f"and {len(labels) - MOST_LABELS} more labels")
    for lesion, text in lesions:
        found += [lesion.name, _on_slice(request, lesion, text)]
    found += filter(None, [lesions_not_shown(request, MOST_LESIONS)])
    found += _warning_lines(request)
    return [*found, *(f"Slice {request.slice_numbers[n]}" for n in key_slices(request, MOST_PICTURES))]


def title(request: ResultRequest) -> str:
    """Return the title: what was found, and that a program did.

    Parameters
    ----------
    request
        What the page is of.
    """
    return f"AI segmentation: {summary(request.labels, request.measured)}"


def _heading_lines(request: ResultRequest) -> list[str]:
    """Return what says which images were examined, and by what; the header says when."""
    provenance = request.provenance
    by = f"{provenance.algorithm_name}, version {provenance.version}"
    found = [
        f"Series {request.sources[0].SeriesInstanceUID}, {len(request.sources)} slices",
        by.encode("latin-1", "replace").decode("latin-1"),
    ]
    return [*found, *(part for part in provenance.parameters.split("; ") if part)]


def _draw_heading(canvas: Canvas, request: ResultRequest) -> float:
    y = float(A4[1]) - 60
    canvas.setFont("Helvetica-Bold", 14)
    canvas.drawString(_LEFT, y, title(request))
    canvas.setFont("Helvetica-Bold", 10)
    canvas.drawString(_LEFT, y - 20, NOTICE)
    canvas.setFont("Helvetica", 8.5)
    canvas.setFillGray(0.35)
    y -= 22
    for text in _heading_lines(request):
        y -= 12
        canvas.drawString(_LEFT, y, text)
    canvas.setFillGray(0)
    return y - 26


def _draw_table(canvas: Canvas, request: ResultRequest, y: float) -> float:
    """Draw a line a label, and one a lesion; return where the next thing may begin."""
    labels = label_lines(request)
    shown = [(line.name, line.found) for line in labels[:MOST_LABELS]]
    lesions = [
        (lesion.name, _on_slice(request, lesion, text))
        for lesion, text in largest_lesions(request, MOST_LESIONS)
    ]
    at = min(
        max([_NAMES, *(_INDENT + stringWidth(name, *_BOLD) + _GAP for name, _ in shown)]),
        _WIDTH - max(stringWidth(text, *_PLAIN) for _, text in (*shown, *lesions)),
    )
    for line, (name, text) in zip(labels, shown, strict=False):
        canvas.setFillColorRGB(*(part / 255 for part in line.rgb))
        canvas.rect(_LEFT, y - 1, 9, 9, stroke=0, fill=1)
        canvas.setFillGray(0)
        _draw_row(canvas, (name, text), at=at, y=y, fonts=(_BOLD, _PLAIN))
        y -= _LINE
    if len(labels) > MOST_LABELS:
        canvas.drawString(_LEFT + _INDENT, y, f"and {len(labels) - MOST_LABELS} more labels")
        y -= _LINE
    for texts in lesions:
        _draw_row(canvas, texts, at=at, y=y, fonts=(_SMALL, _SMALL))
        y -= _LINE
    if more := lesions_not_shown(request, MOST_LESIONS):
        canvas.drawString(_LEFT + _INDENT, y, more)
        y -= _LINE
    return y


def _draw_row(
    canvas: Canvas, texts: tuple[str, str], *, at: float, y: float, fonts: tuple[_Font, _Font]
) -> None:
    """Draw a name, smaller where it would not fit, and what is said of it, `at` so far from the left."""
    (name, text), ((font, size), other) = texts, fonts
    room = at - _INDENT - _GAP / 2
    canvas.setFont(font, size * min(1.0, room / stringWidth(name, font, size)))
    canvas.drawString(_LEFT + _INDENT, y, name)
    canvas.setFont(*other)
    canvas.drawString(_LEFT + at, y, text)


def _on_slice(request: ResultRequest, lesion: Lesion, text: str) -> str:
    return f"{text}, slice {request.slice_numbers[lesion.diameter.slice]}"


def _warning_lines(request: ResultRequest) -> list[str]:
    """Return the warnings of the mask, in lines as wide as the page."""
    warnings = warnings_of(request)
    found: list[str] = []
    for n, text in enumerate(warnings):
        wrapped = simpleSplit(shortened(text, _LONG_WARNING), "Helvetica", 9.5, _WIDTH - 2 * _GAP)
        if len(found) + len(wrapped) > MOST_WARNING_LINES:
            return [*found, more_warnings(len(warnings) - n)]
        found += wrapped
    return found


def _draw_warnings(canvas: Canvas, request: ResultRequest, y: float) -> float:
    """Draw a box with the warnings of the mask, if any; return where the next thing may begin."""
    found = _warning_lines(request)
    if not found:
        return y
    height = 12.0 * len(found) + _GAP
    canvas.rect(_LEFT, y + _LINE - height - 2, _WIDTH, height)
    canvas.setFont("Helvetica", 9.5)
    for n, text in enumerate(found):
        canvas.drawString(_LEFT + _GAP, y - 12 * n, text)
    return y - height - _GAP


def _draw_pictures(canvas: Canvas, request: ResultRequest, y: float) -> None:
    """Draw key slices, two in a line, as large as fits, each with its number below."""
    shown = key_slices(request, MOST_PICTURES)
    columns = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // columns)
    width = (_WIDTH - _GAP * (columns - 1)) / columns
    height = (y - _BOTTOM) / rows - 2 * _GAP
    canvas.setFont("Helvetica", 8.5)
    for k, n in enumerate(shown):
        picture = draw(request, n)
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = (picture.shape[1] * scale, picture.shape[0] * scale)
        at = (_LEFT + (k % columns) * (width + _GAP), y - (k // columns) * (size[1] + 2 * _GAP) - size[1])
        canvas.drawImage(ImageReader(Image.fromarray(picture)), *at, *size)
        canvas.drawString(at[0], at[1] - 11, f"Slice {request.slice_numbers[n]}")
