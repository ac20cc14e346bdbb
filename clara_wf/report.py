"""What a finished job gave: volumes, agreement with the truth, a picture, a table, one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clara_wf.engines import Outcome
from clara_wf.payload import Payload
from clara_wf.picture import three_planes
from clara_wf.workflow import Workflow
from stages.errors import InputError
from stages.volume import Volume
from stages.volume_io import find_volumes, read_volume

LABEL_NAMES = {1: "liver", 2: "tumour"}
PICTURE = "three-planes.png"
REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A label of the mask.

    Attributes
    ----------
    volume_ml
        Its volume.
    dice
        Overlap with the truth, from 0 to 1; None where there is no truth.
    """

    label: int
    name: str
    volume_ml: float
    dice: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything `clara-wf test` has to say of a job, as ``--json`` prints it."""

    workflow: dict[str, str]
    job: str
    succeeded: bool
    seconds: float
    stages: list[dict[str, Any]]
    findings: list[Finding]
    results: list[str]
    picture: str | None
    payload: str

    def as_json(self) -> str:
        """Return one JSON object."""
        return json.dumps(asdict(self), indent=2)


def make_report(
    workflow: Workflow, payload: Payload, outcome: Outcome, *, seconds: float, truth_dir: Path
) -> Report:
    """Collect what a job gave, draw its picture, and keep the report in ``publish/``.

    Parameters
    ----------
    truth_dir
        Where ``<SeriesInstanceUID>.mhd`` with the true labels may lie.
    """
    pair = find_image_and_mask(workflow, payload) if outcome.culprit is None else None
    findings: list[Finding] = []
    picture: Path | None = None
    if pair is not None:
        image, mask = pair
        findings = compare(mask, _truth_for(mask, truth_dir))
        picture = payload.publish_dir / PICTURE
        three_planes(image, mask, captions=[_caption(f) for f in findings]).save(picture)
    report = Report(
        workflow={"id": workflow.id, "name": workflow.name},
        job=payload.job_id,
        succeeded=outcome.culprit is None,
        seconds=round(seconds, 3),
        stages=[asdict(status) for status in outcome.statuses],
        findings=findings,
        results=[str(path) for path in _files(payload.folder(f) for f in workflow.result_folders)],
        picture=str(picture) if picture else None,
        payload=str(payload.root),
    )
    (payload.publish_dir / REPORT).write_text(report.as_json() + "\n", encoding="utf-8")
    return report


def find_image_and_mask(workflow: Workflow, payload: Payload) -> tuple[Volume, Volume] | None:
    """Return the first CT volume of a job and the last mask of the same name and grid, if there are both."""
    image: Volume | None = None
    mask: Volume | None = None
    for step in workflow.steps:
        for volume in _volumes_in(payload.folder(step.output_folder)):
            if volume.array.dtype == np.int16 and image is None:
                image = volume
            elif volume.array.dtype == np.uint8 and image is not None and _belongs_to(volume, image):
                mask = volume
    return (image, mask) if image is not None and mask is not None else None


def compare(mask: Volume, truth: Volume | None) -> list[Finding]:
    """Return volume and Dice of each label."""
    true_labels = truth.array if truth is not None else None
    return [
        Finding(
            label=label,
            name=name,
            volume_ml=round(int((mask.array == label).sum()) * mask.voxel_volume_mm3 / 1000, 3),
            dice=None if true_labels is None else dice(mask.array == label, true_labels == label),
        )
        for label, name in LABEL_NAMES.items()
    ]


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return 2 |A and B| / (|A| + |B|); 1 if both are empty (Dice, Ecology 1945)."""
    total = int(found.sum()) + int(true.sum())
    return round(2 * int((found & true).sum()) / total, 4) if total else 1.0


def _volumes_in(folder: Path) -> list[Volume]:
    try:
        return [read_volume(path) for path in find_volumes(folder)]
    except InputError:
        return []  # a folder of DICOM files, or of a stage that passes on something else


def _belongs_to(mask: Volume, image: Volume) -> bool:
    return mask.origin.file_name == image.origin.file_name and mask.grid.matches(image.grid)


def _truth_for(mask: Volume, truth_dir: Path) -> Volume | None:
    path = truth_dir / f"{mask.origin.file_name}.mhd"
    if not path.is_file():
        return None
    truth = read_volume(path)
    if not truth.grid.matches(mask.grid):
        raise InputError(f"the truth {path.name} lies on another grid than the mask")
    return truth


def _files(folders: Iterable[Path]) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def _caption(finding: Finding) -> str:
    agreement = "" if finding.dice is None else f", Dice {finding.dice:.3f}"
    return f"{finding.name} {finding.volume_ml:.1f} ml{agreement}"
