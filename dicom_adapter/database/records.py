"""What the database holds: studies, jobs and deliveries, and which way each may go, and rows read as such.

Each row is checked: a damaged one must harm nobody else's.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import SettingsError

STUDY_TRANSITIONS: Mapping[str, frozenset[str]] = {
    "receiving": frozenset({"complete", "held"}),
    "complete": frozenset({"receiving", "removed"}),
    "held": frozenset({"receiving", "complete", "removed"}),
    "removed": frozenset({"receiving"}),
}
"""``receiving``: more may come; ``complete``: jobs were made; ``held``: late ones, or
one that is set aside, wait for somebody."""

JOB_TRANSITIONS: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "superseded"}),
    "running": frozenset({"queued", "done", "dead", "superseded"}),
    "done": frozenset({"superseded"}),
    "dead": frozenset({"queued", "superseded"}),
    "superseded": frozenset(),
}
"""``dead``: a dead letter, kept until it is replayed (``queued`` again)."""

DELIVERY_TRANSITIONS: Mapping[str, frozenset[str]] = {
    "waiting": frozenset({"waiting", "uncommitted", "delivered", "dead", "cancelled"}),
    "uncommitted": frozenset({"uncommitted", "delivered", "waiting", "dead", "cancelled"}),
    "dead": frozenset({"waiting", "cancelled"}),
    "delivered": frozenset(),
    "unchanged": frozenset({"waiting"}),
    "cancelled": frozenset(),
}
"""``uncommitted``: taken, but the destination has not yet committed itself to keep it, as it was asked to;
``dead``: refused for good, or tried for too long; ``unchanged``: not sent, since the destination has or
gets the same from an earlier job, ``waiting`` if that was superseded before it had; ``cancelled``: of a job
that was superseded."""


TRANSITIONS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "studies": STUDY_TRANSITIONS,
    "jobs": JOB_TRANSITIONS,
    "deliveries": DELIVERY_TRANSITIONS,
}

_LONGEST_TEXT = 1 << 16
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "bool": (int,),
    "float": (int, float),
    "str": (str,),
    "Path": (str,),
    "tuple": (str,),
    "None": (type(None),),
}


class StateError(SettingsError):
    """Something is not in a state that what was asked for may follow."""


@dataclass(frozen=True, kw_only=True)
class ReceivedInstance:
    """An instance that is on disk under its final name.

    Attributes
    ----------
    ae_title
        The name that it was sent to.
    study_uid
        Of the study.
    sop_instance_uid
        Of the instance.
    sop_class_uid
        Of the instance.
    path
        The file.
    size
        Bytes.
    conflict
        Whether it has the SOPInstanceUID of another instance and other content.
    modality, series_description
        For the filter; the description stays out of logs and pages.
    """

    ae_title: str
    study_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    size: int
    modality: str = ""
    series_description: str = ""
    conflict: bool = False


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """All that came of a study under an AE title.

    Attributes
    ----------
    id
        Its number in the database.
    ae_title
        The AE title that it came under.
    study_uid
        Of the study.
    state
        How it is doing.
    generation
        How often it was complete.
    instances
        How many there are.
    conflicts
        How many of them contradict another one.
    received
        When its last instance came, ISO 8601, UTC; for people, never compared.
    """

    id: int
    ae_title: str
    study_uid: str
    state: str
    generation: int
    instances: int
    conflicts: int
    received: str


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A run of a workflow on a study.

    Attributes
    ----------
    id
        Made of the study, the workflow and the generation, so that it is the same after a crash.
    study_id
        The study's number in the database.
    rule
        Name of the rule of the configuration that asked for it.
    workflow
        The workflow's ID.
    destinations
        The names of those who get its results.
    generation
        How often the study was complete then.
    state
        How it is doing.
    tries
        How often it was started.
    exit_code, reason
        Of the last failure.
    not_before
        Seconds of service; not started earlier.
    created
        When it was made, ISO 8601, UTC.
    changed
        When its state changed, ISO 8601, UTC.
    """

    id: str
    study_id: int
    rule: str
    workflow: str
    destinations: tuple[str, ...]
    generation: int
    state: str
    tries: int
    exit_code: int | None
    reason: str
    not_before: float
    created: str
    changed: str


