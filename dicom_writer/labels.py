"""The one table of label values: what each voxel value of a mask means, in words and in codes.

References
----------
DICOM PS3.16 CID 7150, Segmentation Property Category; CID 7151 and CID 7159, Segmentation Property
Types; PS3.3 C.10.7.1.1, Encoding of CIELab Values.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded concept: *Code Value* (0008,0100), *Coding Scheme Designator* (0008,0102), *Code Meaning*."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Label:
    """What one voxel value of a mask means.

    Attributes
    ----------
    value
        The voxel value, and *Segment Number* (0062,0004).
    name
        *Segment Label* (0062,0005).
    description
        *Segment Description* (0062,0006).
    category, type
        *Segmented Property Category* and *Type Code Sequence* (0062,0003), (0062,000F).
    region
        *Anatomic Region Sequence* (0008,2218); None where the type says it already.
    rgb
        Colour for display, sRGB; written as *Recommended Display CIELab Value* (0062,000D).
    """

    value: int
    name: str
    description: str
    category: Code
    type: Code
    region: Code | None
    rgb: tuple[int, int, int]


_LIVER = Code("10200004", "SCT", "Liver")

LABELS: tuple[Label, ...] = (
    Label(
        value=1,
        name="Liver",
        description="Liver without the voxels of the tumour segment",
        category=Code("123037004", "SCT", "Anatomical Structure"),
        type=_LIVER,
        region=None,
        rgb=(221, 130, 101),
    ),
    Label(
        value=2,
        name="Liver tumour",
        description="Liver tumour, of no stated origin or malignancy",
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        type=Code("108369006", "SCT", "Neoplasm"),
        region=_LIVER,
        rgb=(255, 205, 60),
    ),
)


def finding(present: dict[int, bool]) -> str:
    """Say in at most 64 characters which of liver (1) and tumour (2) a mask holds."""
    match present.get(1, False), present.get(2, False):
        case True, True:
            return "Liver and liver tumour"
        case True, False:
            return "Liver, no tumour found"
        case False, True:
            return "Liver tumour, no liver found around it"
        case _:
            return "No liver found"
