"""The adapter's database: which instances came, which jobs were made of them, and what was delivered.

One SQLite file (write-ahead log, synced at each commit), one connection, one writer at a time. Files are the
truth about instances: one is acknowledged when its file and folder are synced, written into the database
after that, and found in its folder at the next start if that never happened. About jobs and deliveries the
database is the truth: each is written down before anything is done about it, its ID is the same when it is
made again, and doing it twice changes nothing.

Which state may follow which stands in `dicom_adapter.database.records`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from dicom_adapter.database.connection import marks
from dicom_adapter.database.records import TRANSITIONS, delivery_of, job_of, study_of
from dicom_adapter.database.set_aside import SetAsideKind
from dicom_adapter.database.studies import SELECT_STUDIES, StudyTable


class Store(StudyTable):
    """The database with all of its tables: studies, jobs and deliveries, see `Database`."""

    def set_damaged_aside(self) -> None:
        """Set aside what is in no state that anything works on, which would be passed over in silence."""
        tables: tuple[tuple[SetAsideKind, str, str, Callable[[sqlite3.Row], object]], ...] = (
            ("study", "studies", f"{SELECT_STUDIES} WHERE s.state NOT IN ({{}}) GROUP BY s.id", study_of),
            ("job", "jobs", "SELECT * FROM jobs WHERE state NOT IN ({})", job_of),
            ("delivery", "deliveries", "SELECT * FROM deliveries WHERE state NOT IN ({})", delivery_of),
        )
        for kind, table, query, make in tables:
            states = TRANSITIONS[table]
            self._read(kind, self._rows(query.format(marks(states)), *states), make)
