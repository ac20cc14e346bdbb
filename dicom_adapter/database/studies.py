"""Studies and their instances: what is received, complete, held or finished."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from dicom_adapter.config.blocks import WorkflowRule
from dicom_adapter.database.connection import marks
from dicom_adapter.database.deliveries import left_without
from dicom_adapter.database.jobs import JobTable, job_id_of
from dicom_adapter.database.records import JobRecord, ReceivedInstance, StudyRecord, received_of, study_of
from stages.lifecycle.locks import now

_LONGEST_CODE, _LONGEST_DESCRIPTION = 16, 64  # PS3.5 6.2, CS and LO
SELECT_STUDIES = """
SELECT s.*, COUNT(i.path) AS instances, COALESCE(SUM(i.conflict), 0) AS conflicts
FROM studies s LEFT JOIN instances i ON i.study_id = s.id
"""
_IS_FINISHED = """
(EXISTS (SELECT 1 FROM jobs j WHERE j.study_id = studies.id AND j.state = 'done') AND NOT EXISTS (
    SELECT 1 FROM jobs j WHERE j.study_id = studies.id AND j.state != 'superseded' AND (
        j.state != 'done' OR NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id)
        OR EXISTS (SELECT 1 FROM deliveries d WHERE d.job_id = j.id
            AND d.state NOT IN ('delivered', 'unchanged', 'cancelled')))))
"""


class StudyTable(JobTable):
    """The studies of a database, which know their jobs."""

    def add_instances(self, received: Iterable[ReceivedInstance]) -> None:
        """Write down instances; those that are known already change nothing.

        A study that was complete, or removed, is being received again.

        Parameters
        ----------
        received
            The instances.
        """
        with self.transaction() as database:
            for each in received:
                study = self._study_id(database, each)
                texts = each.modality[:_LONGEST_CODE], each.series_description[:_LONGEST_DESCRIPTION]
                values = (str(each.path), study, each.sop_instance_uid, each.sop_class_uid, *texts)
                more = (each.size, each.conflict, now())
                added = database.execute(
                    "INSERT OR IGNORE INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, *more)
                )
                if added.rowcount and not each.conflict:
                    database.execute(
                        "UPDATE studies SET state = 'receiving', received = ?, ended_s = NULL WHERE id = ?",
                        (now(), study),
                    )

    def knows(self, path: Path) -> bool:
        """Return whether a file is in the database."""
        return bool(self._rows("SELECT 1 FROM instances WHERE path = ?", str(path)))

    def studies(self, *states: str, most: int = -1) -> list[StudyRecord]:
        """Return the studies in some states, or all, the latest first, or only so many of the latest.

        Parameters
        ----------
        states
            Which; none for all.
        most
            How many; -1 for all.
        """
        which = f"WHERE s.state IN ({marks(states)})" if states else ""
        query = f"{SELECT_STUDIES} {which} GROUP BY s.id ORDER BY s.id DESC LIMIT ?"
        return self._read("study", self._rows(query, *states, most), study_of)

    def study(self, study_id: int) -> StudyRecord:
        """Return a study.

        Parameters
        ----------
        study_id
            The study's number in the database.

        Raises
        ------
        StateError
            If there is none of this ID, or its row is damaged.
        """
        return self._whole(study_of, self._one(f"{SELECT_STUDIES} WHERE s.id = ? GROUP BY s.id", study_id))

    def instances(self, study_id: int) -> list[ReceivedInstance]:
        """Return the instances of a study, those in conflict with another one left out.

        Parameters
        ----------
        study_id
            The study's number in the database.
        """
        rows = self._rows(
            "SELECT i.*, s.ae_title, s.study_uid FROM instances i JOIN studies s ON s.id = i.study_id "
            "WHERE i.study_id = ? AND NOT i.conflict ORDER BY i.sop_instance_uid",
            study_id,
        )
        return self._read("instance", rows, received_of)

    def hold(self, study_id: int) -> None:
        """Hold a study whose late instances wait for somebody.

        Parameters
        ----------
        study_id
            The study's number in the database.
        """
        with self.transaction() as database:
            self._move(database, "studies", study_id, "held")

    def complete(
        self, study_id: int, rules: Sequence[WorkflowRule], *, supersede: bool = False
    ) -> list[JobRecord]:
        """Write down that a study is complete, and make a job for each rule, all or none.

        Parameters
        ----------
        study_id, rules
            The study's number in the database and the rules that apply to it.
        supersede
            The jobs that were made of it before, and what they have not delivered, are given up.
        """
        with self.transaction() as database:
            study = self.study(study_id)
            self._move(database, "studies", study_id, "complete")
            database.execute("UPDATE studies SET generation = generation + 1 WHERE id = ?", (study_id,))
            if supersede:
                self._supersede(database, study_id)
            made = [job_id_of(study, rule, study.generation + 1) for rule in rules]
            for job, rule in zip(made, rules, strict=True):
                database.execute(
                    "INSERT OR IGNORE INTO jobs (id, study_id, rule, workflow, destinations, generation, "
                    "state, created, changed) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?)",
                    (
                        *(job, study_id, rule.name, rule.workflow, json.dumps(rule.destination_name)),
                        *(study.generation + 1, now(), now()),
                    ),
                )
        return [self.job(job) for job in made]

    def finished_studies(self, age_s: float) -> list[StudyRecord]:
        """Return complete studies whose every job is done and delivered, and has been for some time.

        A study that no job was made of, or whose results go nowhere, is none of them.

        Parameters
        ----------
        age_s
            How long, in seconds of service since the first call that has found a study so.
        """
        with self.transaction() as database:
            database.execute(
                f"UPDATE studies SET ended_s = NULL WHERE state = 'complete' AND ended_s NOTNULL "  # noqa: S608
                f"AND NOT {_IS_FINISHED}"
            )
            database.execute(
                f"UPDATE studies SET ended_s = ? WHERE state = 'complete' AND ended_s ISNULL "  # noqa: S608
                f"AND {_IS_FINISHED}",
                (self.clock(),),
            )
        query = f"{SELECT_STUDIES} WHERE s.state = 'complete' AND s.ended_s <= ? GROUP BY s.id"
        return self._read("study", self._rows(query, self.clock() - age_s), study_of)

    def _study_id(self, database: sqlite3.Connection, received: ReceivedInstance) -> int:
        key = received.ae_title, received.study_uid
        database.execute(
            "INSERT OR IGNORE INTO studies (ae_title, study_uid, state, received) "
            "VALUES (?, ?, 'receiving', ?)",
            (*key, now()),
        )
        found = database.execute(
            "SELECT id FROM studies WHERE ae_title = ? AND study_uid = ?", key
        ).fetchone()
        return int(found["id"])

    def _supersede(self, database: sqlite3.Connection, study_id: int) -> None:
        for job in self.jobs("queued", "running", "done", "dead", study_id=study_id):
            for each in self.deliveries("waiting", "uncommitted", "dead", job_id=job.id):
                self._move(database, "deliveries", each.id, "cancelled")
            self._move(database, "jobs", job.id, "superseded")
        for number in left_without(database, study_id):
            self._move(database, "deliveries", number, "waiting", not_before=0, since_s=self.clock())
