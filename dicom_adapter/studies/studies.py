"""What comes is written into the books, and a study that is complete becomes jobs.

Time is measured by a clock that nobody sets; after a restart each study's quiet time begins anew, also where
senders that hang up complete a study, since the restart has cut them off. A study is not complete before all
its acknowledged instances are in the books.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_adapter.config.blocks import AeTitle, Config, SeriesFilter, WorkflowRule
from dicom_adapter.config.patterns import matches
from dicom_adapter.database.records import Job, Received, Study
from dicom_adapter.database.retry_while_locked import insist
from dicom_adapter.database.set_aside import all_items, items_of, set_aside
from dicom_adapter.database.store import Store
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.paths import AdapterPlaces
from dicom_adapter.storage.receiver import kept_files, taken_up
from dicom_adapter.storage.study_locks import Claims
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.supervisor import (
    Supervisor,
    is_of_surroundings,
    reason_of,
    stop_all,
    traceback_of,
)

logger = logging.getLogger(__name__)

_BATCH = 200
_LOOK_S = 0.2
_GATHER_S = 0.05
_EMPTY_S = 1.0
_STOP_S = 10.0
_Key = tuple[str, str]


@dataclass
class _Open:
    """A study that is being received."""

    last: float
    associations: set[int] = field(default_factory=set)
    unwritten: int = 0
    is_cut: bool = False  # by a start of ours, or a sender that broke off: more may come


class Studies:
    """Follows the studies that are being received.

    Parameters
    ----------
    config
        Returns the configuration that holds now.
    on_jobs
        Called with the jobs that were made of a study.
    claims
        One is dropped for each instance that is in the books, or set aside.
    supervisor
        Watches the threads; None for one of their own.
    """

    def __init__(
        self,
        store: Store,
        config: Callable[[], Config],
        *,
        on_jobs: Callable[[Study, Sequence[Job]], None],
        claims: Claims,
        supervisor: Supervisor | None = None,
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
        self._in_hand: list[Received] = []
        self._stopped = threading.Event()
        supervisor = supervisor or Supervisor()
        self._writer = supervisor.worker("database writer", self._write)
        self._watcher = supervisor.worker("studies", self._watch)

    def start(self) -> None:
        """Begin to write and to watch."""
        for worker in (self._writer, self._watcher):
            worker.start()

    def ask_to_stop(self) -> None:
        """Stop soon, after what is left was written."""
        self._stopped.set()
        self._watcher.stop()

    def stop(self, deadline: Deadline | None = None) -> list[str]:
        """Write what is left, and end; return the names of threads that have not ended in time."""
        deadline = deadline or Deadline(_STOP_S)
        self.ask_to_stop()
        while self._has_unwritten() and not (self._writer.waits_for or deadline.is_over()):
            time.sleep(_GATHER_S)
        self._writer.stop()
        self._unwritten.put(None)  # it may wait for more
        return stop_all((self._writer, self._watcher), deadline)

    def kept(self, association: int, received: Received) -> None:
        """Note an instance that is on disk, before it is acknowledged."""
        with self._lock:
            study = self._open.setdefault(_key(received), _Open(self._clock()))
            study.last, study.is_cut = self._clock(), False
            study.associations.add(association)
            study.unwritten += 1
        self._unwritten.put(received)

    def closed(self, association: int, *, is_released: bool = True) -> None:
        """Note that an association is over, and whether its peer has said that it was done."""
        with self._lock:
            for study in self._open.values():
                if association in study.associations:
                    study.associations.discard(association)
                    study.is_cut |= not is_released
                    study.last = study.last if is_released else self._clock()

    def look(self) -> None:
        """Complete the studies that are; one that cannot be is set aside, and harms no other."""
        of_surroundings: BaseException | None = None
        set_aside_before = items_of(self._store, "study")
        written = self._written()
        receiving = self._store.studies("receiving")
        self._forget_repeated(written, {(each.ae_title, each.study_uid) for each in receiving})
        for study in receiving:
            if str(study.id) in set_aside_before:
                continue
            try:
                self._look_at(study)
            except Exception as error:  # a border: the other studies go on
                if not is_of_surroundings(error):
                    self._set_study_aside(study, error)
                else:
                    of_surroundings = of_surroundings or error
        if of_surroundings is not None:
            raise of_surroundings

    def release(self, study_id: int) -> list[Job]:
        """Run the workflows on a study whose late instances were held.

        Raises
        ------
        StateError
            If nothing of it is held.
        """
        study = self._store.study(study_id)
        return self._made(study, supersede=False)

    def _look_at(self, study: Study) -> None:
        title = self._title(study.ae_title)
        if title is not None and self._is_complete(study, title):
            self._complete(study, title)
            self._forget((study.ae_title, study.study_uid))

    def _set_study_aside(self, study: Study, error: Exception) -> None:
        told = study_hash(study.study_uid)
        logger.error(
            "study %s cannot be completed (%s)",
            *(told, reason_of(error)),
            extra={"study": told},
            exc_info=traceback_of(error),
        )
        set_aside(self._store, "study", study.id, reason=reason_of(error), study=told)

    def _forget(self, key: _Key) -> None:
        with self._lock:
            if key in self._open and not self._open[key].unwritten:
                del self._open[key]

    def _written(self) -> dict[_Key, float]:
        """Return which studies have nothing that is not in the books, and when the last of each came."""
        with self._lock:
            return {key: study.last for key, study in self._open.items() if not study.unwritten}

    def _forget_repeated(self, written: Mapping[_Key, float], receiving: Collection[_Key]) -> None:
        """Forget studies of which nothing new came, and which are not received again for it.

        Parameters
        ----------
        written
            As it was before it was looked which are being received.
        """
        with self._lock:
            for key, last in written.items():
                seen = self._open.get(key)
                if key not in receiving and seen and seen.last == last and not seen.unwritten:
                    del self._open[key]

    def _title(self, name: str) -> AeTitle | None:
        titles = self._config().dicom.scp.ae_titles
        return next((each for each in titles if each.ae_title == name), None)

    def _is_complete(self, study: Study, title: AeTitle) -> bool:
        with self._lock:
            new = _Open(self._clock(), is_cut=True)
            seen = self._open.setdefault((study.ae_title, study.study_uid), new)
            if seen.unwritten:
                return False
            if title.complete == "association" and (seen.associations or not seen.is_cut):
                return not seen.associations
            return self._clock() - seen.last >= title.quiet_seconds

    def _complete(self, study: Study, title: AeTitle) -> None:
        told = study_hash(study.study_uid)
        late = study.generation > 0
        if aside := sum(each.study == told and each.kind == "instance" for each in all_items(self._store)):
            self._store.hold(study.id)
            logger.warning(
                "study %d is held: %d of its instances are set aside; replay them, or release the study",
                *(study.id, aside),
            )
        elif late and title.late == "wait":
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
        if not self._stopped.wait(_LOOK_S):
            self.look()

    def _write(self) -> None:
        """Write one batch; what could not be written stays in hand for the next round."""
        if not self._in_hand:
            self._in_hand = self._next_batch()
        write_each(self._store, self._in_hand, until=self._stopped.is_set)
        with self._lock:
            for each in self._in_hand:
                self._open[_key(each)].unwritten -= 1  # which keeps it from being forgotten
        for each in self._in_hand:
            self._claims.drop(_key(each))
        self._in_hand = []

    def _has_unwritten(self) -> bool:
        with self._lock:
            return any(study.unwritten for study in self._open.values())

    def _next_batch(self) -> list[Received]:
        batch: list[Received | None] = []
        try:
            batch.append(self._unwritten.get(timeout=_EMPTY_S))
            self._stopped.wait(_GATHER_S)  # the files are safe: one sync of the books serves many of them
            while len(batch) < _BATCH:
                batch.append(self._unwritten.get_nowait())
        except queue.Empty:
            pass
        return [each for each in batch if each is not None]


def write_each(store: Store, batch: Sequence[Received], *, until: Callable[[], bool] = lambda: False) -> int:
    """Write instances into the database, at once where that can be; return how many were written.

    One that cannot be written is set aside: its file stays, and the others are written.

    Parameters
    ----------
    until
        Tells when to give up while the database is locked; then `sqlite3.OperationalError` is raised.
    """
    if not batch:
        return 0
    try:
        insist(lambda: store.add_instances(batch), until=until)
    except Exception as error:  # a border: one instance harms no other
        if is_of_surroundings(error):
            raise
        if len(batch) > 1:
            half = len(batch) // 2
            return sum(write_each(store, part, until=until) for part in (batch[:half], batch[half:]))
        told = study_hash(batch[0].study_uid)
        logger.error(
            "an instance of study %s cannot be written into the database", told, exc_info=traceback_of(error)
        )
        set_aside(store, "instance", batch[0].path, reason=reason_of(error), study=told)
        return 0
    return len(batch)


def take_up(store: Store, places: AdapterPlaces) -> int:
    """Write acknowledged instances into the books that a crash has kept out of them; return how many.

    What cannot be read or written is set aside, stays where it is, and is said once.
    """
    found, aside = [], items_of(store, "instance")
    store.set_damaged_aside()
    for path in kept_files(places):
        if str(path) in aside or store.knows(path):
            continue
        try:
            found.append(taken_up(path))
        except Exception as error:  # a border: what one file holds keeps no adapter from its start
            set_aside(store, "instance", path, reason=reason_of(error))
    if aside:
        logger.warning("%d received files are set aside: clara-wf adapter status", len(aside))
    return write_each(store, found)


def chosen(instances: Sequence[Received], wanted: SeriesFilter) -> list[Received]:
    """Return the instances that pass a filter."""
    return [
        each
        for each in instances
        if (not wanted.modalities or each.modality in wanted.modalities)
        and (not wanted.sop_classes or each.sop_class_uid in wanted.sop_classes)
        and matches(wanted.descriptions, each.series_description)
    ]


def _key(received: Received) -> _Key:
    return received.ae_title, received.study_uid
