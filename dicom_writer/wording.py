"""What results say in words: a summary, one line a label and one a lesion, and the warnings of the mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_writer.mask.lesions import Lesion
from dicom_writer.mask.measure import Measurement
from stages.volume.labels import Label
from stages.volume.wording import volume_text

if TYPE_CHECKING:
    from dicom_writer.request.result_request import ResultRequest

WARNING, _ELSEWHERE = "Warning: ", "see the report"
_LONG_WARNING = 400  # characters
COMMENTS_LENGTH = 10240  # characters that an LT has
_SUMMARY_LENGTH = 47  # a Series Description of 64 characters has 17 before it


@dataclass(frozen=True)
class LabelLine:
    """What is said of one label.

    Attributes
    ----------
    rgb
        Its colour, as it is drawn.
    name
        Of the label.
    found
        What was found: ``12.3 ml, 2 lesions``.
    """

    rgb: tuple[int, int, int]
    name: str
    found: str


def label_lines(request: ResultRequest) -> list[LabelLine]:
    """Return what is said of each label.

    Parameters
    ----------
    request
        Its mask was measured.
    """
    counts = {lesions.label.value: lesions.count for lesions in request.lesions}
    lines = []
    for label in request.labels:
        ml = request.measured[label.value].volume_ml
        found = volume_text(ml) if ml else "examined, none found"
        if ml and label.value in counts:
            count = counts[label.value]
            found += f", {count} {'lesion' if count == 1 else 'lesions'}"
        lines.append(LabelLine(label.drawn_rgb, label.name, found))
    return lines


def largest_lesions(request: ResultRequest, most: int) -> Iterator[tuple[Lesion, str]]:
    """Yield the largest lesions of all labels and what is said of each: ``3.1 ml, 21.4 mm``.

    Parameters
    ----------
    request
        Its mask was measured.
    most
        How many at most.
    """
    listed = [lesion for found in request.lesions for lesion in found.listed]
    for lesion in sorted(listed, key=lambda one: -one.volume_ml)[:most]:
        yield lesion, f"{volume_text(lesion.volume_ml)}, longest diameter {lesion.diameter.mm:.1f} mm"


def lesions_not_shown(request: ResultRequest, most: int) -> str:
    """Return how many lesions `largest_lesions` leaves out, ``and 4 more lesions``; empty if it shows all.

    Parameters
    ----------
    request
        Its mask was measured.
    most
        As for `largest_lesions`.
    """
    left = sum(found.count for found in request.lesions) - len(list(largest_lesions(request, most)))
    return f"and {left} more {'lesion' if left == 1 else 'lesions'}" if left else ""


def warnings_of(request: ResultRequest) -> list[str]:
    """Return the warnings of the mask, one sentence each, in ASCII.

    A result keeps the character set of its source, whichever that is; what is not printable ASCII (in the
    name of a file, say) is written as its code point: ``L<U+00E4>sion``. So no sentence can end a value,
    change a character set, or draw anything but letters.

    Parameters
    ----------
    request
        Its mask has the warnings.
    """
    return [WARNING + _ascii(sentence) for sentence in request.mask.origin.warnings]


def warnings_text(request: ResultRequest, most: int) -> str:
    """Return all warnings as one text of at most ``most`` characters, a line each; empty if there is none.

    A long one is shortened; where not all fit, the last line says how many are left out.

    Parameters
    ----------
    request
        Its mask has the warnings.
    most
        Characters.
    """
    lines = [shortened(warning, _LONG_WARNING) for warning in warnings_of(request)]
    for left_out in range(len(lines) + 1):
        kept = lines[: len(lines) - left_out]
        text = "\r\n".join([*kept, more_warnings(left_out)] if left_out else kept)
        if len(text) <= most:
            break
    return text


def more_warnings(count: int) -> str:
    """Return the line that stands for warnings that do not fit.

    Parameters
    ----------
    count
        How many do not fit.
    """
    return f"{WARNING}{count} more, {_ELSEWHERE}"


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, which says so where it is not whole.

    Parameters
    ----------
    text
        On one line.
    most
        Characters.
    """
    mark = f"... ({_ELSEWHERE})"
    return text if len(text) <= most else text[: max(most - len(mark), 0)] + mark


def _ascii(text: str) -> str:
    """Return a text with all that is not printable ASCII written as code points."""
    return "".join(c if " " <= c <= "~" else f"<U+{ord(c):04X}>" for c in text)


def summary(labels: Sequence[Label], measured: Mapping[int, Measurement]) -> str:
    """Return in at most 47 characters which labels a mask holds: ``Liver, no liver tumour found``.

    Parameters
    ----------
    labels
        Which labels are spoken of.
    measured
        What each measures, by its value.
    """
    there = [label.name for label in labels if measured[label.value].volume_ml]
    absent = [label.name for label in labels if not measured[label.value].volume_ml]
    nothing = f"no {_listed(absent, 'or')} found" if absent else ""
    if not there:
        return _first_that_fits(_capital(nothing), "None of the labels found")
    found = _capital(_listed(there, "and"))
    return _first_that_fits(
        ", ".join(part for part in (found, nothing) if part),
        found,
        f"{len(there)} of {len(labels)} labels found",
    )


def _listed(names: Sequence[str], word: str) -> str:
    names = [name[0].lower() + name[1:] if name[1:2].islower() else name for name in names]
    return f" {word} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _first_that_fits(*texts: str) -> str:
    return next((text for text in texts if len(text) <= _SUMMARY_LENGTH), texts[-1])
