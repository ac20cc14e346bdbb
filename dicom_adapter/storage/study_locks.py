"""Receiving and removing a study kept apart."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_Key = tuple[str, str]


class StudyLocks:
    """Which studies, by AE title and StudyInstanceUID, must not be removed now.

    An instance that came before, byte by byte, is acknowledged for the file that is there. Until it stands in
    the database again nothing else tells that the file is wanted.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: Counter[_Key] = Counter()
        self._removed: set[_Key] = set()

    def acquire(self, study: _Key) -> None:
        """Lock a study, once more if it is locked already; wait while it is being removed.

        Parameters
        ----------
        study
            AE title and StudyInstanceUID.
        """
        with self._changed:
            self._changed.wait_for(lambda: study not in self._removed)
            self._held[study] += 1

    def release(self, study: _Key) -> None:
        """Release one lock.

        Parameters
        ----------
        study
            AE title and StudyInstanceUID.
        """
        with self._changed:
            self._held[study] -= 1
            if not self._held[study]:
                del self._held[study]

    @contextmanager
    def removal(self, study: _Key) -> Iterator[bool]:
        """Keep others from locking a study until the block ends; yield whether nobody has locked it.

        Parameters
        ----------
        study
            AE title and StudyInstanceUID.
        """
        with self._changed:
            free = study not in self._held
            if free:
                self._removed.add(study)
        try:
            yield free
        finally:
            if free:
                with self._changed:
                    self._removed.discard(study)
                    self._changed.notify_all()
