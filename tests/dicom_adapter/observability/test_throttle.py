"""A flood of events fills neither the log nor the audit trail."""

import json
import logging

import pytest

from dicom_adapter.config.blocks import Config
from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.audit_chain import check_chain
from dicom_adapter.observability.metrics import ENDINGS, Metrics
from dicom_adapter.observability.throttle import EventThrottle
from dicom_adapter.studies.events import ReceivingEvents


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def reception(tmp_path):
    config = Config.model_validate({"dicom": {"scp": {"ae-titles": [{"ae-title": "CT_AI"}]}}})
    trail = AuditTrail(tmp_path / "audit.jsonl", ae_title="CLARA")
    yield ReceivingEvents(studies=None, metrics=Metrics(), trail=trail, config=lambda: config)
    trail.close()


def test_ten_are_told_at_once_and_ten_a_minute():
    clock = Clock()
    repeats = EventThrottle(clock)
    assert sum(repeats.allows("slow", "10.0.0.1") for _ in range(500)) == 10
    clock.now = 30.0
    assert sum(repeats.allows("slow", "10.0.0.1") for _ in range(500)) == 5


def test_one_address_does_not_hide_what_another_does_nor_one_kind_another():
    repeats = EventThrottle(Clock())
    for _ in range(500):
        repeats.allows("slow", "10.0.0.1")
    assert repeats.allows("slow", "10.0.0.2")
    assert repeats.allows("broken", "10.0.0.1")


def test_many_addresses_are_told_thirty_times_at_once_and_held_in_bounds():
    repeats = EventThrottle(Clock())
    assert sum(repeats.allows("slow", f"10.0.{n >> 8}.{n & 255}") for n in range(5000)) == 30
    (held,) = repeats.summaries(all_of_it=True)
    assert (held.count, held.most) == (4970, "others")
    assert held.addresses <= 1025


def test_what_is_held_back_is_summed_up_after_a_minute_once():
    clock = Clock()
    repeats = EventThrottle(clock)
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
        for _ in range(20):
            repeats.allows("slow", address)
    clock.now = 59.0
    assert repeats.summaries() == []
    clock.now = 61.0
    (held,) = repeats.summaries()
    assert (held.kind, held.count, held.addresses, held.most, held.seconds) == (
        "slow",
        40,
        2,
        "10.0.0.1",
        61.0,
    )
    assert repeats.summaries(all_of_it=True) == []


def test_a_flood_of_rejections_is_a_dozen_lines_of_the_log_and_the_trail(reception, tmp_path, caplog):
    for n in range(1000):
        reception.rejected("CT_AI", f"NAME{n}", "calling AE title not recognised", address="10.0.0.1")
    reception.catch_up(all_of_it=True)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert len(lines) == 11
    told = lines[-1]["ParticipantObjectIdentification"][0]["ParticipantObjectDetail"][0]["value"]
    assert told.startswith("990 more in 0 s, from 1 addresses, most from 10.0.0.1")
    assert len(caplog.records) == 11
    assert not check_chain(tmp_path / "audit.jsonl").broken
    assert 'outcome="rejected"} 1000.0' in reception._metrics.text().decode()


def test_every_ending_is_a_metric_from_the_start_and_none_is_added(reception, caplog):
    caplog.set_level(logging.DEBUG)
    for ending in ENDINGS:
        reception.ended(ending, "said \x1b[31m by\na peer", address="10.0.0.1")
    told = [line for line in reception._metrics.text().decode().splitlines() if "connections_total{" in line]
    assert len(told) == len(ENDINGS)
    assert all(line.endswith(" 1.0") for line in told)
    assert all("\x1b" not in each.getMessage() and "\n" not in each.getMessage() for each in caplog.records)
