"""What the labels of a mask mean: the one type, for models, masks and everything that is made of them.

A model says it in its ``config.pbtxt`` (``label_meanings``), the stage that makes a mask writes it into the
volume's JSON beside it, and every result, page, picture and table takes names, codes and colours from there.
A label without a meaning is refused where it would be written, never guessed.

References
----------
DICOM PS3.3 C.8.20.4, Segment Description; PS3.16 CID 7150, Segmentation Property Category; CID 7151 and
CID 7159, Segmentation Property Types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ASCII = re.compile(r"[ -\[\]-~]*")
_SHORT, _LONG, _TEXT = 16, 64, 1024  # characters of SH, LO, and of a description that viewers show


def _require_text(name: str, text: str, most: int) -> None:
    if not text or text.strip() != text or len(text) > most or not _ASCII.fullmatch(text):
        raise ValueError(
            f"{name}: expected 1 to {most} printable ASCII characters without a backslash and without "
            f"spaces around (results keep the character set of their source), found {text!r}"
        )


@dataclass(frozen=True)
class Code:
    """A coded concept: *Code Value* (0008,0100), *Coding Scheme Designator* (0008,0102), *Code Meaning*.

    Attributes
    ----------
    value
        At most 16 characters.
    scheme
        At most 16 characters; ``SCT`` is SNOMED CT, ``DCM`` the standard's own.
    meaning
        *Code Meaning* (0008,0104), at most 64 characters.

    Raises
    ------
    ValueError
        If a part is empty, too long, or not printable ASCII without a backslash.
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        for name, most in (("value", _SHORT), ("scheme", _SHORT), ("meaning", _LONG)):
            _require_text(name, getattr(self, name), most)


ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")


@dataclass(frozen=True, kw_only=True)
class Label:
    """What one voxel value of a mask means.

    Attributes
    ----------
    value
        The voxel value, 1 to 255.
    name
        *Segment Label* (0062,0005), at most 64 characters.
    type
        *Segmented Property Type Code Sequence* (0062,000F).
    rgb
        Colour for display, sRGB, 0 to 255; written as *Recommended Display CIELab Value* (0062,000D).
    description
        *Segment Description* (0062,0006), at most 1024 characters.
    category
        *Segmented Property Category Code Sequence* (0062,0003).
    region
        *Anatomic Region Sequence* (0008,2218); None where the type says it already.

    Raises
    ------
    ValueError
        If a text cannot stand in every result: it is empty, too long, or not printable ASCII without a
        backslash, which parts values in DICOM; or a number is out of range.
    """

    value: int
    name: str
    type: Code
    rgb: tuple[int, int, int]
    description: str = ""
    category: Code = ANATOMICAL_STRUCTURE
    region: Code | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.value <= 255:
            raise ValueError(f"value: a label is 1 to 255, found {self.value}")
        _require_text("name", self.name, _LONG)
        if self.description:
            _require_text("description", self.description, _TEXT)
        if len(self.rgb) != 3 or not all(0 <= part <= 255 for part in self.rgb):
            raise ValueError(f"rgb: a colour is three numbers from 0 to 255, found {list(self.rgb)}")
