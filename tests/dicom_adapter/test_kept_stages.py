"""An adapter that keeps its workflows' stages ready, from its start to its end."""

import os
import signal
import subprocess

from stages.resident import orders
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.destinations import wait_until
from tests.phantoms import ct_slices, save


class KeepingAdapter(Adapter):
    """An adapter whose second stage stays."""

    def __init__(self, folder, **jobs):
        super().__init__(folder, jobs={"resident": True, "tries": 1, **jobs})
        self.payloads = folder / "payloads"

    def waits_for_orders(self):
        pools = [*(self.payloads / ".resident/stages").glob("stamp-*"), self.payloads / ".resident/jobs"]
        return len(pools) == 2 and all(map(orders.is_served, pools))

    def service(self):
        """Return the process that serves jobs."""
        (host,) = (self.payloads / ".resident/jobs").glob("*.host")
        return int(host.stem.rpartition("-")[2])

    def host_log(self):
        (log,) = (self.payloads / ".resident/stages").glob("stamp-*/host.log")
        return log.read_text()

    def wait_for(self, *states):
        wait_until(lambda: [job.state for job in self.jobs()] == list(states), what=f"jobs that are {states}")


def study(folder, number):
    """Write a study of its own, and return its folder."""
    return save(ct_slices(series=f"1.2.{number}.2", StudyInstanceUID=f"1.2.{number}"), folder)


def processes_of(folder):
    """Return the processes whose command names a folder."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


def test_jobs_are_done_by_stages_that_stay(tmp_path):
    with KeepingAdapter(tmp_path / "a") as adapter:
        wait_until(adapter.waits_for_orders, what="stages that are kept ready")
        for number in (11, 12):
            adapter.send(study(tmp_path / f"s{number}", number))
        adapter.wait_for("done", "done")
        assert adapter.ran() == 2
        assert "starts its own stages" not in adapter.log.read_text()
        assert adapter.host_log().count("ready for jobs") == 1
    assert ".resident" not in os.listdir(adapter.payloads)
    assert processes_of(adapter.folder) == []


def test_job_of_a_service_that_was_killed_is_tried_again_and_the_service_comes_back(tmp_path):
    with KeepingAdapter(tmp_path / "a", tries=3) as adapter:
        wait_until(adapter.waits_for_orders, what="stages that are kept ready")
        (adapter.steering / "sleep").write_text("2")
        adapter.send(study(tmp_path / "s", 11))
        wait_until(lambda: adapter.ran() == 1)
        os.kill(adapter.service(), signal.SIGKILL)
        (adapter.steering / "sleep").unlink()
        adapter.wait_for("done")
        wait_until(adapter.waits_for_orders, what="the service's return")
        log = adapter.log.read_text()
        assert "the service that keeps stages ready ended" in log


def test_without_the_service_jobs_start_their_own_stages_and_say_so(tmp_path):
    adapter = KeepingAdapter(tmp_path / "a")
    adapter.payloads.mkdir(parents=True)
    (adapter.payloads / ".resident").touch()  # where the service's folder belongs
    with adapter:
        adapter.send(study(tmp_path / "s", 11))
        adapter.wait_for("done")
        assert "starts its own stages: none are kept ready" in adapter.log.read_text()
        wait_until(lambda: "the service that keeps stages ready ended with" in adapter.log.read_text())


def test_configuration_that_wants_none_ends_the_service(tmp_path):
    with KeepingAdapter(tmp_path / "a") as adapter:
        wait_until(adapter.waits_for_orders, what="stages that are kept ready")
        adapter.settings["jobs"]["resident"] = False
        adapter.write()
        adapter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not (adapter.payloads / ".resident").exists(), what="the service's end")
        adapter.send(study(tmp_path / "s", 11))
        adapter.wait_for("done")
        assert not (adapter.payloads / ".resident").exists()


def test_job_of_a_higher_priority_begins_first(tmp_path):
    with KeepingAdapter(tmp_path / "a") as adapter:
        urgent = {"ae-title": "STAT", "quiet-seconds": 0.2, "priority": 3}
        adapter.settings["dicom"]["scp"]["ae-titles"].append(urgent)
        rule = dict(adapter.settings["workflows"][0])
        adapter.settings["workflows"].append({**rule, "name": "stat", "clara-ae-title": "STAT"})
        adapter.write()
        adapter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was read again" in adapter.log.read_text())
        (adapter.steering / "sleep").write_text("3")
        for number in (11, 12):
            adapter.send(study(tmp_path / f"s{number}", number))
        wait_until(lambda: adapter.ran() == 1)
        adapter.send(study(tmp_path / "s13", 13), called="STAT")
        wait_until(lambda: len(adapter.jobs()) == 3)
        (adapter.steering / "sleep").write_text("0")
        adapter.wait_for("done", "done", "done")
        begun = [line["message"] for line in adapter.lines() if "begins, try" in line["message"]]
        assert ["(stat)" in message for message in begun] == [False, True, False]
