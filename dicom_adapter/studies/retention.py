"""What was delivered is cleaned up after a time; what was not never is.

What is to go is written down first, together with the study's state, and struck off when it is gone and the
audit trail has it. So a removal that failed, or was interrupted, goes on at the next look or start.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from dicom_adapter.context import PATIENCE, AdapterContext
from dicom_adapter.database.records import StateError, StudyRecord
from dicom_adapter.database.removals import (
    PendingRemoval,
    pending_removals,
    plan_removal,
    prune,
    removal_done,
)
from dicom_adapter.database.set_aside import items_of, set_aside
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.folders import remove_folder
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.failures import is_resource_error, reason_of, traceback_of
from dicom_adapter.supervision.supervisor import stop_all
from dicom_adapter.supervision.worker import heartbeat

logger = logging.getLogger(__name__)

_LOOK_S = 60.0
_TROUBLED_S = 2.0
_STOP_S = 10.0


class Retention:
    """Cleans up every minute while the adapter runs, keeps the time of service, looks at the database.

    Every two seconds it tries whether a database or an audit trail that could not be written can be again.

    Parameters
    ----------
    context
        What the adapter's parts work with.
    forget
        Called with the folder of a study before it is removed.
    study_locks
        A study of which some is being received is left alone.
    """

    def __init__(
        self, context: AdapterContext, *, forget: Callable[[Path], None], study_locks: StudyLocks
    ) -> None:
        self._context, self._forget, self._study_locks = context, forget, study_locks
        self._warned: set[str] = set()
        self._next_look = Deadline(0)
        self._stopping = threading.Event()
        self._worker = context.supervisor.worker("retention", self._work, patience=PATIENCE)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def ask_to_stop(self) -> None:
        """Stop soon, after the study that is being removed."""
        self._stopping.set()

    def stop(self, deadline: Deadline | None = None) -> list[str]:
        """Stop, and return the names of threads that have not ended in time."""
        self.ask_to_stop()
        left_over = stop_all([self._worker], deadline or Deadline(_STOP_S))
        with suppress(sqlite3.OperationalError):
            self._context.store.keep_time()
        return left_over

    def _work(self) -> None:
        self._context.trail.flush()
        is_due = self._next_look.is_over()
        if is_due or self._context.store.trouble:
            self._context.store.keep_time()
        if is_due:
            self._next_look = Deadline(_LOOK_S)
            self._context.store.look()
            self.clean_up()
        self._stopping.wait(_TROUBLED_S)

    def clean_up(self) -> int:
        """Remove the files of studies that were delivered long enough ago, and return how many studies.

        One that cannot be removed for a reason that nobody foresaw is set aside, and harms no other.
        """
        store, storage = self._context.store, self._context.config().storage
        for study_id, items in pending_removals(store).items():
            if study_id is not None:
                self._unless_locked(store.study(study_id), partial(self._remove, items))
        found = store.finished_studies(storage.retention_hours * 3600)
        aside = items_of(store, "removal")
        for study in found:
            if not self._stopping.is_set() and str(study.id) not in aside:
                self._unless_locked(study, self._plan_removal)
        if count := prune(store, storage.record_days * 86400):
            logger.info("forgot %d studies, which were removed %g days ago", count, storage.record_days)
        return len(found)

    def _set_aside(self, study: StudyRecord, error: Exception) -> None:
        hashed = study_hash(study.study_uid)
        logger.error(
            "study %s cannot be removed", hashed, extra={"study": hashed}, exc_info=traceback_of(error)
        )
        set_aside(self._context.store, "removal", study.id, reason=reason_of(error), study=hashed)

    def finish(self) -> None:
        """Remove what a crash has left of removed studies, before received files are looked for."""
        for study_id, items in pending_removals(self._context.store).items():
            self._remove(items, None if study_id is None else self._context.store.study(study_id))

    def _unless_locked(self, study: StudyRecord, remove: Callable[[StudyRecord], None]) -> None:
        heartbeat()
        try:
            with self._study_locks.removal((study.ae_title, study.study_uid)) as free:
                if free:
                    remove(study)
        except Exception as error:  # a border: the other studies go on
            if is_resource_error(error):
                raise
            self._set_aside(study, error)

    def _plan_removal(self, study: StudyRecord) -> None:
        try:
            items = plan_removal(self._context.store, study.id, self._context.config().storage.payloads)
        except StateError:
            return  # more of it has come
        self._remove(items, study)

    def _remove(self, items: Sequence[PendingRemoval], study: StudyRecord | None) -> None:
        """Remove files and payloads; say so in the audit trail, and strike them off, when all are gone."""
        left = [each for each in items if not self._is_removed(each)]
        if left:
            removal_done(
                self._context.store, [each for each in items if not each.job_id and each not in left]
            )
            return
        if study is not None:
            hashed = study_hash(study.study_uid)
            logger.info("removed study %s, which was delivered", hashed, extra={"study": hashed})
            for each in items:
                if each.job_id:
                    self._context.trail.deleted(study=hashed, job=each.job_id)
        removal_done(self._context.store, items)

    def _is_removed(self, item: PendingRemoval) -> bool:
        try:
            if item.job_id:
                remove_folder(item.path)
            else:
                item.path.unlink(missing_ok=True)
                self._forget(item.path.parent)
                with suppress(OSError):
                    item.path.parent.rmdir()  # only when it is empty
        except OSError as error:
            what = f"the payload of job {item.job_id}" if item.job_id else "an instance"
            self._warn_once(f"{what} was delivered, and cannot be removed: {error}; it is tried again")
            return False
        return True

    def _warn_once(self, what: str) -> None:
        if what not in self._warned:
            logger.warning(what)
        self._warned.add(what)
