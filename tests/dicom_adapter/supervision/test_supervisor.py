"""Workers that fail, wait, are stuck and end: what is logged, and what probes are told."""

import logging
import sqlite3
import threading

import pytest

from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.failures import UnforeseenError
from dicom_adapter.supervision.supervisor import Supervisor, stop_all
from dicom_adapter.supervision.worker import heartbeat, work_for
from stages.runtime.retry import Backoff
from tests.dicom_adapter.destinations import wait_until

SOON = Backoff(first_s=0.01, longest_s=0.02)


class Bench:
    """A worker whose rounds do what the test says."""

    def __init__(self, *, stuck_s=60.0, backoff=SOON, **options):
        self.failures, self.rounds, self.error = [], 0, None
        self.go_on = threading.Event()
        self.go_on.set()
        self.supervisor = Supervisor(
            stuck_s=lambda: stuck_s, backoff=backoff, on_failure=self.failures.append
        )
        self.worker = self.supervisor.worker("writer", self.work, **options)
        self.worker.start()

    def work(self):
        self.rounds += 1
        self.go_on.wait(10)
        threading.Event().wait(0.002)
        if self.error:
            raise type(self.error)(*self.error.args)

    def hold(self):
        """Let a round begin that does not end."""
        before = self.rounds
        self.go_on.clear()
        wait_until(lambda: self.rounds > before)

    def wait_for(self, failures):
        wait_until(lambda: len(self.failures) >= failures)

    def stop(self):
        self.go_on.set()
        return stop_all([self.worker], Deadline(5))


@pytest.fixture
def bench():
    made = []

    def start(**options):
        made.append(Bench(**options))
        return made[-1]

    yield start
    for each in made:
        each.stop()


def test_an_error_that_comes_again_and_again_is_logged_with_its_traceback_once_and_then_less_and_less(
    bench, caplog
):
    running = bench()
    running.error = ValueError("of a patient called Doe")
    running.wait_for(failures=20)
    running.stop()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info[0] is UnforeseenError
    assert len([record for record in caplog.records if "as before" in record.message]) in (
        4,
        5,
    )  # 2, 4, 8, 16
    assert "Doe" not in caplog.text


def test_a_worker_that_waits_after_an_error_is_not_ready_but_healthy_until_it_works_again(bench):
    running = bench()
    running.error = sqlite3.OperationalError("database is locked")
    running.wait_for(failures=1)
    assert running.supervisor.why_not_ready() == (
        "the worker 'writer' cannot go on, and tries again: database is locked"
    )
    assert running.supervisor.why_unhealthy() == ""
    running.error = None
    wait_until(lambda: running.supervisor.why_not_ready() == "")
    assert running.supervisor.states() == {"working": 1, "waiting": 0, "stuck": 0, "dead": 0}


def test_a_worker_without_a_sign_of_life_is_stuck_until_there_is_one(bench):
    running = bench(stuck_s=0.2)
    running.go_on.clear()
    wait_until(running.supervisor.why_unhealthy)
    assert "the worker 'writer' has given no sign of life for 0 s" in running.supervisor.why_not_ready()
    thread = threading.Thread(target=lambda: (work_for(running.worker), heartbeat()))
    thread.start()
    thread.join()
    assert running.supervisor.why_unhealthy() == ""


def test_a_worker_that_is_patient_may_be_silent_for_longer(bench):
    running = bench(stuck_s=0.05, patience=1000.0)
    running.go_on.clear()
    threading.Event().wait(0.2)
    assert running.supervisor.why_unhealthy() == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_whose_thread_has_ended_is_dead(bench):
    running = bench(backoff=Backoff(first_s=1.0, longest_s="never"))  # the supervisor's own error
    running.error = ValueError()
    wait_until(lambda: running.worker.is_dead)
    assert running.supervisor.why_unhealthy().startswith("the worker 'writer' has ended")
    assert running.supervisor.states()["dead"] == 1


def test_even_an_exit_in_a_worker_ends_only_its_round(bench):
    running = bench()
    running.error = SystemExit(1)
    running.wait_for(failures=2)
    running.error = None
    before = running.rounds
    wait_until(lambda: running.rounds > before + 1)


def test_a_worker_with_one_round_is_no_longer_watched_after_it(bench):
    running = bench(once=True)
    wait_until(lambda: running.worker.is_over)
    assert running.rounds == 1
    assert sum(running.supervisor.states().values()) == 0


def test_a_worker_that_does_not_end_in_time_is_named(bench):
    running = bench()
    running.hold()
    assert stop_all([running.worker], Deadline(0.05)) == ["writer"]
