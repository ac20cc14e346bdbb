"""What captures and pages say in words: one line a label, and one a lesion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_writer.mask.lesions import Lesion
from stages.volume.quantities import volume_text

if TYPE_CHECKING:
    from dicom_writer.request.result_request import Given

WARNING, _ELSEWHERE = "Warning: ", "see the report"
_LONG_WARNING = 400  # characters
COMMENTS_LENGTH = 10240  # characters that an LT has


@dataclass(frozen=True)
class Line:
    """What is said of one label.

    Attributes
    ----------
    rgb
        Its colour, as it is drawn.
    name, said
        Of the label, and of what was found: ``12.3 ml, 2 lesions``.
    """

    rgb: tuple[int, int, int]
    name: str
    said: str


def lines(given: Given) -> list[Line]:
    """Return what is said of each label."""
    counts = {found.label.value: found.count for found in given.lesions}
    found = []
    for label in given.labels:
        ml = given.measured[label.value].volume_ml
        said = volume_text(ml) if ml else "examined, none found"
        if ml and label.value in counts:
            count = counts[label.value]
            said += f", {count} {'lesion' if count == 1 else 'lesions'}"
        found.append(Line(label.drawn_rgb, label.name, said))
    return found


def largest(given: Given, most: int) -> Iterator[tuple[Lesion, str]]:
    """Yield the largest lesions of all labels and what is said of each: ``3.1 ml, 21.4 mm``."""
    listed = [lesion for found in given.lesions for lesion in found.listed]
    for lesion in sorted(listed, key=lambda one: -one.volume_ml)[:most]:
        yield lesion, f"{volume_text(lesion.volume_ml)}, longest diameter {lesion.diameter.mm:.1f} mm"


def not_shown(given: Given, most: int) -> str:
    """Return how many lesions `largest` leaves out, ``and 4 more lesions``; nothing where it shows all."""
    left = sum(found.count for found in given.lesions) - len(list(largest(given, most)))
    return f"and {left} more {'lesion' if left == 1 else 'lesions'}" if left else ""


def warnings_of(given: Given) -> list[str]:
    """Return what everybody who uses a result has to be told, one sentence each, in ASCII.

    A result keeps the character set of its source, whichever that is; what is not printable ASCII (in the
    name of a file, say) is written as its code point: ``L<U+00E4>sion``. So no sentence can end a value,
    change a character set, or draw anything but letters.
    """
    return [WARNING + ascii_of(sentence) for sentence in given.mask.origin.warnings]


def warnings_text(given: Given, most: int) -> str:
    """Return all warnings as one text of at most ``most`` characters, a line each; empty if there is none.

    A long one is shortened; where not all fit, the last line says how many are left out.
    """
    said = [shortened(warning, _LONG_WARNING) for warning in warnings_of(given)]
    for left_out in range(len(said) + 1):
        kept = said[: len(said) - left_out]
        text = "\r\n".join([*kept, more_warnings(left_out)] if left_out else kept)
        if len(text) <= most:
            break
    return text


def more_warnings(count: int) -> str:
    """Return the line that stands for warnings that do not fit."""
    return f"{WARNING}{count} more, {_ELSEWHERE}"


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, which says so where it is not whole."""
    mark = f"... ({_ELSEWHERE})"
    return text if len(text) <= most else text[: max(most - len(mark), 0)] + mark


def ascii_of(text: str) -> str:
    """Return a text with all that is not printable ASCII written as code points."""
    return "".join(c if " " <= c <= "~" else f"<U+{ord(c):04X}>" for c in text)
