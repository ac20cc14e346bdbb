"""What comes is written into the books, and a study that is complete becomes jobs.

Time is measured by a clock that nobody sets; after a restart each study's quiet time begins anew. A study is
not complete before all its acknowledged instances are in the books.
"""

from __future__ import annotations

import logging
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicom_adapter.books.records import Job, Received, Study
from dicom_adapter.books.store import Store
from dicom_adapter.config_blocks import AeTitle, Config, SeriesFilter, WorkflowRule
from dicom_adapter.places import AdapterPlaces
from dicom_adapter.receiving.claims import Claims
from dicom_adapter.receiving.receive import kept_files, taken_up
from stages.errors import InputError

logger = logging.getLogger(__name__)

_BATCH = 200
_LOOK_S = 0.2
_GATHER_S = 0.05
_Key = tuple[str, str]


@dataclass
class _Open:
    """A study that is being received."""

    last: float
    associations: set[int] = field(default_factory=set)
    unwritten: int = 0


class Studies:
    """Follows the studies that are being received.

    Parameters
    ----------
    config
        Returns the configuration that holds now.
    on_jobs
        Called with the jobs that were made of a study.
    claims
        One is dropped for each instance that is in the books.
    """

    def __init__(
        self,
        store: Store,
        config: Callable[[], Config],
        *,
        on_jobs: Callable[[Study, Sequence[Job]], None],
        claims: Claims,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._config = config
        self._on_jobs = on_jobs
        self._claims = claims
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[_Key, _Open] = {}
        self._unwritten: queue.Queue[Received | None] = queue.Queue()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, name="books"),
            threading.Thread(target=self._watch, name="studies"),
        ]

    def start(self) -> None:
        """Begin to write and to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._stopped.set()
        self._unwritten.put(None)
        for thread in self._threads:
            thread.join()

    def kept(self, association: int, received: Received) -> None:
        """Note an instance that is on disk, before it is acknowledged."""
        with self._lock:
            study = self._open.setdefault(_key(received), _Open(self._clock()))
            study.last = self._clock()
            study.associations.add(association)
            study.unwritten += 1
        self._unwritten.put(received)

    def closed(self, association: int) -> None:
        """Note that an association is over."""
        with self._lock:
            for study in self._open.values():
                study.associations.discard(association)

    def look(self) -> None:
        """Complete the studies that are."""
        for study in self._store.studies("receiving"):
            title = self._title(study.ae_title)
            if title is not None and self._is_complete(study, title):
                self._complete(study, title)
                self._forget((study.ae_title, study.study_uid))

    def release(self, study_id: int) -> list[Job]:
        """Run the workflows on a study whose late instances were held.

        Raises
        ------
        StateError
            If nothing of it is held.
        """
        study = self._store.study(study_id)
        return self._made(study, supersede=False)

    def _forget(self, key: _Key) -> None:
        with self._lock:
            if key in self._open and not self._open[key].unwritten:
                del self._open[key]

    def _title(self, name: str) -> AeTitle | None:
        titles = self._config().dicom.scp.ae_titles
        return next((each for each in titles if each.ae_title == name), None)

    def _is_complete(self, study: Study, title: AeTitle) -> bool:
        with self._lock:
            seen = self._open.setdefault((study.ae_title, study.study_uid), _Open(self._clock()))
            if seen.unwritten:
                return False
            if title.complete == "association":
                return not seen.associations
            return self._clock() - seen.last >= title.quiet_seconds

    def _complete(self, study: Study, title: AeTitle) -> None:
        late = study.generation > 0
        if late and title.late == "wait":
            self._store.hold(study.id)
            logger.warning("study %d: late instances are held (late: wait); release it by command", study.id)
        else:
            self._made(study, supersede=late and title.late == "supersede")

    def _made(self, study: Study, *, supersede: bool) -> list[Job]:
        wanted = chosen(self._store.instances(study.id), self._filter(study.ae_title))
        rules = self._rules(study.ae_title) if wanted else []
        if not wanted:
            logger.warning("study %d: none of its %d instances passes the filter", study.id, study.instances)
        jobs = self._store.complete(study.id, rules, supersede=supersede)
        logger.info("study %d: complete, %d instances, %d jobs", study.id, study.instances, len(jobs))
        self._on_jobs(study, jobs)
        return jobs

    def _filter(self, ae_title: str) -> SeriesFilter:
        title = self._title(ae_title)
        return title.filter if title else SeriesFilter()

    def _rules(self, ae_title: str) -> list[WorkflowRule]:
        return [rule for rule in self._config().workflows if rule.clara_ae_title == ae_title]

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            try:
                self.look()
            except sqlite3.OperationalError as error:
                logger.warning("the books cannot be used, trying again: %s", error)

    def _write(self) -> None:
        while batch := self._next_batch():
            while True:
                try:
                    self._store.add_instances(batch)
                    break
                except sqlite3.OperationalError as error:
                    logger.warning("the books cannot be written, trying again: %s", error)
                    if self._stopped.wait(1.0):
                        return  # the files are there, and taken up at the next start
            with self._lock:
                for each in batch:
                    self._open[_key(each)].unwritten -= 1  # which keeps it from being forgotten
            for each in batch:
                self._claims.drop(_key(each))

    def _next_batch(self) -> list[Received]:
        first = self._unwritten.get()
        batch = [] if first is None else [first]
        if batch:
            self._stopped.wait(_GATHER_S)  # the files are safe: one sync of the books serves many of them
        while batch and len(batch) < _BATCH:
            try:
                more = self._unwritten.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._unwritten.put(None)
                break
            batch.append(more)
        return batch


def take_up(store: Store, places: AdapterPlaces) -> int:
    """Write acknowledged instances into the books that a crash has kept out of them; return how many."""
    found = []
    for path in kept_files(places):
        if not store.knows(path):
            try:
                found.append(taken_up(path))
            except InputError as error:
                logger.error("%s; it stays where it is", error)
    store.add_instances(found)
    return len(found)


def chosen(instances: Sequence[Received], wanted: SeriesFilter) -> list[Received]:
    """Return the instances that pass a filter."""
    return [
        each
        for each in instances
        if (not wanted.modalities or each.modality in wanted.modalities)
        and (not wanted.sop_classes or each.sop_class_uid in wanted.sop_classes)
        and (not wanted.descriptions or re.search(wanted.descriptions, each.series_description))
    ]


def _key(received: Received) -> _Key:
    return received.ae_title, received.study_uid
