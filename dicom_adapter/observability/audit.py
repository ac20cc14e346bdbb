"""The audit trail: DICOM audit messages (PS3.15 A.5), one JSON object a line, only ever added to.

Who sent what to whom, when, and how it ended. The profile identifies patients and studies; this trail holds
no identity but a hash of the StudyInstanceUID, the same one as in logs and on the status page, so that who
has the study finds its lines and who has the trail finds no patient. Every line holds the SHA-256 of the line
before, so that a line that was changed or taken out shows (`dicom_adapter.observability.audit_chain`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dicom_adapter.observability.audit_chain import AuditChain
from stages.lifecycle.locks import HOST, now

Outcome: TypeAlias = Literal[0, 4, 8, 12]  # success, minor, serious, major failure

_SYSTEM = "DCM"
_EVENTS = {
    "110100": "Application Activity",
    "110103": "DICOM Instances Accessed",
    "110104": "DICOM Instances Transferred",
    "110105": "DICOM Study Deleted",
    "110113": "Security Alert",
}
_TYPES = {
    "110120": "Application Start",
    "110121": "Application Stop",
    "110126": "Node Authentication",
    "110134": "Audit Recording Started",
}


class AuditTrail:
    """An audit trail in a file that is opened for appending, each line synced to disk.

    A line that cannot be written stops nobody's treatment: it goes to the log, `trouble` tells, and it
    follows in the trail once it can be written.

    Parameters
    ----------
    file
        Where it lies; made if it is not there.
    ae_title
        Who we are.

    Raises
    ------
    OutputError
        If it cannot be written.
    """

    def __init__(self, file: Path, *, ae_title: str) -> None:
        self._ae_title = ae_title
        self._chain = AuditChain(file, repaired=self._repaired)

    @property
    def trouble(self) -> str:
        """Why it cannot be written now; "" if it can."""
        return self._chain.trouble

    def flush(self) -> None:
        """Write what could not be written before."""
        self._chain.flush()

    def started(self) -> None:
        """Record that this application started."""
        self._write("110100", "E", 0, kind="110120")

    def stopped(self) -> None:
        """Record that this application stops."""
        self._write("110100", "E", 0, kind="110121")

    def received(self, *, study: str, source: str, address: str, called: str, instances: int) -> None:
        """Record that instances of a study came in from a peer.

        Parameters
        ----------
        study, source, address
            What stands for the study in logs, the AE title of the peer and the peer's IP address.
        called
            The AE title that is called.
        instances
            How many.
        """
        self._write(
            "110104",
            "C",
            0,
            source=_participant(source, "110153", address),
            destination=_participant(called, "110152"),
            study=study,
            instances=instances,
        )

    def ran(self, *, study: str, job: str, workflow: str, outcome: Outcome) -> None:
        """Record that a workflow has worked on a study.

        Parameters
        ----------
        study, job, workflow
            What stands for the study in logs, the job's ID and the workflow's name.
        outcome
            Whether it succeeded, and why not.
        """
        self._write("110103", "E", outcome, study=study, details={"job": job, "workflow": workflow})

    def sent(
        self, *, study: str, job: str, destination: str, address: str, instances: int, outcome: Outcome
    ) -> None:
        """Record that results of a study went to a destination, or did not.

        Parameters
        ----------
        study, job, destination
            What stands for the study in logs, the job's ID and the destination's name.
        address
            Where the destination is.
        instances
            How many.
        outcome
            Whether it succeeded, and why not.
        """
        self._write(
            "110104",
            "R",
            outcome,
            source=_participant(self._ae_title, "110153"),
            destination=_participant(destination, "110152", address),
            study=study,
            instances=instances,
            details={"job": job},
        )

    def deleted(self, *, study: str, job: str) -> None:
        """Record that what was kept of a study's job was deleted.

        Parameters
        ----------
        study, job
            What stands for the study in logs and the job's ID.
        """
        self._write("110105", "D", 0, study=study, details={"job": job})

    def rejected(self, *, source: str, address: str, called: str, why: str) -> None:
        """Record that a peer was not let in.

        Parameters
        ----------
        source, address, called
            The AE title of the peer, the peer's IP address and the AE title that is called.
        why
            The reason, a sentence.
        """
        self._write(
            "110113",
            "E",
            4,
            kind="110126",
            source=_participant(source, "110153", address),
            destination=_participant(called, "110152"),
            details={"reason": why},
        )

    def close(self) -> None:
        """Close the file."""
        self._chain.close()

    def _write(self, event: str, action: str, outcome: Outcome, **more: Any) -> None:
        self._chain.append(self._message(event, action, outcome, **more))

    def _message(
        self,
        event: str,
        action: str,
        outcome: Outcome,
        *,
        kind: str | None = None,
        source: Mapping[str, Any] | None = None,
        destination: Mapping[str, Any] | None = None,
        study: str | None = None,
        instances: int | None = None,
        details: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        identification: dict[str, Any] = {
            "EventActionCode": action,
            "EventDateTime": now(),
            "EventOutcomeIndicator": outcome,
            "EventID": _code(event, _EVENTS),
        }
        if kind:
            identification["EventTypeCode"] = _code(kind, _TYPES)
        us = _participant(self._ae_title, "110150", HOST)
        return {
            "EventIdentification": identification,
            "ActiveParticipant": [each for each in (us, source, destination) if each],
            "AuditSourceIdentification": {"AuditSourceID": HOST, "AuditSourceTypeCode": "4"},
            "ParticipantObjectIdentification": _objects(study, instances, details),
        }

    def _repaired(self, what: str) -> dict[str, Any]:
        return self._message("110113", "E", 4, kind="110134", details={"reason": what})


def _participant(name: str, role: str, address: str = "") -> dict[str, Any]:
    roles = {"110150": "Application", "110152": "Destination Role ID", "110153": "Source Role ID"}
    entry: dict[str, Any] = {
        "UserID": name,
        "AlternativeUserID": f"AETITLES={name}",
        "UserIsRequestor": role == "110153",
        "RoleIDCode": _code(role, roles),
    }
    if address:
        entry |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2"}
    return entry


def _objects(
    study: str | None, instances: int | None, details: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    if study is None and not details:
        return []
    entry: dict[str, Any] = {
        "ParticipantObjectTypeCode": "2",
        "ParticipantObjectTypeCodeRole": "3",
        "ParticipantObjectIDTypeCode": _code("110180", {"110180": "Study Instance UID"}),
        "ParticipantObjectID": f"hash:{study}" if study else "",
    }
    if instances is not None:
        entry["ParticipantObjectDescription"] = {"NumberOfInstances": instances}
    if details:
        entry["ParticipantObjectDetail"] = [{"type": key, "value": value} for key, value in details.items()]
    return [entry]


def _code(code: str, meanings: Mapping[str, str]) -> dict[str, str]:
    return {"csd-code": code, "codeSystemName": _SYSTEM, "originalText": meanings[code]}
