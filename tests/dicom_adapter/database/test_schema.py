"""The database's version: an older one is brought to today's, a later one is refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dicom_adapter.database.schema import MIGRATIONS
from dicom_adapter.database.store import Store
from stages.errors import SettingsError

UNVERSIONED = Path(__file__).with_name("unversioned.sql").read_text()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "adapter.sqlite"


def run(file, *statements):
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        for statement in statements:
            database.executescript(statement)
        return database.execute("PRAGMA user_version").fetchone()[0]


def test_a_new_database_has_the_version_of_the_program(file):
    Store(file).close()
    assert run(file) == len(MIGRATIONS)


def test_a_database_of_a_release_without_versions_keeps_all_it_holds(file):
    run(file, UNVERSIONED)
    with closing(Store(file)) as store:
        assert [(each.study_uid, each.instances) for each in store.studies()] == [("1.2.5", 1), ("1.2.3", 2)]
        assert [(job.state, job.tries, job.reason) for job in store.jobs()] == [
            ("done", 1, ""),
            ("queued", 1, "no server"),
        ]
        assert [(each.state, each.message) for each in store.deliveries()] == [
            ("delivered", ""),
            ("waiting", "not reached"),
        ]
    assert run(file) == len(MIGRATIONS)


def test_a_database_of_the_first_releases_gets_the_column_that_it_lacks(file):
    run(file, UNVERSIONED, "ALTER TABLE deliveries DROP COLUMN content")
    with closing(Store(file)) as store:
        job = store.jobs("queued")[0]
        store.start_next(9e9)
        assert store.finish(job.id, {"1.7": Path("/z")}, contents={"1.7": "abc"}) == (0, 0)


def test_a_database_of_a_later_program_is_refused_and_left_as_it_is(file):
    Store(file).close()
    run(file, "PRAGMA user_version = 99")
    with pytest.raises(SettingsError, match=r"has version 99.*a later release has written it"):
        Store(file)
    assert run(file) == 99


def test_tables_that_no_release_has_made_are_refused_by_the_column_they_lack(file):
    run(file, UNVERSIONED, "ALTER TABLE deliveries DROP COLUMN refusals")
    with pytest.raises(SettingsError, match=r"lacks deliveries\.refusals"):
        Store(file)
    assert run(file) == 0


def test_a_step_that_fails_changes_nothing(file, monkeypatch):
    run(file, UNVERSIONED)
    broken = (*MIGRATIONS, "CREATE TABLE more (id INTEGER); INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr("dicom_adapter.database.schema.MIGRATIONS", broken)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Store(file)
    assert run(file) == 0


def test_a_command_leaves_a_database_of_an_earlier_release_as_it_is(file):
    run(file, UNVERSIONED)
    with pytest.raises(SettingsError, match=r"has version 0.*start the adapter of this one"):
        Store(file, migrates=False)
    assert run(file) == 0
    Store(file).close()
    Store(file, migrates=False).close()
