"""Rows that the adapter never wrote are set aside, said once, and harm no other row."""

import pytest

from dicom_adapter.database import set_aside
from dicom_adapter.database.records import StateError
from dicom_adapter.studies.recovery import replay_item
from tests.dicom_adapter.instances import instance, write
from tests.dicom_adapter.offline_adapter import OfflineAdapter

HUGE = "x" * 100_000


@pytest.fixture
def bench(tmp_path):
    made = OfflineAdapter(tmp_path / "b")
    yield made
    made.close()


def spoil(store, statement, *values):
    with store.transaction() as database:
        database.execute(statement, values)


def aside(store):
    return [(each.kind, each.item) for each in set_aside.all_items(store)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(
            ("destinations", "PACS"),
            ("destinations", "[1]"),
            ("destinations", b"\xff"),
            ("destinations", "[" * 9999),
        ),
        *(
            ("tries", "many"),
            ("rule", b"\x00"),
            ("reason", HUGE),
            ("exit_code", "three"),
            ("created", b"now"),
            ("id", "../../out"),
        ),
    ],
)
def test_a_damaged_job_is_set_aside_and_the_next_one_starts(bench, caplog, column, value):
    bad, good = (bench.complete(bench.receive(f"1.2.{n}", slices=1)) for n in (1, 2))
    spoil(bench.store, f"UPDATE jobs SET {column} = ? WHERE id = ?", value, bad.id)
    assert bench.store.start_next(1e12).id == good.id
    assert bench.store.start_next(1e12) is None
    assert [each.id for each in bench.store.jobs()] == [good.id]
    assert aside(bench.store) == [("job", value if column == "id" else bad.id)]
    assert caplog.text.count("set aside as aside-1") == 1
    with pytest.raises(StateError, match="damaged"):
        bench.store.job(value if column == "id" else bad.id)


@pytest.mark.parametrize(
    ("table", "kind"), [("studies", "study"), ("jobs", "job"), ("deliveries", "delivery")]
)
def test_what_is_in_a_state_that_there_is_not_is_told_at_the_start(bench, table, kind):
    bench.done_job("PACS", results=1)
    spoil(bench.store, f"UPDATE {table} SET state = 'lost'")
    bench.store.set_damaged_aside()
    ((found, _),) = aside(bench.store)
    assert found == kind


@pytest.mark.parametrize(
    ("column", "value"), [("path", b"\xff\x00"), ("tries", "x"), ("sop_instance_uid", b"1.2")]
)
def test_a_damaged_delivery_is_passed_over(bench, column, value):
    bench.done_job("PACS", results=3)
    spoil(bench.store, f"UPDATE deliveries SET {column} = ? WHERE id = 2", value)
    assert [each.id for each in bench.store.due("PACS", 1e12)] == [1, 3]
    assert [each.id for each in bench.store.due("PACS", 1e12)] == [1, 3]
    assert aside(bench.store) == [("delivery", "2")]


def test_text_that_is_no_utf_8_is_set_aside_like_other_damage(bench):
    bench.receive("1.2.1", slices=1)
    bench.receive("1.2.2", slices=1)
    spoil(bench.store, "UPDATE studies SET state = CAST(x'ff' AS TEXT) WHERE id = 1")
    assert [each.id for each in bench.store.studies()] == [2]
    assert aside(bench.store) == [("study", "1")]


def test_a_job_that_is_replayed_starts_once_its_row_is_mended(bench):
    job = bench.complete(bench.receive(slices=1))
    spoil(bench.store, "UPDATE jobs SET destinations = '?', state = 'running' WHERE id = ?", job.id)
    assert bench.store.jobs() == []
    spoil(bench.store, "UPDATE jobs SET destinations = '[]'")
    (item,) = set_aside.all_items(bench.store)
    replay_item(bench.store, item)
    assert aside(bench.store) == []
    assert bench.store.start_next(1e12).id == job.id


def test_an_instance_that_is_replayed_is_read_anew_and_its_study_received_again(bench):
    (made,) = write(bench.folder / "made", [instance(1)])
    folder = bench.folder / "adapter/studies/CT_AI/1.2.3"
    folder.mkdir(parents=True)
    path = made.rename(folder / "1.2.3.4.1.dcm")
    set_aside.set_aside(bench.store, "instance", path, reason="UnicodeEncodeError")
    (item,) = set_aside.all_items(bench.store)
    replay_item(bench.store, item)
    (study,) = bench.store.studies("receiving")
    assert (study.ae_title, study.instances, aside(bench.store)) == ("CT_AI", 1, [])
