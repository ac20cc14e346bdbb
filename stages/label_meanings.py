"""What the labels of a mask stand for, beside it: ``<SeriesInstanceUID>.labels.json``.

The form is that of the file of labels which the DICOM writer takes, so that what a model says of its labels
reaches the hospital.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from stages.errors import OutputError
from stages.volume import Volume

SUFFIX = ".labels.json"
_Colour = Annotated[int, Field(ge=0, le=255)]


class Code(BaseModel):
    """A coded concept, of SNOMED CT unless it says another scheme."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str
    scheme: str = "SCT"
    meaning: str


class Meaning(BaseModel):
    """What a label stands for, in the form of the DICOM writer's file of labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str = ""
    category: Code = Code(value="123037004", meaning="Anatomical Structure")
    type: Code
    region: Code | None = None
    rgb: tuple[_Colour, _Colour, _Colour]


def write_label_meanings(mask: Volume, meanings: Mapping[int, Meaning], folder: Path) -> Path | None:
    """Write what a model says of its labels beside a mask; nothing where it says nothing.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    if not meanings:
        return None
    labels = [
        {"value": label, **meaning.model_dump(exclude_none=True)}
        for label, meaning in sorted(meanings.items())
    ]
    path = folder / f"{mask.origin.file_name}{SUFFIX}"
    beside = path.with_name(f".{path.name}")
    try:
        beside.write_text(json.dumps({"labels": labels}, indent=1), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path
