"""Jobs: which may start, and what became of each."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from dicom_adapter.config.blocks import WorkflowRule
from dicom_adapter.database import set_aside
from dicom_adapter.database.connection import marks
from dicom_adapter.database.deliveries import DeliveryTable, contents_at
from dicom_adapter.database.records import JobRecord, StudyRecord, job_of
from stages.lifecycle.locks import now


class JobTable(DeliveryTable):
    """The jobs of a database, which know their deliveries."""

    def jobs(self, *states: str, study_id: int | None = None, most: int = -1) -> list[JobRecord]:
        """Return the jobs in some states, or all, the oldest first, or only so many of the latest.

        Parameters
        ----------
        states
            Which; none for all.
        study_id
            Only those of this study; None for all.
        most
            How many; -1 for all.
        """
        wanted = [f"state IN ({marks(states)})"] * bool(states) + ["study_id = ?"] * (study_id is not None)
        which = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        values = [*states, *([] if study_id is None else [study_id])]
        query = f"SELECT * FROM jobs {which} ORDER BY rowid DESC LIMIT ?"  # noqa: S608
        return self._read("job", self._rows(query, *values, most)[::-1], job_of)

    def job(self, job_id: str) -> JobRecord:
        """Return a job.

        Parameters
        ----------
        job_id
            The job's ID.

        Raises
        ------
        StateError
            If there is none of this ID, or its row is damaged.
        """
        return self._whole(job_of, self._one("SELECT * FROM jobs WHERE id = ?", job_id))

    def start_next(self, at: float, *, bonus_s: Mapping[str, float] | None = None) -> JobRecord | None:
        """Take the oldest job that may start, which is running then; damaged ones are set aside.

        Parameters
        ----------
        at
            Seconds of service.
        bonus_s
            How much older than it is a job of a rule counts, seconds, by the rule's name.
        """
        order, values = _order_of(bonus_s or {})
        not_aside = set_aside.PASSED_OVER.format(id="id", kind="job")
        with self.transaction() as database:
            while found := self._rows(
                f"SELECT * FROM jobs WHERE state = 'queued' AND not_before <= ? AND {not_aside} "  # noqa: S608
                f"ORDER BY {order} LIMIT 1",
                at,
                *values,
            ):
                if next_jobs := self._read("job", found, job_of):
                    self._move(database, "jobs", next_jobs[0].id, "running")
                    database.execute("UPDATE jobs SET tries = tries + 1 WHERE id = ?", (next_jobs[0].id,))
                    return self.job(next_jobs[0].id)
        return None

    def retry(self, job_id: str, *, exit_code: int | None, reason: str, not_before: float) -> None:
        """Queue a job that failed again, for later.

        Parameters
        ----------
        job_id
            The job's ID.
        exit_code
            Of the stage that failed; None where none did.
        reason
            Why it failed.
        not_before
            Not before this time, seconds of service.
        """
        with self.transaction() as database:
            self._move(
                database, "jobs", job_id, "queued", exit_code=exit_code, reason=reason, not_before=not_before
            )

    def interrupt(self, job_id: str) -> None:
        """Queue a job again that was stopped, or ran when we ended; that is no try.

        Parameters
        ----------
        job_id
            The job's ID.
        """
        with self.transaction() as database:
            self._move(database, "jobs", job_id, "queued", not_before=0)
            database.execute("UPDATE jobs SET tries = MAX(tries - 1, 0) WHERE id = ?", (job_id,))

    def dead_letter(self, job_id: str, *, exit_code: int | None, reason: str) -> None:
        """Make a job that failed a dead letter.

        Parameters
        ----------
        job_id
            The job's ID.
        exit_code
            Of the stage that failed; None where none did.
        reason
            Why it failed.
        """
        with self.transaction() as database:
            self._move(database, "jobs", job_id, "dead", exit_code=exit_code, reason=reason)

    def replay(self, job_id: str) -> None:
        """Queue a dead letter again, and what could not be delivered of it.

        Parameters
        ----------
        job_id
            The job's ID.

        Raises
        ------
        StateError
            If it is no dead letter, and none of its deliveries is one.
        """
        with self.transaction() as database:
            dead = [each for each in self.deliveries("dead", job_id=job_id)]
            for each in dead:
                anew = {"tries": 0, "refusals": 0, "not_before": 0, "since_s": self.clock()}
                self._move(database, "deliveries", each.id, "waiting", **anew)
            if not dead or self.job(job_id).state == "dead":
                self._move(database, "jobs", job_id, "queued", tries=0, not_before=0)

    def finish(
        self, job_id: str, results: Mapping[str, Path], *, contents: Mapping[str, str] | None = None
    ) -> tuple[int, int]:
        """Write down that a job is done, and that its results are to be delivered.

        What a destination has, or gets, of an earlier job of the same study is not sent to it again.

        Parameters
        ----------
        job_id
            The job's ID.
        results
            File of each SOPInstanceUID.
        contents
            Hash of what each of them says, dates and times left out; what has none is sent.

        Returns
        -------
        tuple of int
            How many are not sent to a destination since it has the same, and how many are although it has
            other content under the same SOPInstanceUID.
        """
        unchanged = other = 0
        with self.transaction() as database:
            self._move(database, "jobs", job_id, "done", exit_code=0, reason="")
            for destination in self.job(job_id).destinations:
                for uid, path in results.items():
                    content = (contents or {}).get(uid, "")
                    there = contents_at(database, job_id, destination, uid)
                    is_unchanged = bool(content) and content in there
                    unchanged += is_unchanged
                    other += bool(there) and not is_unchanged
                    state = "unchanged" if is_unchanged else "waiting"
                    database.execute(
                        "INSERT OR IGNORE INTO deliveries (job_id, destination, sop_instance_uid, path, "
                        "state, created, changed, content, since_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (*(job_id, destination, uid, str(path), state, now(), now(), content), self.clock()),
                    )
        return unchanged, other


def job_id_of(study: StudyRecord, rule: WorkflowRule, generation: int) -> str:
    """Return the ID of the job of a rule on a study that is complete for the so many-th time.

    Parameters
    ----------
    study, rule
        The study and the rule.
    generation
        How often the study was complete then.
    """
    name = f"{study.ae_title}\n{study.study_uid}\n{rule.workflow}\n{rule.name}\n{generation}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _order_of(bonus_s: Mapping[str, float]) -> tuple[str, list[object]]:
    """Return what jobs are ordered by: as they came, unless some count as older than they are."""
    if not bonus_s:
        return "rowid", []
    cases = " ".join("WHEN ? THEN ?" for _ in bonus_s)
    values: list[object] = [each for pair in bonus_s.items() for each in pair]
    return f"julianday(created) * 86400.0 - CASE rule {cases} ELSE 0.0 END, rowid", values
