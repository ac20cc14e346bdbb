"""The audit trail: DICOM audit messages (PS3.15 A.5), one JSON object a line, only ever added to.

Who sent what to whom, when, and how it ended. The profile identifies patients and studies; this trail holds
no identity but a hash of the StudyInstanceUID, the same one as in logs and on the status page, so that who
has the study finds its lines and who has the trail finds no patient. Every line holds the SHA-256 of the line
before, so that a line that was changed or taken out shows (`first_break`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from stages.errors import OutputError
from stages.locks import HOST, now

logger = logging.getLogger(__name__)

Outcome: TypeAlias = Literal[0, 4, 8, 12]  # success, minor, serious, major failure

_SYSTEM = "DCM"
_BEGIN = "begin"
_LONGEST_LINE = 65536
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
}


class AuditTrail:
    """An audit trail in a file that is opened for appending, each line synced to disk.

    A line that cannot be written later on stops nobody's treatment: it goes to the log, and `trouble` tells.

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
        self._file, self._ae_title = file, ae_title
        self._lock = threading.Lock()
        self.trouble = ""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
            self._previous = self._resume()
        except OSError as error:
            raise OutputError(f"cannot write the audit trail {file}: {error.strerror}") from error

    def started(self) -> None:
        """Say that this application started."""
        self._write("110100", "E", 0, kind="110120")

    def stopped(self) -> None:
        """Say that this application stops."""
        self._write("110100", "E", 0, kind="110121")

    def received(self, *, study: str, source: str, address: str, called: str, instances: int) -> None:
        """Say that instances of a study came in from a peer."""
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
        """Say that a workflow has worked on a study."""
        self._write("110103", "E", outcome, study=study, details={"job": job, "workflow": workflow})

    def sent(
        self, *, study: str, job: str, destination: str, address: str, instances: int, outcome: Outcome
    ) -> None:
        """Say that results of a study went to a destination, or did not."""
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
        """Say that what was kept of a study's job was deleted."""
        self._write("110105", "D", 0, study=study, details={"job": job})

    def rejected(self, *, source: str, address: str, called: str, why: str) -> None:
        """Say that a peer was not let in."""
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
        os.close(self._descriptor)

    def _write(
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
    ) -> None:
        identification: dict[str, Any] = {
            "EventActionCode": action,
            "EventDateTime": now(),
            "EventOutcomeIndicator": outcome,
            "EventID": _code(event, _EVENTS),
        }
        if kind:
            identification["EventTypeCode"] = _code(kind, _TYPES)
        us = _participant(self._ae_title, "110150", HOST)
        message = {
            "EventIdentification": identification,
            "ActiveParticipant": [each for each in (us, source, destination) if each],
            "AuditSourceIdentification": {"AuditSourceID": HOST, "AuditSourceTypeCode": "4"},
            "ParticipantObjectIdentification": _objects(study, instances, details),
        }
        self._append(message)

    def _append(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            line = json.dumps({"previous": self._previous, **message}, separators=(",", ":"))
            try:
                os.write(self._descriptor, line.encode() + b"\n")
                os.fsync(self._descriptor)
            except OSError as error:
                self.trouble = f"cannot write the audit trail {self._file}: {error.strerror}"
                logger.error("%s; what it misses: %s", self.trouble, line)
                return
            self.trouble = ""
            self._previous = _digest(line)

    def _resume(self) -> str:
        """Return the digest of the last line; end one that a crash has left in the middle."""
        size = os.fstat(self._descriptor).st_size
        lines = os.pread(self._descriptor, _LONGEST_LINE, max(0, size - _LONGEST_LINE)).split(b"\n")
        if lines[-1]:
            os.write(self._descriptor, b"\n")
            return _digest(lines[-1].decode(errors="replace"))
        return _digest(lines[-2].decode(errors="replace")) if len(lines) > 1 else _BEGIN


def first_break(file: Path) -> int | None:
    """Return the number, from 1, of the first line that does not follow the one before; None if all do.

    The line after one that a crash left unfinished follows it like any other; that one itself is no message
    and is not counted as a break.
    """
    previous = _BEGIN
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            told = json.loads(line)["previous"]
        except (ValueError, KeyError, TypeError):
            told = previous
        if told != previous:
            return number
        previous = _digest(line)
    return None


def _participant(name: str, role: str, address: str = "") -> dict[str, Any]:
    roles = {"110150": "Application", "110152": "Destination Role ID", "110153": "Source Role ID"}
    told: dict[str, Any] = {
        "UserID": name,
        "AlternativeUserID": f"AETITLES={name}",
        "UserIsRequestor": role == "110153",
        "RoleIDCode": _code(role, roles),
    }
    if address:
        told |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2"}
    return told


def _objects(
    study: str | None, instances: int | None, details: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    if study is None and not details:
        return []
    told: dict[str, Any] = {
        "ParticipantObjectTypeCode": "2",
        "ParticipantObjectTypeCodeRole": "3",
        "ParticipantObjectIDTypeCode": _code("110180", {"110180": "Study Instance UID"}),
        "ParticipantObjectID": f"hash:{study}" if study else "",
    }
    if instances is not None:
        told["ParticipantObjectDescription"] = {"NumberOfInstances": instances}
    if details:
        told["ParticipantObjectDetail"] = [{"type": key, "value": value} for key, value in details.items()]
    return [told]


def _code(code: str, meanings: Mapping[str, str]) -> dict[str, str]:
    return {"csd-code": code, "codeSystemName": _SYSTEM, "originalText": meanings[code]}


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
