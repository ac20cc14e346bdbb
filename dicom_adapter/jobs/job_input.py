"""The input of a job: received files under their place in the payload, ``input.lock`` last.

A stage runs as whoever runs the adapter, and could write through a hard link into what was received. So a job
has copies: clones, which share the disk until somebody writes, where the file system makes them (XFS, btrfs,
ZFS 2.2, NFS 4.2 on such), else byte by byte in the kernel.

References
----------
ioctl_ficlone(2), copy_file_range(2).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from dicom_adapter.config.blocks import Storage
from dicom_adapter.database.records import JobRecord, ReceivedInstance
from dicom_adapter.storage.disk_space import DiskFullError, require_space
from dicom_adapter.storage.paths import SUFFIX, checked_uid
from dicom_adapter.storage.receiver import folder_mode
from stages.errors import InputError, OutputError
from stages.lifecycle import locks, outputs
from stages.lifecycle.settings import INPUT_LOCK

logger = logging.getLogger(__name__)

_FICLONE = 0x40049409
_NO_CLONE = (
    *(errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF),
    errno.ETXTBSY,
)
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES)
_AT_ONCE = 1 << 30


def fill_payload(
    payload: Payload, workflow: Workflow, files: Sequence[ReceivedInstance], storage: Storage
) -> None:
    """Write a job's input; what is done already stays.

    Parameters
    ----------
    payload, workflow, files
        The job's folders, the workflow and the instances.
    storage
        Whether it is copied or linked, with which permissions, and how much of the disk stays free.

    Raises
    ------
    InputError
        If there is no file, or one is gone or has another size than it was received with.
    DiskFullError
        If the disk has no space for copies.
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
        for each in (payload.root, folder):
            each.chmod(folder_mode(storage.permissions))
        how = _Input(folder, storage, files).fill()
    except OSError as error:
        if isinstance(error, (InputError, DiskFullError)):
            raise
        raise OutputError(f"cannot fill {folder}: {error.strerror or error}") from error
    outputs.sync_tree(folder)
    filled = outputs.describe_files(folder)
    locks.publish(lock, locks.Lock(job=payload.job_id, stage="input", finished=locks.now(), outputs=filled))
    logger.info(
        "job %s has %d files as %s of what was received",
        *(payload.job_id, len(files), how),
        extra={"job": payload.job_id},
    )


class _Input:
    """The folder of a job's input while it is filled; the first file tells what the file system can do."""

    def __init__(self, folder: Path, storage: Storage, files: Sequence[ReceivedInstance]) -> None:
        self._folder, self._storage, self._files = folder, storage, files
        self._links, self._clones = storage.job_input == "link", True

    def fill(self) -> str:
        """Fill it, and return with what."""
        for file in self._files:
            self._add(
                _checked(file), self._folder / (checked_uid(file.sop_instance_uid, "SOPInstanceUID") + SUFFIX)
            )
        return "hard links" if self._links else "clones" if self._clones else "copies"

    def _add(self, kept: Path, made: Path) -> None:
        if self._links:
            try:
                os.link(kept, made)
                return
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                self._links = False
        with kept.open("rb", buffering=0) as source, made.open("xb", buffering=0) as target:
            os.fchmod(target.fileno(), self._storage.permissions)
            if not (self._clones and _is_cloned(source.fileno(), target.fileno())):
                self._require_space()
                _copy(source.fileno(), target.fileno())

    def _require_space(self) -> None:
        """Look once, for all files, before the first is copied."""
        if self._clones:
            size = sum(each.size for each in self._files)
            require_space(self._folder, size, self._storage.minimum_free)
            self._clones = False


def _checked(file: ReceivedInstance) -> Path:
    """Return a received file that is as it came."""
    what = "a received file of the study"  # its name is a whole UID
    try:
        size = file.path.stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"{what} is gone; ask for the study once more") from error
    if size != file.size:
        raise InputError(f"{what} has {size} bytes, {file.size} were received; ask for the study once more")
    return file.path


def _is_cloned(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return True
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return False


def _copy(source: int, target: int) -> None:
    """Copy a whole file within the kernel."""
    try:
        while os.copy_file_range(source, target, _AT_ONCE):
            pass
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        while os.sendfile(target, source, None, _AT_ONCE):
            pass


def why_pending(job: JobRecord, payloads: Path) -> str:
    """Return why a job that was begun does not run yet, such as that no node is free; "" if it does.

    Parameters
    ----------
    job, payloads
        The job and the folder of all jobs.
    """
    return Payload(root=payloads / job.id, job_id=job.id).pending if job.state == "running" else ""
