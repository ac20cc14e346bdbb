"""Where a study is gathered until it is whole, and takes its place in one step.

::

    <job>/retrieving/            while it is gathered, as `dicom_adapter.storage.paths` has it
    <job>/<first stage>/input/   all of it, or not there

What is gathered stays after a crash and is not asked for again: a file has its name only once it is on disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_adapter.retrieval.expected import AE_TITLE
from dicom_adapter.storage.folders import make_folder
from dicom_adapter.storage.paths import SUFFIX, AdapterPaths
from dicom_adapter.storage.receiver import folder_mode, sweep
from stages.errors import OutputError, SettingsError, StageError
from stages.runtime import atomic, file_lock


class StudyFolder:
    """The place of one study, which nobody else fills meanwhile; made by `gathering`.

    Parameters
    ----------
    study_uid
        The study's.
    job
        The folder of the job's test data.
    input_folder
        Where the workflow reads, in it.
    study_uid
        Of the study.
    permissions
        Of the files; folders may be entered by whom may read.
    """

    def __init__(self, job: Path, input_folder: str, study_uid: str, permissions: int) -> None:
        self.paths = AdapterPaths(root=job / "retrieving")
        self.input = job / input_folder
        self._gathered = self.paths.study(AE_TITLE, study_uid)
        self._permissions = permissions

    def gathered(self) -> set[str]:
        """Return the SOPInstanceUIDs of what is there."""
        return {path.stem for path in self._gathered.glob(f"*{SUFFIX}") if path.is_file()}

    def begin(self, wanted: Collection[str]) -> None:
        """Remove what was half written, and take over what is wanted of what a workflow reads already.

        Parameters
        ----------
        wanted
            SOPInstanceUIDs.

        Raises
        ------
        OSError
            If the folders cannot be made.
        """
        sweep(self.paths, permissions=self._permissions)
        make_folder(self._gathered, self.paths.root.parent, folder_mode(self._permissions))
        for uid in self.gathered() - {*wanted}:
            (self._gathered / f"{uid}{SUFFIX}").unlink()
        for uid in {*wanted} - self.gathered():
            file = self.input / f"{uid}{SUFFIX}"
            if file.is_file() and not file.is_symlink():
                os.link(file, self._gathered / file.name)

    def is_whole(self, wanted: Collection[str]) -> bool:
        """Return whether a workflow finds all that is wanted, and nothing else.

        Parameters
        ----------
        wanted
            SOPInstanceUIDs.
        """
        if not self.input.is_dir():
            return False
        return {path.name for path in self.input.iterdir()} == {f"{uid}{SUFFIX}" for uid in wanted}

    def publish(self) -> None:
        """Give what was gathered its place, in one step, and remove what was there.

        Raises
        ------
        OSError
            If it cannot be done.
        """
        make_folder(self.input.parent, self.paths.root.parent, folder_mode(self._permissions))
        atomic.sync_folder(self._gathered)
        atomic.rename(self._gathered, self.input)

    def clear(self) -> None:
        """Remove what only gathering needs."""
        shutil.rmtree(self.paths.root, ignore_errors=True)


@contextmanager
def gathering(job: Path, input_folder: str, study_uid: str, permissions: int) -> Iterator[StudyFolder]:
    """Yield the place of a study, which nobody else fills until the block ends or the process dies.

    Parameters
    ----------
    job, input_folder, study_uid, permissions
        As `StudyFolder` has them.

    Raises
    ------
    SettingsError
        If another process fills it.
    OutputError
        If something cannot be written.
    """
    folder = StudyFolder(job, input_folder, study_uid, permissions)
    try:
        job.parent.mkdir(parents=True, exist_ok=True)
        make_folder(job, job.parent, folder_mode(permissions))
        descriptor = os.open(job, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not file_lock.try_lock(descriptor):
                raise SettingsError(f"another process fetches into {job}; let it end, or stop it")
            yield folder
        finally:
            os.close(descriptor)
    except StageError:
        raise
    except OSError as error:
        raise OutputError(f"{error.filename or job}: {error.strerror or error}") from error
