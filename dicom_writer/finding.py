"""What a mask holds, in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stages.volume.labels import Label

if TYPE_CHECKING:
    from dicom_writer.mask.measure import Measurement

_FINDING_LENGTH = 47  # a Series Description of 64 characters has 17 before it


def finding(labels: Sequence[Label], measured: Mapping[int, Measurement]) -> str:
    """Say in at most 47 characters which labels a mask holds: ``Liver, no liver tumour found``."""
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
    return next((text for text in texts if len(text) <= _FINDING_LENGTH), texts[-1])
