"""The folders of a job: ``<job-id>/<stage>/{input,output}``, ``locks/``, ``logs/``, ``publish/``."""

from __future__ import annotations

import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import InputError, OutputError, SettingsError
from stages.lifecycle import locks, outputs, validity
from stages.lifecycle.settings import INPUT_LOCK
from stages.runtime import job_files

if TYPE_CHECKING:
    from clara_wf.definitions.workflow import Step, Workflow
    from stages.volume.labels import Label

logger = logging.getLogger(__name__)


_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def checked_job_id(job: str) -> str:
    """Return the ID of a job, which is also the name of its folder.

    Parameters
    ----------
    job
        The job's ID.

    Raises
    ------
    SettingsError
        If it could lead out of the folder of the jobs.
    """
    if not _JOB_ID.fullmatch(job):
        raise SettingsError(f"a job ID is a UUID (letters, digits, - and _), found {job!r}")
    return job


@dataclass(frozen=True, kw_only=True)
class Payload:
    """Where a job's files lie.

    Attributes
    ----------
    root
        The job's own folder; nothing of the job lies outside.
    job_id
        The job.
    """

    root: Path
    job_id: str

    @property
    def lock_dir(self) -> Path:
        """The job's lock folder."""
        return self.root / "locks"

    @property
    def publish_dir(self) -> Path:
        """Pictures and reports for people."""
        return self.root / "publish"

    def folder(self, name: str) -> Path:
        """Return one of the workflow's folders, such as ``dicom-reader/output``.

        Parameters
        ----------
        name
            The folder, relative to the job's.
        """
        return self.root / name

    def log(self, stage: str) -> Path:
        """Return the log file of a stage.

        Parameters
        ----------
        stage
            The stage's name.
        """
        return self.root / "logs" / f"{stage}.log"

    @property
    def record(self) -> Path:
        """What the job is, for `clara-wf status`."""
        return self.root / "job.json"

    @property
    def pending(self) -> str:
        """Why the job's stages do not run yet though it was started; "" if they do, or nobody runs it."""
        try:
            return str(job_files.read_object(self._pending_note)["pending"])
        except (KeyError, job_files.JobFileError):
            return ""

    def note_pending(self, why: str) -> None:
        """Write down why the stages do not run yet, for `clara-wf status`; "" once they do.

        Parameters
        ----------
        why
            The reason, a sentence.
        """
        try:
            if why:
                locks.publish(self._pending_note, {"pending": why, "since": locks.now()}, durable=False)
            else:
                job_files.remove(self._pending_note)
        except OSError as error:  # only for people to read; the job goes on without it
            logger.warning("cannot write down that the job is pending: %s", error)

    @property
    def _pending_note(self) -> Path:
        return self.root / "pending.json"

    @property
    def workflow_id(self) -> str | None:
        """The workflow whose job this is; None where nobody wrote it down."""
        try:
            return str(job_files.read_object(self.record)["workflow"]["id"])
        except (KeyError, TypeError):
            return None

    def describe(self, workflow: Workflow, *, engine: str) -> None:
        """Write down which workflow this job runs.

        Parameters
        ----------
        workflow, engine
            The workflow and the name of the engine that runs it.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        content = {
            "job": self.job_id,
            "workflow": {"id": workflow.id, "name": workflow.name},
            "engine": engine,
            "stages": [step.name for step in workflow.steps],
            "started": locks.now(),
        }
        locks.publish(self.record, content)

    def make_folders(self, workflow: Workflow) -> None:
        """Make every folder of the workflow.

        Raises
        ------
        OutputError
            If one cannot be made, or a link that may lead out of the job stands in its place.
        """
        stage_folders = [self.folder(step.output_folder) for step in workflow.steps]
        publish = [self.publish_dir / step.name for step in workflow.steps]
        for folder in (self.lock_dir, self.root / "logs", *stage_folders, *publish):
            self.make_folder(folder.relative_to(self.root).as_posix())

    def make_folder(self, name: str) -> None:
        """Make one of the job's folders and those above it.

        Parameters
        ----------
        name
            The folder, relative to the job's.

        Raises
        ------
        OutputError
            If it cannot be made, or a link that may lead out of the job stands in its place.
        """
        for part in [*reversed(Path(name).parents)][1:]:
            job_files.make_folder(self.root / part)
        job_files.make_folder(self.root / name)


def payload_for(payloads: Path, job: str, workflow: Workflow) -> Payload:
    """Return where the files of a job of a workflow lie.

    A job is one run of one workflow: another workflow on the same input is a job of its own, whose ID is made
    of both, so that neither takes the other's results for its own.

    Parameters
    ----------
    payloads, job, workflow
        The folder of all jobs, the job's ID and the workflow.
    """
    payload = Payload(root=payloads / job, job_id=job)
    if payload.workflow_id in (None, workflow.id):
        return payload
    own = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{workflow.id}:{job}"))
    return Payload(root=payloads / own, job_id=own)


def fill_input(
    payload: Payload,
    workflow: Workflow,
    source: Path,
    digest_of: Callable[[Path], str] = outputs.file_sha256,
) -> None:
    """Copy a folder of DICOM files into the job and publish ``input.lock`` last.

    What links to files lead to is copied. Links to folders, and to nothing, are not followed; they stay links
    in the job, where the reader counts and tells them.

    A job that holds the very same files already is left as it is, so that it can be resumed. The folder may
    be the job's own, filled by others; then nothing is copied.

    Parameters
    ----------
    payload, workflow, source
        The job's folders, the workflow and the folder to copy.
    digest_of
        Returns the SHA-256 of a file.

    Raises
    ------
    InputError
        If the folder does not exist or is empty.
    OutputError
        If it cannot be copied.
    """
    if not source.is_dir():
        what = "is a file, a folder is expected" if source.exists() else "does not exist"
        raise InputError(f"the input folder {source} {what}")
    files = outputs.describe_files(source, digest_of)
    if not files:
        raise InputError(f"the input folder {source} is empty; put the DICOM files of the series there")
    target, lock_path = payload.folder(workflow.input_folder), payload.lock_dir / INPUT_LOCK
    lock = locks.read_lock(lock_path)
    links = _not_followed(source)
    is_same = lock is not None and lock.outputs == files and _not_followed(target) == links
    if is_same and outputs.describe_files(target, digest_of) == files:
        return
    for stale in payload.lock_dir.glob("*.lock"):
        job_files.remove(stale)
    is_own = target.exists() and source.samefile(target)
    if not is_own:  # a link in its place would have the files of another folder written over
        payload.make_folder(workflow.input_folder)
    try:
        if not is_own:
            shutil.rmtree(target, ignore_errors=True)
        for file in () if is_own else files:
            (target / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file.path, target / file.path)
        for path, leads_to in () if is_own else links.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).symlink_to(leads_to)
    except OSError as error:
        size = sum(file.size for file in files)
        raise OutputError(f"cannot copy the input ({size} bytes) to {target}: {error}") from error
    outputs.sync_tree(target)
    locks.publish(
        lock_path, locks.Lock(job=payload.job_id, stage="input", finished=locks.now(), outputs=files)
    )


def _not_followed(folder: Path) -> dict[str, str]:
    """Return the links in a folder that lead to no file, and where they lead to."""
    links = (path for path in folder.rglob("*") if path.is_symlink() and not path.is_file())
    return {path.relative_to(folder).as_posix(): os.path.realpath(path) for path in links}


def steps_to_run(
    payload: Payload,
    workflow: Workflow,
    *,
    fresh: bool,
    digest_of: Callable[[Path], str] = outputs.file_sha256,
) -> dict[str, str]:
    """Return the stages that have to run and why, by name, and clear away what they left before.

    A stage runs if its lock is missing or no longer valid, or if one it waits for runs.

    Parameters
    ----------
    payload, workflow
        The job's folders and the workflow.
    fresh
        Run every stage.
    digest_of
        Returns the SHA-256 of a file.
    """
    reasons: dict[str, str] = {}
    by_lock = {step.block.lockName: step.name for step in workflow.steps}
    for step in workflow.steps:
        upstream = [by_lock[lock] for lock in step.wait_locks if by_lock.get(lock) in reasons]
        if fresh or upstream:
            reason: str | None = "asked to" if fresh else f"{upstream[0]} runs"
        else:
            reason = _why_invalid(payload, step, workflow.labels, digest_of)
        if reason:
            reasons[step.name] = reason
            _clear(payload, step)
    return reasons


def _why_invalid(
    payload: Payload, step: Step, labels: Sequence[Label], digest_of: Callable[[Path], str]
) -> str | None:
    return validity.why_invalid(
        payload.lock_dir,
        step.block.lockName,
        job=payload.job_id,
        output_dir=payload.folder(step.output_folder),
        wait_locks=step.wait_locks,
        arguments=step.arguments,
        labels=labels,
        digest_of=digest_of,
    )


def _clear(payload: Payload, step: Step) -> None:
    name = step.block.lockName
    job_files.remove(payload.lock_dir / name)
    job_files.remove(locks.failure_path(payload.lock_dir, name))
    job_files.remove(locks.running_path(payload.lock_dir, name))
    job_files.remove(payload.log(step.name))
