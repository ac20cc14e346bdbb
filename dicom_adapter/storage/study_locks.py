"""Receiving and removing a study kept apart."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_Key = tuple[str, str]


class Claims:
    """Which studies, by AE title and StudyInstanceUID, must not be removed now.

    An instance that came before, byte by byte, is acknowledged for the file that is there. Until it stands in
    the books again nothing else tells that the file is wanted.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._claims: Counter[_Key] = Counter()
        self._removed: set[_Key] = set()

    def take(self, study: _Key) -> None:
        """Claim a study, once more if it is claimed already; wait while it is being removed."""
        with self._changed:
            self._changed.wait_for(lambda: study not in self._removed)
            self._claims[study] += 1

    def drop(self, study: _Key) -> None:
        """Give up one claim."""
        with self._changed:
            self._claims[study] -= 1
            if not self._claims[study]:
                del self._claims[study]

    @contextmanager
    def removal(self, study: _Key) -> Iterator[bool]:
        """Keep others from claiming a study until the block ends; False if somebody has claimed it."""
        with self._changed:
            free = study not in self._claims
            if free:
                self._removed.add(study)
        try:
            yield free
        finally:
            if free:
                with self._changed:
                    self._removed.discard(study)
                    self._changed.notify_all()
