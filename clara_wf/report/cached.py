"""The report of a job in which nothing had to run: what was drawn before, as long as nothing has changed.

``kept.json`` of the job says what the report was made of, what it says, and what its files were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from clara_wf.report.job_report import REPORT, JobReport
from stages import __version__
from stages.lifecycle import locks, outputs
from stages.runtime import job_files

_KEPT = "kept.json"
_PACKAGES = Path(__file__).resolve().parents[2]
_DRAWN_BY = ("clara_wf", "stages")

Digest = Callable[[Path], str]


def fingerprint(
    workflow: Workflow, payload: Payload, *, engine: str, truth_dir: Path, digest_of: Digest
) -> str:
    """Return the SHA-256 of all that a report is made of: data, locks, logs, truth, definition, program.

    Parameters
    ----------
    workflow, payload, engine
        The workflow, the job's folders and the name of the engine that the job ran on.
    truth_dir
        Where masks with the true labels may lie.
    digest_of
        Returns the SHA-256 of a file.
    """
    folders = [payload.folder(step.output_folder) for step in workflow.steps]
    folders += [payload.publish_dir / step.name for step in workflow.steps]
    folders += [payload.root / "logs", truth_dir]
    made_of = {
        "program": [__version__, *_program()],
        "workflow": [repr(workflow), engine, str(payload.root)],
        "locks": [
            [path.name, outputs.file_sha256(path)] for path in sorted(payload.lock_dir.glob("[!.]*.lock"))
        ],
        "files": [
            [str(folder), *([file.path, file.sha256] for file in outputs.describe_files(folder, digest_of))]
            for folder in folders
        ],
    }
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def keep(report: JobReport, payload: Payload, made_of: str, digest_of: Digest) -> None:
    """Note what a job's report was made of and what it says, so that it can be taken again.

    Parameters
    ----------
    report, payload
        The report and the job's folders.
    made_of
        What it was made of, see `fingerprint`.
    digest_of
        Returns the SHA-256 of a file.
    """
    drawn = [payload.publish_dir / REPORT, *map(Path, filter(None, (report.page, report.picture)))]
    note = {
        "made of": made_of,
        "drawn": {str(path): digest_of(path) for path in drawn},
        "report": asdict(report),
    }
    locks.publish(payload.root / _KEPT, note, durable=False)


def kept(payload: Payload, made_of: str, digest_of: Digest) -> JobReport | None:
    """Return the report that a job has; None if it has none, or not the one that would be drawn now.

    Parameters
    ----------
    payload
        The job's folders.
    made_of
        What it would be made of now, see `fingerprint`.
    digest_of
        Returns the SHA-256 of a file.
    """
    try:
        note = job_files.read_object(payload.root / _KEPT)
        if note["made of"] != made_of:
            return None
        if any(digest_of(Path(path)) != digest for path, digest in note["drawn"].items()):
            return None
        return TypeAdapter(JobReport).validate_python(note["report"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _program() -> list[list[object]]:
    """Return path, size and time of every file of this program that has a part in a report."""
    files = [path for name in _DRAWN_BY for path in sorted((_PACKAGES / name).rglob("*")) if path.is_file()]
    stats = {str(path): path.stat() for path in files if path.suffix != ".pyc"}
    return [[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()]
