"""A study retrieved: all that its archive lists, compared one by one, or nothing that a workflow reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_adapter.config.blocks import Storage
from dicom_adapter.retrieval.answers import (
    ArchiveError,
    FoundStudy,
    ListedInstance,
    listed_instances,
    told_of,
)
from dicom_adapter.retrieval.archive import Archive
from dicom_adapter.retrieval.expected import Expected, ExpectedReceiver
from dicom_adapter.retrieval.study_folder import StudyFolder, gathering


@dataclass(frozen=True, kw_only=True)
class RetrievedStudy:
    """How many instances a study has, and how many of them came now.

    Attributes
    ----------
    instances
        All of them.
    retrieved
        Those that came now.
    """

    instances: int
    retrieved: int


def retrieve_study(
    archive: Archive,
    study: FoundStudy,
    job: Path,
    input_folder: str,
    storage: Storage,
    on_progress: Callable[[int, int], None],
    *,
    apart_from: Collection[str] = (),
) -> RetrievedStudy:
    """Make a study the input of a job; what is there already is not asked for again.

    Parameters
    ----------
    archive
        Where it lies.
    study
        What the archive has said of it.
    job
        The folder of the job's test data.
    input_folder
        Where the workflow reads, in it.
    storage
        How much of the disk stays free, and the permissions of files.
    on_progress
        Called with how many instances are there and how many there will be.
    apart_from
        SOPInstanceUIDs that are not wanted, such as those of the job's own results.

    Raises
    ------
    InputError
        If what comes is not what was asked for.
    ArchiveError
        If the archive fails, or does not send all that it lists.
    StageTimeoutError
        If it is too slow.
    OutputError
        If something cannot be written.
    """
    with told_of(archive.place):
        all_listed = listed_instances(archive.place, archive.instances(study.uid), study)
    listed = [each for each in all_listed if each.sop_instance_uid not in apart_from]
    wanted = {each.sop_instance_uid: each for each in listed}
    with gathering(job, input_folder, study.uid, storage.permissions) as folder:
        if folder.is_whole(wanted):
            folder.clear()
            return RetrievedStudy(instances=len(wanted), retrieved=0)
        folder.begin(wanted)
        missing = {*wanted} - folder.gathered()
        came = len(missing)
        on_progress(len(wanted) - len(missing), len(wanted))
        expected = Expected(
            place=archive.place,
            study=study,
            instances=wanted,
            missing=missing,
            on_kept=lambda: on_progress(len(wanted) - len(missing), len(wanted)),
        )
        _gather(archive, expected, listed, folder, storage)
        folder.publish()
        folder.clear()
    return RetrievedStudy(instances=len(wanted), retrieved=came)


def _gather(
    archive: Archive,
    expected: Expected,
    listed: Sequence[ListedInstance],
    folder: StudyFolder,
    storage: Storage,
) -> None:
    """Retrieve until nothing is missing; ask once more for what did not come as long as something does."""
    receiver = ExpectedReceiver(folder.paths, storage, expected)
    missing = expected.missing
    left = len(missing) + 1
    while missing and len(missing) < left:
        left = len(missing)
        with told_of(archive.place):
            archive.retrieve(expected.study.uid, listed, missing, receiver)
    there = folder.gathered()
    if missing or there != {*expected.instances}:
        raise ArchiveError(
            f"{archive.place} lists {len(expected.instances)} instances and sent "
            f"{len(there & {*expected.instances})}; the same command asks for the others again"
        )
