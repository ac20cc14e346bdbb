"""A database that is damaged, locked or gone is told by one line, before anything is written."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from dicom_adapter.database.counts import counts
from dicom_adapter.database.faults import DatabaseDamagedError, DatabaseUnusableError
from dicom_adapter.database.integrity import require_sound
from dicom_adapter.database.records import ReceivedInstance
from dicom_adapter.database.store import Store
from stages.errors import StageError


def instance(n):
    return ReceivedInstance(
        ae_title="CT",
        study_uid="1.2.3",
        sop_instance_uid=f"1.2.3.4.{n}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        path=Path(f"/data/CT/1.2.3/{n}.dcm"),
        size=100,
    )


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    (folder / "CT/1.2.3").mkdir(parents=True)
    (folder / "CT/1.2.3/1.dcm").write_bytes(b"x")
    return folder


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Return the bytes of a database with 2000 instances of a study."""
    file = tmp_path_factory.mktemp("made") / "adapter.sqlite"
    with closing(Store(file)) as store:
        store.add_instances(instance(n) for n in range(2000))
    return file.read_bytes()


@pytest.fixture
def file(tmp_path, content):
    file = tmp_path / "adapter.sqlite"
    file.write_bytes(content)
    return file


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def cut_within_the_first_page(file):
    os.truncate(file, 100)


