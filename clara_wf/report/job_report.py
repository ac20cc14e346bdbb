"""What a job gave: volumes, agreement with the truth, a picture, a page, a table, one JSON object."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clara_wf.definitions.workflow import Workflow
from clara_wf.engines.engine import Outcome
from clara_wf.payload import Payload
from clara_wf.report.measure import LabelMeasurement, compare
from clara_wf.text.untrusted import encodable
from stages.errors import InputError
from stages.runtime.job_files import write_whole

if TYPE_CHECKING:  # what draws takes long to import, and a report may be there already
    from clara_wf.report.page import FinishedJob
    from stages.volume.volume import Volume

logger = logging.getLogger(__name__)

PICTURE = "three-planes.png"
PAGE = "report.html"
REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """Everything `clara-wf test` has to say of a job, as ``--json`` prints it.

    Attributes
    ----------
    workflow
        Its ``id`` and ``name``.
    job
        The job's ID.
    succeeded
        Whether every stage did.
    seconds
        What it took.
    stages
        Name, state, times and memory of each stage.
    warnings
        What was logged at WARNING or above.
    findings
        What was measured of each label.
    results
        The files of the result.
    picture
        The picture's file; None where there is none.
    page
        The page's file; None where there is none.
    payload
        The job's folder.
    """

    workflow: dict[str, str]
    job: str
    succeeded: bool
    seconds: float
    stages: list[dict[str, Any]]
    warnings: list[str]
    findings: list[LabelMeasurement]
    results: list[str]
    picture: str | None
    page: str | None
    payload: str

    def as_json(self) -> str:
        """Return one JSON object."""
        return json.dumps(encodable(asdict(self)), indent=2)


def make_report(
    workflow: Workflow, payload: Payload, outcome: Outcome, *, seconds: float, truth_dir: Path
) -> JobReport:
    """Collect what a job gave, draw its picture and its page, and keep the report in ``publish/``.

    Parameters
    ----------
    workflow, payload
        The workflow and the job's folders.
    outcome
        How the stages ended.
    seconds
        What it took.
    truth_dir
        Where ``<SeriesInstanceUID>.mhd`` with the true labels may lie.
    """
    from clara_wf.report.mask_labels import labels_shown, truth_for
    from clara_wf.report.page import FinishedJob
    from clara_wf.report.picture import three_planes

    finished = {status.name for status in outcome.statuses if status.state in ("done", "kept")}
    image, mask, others = find_image_and_mask(workflow, payload, stages=finished)
    findings: list[LabelMeasurement] = []
    picture: Path | None = None
    if mask is not None:
        labels, nameless = labels_shown(mask, workflow, payload, stages=finished)
        findings = compare(mask, labels, nameless, truth=truth_for(mask, truth_dir))
        if image is not None and outcome.culprit is None:
            picture = payload.publish_dir / PICTURE
            drawn = BytesIO()
            three_planes(image, mask, findings).save(drawn, format="PNG", compress_level=3)
            write_whole(picture, drawn.getvalue(), durable=False)
    results = _files(payload.folder(f) for f in workflow.result_folders)
    job = FinishedJob(
        workflow=workflow,
        payload=payload,
        outcome=outcome,
        seconds=seconds,
        findings=findings,
        image=image,
        mask=mask,
        others=others,
        results=results,
    )
    report = JobReport(
        workflow={"id": workflow.id, "name": workflow.name},
        job=payload.job_id,
        succeeded=outcome.culprit is None,
        seconds=round(seconds, 3),
        stages=[asdict(status) for status in outcome.statuses],
        warnings=list(job.warnings),
        findings=findings if outcome.culprit is None else [],
        results=[str(path) for path in results],
        picture=str(picture) if picture else None,
        page=_draw_page(job),
        payload=str(payload.root),
    )
    write_whole(payload.publish_dir / REPORT, report.as_json().encode() + b"\n", durable=False)
    return report


def _draw_page(job: FinishedJob) -> str | None:
    """Return the path of the job's page; a page that cannot be drawn takes nothing from the result."""
    from clara_wf.report.page import write_page

    path = job.payload.publish_dir / PAGE
    try:
        path.unlink(missing_ok=True)
        return str(write_page(job, path))
    except Exception as error:
        logger.warning("the job's page %s could not be drawn: %s: %s", path, type(error).__name__, error)
        return None


def find_image_and_mask(
    workflow: Workflow, payload: Payload, *, stages: Collection[str]
) -> tuple[Volume | None, Volume | None, list[Volume]]:
    """Return the first CT volume of a job, the last mask of the same name and grid, and all volumes else.

    Both are a stage's output or, where no stage makes a CT, may be in the folder that the job was given; a
    mask counts also where there is no CT.

    Parameters
    ----------
    workflow, payload
        The workflow and the job's folders.
    stages
        Those that have finished; what others left may be incomplete.
    """
    finished = [step for step in workflow.steps if step.name in stages]
    made = [volume for step in finished for volume in _volumes_in(payload.folder(step.output_folder))]
    images = [volume for volume in made if _is_image(volume)]
    given = [] if images else _volumes_in(payload.folder(workflow.input_folder))
    image = next(iter(images or [volume for volume in given if _as_mask(volume) is None]), None)
    others = [volume for volume in (*given, *made) if volume is not image]
    masks = [_as_mask(other) for other in others if image is None or _belongs_to(other, image)]
    mask = next((mask for mask in reversed(masks) if mask is not None), None)
    of_shown = None if mask is None else mask.origin
    return image, mask, [other for other in others if other.origin is not of_shown]


def _is_image(volume: Volume) -> bool:
    """Return whether a volume is a CT, not labels that somebody wrote as int16."""
    is_said_to_be_labels = bool(volume.origin.labels or volume.origin.label_values)
    return volume.array.dtype.name == "int16" and (_as_mask(volume) is None or not is_said_to_be_labels)


def _as_mask(volume: Volume) -> Volume | None:
    """Return a volume as a mask, uint8, as dicom-writer takes it; None if its values are no labels."""
    if volume.array.dtype.name == "uint8":
        return volume
    if volume.array.min() < 0 or volume.array.max() > 255:
        return None
    return volume.with_array(volume.array.astype("uint8"))


def _volumes_in(folder: Path) -> list[Volume]:
    from stages.volume.io import find_volumes, read_volume

    try:
        return [read_volume(path) for path in find_volumes(folder)]
    except InputError:
        return []  # a folder of DICOM files, or of a stage that passes on something else


def _belongs_to(mask: Volume, image: Volume) -> bool:
    return mask.origin.file_name == image.origin.file_name and mask.grid.matches(image.grid)


def _files(folders: Iterable[Path]) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
