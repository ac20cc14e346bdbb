"""What the books hold: studies, jobs and deliveries, and which way each may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STUDY_MOVES: Mapping[str, frozenset[str]] = {
    "receiving": frozenset({"complete", "held"}),
    "complete": frozenset({"receiving", "removed"}),
    "held": frozenset({"receiving", "complete", "removed"}),
    "removed": frozenset({"receiving"}),
}
"""``receiving``: more may come; ``complete``: jobs were made; ``held``: late ones, or
one that is set aside, wait for somebody."""

JOB_MOVES: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "superseded"}),
    "running": frozenset({"queued", "done", "dead", "superseded"}),
    "done": frozenset({"superseded"}),
    "dead": frozenset({"queued", "superseded"}),
    "superseded": frozenset(),
}
"""``dead``: a dead letter, kept until it is replayed (``queued`` again)."""

DELIVERY_MOVES: Mapping[str, frozenset[str]] = {
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


@dataclass(frozen=True, kw_only=True)
class Received:
    """An instance that is on disk under its final name.

    Attributes
    ----------
    ae_title
        The name that it was sent to.
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
class Study:
    """All that came of a study under an AE title.

    Attributes
    ----------
    generation
        How often it was complete.
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
class Job:
    """A run of a workflow on a study.

    Attributes
    ----------
    id
        Made of the study, the workflow and the generation, so that it is the same after a crash.
    rule
        Name of the rule of the configuration that asked for it.
    tries
        How often it was started.
    exit_code, reason
        Of the last failure.
    not_before
        Seconds of service; not started earlier.
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
class Delivery:
    """An instance of a result on its way to a destination.

    Attributes
    ----------
    tries, refusals
        How often the destination has answered, and how often that it does not want it.
    transaction_uid
        The requests for storage commitment that it is in, the latest last, with spaces between; "" for none.
    unsure
        Whether it has gone out and was not answered, so that it may have arrived.
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
