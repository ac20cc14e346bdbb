"""The page of a job: one HTML file that shows all there is to see of it, without network.

Text comes from files and logs that others wrote, so the template escapes all of it, and the page's
own policy lets nothing run but its own script, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clara_wf.definitions.workflow import Workflow
from clara_wf.engines.engine import Outcome
from clara_wf.payload import Payload
from clara_wf.report.logs import Warned, end_of, model_in, warnings_in, without_uids
from clara_wf.report.measure import LabelMeasurement
from clara_wf.report.timeline import make_timeline, readable_time
from clara_wf.report.viewer import WINDOWS_HU, label_rows, make_viewer
from clara_wf.text.untrusted import printable_lines
from stages import __version__
from stages.runtime import job_files
from stages.runtime.logs import printable
from stages.volume.geometry import orientation_of
from stages.volume.volume import Volume
from stages.volume.wording import NOTICE, volume_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_SCRIPTS = ("volume.js", "planes.js", "surface.js", "page.js")
_LAST_LINES = 20
_MOST_ROWS, _MOST_FILES = 50, 1000
_EXIT_CODES = {
    1: "an error that the stage did not foresee, or it was ended from outside",
    2: "usage or settings",
    3: "the input data cannot be used",
    4: "timeout",
    5: "a stage that it waits for has failed",
    6: "the inference server or its model",
    7: "the result could not be written",
}
_DIRECTIONS = {
    "S": "feet to head",
    "I": "head to feet",
    "L": "right to left",
    "R": "left to right",
    "P": "front to back",
    "A": "back to front",
}


@dataclass(frozen=True, kw_only=True)
class FinishedJob:
    """What the page is about.

    Attributes
    ----------
    workflow
        The workflow.
    payload
        The job's folders.
    outcome
        How the stages ended.
    findings
        What was measured of each label.
    image, mask
        The CT and its labels, as far as the job came.
    results
        Files of the job's result.
    others
        Further volumes of the job, which are not shown.
    seconds
        How long the job took.
    """

    workflow: Workflow
    payload: Payload
    outcome: Outcome
    seconds: float
    findings: Sequence[LabelMeasurement]
    image: Volume | None
    mask: Volume | None
    results: Sequence[Path]
    others: Sequence[Volume] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What everybody who uses the result has to be told, each once, of the CT first."""
        volumes = [volume for volume in (self.image, self.mask, *self.others) if volume is not None]
        told = dict.fromkeys(told for volume in volumes for told in volume.origin.warnings)
        return (*told, *([self._not_shown] if self._not_shown else []))

    @property
    def _not_shown(self) -> str:
        """What is to be told of masks that neither page nor table show."""
        shown = self.mask or self.image
        names = {other.origin.file_name for other in self.others}
        more = len(names - {shown.origin.file_name} if shown else names)
        again = self.mask is not None and any(
            other.origin.file_name == self.mask.origin.file_name
            and other.origin.label_values
            and other.origin.labels != self.mask.origin.labels
            for other in self.others
        )
        if more:
            return (
                f"the job has {more} more volume{'s' if more > 1 else ''} than are shown and measured here: "
                "what was found in them is in the results alone"
            )
        return "another mask of the same volume is in the results alone" if again else ""


def write_page(job: FinishedJob, path: Path) -> Path:
    """Write the page of a job; it is there whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    job_files.write_whole(path, render(job).encode(), durable=False)
    return path


def render(job: FinishedJob) -> str:
    """Return the page of a job as HTML; what the template marks safe is the project's own."""
    viewer = None if job.image is None else make_viewer(job.image, job.mask, job.findings)
    script, style = "\n".join(map(_own_file, _SCRIPTS)), _own_file("style.css")
    return (
        _environment()
        .get_template("template.html")
        .render(
            script=script,
            style=style,
            policy=_policy(script, style),
            viewer=viewer,
            rows=viewer.labels if viewer else label_rows(job.findings),
            setup=None if viewer is None else viewer.setup,
            windows=WINDOWS_HU,
            toolkit=__version__,
            most_rows=_MOST_ROWS,
            most_files=_MOST_FILES,
            notice=NOTICE,
            has_truth=any(finding.dice is not None for finding in job.findings),
            **_facts(job),
        )
    )


