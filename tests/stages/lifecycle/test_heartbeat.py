"""Signs of life, by themselves; a stage's own are in test_driver.py."""

import json
import time

from stages.lifecycle.heartbeat import Heartbeat


def test_a_heartbeat_counts_while_it_lasts_and_stays_away_when_it_has_ended(tmp_path):
    heartbeat = Heartbeat(tmp_path, "a.lock", job="job-1", every_s=0.01)
    with heartbeat:
        deadline = time.monotonic() + 10
        while not (tmp_path / "a.running").exists() or beats(tmp_path) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        heartbeat.end()  # as a stage does that is ended by force
        time.sleep(0.2)
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_one_that_ended_before_it_began_is_never_seen(tmp_path):
    heartbeat = Heartbeat(tmp_path, "a.lock", job="job-1", every_s=0.01)
    heartbeat.end()
    with heartbeat:
        time.sleep(0.1)
        assert list(tmp_path.iterdir()) == []


def beats(folder):
    return json.loads((folder / "a.running").read_text())["beat"]
