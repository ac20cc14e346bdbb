"""A clock that is wrong, or jumps, changes nothing but the time that is shown."""

import ast
from pathlib import Path

import pytest

from dicom_adapter.database.connection import ServiceClock
from dicom_adapter.database.counts import counts_by_destination
from dicom_adapter.database.deliveries import dead_letter_older
from dicom_adapter.database.store import Store
from tests.dicom_adapter.offline_adapter import OfflineAdapter, destination

ADAPTER = Path(__file__).parents[3] / "dicom_adapter"
DECIDES = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}


@pytest.fixture
def bench(tmp_path):
    made = OfflineAdapter(tmp_path / "a", destination("A", 1, "X"), **{"retention-hours": 0})
    yield made
    made.close()


def test_nothing_of_the_adapter_asks_for_the_time_of_day_to_decide_by_it():
    found = [
        f"{path.name}:{node.lineno}"
        for path in ADAPTER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if path.name != "json_logs.py"  # says when something was said
        and isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in DECIDES
    ]
    assert found == []


@pytest.mark.parametrize("year", ["1970", "2036", "9999"])
def test_a_result_is_as_old_as_the_adapter_was_in_service_whatever_the_year(bench, monkeypatch, year):
    bench.done_job("A", results=1)
    for module in ("connection", "deliveries", "jobs", "studies"):
        monkeypatch.setattr(
            f"dicom_adapter.database.{module}.now", lambda: f"{year}-01-01T00:00:00.000+00:00"
        )
    hours_ago = bench.store.clock() - 72 * 3600
    assert dead_letter_older(bench.store, "A", hours_ago, reason="given up") == 0
    assert bench.states() == {"waiting": 1}
    assert counts_by_destination(bench.store)[1]["A"] < 60


def test_after_so_many_seconds_of_service_a_result_is_given_up(bench):
    bench.done_job("A", results=1)
    began = bench.store.clock()
    bench.store.clock = lambda: began + 72 * 3600 + 1
    assert dead_letter_older(bench.store, "A", bench.store.clock() - 72 * 3600, reason="given up") == 1
    assert bench.states() == {"dead": 1}


def test_a_replayed_result_begins_to_wait_anew(bench):
    job = bench.done_job("A", results=1)
    bench.store.clock = lambda: 1e6
    dead_letter_older(bench.store, "A", 1e6, reason="given up")
    bench.store.replay(job.id)
    assert counts_by_destination(bench.store)[1] == {"A": 0.0}


def test_the_seconds_of_service_go_on_at_the_next_start_and_never_back(tmp_path):
    store = Store(tmp_path / "a.sqlite")
    store.clock = ServiceClock(5000.0)
    store.keep_time()
    store.clock = ServiceClock(10.0)  # such as another process, which began when less was written down
    store.keep_time()
    store.close()
    again = Store(tmp_path / "a.sqlite")
    assert 5000 <= again.clock() < 5010
    again.close()