def _facts(job: FinishedJob) -> dict[str, Any]:
    record = _record(job.payload)
    started = str(record.get("started", ""))
    logs = {step.name: end_of(job.payload.log(step.name)) for step in job.workflow.steps}
    repairs = job.image.origin.repairs if job.image else ()
    messages = [status.message for status in job.outcome.statuses]
    files = [_file(job.payload, path) for path in job.results]
    return {
        "job": job,
        "succeeded": job.outcome.culprit is None,
        "started": readable_time(started),
        "models": [m for name, lines in logs.items() if (m := model_in(lines, stage=name))],
        "timeline": make_timeline(job.workflow, job.payload, job.outcome, started=started),
        "failure": _failure(job, logs),
        "logged": list(_logged(logs, told={*repairs, *messages, *job.warnings}))[:_MOST_ROWS],
        "repairs": repairs,
        "series": _series(job.image),
        "geometry": _geometry(job.image),
        "files": files,
        "files_size": sum(file["size"] for file in files),
    }


def _failure(job: FinishedJob, logs: Mapping[str, list[str]]) -> dict[str, Any] | None:
    culprit = job.outcome.culprit
    if culprit is None:
        return None
    code = job.outcome.exit_code
    return {
        "stage": culprit.name,
        "message": culprit.message,
        "exit_code": code,
        "meaning": _EXIT_CODES.get(code, "the stage's own"),
        "lines": logs.get(culprit.name, [])[-_LAST_LINES:],
        "log": f"logs/{culprit.name}.log",
    }


def _logged(logs: Mapping[str, list[str]], *, told: Collection[str]) -> Iterator[Warned]:
    """Yield what was logged as a warning and stands nowhere else on the page."""
    shown = {printable(message) for message in told}
    for name, lines in logs.items():
        yield from (w for w in warnings_in(lines, stage=name) if w.message not in shown)


def _series(image: Volume | None) -> list[dict[str, Any]]:
    """Return each series of the input and why it was chosen or not, the chosen one first."""
    if image is None:
        return []
    chosen = image.origin.file_name
    ordered = sorted(image.origin.selection.items(), key=lambda item: item[0] != chosen)
    return [{"uid": without_uids(name), "chosen": name == chosen, "why": why} for name, why in ordered]


def _geometry(image: Volume | None) -> list[tuple[str, str]]:
    if image is None:
        return []
    slices, rows, columns = image.grid.shape
    between, down, across = image.spacing
    directions = image.affine[:3, :3] / np.array(image.spacing)
    oblique = float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0).min(), 0, 1))))
    facts = [
        ("Size", f"{slices} slices of {rows} × {columns}"),
        ("Spacing", f"{between:.3f} mm between slices, {down:.3f} × {across:.3f} mm within"),
        ("Covers", f"{slices * between:.0f} × {rows * down:.0f} × {columns * across:.0f} mm"),
        ("Slices run", _DIRECTIONS[orientation_of(image.affine)[0]]),
    ]
    if oblique > 1:
        facts.append(("Oblique", f"{oblique:.1f}° from the patient's axes; the planes follow the slices"))
    if image.origin.slices:
        first, last = image.origin.slices[0].position, image.origin.slices[-1].position
        facts.append(("First to last slice", f"z = {first[2]:.1f} to {last[2]:.1f} mm"))
    return facts


def _file(payload: Payload, path: Path) -> dict[str, Any]:
    return {"name": printable(path.relative_to(payload.root)), "size": path.stat().st_size}


def _record(payload: Payload) -> dict[str, Any]:
    return job_files.read_object(payload.record)


def _own_file(name: str) -> str:
    return resources.files("clara_wf.report").joinpath("page_files", name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """Allow what the page brings along, and nothing else: no request can leave it."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=_shown,
        loader=FunctionLoader(_own_file),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["volume_text"] = volume_text
    environment.filters["without_uids"] = without_uids
    environment.filters["file_size"] = readable_size
    environment.filters["seconds"] = readable_seconds
    return environment


def _shown(value: object) -> object:
    """Escape what would be obeyed rather than shown; what is marked safe is the project's own."""
    return printable_lines(value) if type(value) is str else value


def _breakable(name: str) -> Markup:
    """Return a name as HTML in which a line may also break behind an underscore."""
    from markupsafe import Markup

    return Markup("_<wbr>").join(printable(name).split("_"))


def readable_size(count: int) -> str:
    """Return a number of bytes as people read it.

    Parameters
    ----------
    count
        Bytes.
    """
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def readable_seconds(seconds: float) -> str:
    """Return a time as a tick of the timeline tells it.

    Parameters
    ----------
    seconds
        The time, seconds.
    """
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