@dataclass(frozen=True, kw_only=True)
class DeliveryRecord:
    """An instance of a result on its way to a destination.

    Attributes
    ----------
    id
        Its number in the database.
    job_id
        The job's ID.
    destination
        The destination's name.
    sop_instance_uid
        Of the instance.
    path
        The file.
    state
        How it is doing.
    tries, refusals
        How often the destination has answered, and how often that it does not want it.
    status
        What the destination answered last.
    message
        What is said of it, for people.
    transaction_uid
        The requests for storage commitment that it is in, the latest last, with spaces between; "" for none.
    unsure
        Whether it has gone out and was not answered, so that it may have arrived.
    not_before
        Not before this time, seconds of service.
    created
        When it was made, ISO 8601, UTC.
    changed
        When its state changed, ISO 8601, UTC.
    """

    id: int
    job_id: str
    destination: str
    sop_instance_uid: str
    path: Path
    state: str
    tries: int
    refusals: int
    status: str
    message: str
    transaction_uid: str
    unsure: bool
    not_before: float
    created: str
    changed: str


class DamagedRowError(ValueError):
    """A row holds what the adapter never wrote."""


def study_of(row: sqlite3.Row) -> StudyRecord:
    """Return a study, or raise `DamagedRowError` if the row is damaged.

    Parameters
    ----------
    row
        A row of the database.
    """
    return StudyRecord(**_checked(row, StudyRecord, STUDY_TRANSITIONS))


def received_of(row: sqlite3.Row) -> ReceivedInstance:
    """Return an instance, or raise `DamagedRowError` if the row is damaged.

    Parameters
    ----------
    row
        A row of the database.
    """
    kept = _checked(row, ReceivedInstance)
    return ReceivedInstance(**{**kept, "path": Path(kept["path"]), "conflict": bool(kept["conflict"])})


def job_of(row: sqlite3.Row) -> JobRecord:
    """Return a job, or raise `DamagedRowError` if the row is damaged.

    Parameters
    ----------
    row
        A row of the database.
    """
    kept = _checked(row, JobRecord, JOB_TRANSITIONS)
    if not _JOB_ID.fullmatch(kept["id"]):
        raise DamagedRowError("column id, which names a folder, holds no UUID")
    try:
        names = json.loads(kept["destinations"])
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise DamagedRowError("column destinations holds no list of names")
    return JobRecord(**{**kept, "destinations": tuple(names)})


def delivery_of(row: sqlite3.Row) -> DeliveryRecord:
    """Return a delivery, or raise `DamagedRowError` if the row is damaged.

    Parameters
    ----------
    row
        A row of the database.
    """
    kept = _checked(row, DeliveryRecord, DELIVERY_TRANSITIONS)
    return DeliveryRecord(**{**kept, "path": Path(kept["path"]), "unsure": bool(kept["unsure"])})


def _checked(row: sqlite3.Row, kind: type, states: Collection[str] = ()) -> dict[str, Any]:
    kept = {name: row[name] for name in kind.__annotations__}
    for name, annotation in kind.__annotations__.items():
        value = kept[name]
        allowed = [each.split("[")[0] for each in str(annotation).split(" | ")]
        if not isinstance(value, sum((_TYPES[each] for each in allowed), ())):
            raise DamagedRowError(f"column {name} holds {type(value).__name__}, expected {annotation}")
        if isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise DamagedRowError(f"column {name} holds a text of {len(value)} characters")
    if states and kept["state"] not in states:
        raise DamagedRowError(f"column state holds none of {', '.join(states)}")
    return kept
