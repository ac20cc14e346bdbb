"""Studies that lie in an archive: how one is asked for, and what an extension does that knows archives."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from clara_wf.workspace import Places
from stages.errors import SettingsError

CONFIG = "clara-platform/files/dicom-server-config.yaml"
"""Where a workspace says which archives there are."""

_UID = re.compile(r"[0-2](\.[0-9]+)+", re.ASCII)
_LONGEST_UID, _LONGEST_TEXT = 64, 64
_MATCHING = "*?\\"  # what an archive takes for more than itself


@dataclass(frozen=True, kw_only=True)
class StudyQuery:
    """Which studies are meant; what is "" does not matter. At least one of the first three says something.

    Attributes
    ----------
    study_uid, accession, patient_id
        *Study Instance UID* (0020,000D), *Accession Number* (0008,0050), *Patient ID* (0010,0020).
    first_date, last_date
        Of *Study Date* (0008,0020), ``YYYYMMDD``, both included.
    modality
        One of *Modalities in Study* (0008,0061).
    """

    study_uid: str = ""
    accession: str = ""
    patient_id: str = ""
    first_date: str = ""
    last_date: str = ""
    modality: str = ""

    @property
    def dates(self) -> str:
        """The dates as DICOM matches a range (PS3.4 C.2.2.2.5.1)."""
        if self.first_date == self.last_date:
            return self.first_date
        return f"{self.first_date}-{self.last_date}"


def study_query(
    *, study_uid: str = "", accession: str = "", patient_id: str = "", dates: str = "", modality: str = ""
) -> StudyQuery:
    """Return a query of what somebody has typed.

    Parameters
    ----------
    study_uid, accession, patient_id, modality
        As `StudyQuery` has them.
    dates
        ``2026-01-31``, or a range with an open end or two: ``2026-01-01..``, ``2026-01-01..2026-01-31``.

    Raises
    ------
    SettingsError
        If nothing says which study, or something is not what it should be. The message does not repeat it.
    """
    if not (study_uid or accession or patient_id):
        raise SettingsError("say which study: --study UID, --accession NUMBER or --patient ID")
    if study_uid and (len(study_uid) > _LONGEST_UID or not _UID.fullmatch(study_uid)):
        raise SettingsError("--study is no UID: numbers with dots between them, 64 characters at most")
    for option, text in (("--accession", accession), ("--patient", patient_id), ("--modality", modality)):
        _require_plain(option, text)
    first, last = _range(dates)
    return StudyQuery(
        study_uid=study_uid,
        accession=accession,
        patient_id=patient_id,
        first_date=first,
        last_date=last,
        modality=modality.upper(),
    )


def _require_plain(option: str, text: str) -> None:
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise SettingsError(f"{option} has more than {_LONGEST_TEXT} characters, or some that no text has")
    if set(text) & {*_MATCHING}:
        raise SettingsError(f"{option} holds one of {_MATCHING}, which matches others as well; write it out")


def _range(dates: str) -> tuple[str, str]:
    """Return the first and the last date, ``YYYYMMDD``, of a range as it is typed."""
    if not dates:
        return "", ""
    first, dots, last = dates.partition("..")
    begin, end = _date(first), _date(last if dots else first)
    if not (begin or end) or (begin and end and begin > end):
        raise SettingsError(
            f"--date is no range: {dates!r}; write 2026-01-31, 2026-01-01.. or 2026-01-01..2026-01-31"
        )
    return begin, end


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).strftime("%Y%m%d") if text else ""
    except ValueError as error:
        raise SettingsError(f"--date has no date {text!r}; write it as 2026-01-31") from error


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A study that was fetched, as a job's input.

    Attributes
    ----------
    job
        The job whose test data it is.
    study
        12 letters that stand for the study.
    instances
        How many it has.
    retrieved
        How many of them came now; the others were there.
    seconds
        What that took.
    """

    job: str
    study: str
    instances: int
    retrieved: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """How studies are fetched.

    Attributes
    ----------
    show_identifiers
        Whether names, IDs, dates and UIDs are shown of what is found.
    every
        Whether all that is found is fetched, where it is more than one study.
    only_list
        Whether nothing is fetched.
    """

    show_identifiers: bool = False
    every: bool = False
    only_list: bool = False


class Archives(Protocol):
    """Archives that are known by their names; an extension brings them (`clara_wf.commands.extensions`)."""

    def require(self, name: str) -> None:
        """Return if there is an archive of this name, and what it needs of files can be used.

        Parameters
        ----------
        name
            What the configuration calls it.

        Raises
        ------
        SettingsError
            If not.
        """

    def fetch(
        self,
        name: str,
        query: StudyQuery,
        workflow: Workflow,
        places: Places,
        options: FetchOptions,
        print_line: Callable[[str], None],
    ) -> list[Fetched]:
        """Find studies in an archive, and make each the test data of a job of its own.

        Parameters
        ----------
        name
            What the configuration calls the archive.
        query
            Which studies.
        workflow
            Whose input they are.
        places
            Where test data lies, and the results of earlier runs.
        options
            How.
        print_line
            Called with a line for the user now and then.

        Raises
        ------
        StageError
            If it cannot be done; what has come is there, and goes on at the next call.
        """

    def deliver(self, name: str, payload: Payload, workflow: Workflow) -> str:
        """Send the results of a job, those that are not there yet, and return what became of that.

        Parameters
        ----------
        name
            What the configuration calls the archive.
        payload
            The job's.
        workflow
            Which it has run.

        Raises
        ------
        OutputError
            If they do not all arrive.
        """


def archives_file(named: Path | None, places: Places) -> Path:
    """Return the file that says which archives there are: the one that is named, or the workspace's.

    Parameters
    ----------
    named
        By the user; None if not.
    places
        Those of the workspace.

    Raises
    ------
    SettingsError
        If there is none.
    """
    if named is not None:
        return named
    found = places.workspace.root / CONFIG
    if not found.is_file():
        raise SettingsError(f"no file says which archives there are; name a {found.name} by --config")
    return found
