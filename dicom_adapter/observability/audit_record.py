"""What the audit trail says became of jobs, read when the database cannot say it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_adapter.observability.audit_chain import numbered


@dataclass
class AuditRecord:
    """What the lines of a trail say.

    Attributes
    ----------
    done
        Jobs that came to their end with a result.
    ran
        Hashes of the studies that a job ran on.
    sent
        How many results each job's destination took: by job, AE title and address.
    """

    done: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)
    sent: Counter[tuple[str, str, str]] = field(default_factory=Counter)


def read_audit_record(file: Path) -> AuditRecord | None:
    """Return what a trail says in all its files; None where there is none."""
    files = [*numbered(file), *([file] if file.is_file() else [])]
    if not files:
        return None
    record = AuditRecord()
    for message in _messages(files):
        try:
            _add(record, message)
        except (KeyError, IndexError, TypeError):
            continue  # of another kind
    return record


def _messages(files: list[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # cut off
                if isinstance(message, dict):
                    yield message


def _add(record: AuditRecord, message: dict[str, Any]) -> None:
    event = message["EventIdentification"]
    study = message["ParticipantObjectIdentification"][0]
    kind, action = event["EventID"]["csd-code"], event["EventActionCode"]
    job = {each["type"]: each["value"] for each in study["ParticipantObjectDetail"]}["job"]
    if kind == "110103":
        record.ran.add(study["ParticipantObjectID"].removeprefix("hash:"))
        if event["EventOutcomeIndicator"] == 0:
            record.done.add(job)
    elif (kind, action) == ("110104", "R"):
        to = next(each for each in message["ActiveParticipant"] if each["RoleIDCode"]["csd-code"] == "110152")
        count = study["ParticipantObjectDescription"]["NumberOfInstances"]
        record.sent[job, to["UserID"], to["NetworkAccessPointID"]] += int(count)
