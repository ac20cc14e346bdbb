"""What a stage is told through its environment, the same by every engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from clara_wf.definitions.workflow import Step
from clara_wf.engines.engine import JobRun
from stages.lifecycle.settings import PREFIX
from stages.volume.labels_file import stored_labels


@dataclass(frozen=True, kw_only=True)
class StageFolders:
    """Where a stage finds its folders, as it sees them: on this machine or in its container.

    Attributes
    ----------
    inputs
        To read, in the workflow's order.
    output
        To write.
    source
        Of the job's original input.
    publish
        For what people look at.
    locks
        Of the job.
    log
        The log file.
    """

    inputs: tuple[str, ...]
    output: str
    source: str
    publish: str
    locks: str
    log: str


def local_folders(step: Step, run: JobRun) -> StageFolders:
    """Return a stage's folders in the payload on this machine."""
    payload = run.payload
    return StageFolders(
        inputs=tuple(str(payload.folder(folder)) for folder in step.input_folders),
        output=str(payload.folder(step.output_folder)),
        source=str(payload.folder(run.workflow.input_folder)),
        publish=str(payload.publish_dir / step.name),
        locks=str(payload.lock_dir),
        log=str(payload.log(step.name)),
    )


def container_folders(step: Step) -> StageFolders:
    """Return a stage's folders in its container, as its block names them.

    The first input is ``<appDir>/<inputs>``; further ones of a graph are ``<appDir>/<inputs>-2`` and so on.
    """
    block = step.block
    first = f"{block.appDir}/{block.inputs}"
    more = (f"{first}-{number}" for number in range(2, len(step.input_folders) + 1))
    return StageFolders(
        inputs=(first, *more),
        output=f"{block.appDir}/{block.outputs}",
        source=f"{block.appDir}/source",
        publish=block.publishPath,
        locks=block.lockDir,
        log=block.logName,
    )


def settings_for(
    step: Step, run: JobRun, folders: StageFolders, *, triton_url: str | None, path_separator: str = ":"
) -> dict[str, str]:
    """Return the ``NVIDIA_CLARA_*`` settings of a stage (`stages.lifecycle.settings` reads them).

    Parameters
    ----------
    step, run, folders
        The stage in its workflow, the job that is run and its folders as it sees them.
    triton_url
        ``host:port`` of the inference server as the stage sees it.
    path_separator
        What stands between two folders where there are several.
    """
    settings = {
        "JOBID": run.payload.job_id,
        "STAGENAME": step.name,
        "INPUT": _joined(folders.inputs, path_separator),
        "OUTPUT": folders.output,
        "SOURCE": folders.source,
        "LOGS": folders.log,
        "PUBLISHING": folders.publish,
        "LOCKDIR": folders.locks,
        "WAITLOCKS": ",".join(step.wait_locks),
        "LOCKNAME": step.block.lockName,
        "TIMEOUT": f"{run.limit_s(step):g}",
        "TRTISURI": triton_url or "",
        "NOSYNCLOCK": "",
        "ARGUMENTS": json.dumps(step.arguments) if step.arguments else "",
        "LABELS": json.dumps(stored_labels(run.workflow.labels)) if run.workflow.labels else "",
    }
    return {PREFIX + key: value for key, value in settings.items()}


def _joined(paths: Sequence[str], separator: str) -> str:
    return separator.join(paths)
