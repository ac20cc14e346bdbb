"""The input of a job: received files under their place in the payload, ``input.lock`` last."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from clara_wf.payload import Payload
from clara_wf.workflow import Workflow
from dicom_adapter.books.records import Job, Received
from dicom_adapter.places import SUFFIX, checked_uid
from stages import locks
from stages.errors import InputError, OutputError
from stages.settings import INPUT_LOCK

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES)


def fill_payload(payload: Payload, workflow: Workflow, files: Sequence[Received]) -> None:
    """Give a job its input, by hard links where the disk is the same; what is done already stays.

    Raises
    ------
    InputError
        If there is no file, or one is gone or has another size than it was received with.
    OutputError
        If the input cannot be written.
    """
    if not files:
        raise InputError("the study has no instance for this job")
    payload.make_folders(workflow)
    folder, lock = payload.folder(workflow.input_folder), payload.lock_dir / INPUT_LOCK
    if locks.read_lock(lock) is not None:
        return
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in files:
            _link(file, folder)
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise OutputError(f"cannot fill {folder}: {error.strerror or error}") from error
    locks.sync_tree(folder)
    outputs = locks.describe_files(folder)
    locks.publish(lock, locks.Lock(job=payload.job_id, stage="input", finished=locks.now(), outputs=outputs))


def _link(file: Received, folder: Path) -> None:
    name = checked_uid(file.sop_instance_uid, "SOPInstanceUID") + SUFFIX
    try:
        size = file.path.stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"the received file {file.path} is gone; ask for the study once more") from error
    if size != file.size:
        raise InputError(f"the received file {file.path} has {size} bytes, {file.size} were received")
    try:
        os.link(file.path, folder / name)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(file.path, folder / name)


def why_pending(job: Job, payloads: Path) -> str:
    """Return why a job that was begun does not run yet, such as that no node is free; "" if it does."""
    return Payload(root=payloads / job.id, job_id=job.id).pending if job.state == "running" else ""
