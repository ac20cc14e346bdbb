"""What comes is written into the database, and a study that is complete becomes jobs.

Time is measured by a clock that nobody sets; after a restart each study's quiet time begins anew, also where
senders that hang up complete a study, since the restart has cut them off. A study is not complete before all
its acknowledged instances are in the database.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_adapter.config.blocks import Config, WorkflowRule
from dicom_adapter.config.dicom_blocks import AeTitle, SeriesFilter
from dicom_adapter.database.records import JobRecord, ReceivedInstance, StudyRecord
from dicom_adapter.database.set_aside import all_items, items_of, set_aside
from dicom_adapter.database.store import Store
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_adapter.studies.recovery import write_each
from dicom_adapter.studies.selection import chosen
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.failures import is_resource_error, reason_of, traceback_of
from dicom_adapter.supervision.supervisor import Supervisor, stop_all

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


class StudyTracker:
    """Follows the studies that are being received.

    Parameters
    ----------
    store
        The database.
    config
        Returns the configuration that holds now.
    on_jobs
        Called with the jobs that were made of a study.
    study_locks
        One is dropped for each instance that is in the database, or set aside.
    supervisor
        Watches the threads; None for one of their own.
    clock
        Returns the time, seconds.
    """

    def __init__(
        self,
        store: Store,
        config: Callable[[], Config],
        *,
        on_jobs: Callable[[StudyRecord, Sequence[JobRecord]], None],
        study_locks: StudyLocks,
        supervisor: Supervisor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._config = config
        self._on_jobs = on_jobs
        self._study_locks = study_locks
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[_Key, _Open] = {}
        self._unwritten: queue.Queue[ReceivedInstance | None] = queue.Queue()
        self._in_hand: list[ReceivedInstance] = []
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

    def kept(self, association: int, received: ReceivedInstance) -> None:
        """Note an instance that is on disk, before it is acknowledged.

        Parameters
        ----------
        association, received
            Its number and the instance.
        """
        with self._lock:
            study = self._open.setdefault(_key(received), _Open(self._clock()))
            study.last, study.is_cut = self._clock(), False
            study.associations.add(association)
            study.unwritten += 1
        self._unwritten.put(received)

    def closed(self, association: int, *, is_released: bool = True) -> None:
        """Note that an association is over, and whether its peer has said that it was done.

        Parameters
        ----------
        association, is_released
            Its number and whether the peer released it.
        """
        with self._lock:
            for study in self._open.values():
                if association in study.associations:
                    study.associations.discard(association)
                    study.is_cut |= not is_released
                    study.last = study.last if is_released else self._clock()

    def look(self) -> None:
        """Complete the studies that are; one that cannot be is set aside, and harms no other."""
        resource_error: BaseException | None = None
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
                if not is_resource_error(error):
                    self._set_study_aside(study, error)
                else:
                    resource_error = resource_error or error
        if resource_error is not None:
            raise resource_error

    def release(self, study_id: int) -> list[JobRecord]:
        """Run the workflows on a study whose late instances were held.

        Parameters
        ----------
        study_id
            The study's number in the database.

        Raises
        ------
        StateError
            If nothing of it is held.
        """
        study = self._store.study(study_id)
        return self._made(study, supersede=False)

    def _look_at(self, study: StudyRecord) -> None:
        title = self._title(study.ae_title)
        if title is not None and self._is_complete(study, title):
            self._complete(study, title)
            self._forget((study.ae_title, study.study_uid))

    def _set_study_aside(self, study: StudyRecord, error: Exception) -> None:
        hashed = study_hash(study.study_uid)
        logger.error(
            "study %s cannot be completed (%s)",
            *(hashed, reason_of(error)),
            extra={"study": hashed},
            exc_info=traceback_of(error),
        )
        set_aside(self._store, "study", study.id, reason=reason_of(error), study=hashed)

    def _forget(self, key: _Key) -> None:
        with self._lock:
            if key in self._open and not self._open[key].unwritten:
                del self._open[key]

    def _written(self) -> dict[_Key, float]:
        """Return which studies have nothing that is not in the database, and when the last of each came."""
        with self._lock:
            return {key: study.last for key, study in self._open.items() if not study.unwritten}

    def _forget_repeated(self, written: Mapping[_Key, float], receiving: Collection[_Key]) -> None:
        """Forget studies of which nothing new came, and which are not received again for it.

        Parameters
        ----------
        written
            As it was before it was looked which are being received.
        receiving
            Those that are being received.
        """
        with self._lock:
            for key, last in written.items():
                seen = self._open.get(key)
                if key not in receiving and seen and seen.last == last and not seen.unwritten:
                    del self._open[key]

    def _title(self, name: str) -> AeTitle | None:
        titles = self._config().dicom.scp.ae_titles
        return next((each for each in titles if each.ae_title == name), None)

    def _is_complete(self, study: StudyRecord, title: AeTitle) -> bool:
        with self._lock:
            new = _Open(self._clock(), is_cut=True)
            seen = self._open.setdefault((study.ae_title, study.study_uid), new)
            if seen.unwritten:
                return False
            if title.complete == "association" and (seen.associations or not seen.is_cut):
                return not seen.associations
            return self._clock() - seen.last >= title.quiet_seconds

    def _complete(self, study: StudyRecord, title: AeTitle) -> None:
        hashed = study_hash(study.study_uid)
        late = study.generation > 0
        if aside := sum(each.study == hashed and each.kind == "instance" for each in all_items(self._store)):
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

    def _made(self, study: StudyRecord, *, supersede: bool) -> list[JobRecord]:
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
            self._study_locks.release(_key(each))
        self._in_hand = []

    def _has_unwritten(self) -> bool:
        with self._lock:
            return any(study.unwritten for study in self._open.values())

    def _next_batch(self) -> list[ReceivedInstance]:
        batch: list[ReceivedInstance | None] = []
        try:
            batch.append(self._unwritten.get(timeout=_EMPTY_S))
            self._stopped.wait(_GATHER_S)  # the files are safe: one sync of the database serves many of them
            while len(batch) < _BATCH:
                batch.append(self._unwritten.get_nowait())
        except queue.Empty:
            pass
        return [each for each in batch if each is not None]


def _key(received: ReceivedInstance) -> _Key:
    return received.ae_title, received.study_uid
