"""The page itself: A4, text that can be searched, pictures without loss."""

from __future__ import annotations

import io

from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from dicom_writer.finding import finding
from dicom_writer.key_slices import key_slices
from dicom_writer.picture import draw
from dicom_writer.results import Given
from dicom_writer.wording import NOTICE, largest, lines

MOST_LABELS, MOST_LESIONS, MOST_PICTURES = 14, 8, 4
_LEFT, _WIDTH, _BOTTOM, _LINE, _GAP = 48.0, A4[0] - 96, 40.0, 15.0, 10.0


def draw_page(given: Given) -> bytes:
    """Return a PDF of one page."""
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=1)
    canvas.setTitle("Segmentation")
    y = _heading(canvas, given)
    y = _table(canvas, given, y)
    _pictures(canvas, given, y)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def texts(given: Given) -> list[str]:
    """Return each piece of text that the page must hold."""
    labels, lesions = lines(given), list(largest(given, MOST_LESIONS))
    found = [title(given), NOTICE, *heading(given)]
    for line in labels[:MOST_LABELS]:
        found += [line.name, line.said]
    if len(labels) > MOST_LABELS:
        found.append(f"and {len(labels) - MOST_LABELS} more labels")
    for lesion, said in lesions:
        found += [lesion.name, f"{said}, slice {lesion.diameter.slice + 1}"]
    return [*found, *(f"Slice {n + 1} of {len(given.sources)}" for n in key_slices(given, MOST_PICTURES))]


def title(given: Given) -> str:
    """Return the title: what was found, and that a program did."""
    return f"AI segmentation: {finding(given.labels, given.measured)}"


def heading(given: Given) -> list[str]:
    """Return what says which images were examined, by what, and when."""
    provenance = given.provenance
    by = f"{provenance.algorithm_name}, version {provenance.version}"
    found = [
        f"Series {given.sources[0].SeriesInstanceUID}, {len(given.sources)} slices",
        by.encode("latin-1", "replace").decode("latin-1"),
        f"{given.moment:%Y-%m-%d %H:%M}",
    ]
    return [*found, *(part for part in provenance.parameters.split("; ") if part)]


def _heading(canvas: Canvas, given: Given) -> float:
    y = float(A4[1]) - 60
    canvas.setFont("Helvetica-Bold", 14)
    canvas.drawString(_LEFT, y, title(given))
    canvas.setFont("Helvetica-Bold", 10)
    canvas.drawString(_LEFT, y - 20, NOTICE)
    canvas.setFont("Helvetica", 8.5)
    canvas.setFillGray(0.35)
    y -= 22
    for text in heading(given):
        y -= 12
        canvas.drawString(_LEFT, y, text)
    canvas.setFillGray(0)
    return y - 26


def _table(canvas: Canvas, given: Given, y: float) -> float:
    """Draw a line a label, and one a lesion; return where the next thing may begin."""
    labels = lines(given)
    for line in labels[:MOST_LABELS]:
        canvas.setFillColorRGB(*(part / 255 for part in line.rgb))
        canvas.rect(_LEFT, y - 1, 9, 9, stroke=0, fill=1)
        canvas.setFillGray(0)
        canvas.setFont("Helvetica-Bold", 11)
        canvas.drawString(_LEFT + 18, y, line.name)
        canvas.setFont("Helvetica", 11)
        canvas.drawString(_LEFT + 210, y, line.said)
        y -= _LINE
    if len(labels) > MOST_LABELS:
        canvas.drawString(_LEFT + 18, y, f"and {len(labels) - MOST_LABELS} more labels")
        y -= _LINE
    canvas.setFont("Helvetica", 9.5)
    for lesion, said in largest(given, MOST_LESIONS):
        canvas.drawString(_LEFT + 18, y, lesion.name)
        canvas.drawString(_LEFT + 210, y, f"{said}, slice {lesion.diameter.slice + 1}")
        y -= _LINE
    return y


def _pictures(canvas: Canvas, given: Given, y: float) -> None:
    """Draw key slices, two in a line, as large as fits, each with its number below."""
    shown = key_slices(given, MOST_PICTURES)
    columns = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // columns)
    width = (_WIDTH - _GAP * (columns - 1)) / columns
    height = (y - _BOTTOM) / rows - 2 * _GAP
    canvas.setFont("Helvetica", 8.5)
    for k, n in enumerate(shown):
        picture = draw(given, n)
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = (picture.shape[1] * scale, picture.shape[0] * scale)
        at = (_LEFT + (k % columns) * (width + _GAP), y - (k // columns) * (size[1] + 2 * _GAP) - size[1])
        canvas.drawImage(ImageReader(Image.fromarray(picture)), *at, *size)
        canvas.drawString(at[0], at[1] - 11, f"Slice {n + 1} of {len(given.sources)}")
