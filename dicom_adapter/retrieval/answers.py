"""What an archive says of studies and instances, by C-FIND and QIDO-RS alike, held to what it was asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from clara_wf.run.archives import StudyQuery
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.storage.paths import checked_uid
from stages.errors import InputError, StageError, StageTimeoutError

STUDY_DATE, STUDY_TIME, ACCESSION, MODALITY = 0x00080020, 0x00080030, 0x00080050, 0x00080060
MODALITIES, SOP_CLASS, SOP_INSTANCE, DESCRIPTION = 0x00080061, 0x00080016, 0x00080018, 0x00081030
PATIENT_NAME, PATIENT_ID, BIRTH_DATE = 0x00100010, 0x00100020, 0x00100030
STUDY_UID, SERIES_UID = 0x0020000D, 0x0020000E
STUDY_SERIES, STUDY_INSTANCES = 0x00201206, 0x00201208
OF_STUDY = (
    *(STUDY_DATE, STUDY_TIME, ACCESSION, MODALITIES, DESCRIPTION, PATIENT_NAME, PATIENT_ID, BIRTH_DATE),
    *(STUDY_UID, STUDY_SERIES, STUDY_INSTANCES),
)
MOST_STUDIES, MOST_INSTANCES = 1000, 200_000

Attributes: TypeAlias = Mapping[int, str]
"""Values of an answer by tag; several of one attribute with backslashes between them."""


class ArchiveError(StageError):
    """An archive cannot be reached, refuses, goes away, or says what the standard does not allow."""

    exit_code = 5
    retryable = True


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    """A study as an archive describes it.

    Attributes
    ----------
    uid
        StudyInstanceUID.
    patient_id, patient_name, accession, description
        Texts of it; "" where the archive does not say.
    modalities
        Of all its series.
    date, time, birth_date
        As DICOM writes them.
    description
        *Study Description* (0008,1030).
    modalities
        *Modalities in Study* (0008,0061).
    series, instances
        How many, as the archive says; None where it does not.
    """

    uid: str
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    date: str = ""
    time: str = ""
    description: str = field(default="", repr=False)
    modalities: tuple[str, ...] = ()
    series: int | None = None
    instances: int | None = None


@dataclass(frozen=True, kw_only=True)
class ListedInstance:
    """An instance that an archive says it has.

    Attributes
    ----------
    series_uid
        SeriesInstanceUID.
    sop_instance_uid
        SOPInstanceUID.
    sop_class_uid
        "" where it does not say.
    """

    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str = ""


def found_studies(place: str, answers: Iterable[Attributes], query: StudyQuery) -> list[FoundStudy]:
    """Return the studies of an archive's answers, in the order of their dates.

    Parameters
    ----------
    place
        The archive, for people.
    answers
        What it has said.
    query
        What it was asked.

    Raises
    ------
    InputError
        If one is not what was asked for; which, the message does not say.
    """
    found = {}
    for each in answers:
        study = _study(place, each)
        if why := _other_than(study, query):
            raise InputError(
                f"{place} answers with a study of another {why} than it was asked for; tell who runs it"
            )
        if not query.modality or not study.modalities or query.modality in study.modalities:
            found[study.uid] = study  # an archive need not match by modality (PS3.4 C.3.4)
    return sorted(found.values(), key=lambda study: (study.date, study.time, study.uid))


def listed_instances(place: str, answers: Iterable[Attributes], study: FoundStudy) -> list[ListedInstance]:
    """Return the instances of an archive's answers.

    Parameters
    ----------
    place
        The archive, for people.
    answers
        What it has said.
    study
        What it was asked.

    Raises
    ------
    InputError
        If one is of another study, or the archive has said that the study has more.
    """
    listed: dict[str, ListedInstance] = {}
    for each in answers:
        if each.get(STUDY_UID, study.uid) != study.uid:
            raise InputError(
                f"{place} lists an instance of another study than it was asked for; tell who runs it"
            )
        instance = ListedInstance(
            series_uid=_uid(place, each, SERIES_UID, "SeriesInstanceUID"),
            sop_instance_uid=_uid(place, each, SOP_INSTANCE, "SOPInstanceUID"),
            sop_class_uid=_uid(place, each, SOP_CLASS, "SOPClassUID") if each.get(SOP_CLASS) else "",
        )
        listed[instance.sop_instance_uid] = instance
    if not listed:
        raise InputError(f"{place} lists no instance of the study; is it archived elsewhere?")
    if study.instances is not None and len(listed) < study.instances:
        raise InputError(
            f"{place} says that the study has {study.instances} instances and lists {len(listed)}; "
            "is it still arriving there? try again later"
        )
    return sorted(listed.values(), key=lambda each: (each.series_uid, each.sop_instance_uid))


@contextmanager
def told_of(place: str) -> Iterator[None]:
    """Turn what goes wrong with an archive into the error with its exit code: too slow, or anything else.

    Parameters
    ----------
    place
        The archive, for people.
    """
    try:
        yield
    except DestinationError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise StageTimeoutError(str(error)) from error
        raise ArchiveError(str(error)) from error


def _study(place: str, answer: Attributes) -> FoundStudy:
    return FoundStudy(
        uid=_uid(place, answer, STUDY_UID, "StudyInstanceUID"),
        patient_id=answer.get(PATIENT_ID, "").strip(),
        patient_name=answer.get(PATIENT_NAME, ""),
        birth_date=answer.get(BIRTH_DATE, ""),
        accession=answer.get(ACCESSION, "").strip(),
        date=answer.get(STUDY_DATE, "").strip(),
        time=answer.get(STUDY_TIME, "").strip(),
        description=answer.get(DESCRIPTION, ""),
        modalities=tuple(each.strip() for each in answer.get(MODALITIES, "").split("\\") if each.strip()),
        series=_count(answer.get(STUDY_SERIES, "")),
        instances=_count(answer.get(STUDY_INSTANCES, "")),
    )


def _other_than(study: FoundStudy, query: StudyQuery) -> str:
    """Return what of a study is not as it was asked for, "" if all is, as far as the archive says it."""
    if query.study_uid and study.uid != query.study_uid:
        return "StudyInstanceUID"
    if query.patient_id and study.patient_id and _folded(study.patient_id) != _folded(query.patient_id):
        return "Patient ID"
    if query.accession and study.accession and _folded(study.accession) != _folded(query.accession):
        return "Accession Number"
    first, last = query.first_date or study.date, query.last_date or study.date
    if study.date and not first <= study.date <= last:
        return "date"
    return ""


def _folded(text: str) -> str:
    return text.strip().casefold()


def _uid(place: str, answer: Attributes, tag: int, name: str) -> str:
    try:
        return checked_uid(answer.get(tag, "").rstrip("\0 "), name)
    except InputError as error:
        raise InputError(f"an answer of {place} is none: {error}") from error


def _count(text: str) -> int | None:
    return int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 12 else None
