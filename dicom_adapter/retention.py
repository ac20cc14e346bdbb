"""What was delivered is cleaned up after a time; what was not never is."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicom_adapter.books.delivery_books import condemn, condemned, gone
from dicom_adapter.books.records import Study
from dicom_adapter.books.set_aside import items_of, set_aside
from dicom_adapter.books.store import StateError
from dicom_adapter.deadline import Deadline
from dicom_adapter.receiving.claims import Claims
from dicom_adapter.running.jobs import PATIENCE, Surroundings
from dicom_adapter.supervisor import is_of_surroundings, reason_of, sign_of_life, stop_all, traceback_of
from dicom_adapter.watching.pseudonym import study_hash

logger = logging.getLogger(__name__)

_LOOK_S = 60.0
_STOP_S = 10.0


class Retention:
    """Cleans up every minute, while the adapter runs.

    Parameters
    ----------
    forget
        Called with the folder of a study before it is removed.
    claims
        A study of which some is being received is left alone.
    """

    def __init__(self, around: Surroundings, *, forget: Callable[[Path], None], claims: Claims) -> None:
        self._around, self._forget, self._claims = around, forget, claims
        self._stopping = threading.Event()
        self._worker = around.supervisor.worker("retention", self._work, patience=PATIENCE)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def ask_to_stop(self) -> None:
        """Stop soon, after the study that is being removed."""
        self._stopping.set()

    def stop(self, deadline: Deadline | None = None) -> list[str]:
        """Stop, and return the names of threads that have not ended in time."""
        self.ask_to_stop()
        return stop_all([self._worker], deadline or Deadline(_STOP_S))

    def _work(self) -> None:
        self.clean_up()
        self._stopping.wait(_LOOK_S)

    def clean_up(self) -> int:
        """Remove the files of studies that were delivered long enough ago, and return how many studies.

        One that cannot be removed is set aside, and harms no other.
        """
        config = self._around.config()
        before = datetime.now(UTC) - timedelta(hours=config.storage.retention_hours)
        found = self._around.store.finished_studies(before.isoformat(timespec="milliseconds"))
        aside = items_of(self._around.store, "removal")
        of_surroundings: Exception | None = None
        for study in [each for each in found if str(each.id) not in aside]:
            if self._stopping.is_set():
                break
            sign_of_life()
            try:
                with self._claims.removal((study.ae_title, study.study_uid)) as free:
                    if free:
                        self._remove(study)
            except Exception as error:  # a border: the other studies go on
                if is_of_surroundings(error):
                    of_surroundings = of_surroundings or error
                else:
                    self._set_aside(study, error)
        if of_surroundings is not None:
            raise of_surroundings
        return len(found)

    def _set_aside(self, study: Study, error: Exception) -> None:
        told = study_hash(study.study_uid)
        logger.error("study %s cannot be removed", told, extra={"study": told}, exc_info=traceback_of(error))
        set_aside(self._around.store, "removal", study.id, reason=reason_of(error), study=told)

    def finish(self) -> None:
        """Remove what a crash has left of removed studies, before received files are looked for."""
        self._unlink(condemned(self._around.store))

    def _remove(self, study: Study) -> None:
        """Remove payloads, books and files of a study, in this order; the next start does what is left."""
        jobs = self._around.store.jobs(study_id=study.id)
        for job in jobs:
            shutil.rmtree(self._around.config().storage.payloads / job.id, ignore_errors=True)
        try:
            paths = condemn(self._around.store, study.id)
        except StateError:
            return  # more of it has come
        self._unlink(paths)
        told = study_hash(study.study_uid)
        logger.info("removed study %s, which was delivered", told, extra={"study": told})
        for job in jobs:
            self._around.trail.deleted(study=told, job=job.id)

    def _unlink(self, paths: Sequence[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            self._forget(path.parent)
            with suppress(OSError):
                path.parent.rmdir()  # only when it is empty
        gone(self._around.store, paths)
