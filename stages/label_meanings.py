"""What the labels of a mask stand for, beside it: ``<SeriesInstanceUID>.labels.json``.

The form is that of the file of labels which the DICOM writer takes, so that what a model says of its labels
reaches the hospital.
"""

from __future__ import annotations

import json
from pathlib import Path

from stages.errors import OutputError
from stages.model import ModelDescription
from stages.volume import Volume

SUFFIX = ".labels.json"


def write_label_meanings(mask: Volume, model: ModelDescription, folder: Path) -> Path | None:
    """Write the model's label meanings beside a mask; nothing where it states none.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    if not model.label_meanings:
        return None
    labels = [
        {"value": label, **meaning.model_dump(exclude_none=True)}
        for label, meaning in sorted(model.label_meanings.items())
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
