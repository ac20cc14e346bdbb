"""A new database in place of a damaged one, made of all that still tells what was received and sent.

Files are the truth about instances. About jobs and deliveries the rows count that can still be read; then the
payloads, whose names follow from the study and the rule; then the audit trail, which says what ran and what
was sent where. Where none of them says whether a destination has a result, the result is a dead letter:
nothing is sent twice by itself, and nothing is lost. The damaged database is moved aside, never removed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from clara_wf.payload import Payload
from clara_wf.publish.published import load_published
from dicom_adapter.config.blocks import Config, WorkflowRule
from dicom_adapter.config.dicom_blocks import Destination, SeriesFilter
from dicom_adapter.database.jobs import job_id_of
from dicom_adapter.database.records import ReceivedInstance, StudyRecord
from dicom_adapter.database.salvage import Salvaged, salvage
from dicom_adapter.database.store import Store
from dicom_adapter.delivery.senders import address_of
from dicom_adapter.observability.audit_record import read_audit_record
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.owner import sole_adapter
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import read_received, received_files
from dicom_adapter.storage.relocation import relocate
from dicom_adapter.storage.results import content_of, find_results
from dicom_adapter.studies.selection import chosen
from stages.errors import InputError, OutputError, StageError
from stages.lifecycle.locks import now
from stages.runtime import atomic

_MORE_GENERATIONS = 20  # than are known of
_UNKNOWN = "the database was rebuilt, and nothing tells whether {} has it; replay sends it"
_UNKNOWN_JOB = "the database was rebuilt, and nothing tells what became of this job; replay runs it again"


@dataclass
class Rebuilt:
    """What a rebuilt database holds, and how much of it was found where.

    Attributes
    ----------
    aside
        Where the damaged one lies now; None if there was none.
    salvaged
        What was read of it.
    instances
        How many files were found that it did not tell of.
    jobs, deliveries
        How many were found by payload and audit trail, by state.
    unreadable
        Files below the studies that are no received instances.
    """

    aside: Path | None = None
    salvaged: Salvaged = field(default_factory=Salvaged)
    instances: int = 0
    jobs: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)


def rebuild(config: Config) -> Rebuilt:
    """Make a new database for the storage of a configuration, and move the one that is there aside.

    Raises
    ------
    SettingsError
        If an adapter works on the storage.
    OutputError
        If it cannot be written.
    """
    paths = AdapterPaths(root=config.storage.root)
    with sole_adapter(paths.root) as owner:
        new = paths.database.with_name(f"{paths.database.name}.new")
        for each in _files(new):
            each.unlink(missing_ok=True)
        with closing(Store(new)) as store:
            rebuilt = _Rebuilding(store, config, paths).run()
            identity = store.identity
        rebuilt.aside = _move_aside(paths.database)
        atomic.rename(new, paths.database)
        owner.keep(identity)
    return rebuilt


class _Rebuilding:
    def __init__(self, store: Store, config: Config, paths: AdapterPaths) -> None:
        self._store, self._config, self._paths = store, config, paths
        self._trail = read_audit_record(paths.audit)
        self._rebuilt = Rebuilt()

    def run(self) -> Rebuilt:
        with self._store.transaction() as database:
            self._rebuilt.salvaged = salvage(self._paths.database, database)
            relocate(database, self._paths, self._config.storage.payloads)
            self._drop_what_is_gone(database)
            known = {tuple(row) for row in database.execute("SELECT ae_title, study_uid FROM studies")}
        self._take_up_files()
        for study in self._store.studies():
            self._find_jobs(study, is_known=(study.ae_title, study.study_uid) in known)
        for job in self._store.jobs("done"):
            self._find_deliveries(job.id, self._store.study(job.study_id))
        return self._rebuilt

    def _drop_what_is_gone(self, database: sqlite3.Connection) -> None:
        for row in database.execute("SELECT path FROM instances").fetchall():
            if not Path(row["path"]).exists():
                database.execute("DELETE FROM instances WHERE path = ?", (row["path"],))

    def _take_up_files(self) -> None:
        """Write files down that no row tells of; they come late where their study was complete."""
        found = list(self._unknown_files())
        complete = {(each.ae_title, each.study_uid) for each in self._store.studies("complete")}
        self._store.add_instances(found)
        self._rebuilt.instances = len(found)
        if "instances" in self._rebuilt.salvaged.incomplete:  # whether they are late nobody knows
            for study in self._store.studies("receiving"):
                if (study.ae_title, study.study_uid) in complete:
                    self._store.hold(study.id)

    def _unknown_files(self) -> Iterator[ReceivedInstance]:
        with self._store.transaction() as database:
            condemned = {row["path"] for row in database.execute("SELECT path FROM condemned")}
        for path in received_files(self._paths):
            if str(path) not in condemned and not self._store.knows(path):
                try:
                    yield read_received(path)
                except InputError as error:
                    self._rebuilt.unreadable.append(str(error))

    def _find_jobs(self, study: StudyRecord, *, is_known: bool) -> None:
        """Write down the jobs of a study that no row tells of, and whose payloads are there."""
        known = {job.id for job in self._store.jobs(study_id=study.id)}
        last = 0
        for generation in range(1, study.generation + _MORE_GENERATIONS):
            for rule in self._rules(study):
                job_id = job_id_of(study, rule, generation)
                is_there = job_id in known or (self._config.storage.payloads / job_id).is_dir()
                if is_there:
                    last = generation
                if is_there and job_id not in known:
                    self._add_job(study, rule, job_id, generation)
        if not is_known:
            self._settle(study, last)

    def _rules(self, study: StudyRecord) -> list[WorkflowRule]:
        return [rule for rule in self._config.workflows if rule.clara_ae_title == study.ae_title]

    def _add_job(self, study: StudyRecord, rule: WorkflowRule, job_id: str, generation: int) -> None:
        state, reason = "queued", ""
        if self._trail is None:
            state, reason = "dead", _UNKNOWN_JOB
        elif job_id in self._trail.done:
            state = "done"
        self._rebuilt.jobs[state] += 1
        with self._store.transaction() as database:
            database.execute(
                "INSERT INTO jobs (id, study_id, rule, workflow, destinations, generation, state, reason, "
                "created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job_id, study.id, rule.name, rule.workflow, json.dumps(rule.destination_name)),
                    *(generation, state, reason, now(), now()),
                ),
            )

    def _settle(self, study: StudyRecord, last: int) -> None:
        """Set the state of a study known by its files alone: what a job may have run on is not run again."""
        has_run = self._trail is not None and study_hash(study.study_uid) in self._trail.ran
        state = "complete" if last and not self._has_more(study, last) else "held" if last or has_run else ""
        with self._store.transaction() as database:
            database.execute(
                "UPDATE studies SET state = ?, generation = ? WHERE id = ?",
                (state or study.state, last, study.id),
            )

    def _has_more(self, study: StudyRecord, generation: int) -> bool:
        """Return whether instances came after a job was made, or that cannot be told."""
        titles = self._config.dicom.scp.ae_titles
        wanted = next((each.filter for each in titles if each.ae_title == study.ae_title), SeriesFilter())
        uids = {each.sop_instance_uid for each in chosen(self._store.instances(study.id), wanted)}
        for rule in self._rules(study):
            payload = self._payload(job_id_of(study, rule, generation))
            if payload.root.is_dir():
                try:
                    workflow = load_published(self._config.storage.workflows, rule.workflow)[1]
                except StageError:
                    return True
                return not uids <= {path.stem for path in payload.folder(workflow.input_folder).glob("*")}
        return True

    def _payload(self, job_id: str) -> Payload:
        return Payload(root=self._config.storage.payloads.resolve() / job_id, job_id=job_id)

    def _find_deliveries(self, job_id: str, study: StudyRecord) -> None:
        """Write down the results of a job that no row tells of, as the audit trail knows them."""
        job = self._store.job(job_id)
        known = {(each.destination, each.sop_instance_uid) for each in self._store.deliveries(job_id=job_id)}
        results = self._results(job_id, job.workflow) if job.destinations else {}
        destinations = {each.name: each for each in self._config.dicom.scu.destinations}
        for name in job.destinations:
            missing = [uid for uid in results if (name, uid) not in known]
            has_some = any(destination == name for destination, _ in known)
            state = self._state(job_id, destinations.get(name), len(results), has_some=has_some)
            for uid in missing:
                self._add_delivery(job_id, name, uid, results[uid], state)

    def _results(self, job_id: str, workflow: str) -> Mapping[str, Path]:
        payload = self._payload(job_id)
        try:
            folders = load_published(self._config.storage.workflows, workflow)[1].result_folders
            found = [each for folder in folders for each in find_results(payload.folder(folder))]
        except StageError as error:
            self._rebuilt.unreadable.append(f"results of job {job_id}: {error}")
            return {}
        return {each.sop_instance_uid: each.path for each in found}

    def _state(self, job_id: str, destination: Destination | None, results: int, *, has_some: bool) -> str:
        """Return the state of a result that no row tells of."""
        if self._trail is None or destination is None or has_some:
            return "dead"
        taken = self._trail.sent[job_id, destination.ae_title, address_of(destination)]
        if not taken:
            return "waiting"
        if taken < results:
            return "dead"
        return "uncommitted" if destination.commitment and not destination.dicomweb else "delivered"

    def _add_delivery(self, job_id: str, destination: str, uid: str, path: Path, state: str) -> None:
        self._rebuilt.deliveries[state] += 1
        message = _UNKNOWN.format(destination) if state == "dead" else ""
        with self._store.transaction() as database:
            database.execute(
                "INSERT INTO deliveries (job_id, destination, sop_instance_uid, path, state, message, "
                "created, changed, content, since_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job_id, destination, uid, str(path), state, message, now(), now()),
                    *(content_of(path), self._store.clock()),
                ),
            )


def _move_aside(file: Path) -> Path | None:
    """Move a database with its logs into a folder of its own; the file itself stays until it is replaced."""
    there = [each for each in _files(file) if each.exists()]
    if not there:
        return None
    number = 1
    while (aside := file.with_name(f"damaged-{number:04d}")).exists():
        number += 1
    try:
        aside.mkdir(mode=0o750)
        for each in there:
            (os.link if each.is_file() else os.rename)(each, aside / each.name)
        for each in there:
            if each != file:
                each.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot move {file} to {aside}: {error.strerror}") from error
    return aside


def _files(file: Path) -> list[Path]:
    return [file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm", "-journal"))]
