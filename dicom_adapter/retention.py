"""What was delivered is cleaned up after a time; what was not never is."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicom_adapter.books.delivery_books import condemn, condemned, gone
from dicom_adapter.books.records import Study
from dicom_adapter.books.store import StateError
from dicom_adapter.receiving.claims import Claims
from dicom_adapter.running.jobs import Surroundings
from dicom_adapter.watching.pseudonym import study_hash

logger = logging.getLogger(__name__)

_LOOK_S = 60.0


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
        self._thread = threading.Thread(target=self._work, name="retention")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the study that is being removed."""
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.clean_up()
            except (sqlite3.OperationalError, OSError) as error:
                logger.warning("what was delivered cannot be cleaned up: %s", error)
            self._stopping.wait(_LOOK_S)

    def clean_up(self) -> int:
        """Remove the files of studies that were delivered long enough ago, and return how many studies."""
        config = self._around.config()
        before = datetime.now(UTC) - timedelta(hours=config.storage.retention_hours)
        found = self._around.store.finished_studies(before.isoformat(timespec="milliseconds"))
        for study in found:
            if self._stopping.is_set():
                break
            with self._claims.removal((study.ae_title, study.study_uid)) as free:
                if free:
                    self._remove(study)
        return len(found)

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