def overwrite_pages(file):
    drawn = random.Random(5)
    with file.open("r+b") as target:
        for _ in range(10):
            target.seek(4096 * drawn.randrange(1, file.stat().st_size // 4096))
            target.write(drawn.randbytes(4096))


def write_text(file):
    file.write_text("not a database " * 1000)


def empty(file):
    os.truncate(file, 0)


def remove(file):
    file.unlink()


def put_a_folder_there(file):
    file.unlink()
    file.mkdir()


def put_a_pipe_there(file):
    file.unlink()
    os.mkfifo(file)


def break_reference(file):
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE instances SET study_id = 77 WHERE sop_instance_uid = '1.2.3.4.5'")
        database.commit()


DAMAGES = (
    *(cut, cut_within_the_first_page, overwrite_pages, write_text, empty, remove),
    *(put_a_folder_there, put_a_pipe_there, break_reference),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_refused_with_what_to_do_and_left_as_it_is(file, studies, damage):
    damage(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(DatabaseDamagedError, match=r"is damaged .*clara-wf adapter rebuild") as told:
        require_sound(file, studies=studies)
    assert told.value.exit_code == 3
    assert "\n" not in str(told.value)
    assert (file.read_bytes() if file.is_file() else None) == before


def test_a_sound_one_is_taken_and_so_is_none_where_nothing_was_received(file, studies, tmp_path):
    before = file.read_bytes()
    require_sound(file, studies=studies)
    assert file.read_bytes() == before
    require_sound(tmp_path / "none.sqlite", studies=tmp_path / "none")
    assert not (tmp_path / "none.sqlite").exists(), "who looks makes none"


def test_a_log_of_another_database_is_no_part_of_it(file, studies, tmp_path):
    other = tmp_path / "other.sqlite"
    with closing(Store(other)) as store:
        store.add_instances([instance(1)])
        strange = other.with_name("other.sqlite-wal").read_bytes()
    with closing(Store(file)) as store:
        identity = store.identity
    before = file.read_bytes()
    file.with_name("adapter.sqlite-wal").write_bytes(strange)
    with pytest.raises(DatabaseDamagedError, match="belongs to another storage"):
        require_sound(file, studies=studies, identity=identity)
    assert file.read_bytes() == before


def test_a_large_one_is_looked_at_for_so_long_only(file, studies, caplog):
    require_sound(file, studies=studies, longest_s=0)
    assert "is sound so far" in caplog.text


def test_one_that_is_locked_is_told_after_a_while(file, studies):
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnusableError, match="another process has locked it") as told:
            require_sound(file, studies=studies, lock_s=0.1)
    assert told.value.exit_code == 7


def test_a_store_that_another_process_locks_says_so_and_goes_on_when_it_is_free(file, monkeypatch):
    monkeypatch.setattr("dicom_adapter.database.connection._VISIBLE_S", 0.05)
    with closing(Store(file)) as store, closing(connected(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=store.keep_time)
        waiting.start()
        while not store.trouble:
            assert waiting.is_alive()
        assert "is locked by another process" in store.trouble
        assert counts(store)["studies"] == {"receiving": 1}  # reading goes on
        other.execute("ROLLBACK")
        waiting.join()
        assert store.trouble == ""


def connected(file):
    return sqlite3.connect(file, isolation_level=None, check_same_thread=False)


def test_a_store_that_ends_waits_for_a_lock_no_longer_also_where_it_waits_already(file, monkeypatch):
    monkeypatch.setattr("dicom_adapter.database.connection._SHUTDOWN_WAIT_S", 0.1)
    with closing(Store(file)) as store, closing(connected(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.05, store.begin_shutdown).start()
        began = time.monotonic()
        with pytest.raises(DatabaseUnusableError, match="locked") as told:
            store.keep_time()
        assert told.value.is_final
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_is_taken_away_is_written_no_more(file, replaced):
    with closing(Store(file)) as store:
        file.rename(file.with_name("taken"))
        if replaced:
            Store(file).close()
        with pytest.raises(DatabaseDamagedError, match="removed or replaced while the adapter runs"):
            store.keep_time()
        assert "removed or replaced" in store.trouble


def test_pages_that_are_damaged_while_it_runs_are_told(file):
    with closing(Store(file)) as store:
        overwrite_pages(file)
        os.truncate(file.with_name("adapter.sqlite-wal"), 0)
        with pytest.raises(DatabaseDamagedError):
            store.add_instances([instance(n) for n in range(5000)])
        assert "is damaged" in store.trouble


def test_garbage_that_is_written_over_a_running_database_is_noticed_by_the_next_look(file):
    with closing(Store(file)) as store:
        store.keep_time()
        store.look()
        for each in (file, file.with_name("adapter.sqlite-wal")):
            each.write_bytes(random.Random(1).randbytes(each.stat().st_size))
        with pytest.raises(DatabaseDamagedError, match="file is not a database"):
            store.look()
        store.keep_time()  # SQLite has its pages in memory
        assert "is damaged" in store.trouble


def test_it_is_readable_for_us_and_our_group_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with closing(Store(tmp_path / "a.sqlite")) as store:
            store.keep_time()
            assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(before)


@pytest.mark.parametrize("change", ["DELETE FROM service", "UPDATE service SET seconds = 'long'"])
def test_one_that_does_not_say_how_long_it_was_in_service_is_damaged(file, change):
    with closing(connected(file)) as other:
        other.execute(change)
    with pytest.raises(DatabaseDamagedError, match="how long the adapter was in service"):
        Store(file)


def test_a_full_disk_and_a_lock_keep_nobody_from_looking(file):
    with closing(connected(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(Store(file)) as store:
            assert len(store.studies()) == 1


def test_a_folder_that_is_not_there_is_told_by_one_line(tmp_path):
    with pytest.raises(DatabaseUnusableError, match="cannot be made: No such file"):
        Store(tmp_path / "none/adapter.sqlite")


FULL = """
import resource, sys
from contextlib import closing
from pathlib import Path
from dicom_adapter.database.store import Store
from tests.dicom_adapter.database.test_integrity import instance

with closing(Store(Path(sys.argv[1]))) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1))
    done = 0
    try:
        for n in range(10_000, 20_000):
            store.add_instances([instance(n)])
            done += 1
    except OSError as error:
        assert store.trouble == str(error), store.trouble
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    store.add_instances([instance(n)])
    assert store.trouble == ""
    print(done + 1)
"""


def test_a_full_disk_costs_one_transaction_and_it_goes_on_when_there_is_room(file, studies):
    done = subprocess.run([sys.executable, "-c", FULL, file], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    require_sound(file, studies=studies)
    with closing(Store(file)) as store:
        assert store.studies()[0].instances == 2000 + int(done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_file_system_that_is_read_only_is_told_by_one_line(file, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        copy = disk / "adapter.sqlite"
        copy.write_bytes(file.read_bytes())
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for opened in (lambda: require_sound(copy, studies=tmp_path), lambda: Store(copy).keep_time()):
            with pytest.raises(StageError, match=r"cannot be used .*write the file") as told:
                opened()
            assert told.value.exit_code == 7
    finally:
        subprocess.run(["umount", disk], check=True)


ROOT = Path(__file__).parents[3]
